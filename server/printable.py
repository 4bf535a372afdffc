"""Text that others have written, made safe for a terminal and for lines of output."""


def printable(text: str, kept: str = "") -> str:
    """The text with everything that does not print escaped: it can move no cursor, ring no bell, begin no line.

    Marks that turn the direction of writing around do not print, either, nor do halves of a surrogate pair. `kept` are
    characters that stay as they are.
    """
    if text.isprintable():
        return text
    return "".join(
        mark if mark.isprintable() or mark in kept else mark.encode("unicode_escape", "surrogatepass").decode("ascii")
        for mark in text
    )
