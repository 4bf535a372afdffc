"""From the settings to the models served: names, workers' ids, and what clashes."""

import importlib.util
from pathlib import Path
from typing import Any

import pytest

from server.errors import SettingError, StartError
from server.model_store import ResolvedModel
from server.served_models import ServedModel, find_models
from server.settings import Settings, load_settings


@pytest.fixture(autouse=True)
def engine_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: object())


def find(name: str) -> ResolvedModel:
    return ResolvedModel(f"/models/{name}", name)


def served(**settings: Any) -> tuple[ServedModel, ...]:
    return find_models(load_settings(settings), find, lambda device: "cpu" if device == "auto" else device)


def refusal(**settings: Any) -> str:
    with pytest.raises(SettingError) as error:
        served(**settings)
    return str(error.value)


def test_one_model_in_the_short_form() -> None:
    (model,) = served(model="tiny", workers=2, engine_args=("--seed", "1"))
    assert (model.path_or_id, model.names, model.worker_ids) == ("/models/tiny", ("tiny",), ("vllm-0", "vllm-1"))
    assert (model.device, model.settings.engine_args, model.is_attached) == ("cpu", ("--seed", "1"), False)


def test_several_models_name_their_workers_after_themselves() -> None:
    first = {"name": "org/big-1.5B", "workers": 2}
    second = {"path": "small", "served_name": "little one", "device": "cuda"}
    big, small = served(models=[first, second])
    assert (big.names, big.worker_ids, big.device) == (("org/big-1.5B",), ("org-big-1.5B-0", "org-big-1.5B-1"), "cpu")
    assert (small.path_or_id, small.names, small.device) == ("/models/small", ("little one",), "cuda")
    assert small.worker_ids == ("little-one-0",)


def test_a_models_workers_keep_their_ids_whatever_comes_beside_it() -> None:
    (alone,) = served(models=[{"name": "b"}])
    _, beside = served(models=[{"name": "a", "workers": 3}, {"name": "b"}])
    assert alone.worker_ids == beside.worker_ids == ("b-0",)


def test_attached_servers_are_numbered_unless_they_are_named() -> None:
    (model,) = served(worker_urls=("http://a", "http://b"))
    assert (model.is_attached, model.names, model.worker_ids) == (True, (), ("remote-0", "remote-1"))
    models = served(
        models=[
            {"worker_urls": ["http://a"]},
            {"worker_urls": ["http://b"], "served_name": "chat"},
            {"worker_urls": ["http://c", "http://d"]},
            {"name": "own"},
        ]
    )
    assert [model.worker_ids for model in models] == [("remote-0",), ("chat-0",), ("remote-1", "remote-2"), ("own-0",)]
    assert [model.names for model in models] == [(), ("chat",), (), ("own",)]


def test_aliases_and_adapters_are_names_too() -> None:
    arguments = ("--served-model-name", "mine", "alias", "--lora-modules", "sql=/a", "--enable-lora")
    (model,) = served(model="tiny", engine_args=arguments)
    assert model.names == ("mine", "alias", "sql")


def test_a_name_is_given_once() -> None:
    said = refusal(models=[{"name": "a"}, {"name": "b", "served_name": "a"}])
    assert said.startswith("models.0.served_name and models.1.served_name: two models are served as 'a', expected ")
    assert "served as 'x'" in refusal(models=[{"name": "a", "engine_args": "--lora-modules x=/x"}, {"name": "x"}])
    both = {"name": "a", "served_name": "b", "engine_args": ["--served-model-name", "c"]}
    assert refusal(models=[both]).startswith("models.0.served_name = 'b': ")


def test_two_workers_of_one_name_are_refused() -> None:
    assert "two workers would be called a-b-0" in refusal(models=[{"name": "a/b"}, {"name": "a b"}])


def test_an_argument_that_is_ours_is_refused_by_its_key() -> None:
    assert refusal(engine_args=("--port", "1")).startswith("engine_args: --port ")
    assert refusal(models=[{"name": "a"}, {"name": "b", "engine_args": ["--uds=/x"]}]).startswith(
        "models.1.engine_args: --uds "
    )


def test_nothing_is_started_without_an_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: None)
    with pytest.raises(StartError, match="vLLM is not installed"):
        served(models=[{"name": "a"}, {"worker_urls": ["http://a"]}])
    assert len(served(models=[{"worker_urls": ["http://a"]}])) == 1


def test_a_device_that_is_named_is_not_looked_for() -> None:
    asked: list[str] = []

    def detect(device: str) -> str:
        asked.append(device)
        return device

    settings = Settings.model_validate({"models": [{"name": "a", "device": "cpu"}, {"worker_urls": ["http://b"]}]})
    models = find_models(settings, find, detect)
    assert asked == ["cpu"]
    assert [model.device for model in models] == ["cpu", "auto"]


def test_a_path_is_what_model_takes(tmp_path: Path) -> None:
    (model,) = served(models=[{"path": str(tmp_path)}])
    assert model.path_or_id == f"/models/{tmp_path}"
