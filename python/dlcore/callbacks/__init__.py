"""What watches a fit, and its history."""
