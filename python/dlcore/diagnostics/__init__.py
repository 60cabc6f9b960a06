"""What learning curves say, and what to do about it."""
