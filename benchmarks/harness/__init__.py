"""What all suites share: processes, rounds, reports."""
