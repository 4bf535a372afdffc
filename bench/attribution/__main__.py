"""`python -m bench.attribution`, the same as `wattline bench attribution`."""

import sys
from importlib.util import find_spec

if find_spec("numpy") is None:
    sys.exit("wattline: error: bench attribution needs numpy, which the engine's requirements bring (make serve)")

from bench.attribution.command import main

main()
