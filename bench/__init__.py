"""Load, comparison and measurement of a running server."""
