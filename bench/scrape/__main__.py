"""`python -m bench.scrape`."""

from bench.scrape.command import main

main()
