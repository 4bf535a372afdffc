"""`python -m server` is `wattline`."""

from server.cli import main

main()
