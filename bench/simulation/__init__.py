"""The scheduler's core in virtual time, over engines whose step times and watts are fitted to measured points."""
