"""Prints what a test measured; pytest shows it with `-s` or `-rP`."""


def show(text: str) -> None:
    """One line on standard output."""
    print(text)  # noqa: T201  # that is the purpose
