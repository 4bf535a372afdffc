"""Command line: `python -m deploy.grafana [--check]`."""

import argparse
import sys

from deploy.grafana.dashboards import FOLDER, stale, write


def main() -> None:
    """Write the dashboards' files, or fail where they are not what the code says."""
    parser = argparse.ArgumentParser(prog="python -m deploy.grafana", description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; fail if a file is stale")
    if not parser.parse_args().check:
        write()
        return
    if files := stale():
        sys.exit(f"{FOLDER}: stale: {', '.join(files)}; `python -m deploy.grafana` writes them")


if __name__ == "__main__":
    main()
