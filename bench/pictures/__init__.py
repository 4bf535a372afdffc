"""The pictures of the documentation, taken of a running server under load: the dashboard, the terminal, the savings."""
