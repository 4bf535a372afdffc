"""`python -m server` is `wattline`."""

from server.entry import main

main()
