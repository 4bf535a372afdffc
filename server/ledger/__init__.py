"""What every request cost, durably: one row each, never its text."""
