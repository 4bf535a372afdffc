"""What the operator gets wrong is one line on stderr, at once; what a program reads is JSON."""

import json
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.integration.processes import clean_environ

# Most of it is imports; the server promises to complain in five seconds on a machine that has nothing else to do.
AT_ONCE_SECONDS = 10.0


def wattline(*arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
    environ = clean_environ() | {f"WATTLINE_{key.upper()}": value for key, value in settings.items()}
    command = [sys.executable, "-m", "server", *arguments]
    return subprocess.run(command, capture_output=True, text=True, env=environ, timeout=30, check=False)


def complaint(*arguments: str, **settings: str) -> str:
    """The one line with which this command line is refused."""
    asked_at_seconds = time.monotonic()
    ended = wattline(*arguments, **settings)
    assert time.monotonic() - asked_at_seconds < AT_ONCE_SECONDS
    assert (ended.returncode, ended.stdout) == (2, ""), ended.stderr
    (line,) = ended.stderr.splitlines()
    assert line.startswith("wattline: error: ")
    return line.removeprefix("wattline: error: ")


def test_a_model_that_is_not_there() -> None:
    said = complaint("serve", "./no/such/model", "--port", "0", "--meter", "estimate")
    assert said == "model ./no/such/model: there is no such file or folder"


def test_a_port_in_use() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        said = complaint("serve", "--port", str(port), "--meter", "estimate")
    assert said.startswith(f"cannot listen on 127.0.0.1:{port}: ")
    assert "in use" in said


@pytest.mark.parametrize("host", ["192.0.2.1", "no.such.host.invalid", "a..b"])
def test_an_address_that_is_not_ours(host: str) -> None:
    said = complaint("serve", "--host", host, "--port", "0", "--worker-url", "http://127.0.0.1:9")
    assert said.startswith(f"cannot listen on {host}:0: ")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--port", "abc"), "port = 'abc': "),
        (("--port", "70000"), "port = '70000': "),
        (("--workers", "0"), "workers = '0': "),
        (("--device", "tpu"), "device = 'tpu': "),
        (("--policy", "random"), "policy = 'random': "),
        (("--worker-url", "localhost"), "worker_urls = "),
        (("--no-such-option",), "No such option: --no-such-option"),
        (("--port",), "Option '--port' requires an argument"),
        (("one", "two"), "Got unexpected extra argument"),
        (("--config", "/no/such/file.toml"), "config = '/no/such/file.toml': there is no such file"),
    ],
)
def test_a_setting_that_is_wrong(arguments: tuple[str, ...], said: str) -> None:
    assert complaint("serve", *arguments).startswith(said)


def test_a_variable_that_is_wrong() -> None:
    assert complaint("serve", port="abc").startswith("port = 'abc': ")
    assert complaint("serve", queue_timeout_seconds="inf").startswith("queue_timeout_seconds = 'inf': ")


def test_a_file_that_is_wrong(tmp_path: Path) -> None:
    file = tmp_path / "wattline.toml"
    for content, said in (("port = ", f"config = {str(file)!r}: "), ("prot = 1", "prot: there is no such setting")):
        file.write_text(content)
        assert complaint("serve", "--config", str(file)).startswith(said)


def test_a_meter_that_cannot_work() -> None:
    if "nvml" in wattline("meter", "--meter", "nvml").stdout:
        pytest.skip("there is an NVIDIA driver on this machine")
    assert "NVIDIA driver" in complaint("serve", "--meter", "nvml", "--port", "0")
    assert "NVIDIA driver" in complaint("meter", "--meter", "nvml")


@pytest.mark.parametrize("meter", ["volts", "replay:", "replay:/no/such/file", "rapl"])
def test_a_meter_that_is_none(meter: str) -> None:
    assert meter.removeprefix("replay:") in complaint("serve", "--meter", meter, "--port", "0")


def test_a_command_that_is_none() -> None:
    assert complaint("sreve").startswith("No such command 'sreve'.")


def test_help_lists_the_commands() -> None:
    for arguments in (("--help",), ("serve", "--help")):
        ended = wattline(*arguments)
        assert (ended.returncode, ended.stderr) == (0, "")
        assert "Usage: wattline" in ended.stdout
    assert "--worker-url" in ended.stdout


def test_no_command_at_all_shows_the_help_and_calls_it_no_error() -> None:
    for arguments in ((), ("model",), ("bench",)):
        ended = wattline(*arguments)
        assert ended.stderr.startswith(" ".join(("Usage: wattline", *arguments)))
        assert "error:" not in ended.stderr


def test_the_meters_report_is_for_people_and_for_programs() -> None:
    told = wattline("meter", "--meter", "estimate")
    assert (told.returncode, told.stderr) == (0, "")
    assert "Energy source: estimate (not measured" in told.stdout
    ended = wattline("meter", "--json")
    assert ended.returncode == 0
    report = json.loads(ended.stdout)
    assert {"source", "measured", "power_watts", "refused"} <= set(report)
    assert all(watts is None or watts >= 0 for watts in report["power_watts"].values())
