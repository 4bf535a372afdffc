"""`python -m bench.energy`, the same as `wattline bench energy`."""

from bench.energy.command import main

main()
