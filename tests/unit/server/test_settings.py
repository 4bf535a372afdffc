import os
from pathlib import Path
from typing import Any

import pytest

from server.errors import SettingError
from server.settings import Settings, load_settings, unknown_variables


@pytest.fixture(autouse=True)
def no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in os.environ:
        if name.startswith("WATTLINE_"):
            monkeypatch.delenv(name)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "wattline.toml"


def refusal(overrides: dict[str, Any], file: Path | None = None) -> str:
    with pytest.raises(SettingError) as error:
        load_settings(overrides, file)
    message = str(error.value)
    assert "\n" not in message
    return message


def test_without_any_source_there_are_defaults() -> None:
    settings = load_settings({})
    assert (settings.model, settings.host, settings.port, settings.workers) == ("smollm2", "127.0.0.1", 8000, 1)
    assert settings.worker_urls == settings.engine_args == ()


def test_the_command_line_wins_over_the_environment_over_the_file_over_the_default(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file.write_text("port = 1001\nworkers = 2\nhost = '0.0.0.1'\n")
    monkeypatch.setenv("WATTLINE_PORT", "1002")
    monkeypatch.setenv("WATTLINE_WORKERS", "3")
    settings = load_settings({"port": "1003", "workers": None}, file)
    assert (settings.port, settings.workers, settings.host) == (1003, 3, "0.0.0.1")
    assert settings.max_running_requests == Settings.model_fields["max_running_requests"].default


def test_a_file_is_read_for_one_server_only(file: Path) -> None:
    file.write_text("port = 1001\n")
    assert load_settings({}, file).port == 1001
    assert load_settings({}).port == 8000


@pytest.mark.parametrize("source", ["command line", "environment", "file"])
def test_lists_can_be_given_everywhere(source: str, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given: dict[str, Any] = {}
    if source == "command line":
        given = {"worker_urls": ("http://a", "unix:/b"), "engine_args": ("--x", "1")}
    elif source == "environment":
        monkeypatch.setenv("WATTLINE_WORKER_URLS", "http://a, unix:/b,")
        monkeypatch.setenv("WATTLINE_ENGINE_ARGS", "--x  1")
    else:
        file.write_text('worker_urls = ["http://a", "unix:/b"]\nengine_args = ["--x", "1"]\n')
    settings = load_settings(given, file if file.exists() else None)
    assert settings.worker_urls == ("http://a", "unix:/b")
    assert settings.engine_args == ("--x", "1")


@pytest.mark.parametrize(
    ("given", "origin"),
    [
        ("http://host:8001/v1", "http://host:8001"),
        ("http://host:8001/v1/", "http://host:8001"),
        ("https://host/prefix/", "https://host/prefix"),
        ("http://[::1]:80", "http://[::1]:80"),
        ("unix:/run/engine.sock", "unix:/run/engine.sock"),
    ],
)
def test_a_worker_url_may_end_as_clients_write_it(given: str, origin: str) -> None:
    assert load_settings({"worker_urls": (given,)}).worker_urls == (origin,)


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("port", "abc", "integer"),
        ("port", "65536", "less than or equal to 65535"),
        ("port", "-1", "greater than or equal to 0"),
        ("workers", "0", "greater than or equal to 1"),
        ("device", "tpu", "'auto', 'cuda' or 'cpu'"),
        ("policy", "random", "'least-loaded' or 'round-robin'"),
        ("policy", "", "'least-loaded' or 'round-robin'"),
        ("slo_ttft_seconds", "0", "greater than 0"),
        ("slo_ttft_seconds", "soon", "number"),
        ("slo_tpot_seconds", "inf", "finite"),
        ("flex_wait_seconds", "-1", "greater than or equal to 0"),
        ("min_workers", "-1", "greater than or equal to 0"),
        ("min_workers", "2", "at most the number of workers, which is 1"),
        ("power_cap_watts", "0", "greater than 0"),
        ("power_cap_watts", "nan", "finite"),
        ("stall_seconds", "0", "greater than 0"),
        ("log_level", "loud", "'debug', 'info', 'warning' or 'error'"),
        ("max_queued_requests", "-1", "greater than or equal to 0"),
        ("queue_timeout_seconds", "0", "greater than 0"),
        ("queue_timeout_seconds", "inf", "finite"),
        ("queue_timeout_seconds", "nan", "finite"),
        ("max_body_bytes", "1", "greater than or equal to 1024"),
    ],
)
@pytest.mark.parametrize("source", ["command line", "environment", "file"])
def test_a_refusal_names_key_value_and_what_was_expected(
    key: str, value: str, expected: str, source: str, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = {key: value} if source == "command line" else {}
    if source == "environment":
        monkeypatch.setenv(f"WATTLINE_{key.upper()}", value)
    if source == "file":
        file.write_text(f"{key} = '{value}'\n")
    message = refusal(given, file if file.exists() else None)
    assert message.startswith(f"{key} = {value!r}: ")
    assert expected in message


def test_so_many_workers_may_always_stay_up_as_there_are() -> None:
    assert load_settings({"workers": 3, "min_workers": 3}).min_workers == 3
    urls = ("http://a", "http://b")
    assert load_settings({"worker_urls": urls, "min_workers": 2}).min_workers == 2
    assert "which is 2" in refusal({"worker_urls": urls, "min_workers": 3})


@pytest.mark.parametrize(
    "url", ["localhost:8000", "ftp://x", "http://", "http:///v1", "http://x:port", "unix:relative"]
)
def test_what_is_no_worker_url_is_refused(url: str) -> None:
    message = refusal({"worker_urls": ("http://fine", url)})
    assert message.startswith("worker_urls = ")
    assert f"{url!r} is neither an http:// or https:// URL nor unix:/PATH" in message


def test_every_wrong_setting_is_named_at_once() -> None:
    message = refusal({"port": "abc", "workers": 0})
    assert message.startswith("port = 'abc': ")
    assert "; workers = 0: " in message


def test_an_unknown_setting_is_named(file: Path) -> None:
    file.write_text("prot = 1\n")
    assert refusal({}, file) == "prot: there is no such setting"


@pytest.mark.parametrize("content", [b"port = \n", b"port = 1\nport = 2\n", b"\xff", b"[port", b"port: 1"])
def test_a_file_that_is_no_toml_is_refused_by_its_name(file: Path, content: bytes) -> None:
    file.write_bytes(content)
    assert refusal({}, file).startswith(f"config = {str(file)!r}: ")


def test_a_value_with_line_breaks_stays_on_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WATTLINE_PORT", "1\n2")
    assert refusal({}).startswith(r"port = '1\n2': ")


def test_a_missing_file_is_refused(file: Path, tmp_path: Path) -> None:
    assert refusal({}, file) == f"config = {str(file)!r}: there is no such file"
    assert "there is no such file" in refusal({}, tmp_path)


def test_the_variable_may_be_spelt_like_the_option(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WATTLINE_WORKER_URL", "http://a")
    assert load_settings({}).worker_urls == ("http://a",)
    assert load_settings({"worker_urls": ("http://b",)}).worker_urls == ("http://b",)


def test_variables_that_set_nothing_are_found() -> None:
    assert unknown_variables({"WATTLINE_PROT": "1", "WATTLINE_PORT": "1", "WATTLINE_CACHE_DIR": "/x", "PATH": "/"}) == [
        "WATTLINE_PROT"
    ]


# -- several models ------------------------------------------------------------------------------------------------

SEVERAL = """
device = "cpu"

[[models]]
name = "org/chat"
served_name = "chat"
workers = 2
min_workers = 0
engine_args = ["--max-model-len", "4096"]

[[models]]
path = "/models/embed"
engine_args = "--runner pooling"
device = "cuda"
gpus_per_worker = 2

[[models]]
served_name = "elsewhere"
worker_urls = ["http://10.0.0.5:8000/v1", "unix:/run/vllm.sock"]
min_workers = 2
"""


def test_several_models_are_tables(file: Path) -> None:
    file.write_text(SEVERAL)
    chat, embed, elsewhere = load_settings({}, file).all_models()
    assert (chat.model, chat.served_name, chat.workers, chat.min_workers, chat.device) == (
        "org/chat",
        "chat",
        2,
        0,
        "cpu",
    )
    assert (embed.model, embed.engine_args, embed.device, embed.gpus_per_worker) == (
        "/models/embed",
        ("--runner", "pooling"),
        "cuda",
        2,
    )
    assert (elsewhere.model, elsewhere.worker_urls) == (None, ("http://10.0.0.5:8000", "unix:/run/vllm.sock"))


def test_several_models_can_be_a_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WATTLINE_MODELS", '[{"name": "a"}, {"name": "b", "workers": 2}]')
    assert [model.workers for model in load_settings({}).all_models()] == [1, 2]
    monkeypatch.setenv("WATTLINE_MODELS", "a,b")
    assert refusal({}) == "models = 'a,b': input should be a JSON array with an object for each model"


def test_the_short_form_is_one_model() -> None:
    (model,) = load_settings({"model": "a", "workers": 2, "min_workers": 2, "gpus_per_worker": 4}).all_models()
    assert (model.model, model.workers, model.min_workers, model.gpus_per_worker, model.device) == (
        "a",
        2,
        2,
        4,
        "auto",
    )
    (attached,) = load_settings({"worker_urls": ("http://a",), "served_name": "b"}).all_models()
    assert (attached.model, attached.served_name, attached.worker_urls) == (None, "b", ("http://a",))


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ("workers = 2", "models.0: expected either name or path, which say what to load, or worker_urls"),
        ("name = 'a'\npath = 'b'", "models.0: expected either name or path"),
        ("name = 'a'\nworkers = 0", "models.0.workers = 0: input should be greater than or equal to 1"),
        ("name = 'a'\nmin_workers = 2", "models.0.min_workers = 2: input should be at most the number of workers"),
        ("name = 'a'\nworker = 2", "models.0.worker: there is no such setting"),
        ("name = 'a'\nserved_name = ' a'", "models.0.served_name = ' a': a name that clients can ask for"),
        ("name = 'a'\nserved_name = ''", "models.0.served_name = '': string should have at least 1 character"),
        ("worker_urls = ['a']", "models.0.worker_urls = ['a']: 'a' is neither an http:// or https:// URL nor"),
        (
            "worker_urls = ['http://a']\nname = 'a'\nworkers = 2",
            "models.0: worker_urls attaches to running servers; name, workers are for engines started here",
        ),
        ("name = 'a'\ngpus_per_worker = 0", "models.0.gpus_per_worker = 0: "),
    ],
)
def test_a_refusal_names_the_table_and_the_key(table: str, said: str, file: Path) -> None:
    file.write_text(f"[[models]]\n{table}\n")
    assert refusal({}, file).startswith(said)


def test_both_forms_at_once_are_refused_by_their_keys(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file.write_text("workers = 2\n[[models]]\nname = 'a'\n")
    said = "beside [[models]] these belong into each of its tables"
    assert refusal({}, file) == f"workers: {said}"
    monkeypatch.setenv("WATTLINE_ENGINE_ARGS", "--seed 1")
    assert refusal({"model": "b"}, file) == f"model, workers, engine_args: {said}"


def test_a_worker_of_two_models_is_refused(file: Path) -> None:
    file.write_text("[[models]]\nworker_urls = ['http://a']\n[[models]]\nworker_urls = ['http://a/v1']\n")
    assert "the same worker is named twice" in refusal({}, file)
