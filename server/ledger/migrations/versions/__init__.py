"""One revision a file, in order. A revision that has been released never changes."""
