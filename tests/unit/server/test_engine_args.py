import pytest

from server.cli import _served_name
from server.errors import SettingError


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        ((), None),
        (("--max-model-len", "2048"), None),
        (("--served-model-name", "mine"), "mine"),
        (("--served-model-name=mine", "--seed", "1"), "mine"),
        (("--seed", "1", "--served-model-name", "mine", "alias"), "mine"),
    ],
)
def test_the_name_the_operator_gives_the_model_is_ours_too(arguments: tuple[str, ...], name: str | None) -> None:
    assert _served_name(arguments) == name


@pytest.mark.parametrize("argument", ["--uds=/x", "--port", "--host", "--api-key"])
def test_arguments_that_would_cut_us_off_are_refused(argument: str) -> None:
    with pytest.raises(SettingError, match="set by Wattline"):
        _served_name((argument, "x"))
