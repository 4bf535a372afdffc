"""What the operator gets wrong is one line on stderr, at once; what a program reads is JSON."""

import json
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from tests.integration.processes import clean_environ
from tests.powercap_tree import PowercapTree, run_unprivileged

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
        (("--slo-ttft-seconds", "0"), "slo_ttft_seconds = '0': input should be greater than 0"),
        (("--slo-tpot-seconds", "fast"), "slo_tpot_seconds = 'fast': input should be a valid number"),
        (("--power-cap-watts", "-1"), "power_cap_watts = '-1': input should be greater than 0"),
        (("--min-workers", "2"), "min_workers = '2': input should be at most the number of workers, which is 1"),
        (("--worker-url", "localhost"), "worker_urls = "),
        (("--log-format", "xml"), "log_format = 'xml': input should be 'text' or 'json'"),
        (("--ssl-certfile", "/no/such.pem"), "ssl_certfile = '/no/such.pem': No such file or directory"),
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


def test_a_meter_without_its_sensor_says_how_to_mend_it() -> None:
    for arguments in (("serve", "--port", "0"), ("meter",)):
        said = complaint(*arguments, "--meter", "rapl", rapl_root="/no/such/tree")
        assert said.startswith(
            "no RAPL energy counters in /no/such/tree; virtual machines rarely have any; to mend it: "
        )
        assert "2 engines share this one" in complaint(*arguments, "--meter", "rapl", engines_on_host="2")


@pytest.mark.parametrize("meter", ["volts", "replay:", "replay:/no/such/file", "rapl+nvml"])
def test_a_meter_that_is_none(meter: str) -> None:
    for arguments in (("serve", "--port", "0"), ("meter",)):
        assert meter.removeprefix("replay:") in complaint(*arguments, "--meter", meter)


def test_a_meter_that_is_none_names_the_setting_and_what_was_expected() -> None:
    expected = "expected auto, nvml, rapl, nvml+rapl, zeus, estimate or replay:FILE"
    assert complaint("serve", meter="volts") == f"meter = 'volts': {expected}"
    assert complaint("meter", meter="volts") == f"the meter is set to 'volts': {expected}"


@pytest.mark.parametrize("seconds", ["0", "-1", "nan", "inf", "soon"])
def test_a_time_to_measure_that_is_none(seconds: str) -> None:
    assert "seconds" in complaint("meter", "--seconds", seconds)
    assert "seconds" in complaint("meter", "--watch", "--seconds", seconds)


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


RECORDING = "seconds,component,energy_microjoules\n0,gpu,0\n600,gpu,60000000000\n0,cpu,0\n600,cpu,6000000000\n"


@pytest.fixture
def recording(tmp_path: Path) -> str:
    """Ten minutes at 100 W and 10 W."""
    file = tmp_path / "day.csv"
    file.write_text(RECORDING)
    return f"replay:{file}"


def test_watching_the_meter_prints_a_line_every_interval_for_as_long_as_asked(recording: str) -> None:
    ended = wattline("meter", "--meter", recording, "--watch", "--seconds", "2")
    assert (ended.returncode, ended.stderr) == (0, "")
    lines = ended.stdout.splitlines()
    assert lines[0].startswith("Energy source: replay (not measured; meter set to replay:")
    assert lines[-2:] == ["     1 s   gpu 100.00 W   cpu 10.00 W", "     2 s   gpu 100.00 W   cpu 10.00 W"]


def test_watching_for_programs_prints_an_object_a_line(recording: str) -> None:
    ended = wattline("meter", "--meter", recording, "--watch", "--seconds", "0.5", "--json")
    assert (ended.returncode, ended.stderr) == (0, "")
    (report,) = [json.loads(line) for line in ended.stdout.splitlines()]
    assert report["power_watts"] == {"gpu": pytest.approx(100, rel=0.01), "cpu": pytest.approx(10, rel=0.01)}
    assert report["at_seconds"] == pytest.approx(0.5, rel=0.2)


def test_an_interrupt_ends_watching_quietly(recording: str) -> None:
    command = [sys.executable, "-m", "server", "meter", "--meter", recording, "--watch"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=clean_environ()
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline().startswith("Energy source: replay")
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=10)
    assert (process.returncode, errors) == (0, "")


def test_a_reader_that_goes_away_ends_watching_quietly(recording: str) -> None:
    command = [sys.executable, "-m", "server", "meter", "--meter", recording, "--watch"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=clean_environ()
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        assert process.wait(timeout=10) == 1
        assert process.stderr.read() == ""


def test_a_tree_that_may_not_be_read_leaves_the_estimate_and_says_how_to_read_it(tmp_path: Path) -> None:
    tree = PowercapTree(tmp_path)
    tree.forbid("intel-rapl:0")
    command = (sys.executable, "-m", "server", "meter", "--seconds", "0.1")
    told = run_unprivileged(*command, WATTLINE_RAPL_ROOT=str(tree.root), CUDA_VISIBLE_DEVICES="")
    assert (told.returncode, told.stderr) == (0, "")
    assert "Energy source: estimate" in told.stdout
    assert "    - until the next boot, let a group of yours read it: sudo chgrp GROUP" in told.stdout
    refused = run_unprivileged(*command, "--meter", "rapl", WATTLINE_RAPL_ROOT=str(tree.root))
    assert refused.returncode == 2
    (line,) = refused.stderr.splitlines()
    assert line.startswith(f"wattline: error: cannot read {tree.root}/intel-rapl:0/energy_uj: Permission denied")


def test_counters_that_rise_are_shown_as_watts(tmp_path: Path) -> None:
    tree = PowercapTree(tmp_path)
    rising = threading.Event()

    def rise() -> None:
        while not rising.wait(0.02):
            for zone in ("intel-rapl:0", "intel-rapl:1", "intel-rapl:0:2", "intel-rapl:1:0"):
                tree.set(zone, tree.get(zone) + 500_000)

    thread = threading.Thread(target=rise)
    thread.start()
    try:
        told = wattline("meter", "--meter", "rapl", "--json", "--seconds", "0.5", rapl_root=str(tree.root))
    finally:
        rising.set()
        thread.join()
    report = json.loads(told.stdout)
    assert (report["source"], report["measured"]) == ("rapl", True)
    assert report["power_watts"]["cpu"] > 5
    assert report["power_watts"]["dram"] > 5
