"""Starting, watching, stopping and talking to engines."""
