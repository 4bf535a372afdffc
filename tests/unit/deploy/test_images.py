import re
from pathlib import Path

import pytest

from deploy.check import DOCKERFILES

_TOP = Path(__file__).parents[3]
_ENGINE = re.compile(r'^(cpu|gpu) = \["vllm(?:-cpu)?==(\S+?)"', re.MULTILINE)


def _arguments(file: Path) -> dict[str, str]:
    return dict(re.findall(r"^ARG (\w+)=(\S+)$", file.read_text(encoding="utf-8"), re.MULTILINE))


@pytest.mark.parametrize("file", DOCKERFILES, ids=lambda file: file.name)
def test_what_is_copied_into_an_image_is_there_and_not_ignored(file: Path) -> None:
    kept = [line[1:] for line in (_TOP / ".dockerignore").read_text().splitlines() if line.startswith("!")]
    copied = [
        source
        for line in re.findall(r"^COPY (?!--from)(.+) \S+$", file.read_text(encoding="utf-8"), re.MULTILINE)
        for source in line.split()
    ]

    assert copied
    for source in copied:
        assert (_TOP / source).exists(), source
        assert any(source == path or f"{source}/".startswith(path) for path in kept), source


def test_the_gpu_image_is_on_the_vllm_that_we_lock() -> None:
    locked = dict(_ENGINE.findall((_TOP / "pyproject.toml").read_text(encoding="utf-8")))

    image = _arguments(_TOP / "deploy/docker/Dockerfile.gpu")["VLLM_IMAGE"]

    assert image == f"vllm/vllm-openai:v{locked['gpu']}"


@pytest.mark.parametrize("file", DOCKERFILES, ids=lambda file: file.name)
def test_an_image_carries_the_version_of_the_package_and_a_numeric_user(file: Path) -> None:
    project = (_TOP / "pyproject.toml").read_text(encoding="utf-8")
    version = re.search(r'^version = "(\S+)"$', project, re.MULTILINE)
    assert version is not None

    assert _arguments(file)["VERSION"] == version[1]
    assert re.findall(r"^USER (\S+)$", file.read_text(encoding="utf-8"), re.MULTILINE)[-1] == "10001:10001"
