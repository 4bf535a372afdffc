"""`python -m bench.overhead`."""

from bench.overhead.command import main

main()
