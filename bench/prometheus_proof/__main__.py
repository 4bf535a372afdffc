"""Command line: `python -m bench.prometheus_proof`."""

from bench.prometheus_proof.command import main

if __name__ == "__main__":
    main()
