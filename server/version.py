"""Which Wattline this is."""

import importlib.metadata


def wattline_version() -> str:
    """As the installed package says; `unknown` in a checkout that was not installed."""
    try:
        return importlib.metadata.version("wattline")
    except importlib.metadata.PackageNotFoundError:
        return "unknown"
