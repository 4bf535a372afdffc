import re
from typing import Any

import pytest
from ruamel.yaml import YAML

from deploy.check import COMPOSE_FILE

_TOP = COMPOSE_FILE.parent
_WITH_DEFAULT = re.compile(r"\$\{\w+:-([^}]*)\}")


def _compose() -> dict[str, Any]:
    return dict(YAML(typ="safe").load(COMPOSE_FILE))


def _services() -> dict[str, dict[str, Any]]:
    return dict(_compose()["services"])


def test_folders_that_are_mounted_are_there() -> None:
    mounted = [
        volume.split(":")[0]
        for service in _services().values()
        for volume in service["volumes"]
        if volume.startswith(".")
    ]

    assert mounted
    for path in mounted:
        assert (_TOP / path).is_dir(), path


def test_nothing_is_published_beyond_this_machine() -> None:
    for name, service in _services().items():
        assert service["ports"], name
        for port in service["ports"]:
            assert port.startswith("127.0.0.1:"), f"{name}: {port}"


def test_dockerfiles_are_where_the_services_build_from() -> None:
    built = [service["build"] for service in _services().values() if "build" in service]

    assert len(built) == 2
    for build in built:
        assert (_TOP / build["context"] / build["dockerfile"]).is_file()


def test_of_the_two_wattlines_one_runs_and_both_are_waited_for() -> None:
    services = _services()
    default = (_TOP / ".env").read_text(encoding="utf-8")

    assert services["wattline-cpu"]["profiles"] == ["cpu"]
    assert services["wattline-gpu"]["profiles"] == ["gpu"]
    assert "COMPOSE_PROFILES=cpu\n" in default
    for name in ("wattline-cpu", "wattline-gpu"):
        assert services["prometheus"]["depends_on"][name] == {"condition": "service_healthy", "required": False}
        assert services[name]["networks"]["default"]["aliases"] == ["wattline"]


def test_the_reserved_gpus_come_with_the_drivers_that_the_image_asks_for() -> None:
    # Docker sets NVIDIA_DRIVER_CAPABILITIES to those of the driver's that are named, over what the image says.
    image = (_TOP / "deploy/docker/Dockerfile.gpu").read_text(encoding="utf-8")
    asked = re.search(r"NVIDIA_DRIVER_CAPABILITIES=(\S+)", image)
    assert asked is not None

    (device,) = _services()["wattline-gpu"]["deploy"]["resources"]["reservations"]["devices"]

    assert set(device["capabilities"]) == {"gpu", *asked[1].split(",")}


@pytest.mark.parametrize("setting", ["insecure", "model", "workers", "log_format"])
def test_settings_that_the_file_passes_on_are_settings_of_the_server(setting: str) -> None:
    from server.settings import Settings  # noqa: PLC0415  # the other tests need no server

    given = _services()["wattline-cpu"]["environment"][f"WATTLINE_{setting.upper()}"]

    default = _WITH_DEFAULT.fullmatch(given)
    assert default is not None
    assert getattr(Settings.model_validate({setting: default[1]}), setting) is not None
