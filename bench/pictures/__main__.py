"""`python -m bench.pictures`."""

import sys

from bench.pictures.command import main

sys.exit(main())
