import pytest

from server.engine_args import EngineNames, read_engine_args
from server.errors import SettingError


@pytest.mark.parametrize(
    ("arguments", "served"),
    [
        ((), ()),
        (("--max-model-len", "2048"), ()),
        (("--served-model-name", "mine"), ("mine",)),
        (("--served-model-name=mine", "--seed", "1"), ("mine",)),
        (("--served_model_name", "mine"), ("mine",)),
        (("--seed", "1", "--served-model-name", "mine", "alias", "--seed", "2"), ("mine", "alias")),
        (("--served-model-name", "one", "--served-model-name", "two"), ("two",)),
    ],
)
def test_the_names_the_operator_gives_the_model_are_ours_too(
    arguments: tuple[str, ...], served: tuple[str, ...]
) -> None:
    assert read_engine_args(arguments) == EngineNames(served)


@pytest.mark.parametrize(
    ("modules", "adapters"),
    [
        (("sql=/adapters/sql",), ("sql",)),
        (("sql=/a", "law=/b"), ("sql", "law")),
        (('{"name": "sql", "path": "/a"}',), ("sql",)),
        (('[{"name": "sql", "path": "/a"}, {"name": "law", "path": "/b"}, {}, 1]',), ("sql", "law")),
        (("{no json",), ()),
    ],
)
def test_adapters_are_asked_for_by_their_names(modules: tuple[str, ...], adapters: tuple[str, ...]) -> None:
    assert read_engine_args(("--enable-lora", "--lora-modules", *modules)) == EngineNames(adapters=adapters)


@pytest.mark.parametrize("argument", ["--uds=/x", "--port", "--host", "--api-key", "--api_key"])
def test_arguments_that_would_cut_us_off_are_refused(argument: str) -> None:
    with pytest.raises(SettingError, match=r"^models\.1\.engine_args: --[a-z-]+ is set by Wattline"):
        read_engine_args((argument, "x"), "models.1.engine_args")
