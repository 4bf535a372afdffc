"""`python -m bench.simulation`, the same as `wattline simulate`."""

from bench.simulation.command import main

main()
