import pytest

from server.printable import printable


@pytest.mark.parametrize("text", ["", "smollm2 – 漢字 [red]x[/red] 😀", "a\\nb"])
def test_what_prints_stays(text: str) -> None:
    assert printable(text) == text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b]0;title\x07", r"\x1b]0;title\x07"),
        ("\x9b31m", r"\x9b31m"),
        ("one\r\ntwo", r"one\r\ntwo"),
        ("\u202egpj.exe", r"\u202egpj.exe"),
        ("\ud800", r"\ud800"),
    ],
)
def test_what_a_terminal_would_obey_is_escaped(text: str, shown: str) -> None:
    assert printable(text) == shown


def test_what_lays_out_may_be_kept() -> None:
    assert printable("one\n\ttwo\x1b", kept="\n\t") == "one\n\ttwo\\x1b"
