"""What the chart makes of values. Skipped where Helm's libraries (helm-python-sdk) are not installed."""

import json
import re
import shutil
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("helm_python", reason="helm-python-sdk is not installed")

import helm_python

from deploy.chart import (
    CHART,
    Manifest,
    chart_problems,
    example_values,
    problems_of,
    read_values,
    render,
    without_links,
)
from server.settings import Settings

_TOP = Path(__file__).parents[3]
_MODEL = {"model": "meta-llama/Llama-3.1-8B-Instruct"}


@pytest.fixture(scope="module")
def chart() -> Iterator[Path]:
    with without_links() as copy:
        yield copy


def _one(manifests: list[Manifest], kind: str, name: str) -> dict[str, Any]:
    (found,) = (manifest for manifest in manifests if (manifest.kind, manifest.name) == (kind, name))
    return dict(found.content)


def _environment(deployment: dict[str, Any]) -> dict[str, str]:
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    return {variable["name"]: variable.get("value", "") for variable in container["env"]}


def test_the_chart_and_its_examples_are_what_helm_and_kubernetes_expect(chart: Path) -> None:
    assert len(example_values()) == 3
    assert chart_problems(chart) == []


def test_without_workers_one_pod_does_it_all(chart: Path) -> None:
    manifests = render({}, chart)

    environment = _environment(_one(manifests, "Deployment", "demo-wattline"))
    assert environment["WATTLINE_MODEL"] == "smollm2"
    assert [str(manifest) for manifest in manifests if manifest.kind == "Deployment"] == ["Deployment demo-wattline"]


def test_the_front_end_attaches_to_each_engine_by_the_service_of_its_own(chart: Path) -> None:
    manifests = render({"workers": {"llama": {**_MODEL, "servedName": "llama", "replicas": 2}}}, chart)

    environment = _environment(_one(manifests, "Deployment", "demo-wattline"))
    (model,) = Settings.model_validate({"models": environment["WATTLINE_MODELS"]}).models
    assert model.served_name == "llama"
    assert model.worker_urls == ("http://demo-wattline-llama-0:8000", "http://demo-wattline-llama-1:8000")
    for url in model.worker_urls:
        name = url.removeprefix("http://").removesuffix(":8000")
        service = _one(manifests, "Service", name)["spec"]
        labels = _one(manifests, "Deployment", name)["spec"]["template"]["metadata"]["labels"]
        assert service["selector"].items() <= labels.items()
        assert service["ports"][0]["port"] == 8000


def test_another_version_of_the_chart_restarts_no_engine(chart: Path, tmp_path: Path) -> None:
    newer = tmp_path / "newer"
    shutil.copytree(chart, newer)
    metadata = newer / "Chart.yaml"
    metadata.write_text(re.sub(r"(?m)^(version|appVersion): .*$", r"\1: 99.0.0", metadata.read_text(encoding="utf-8")))

    now, then = (
        _one(render({"workers": {"llama": _MODEL}}, where), "Deployment", "demo-wattline-llama-0")
        for where in (chart, newer)
    )

    assert now["metadata"]["labels"] != then["metadata"]["labels"]
    assert now["spec"] == then["spec"]


def test_no_pod_gets_the_addresses_of_services_as_variables(chart: Path) -> None:
    # A Service called wattline would set WATTLINE_PORT to tcp://…, and one called vllm VLLM_PORT.
    for manifest in render({"workers": {"llama": _MODEL}}, chart):
        if manifest.kind == "Deployment":
            assert manifest.content["spec"]["template"]["spec"]["enableServiceLinks"] is False


def test_every_setting_that_a_pod_is_given_is_one_that_the_server_knows(chart: Path) -> None:
    from server.settings import unknown_variables  # noqa: PLC0415  # beside its only use

    for values in ({}, *map(read_values, example_values())):
        environment = _environment(_one(render(values, chart), "Deployment", "demo-wattline"))
        assert list(unknown_variables(environment)) == []


def test_the_configuration_is_toml_that_the_server_takes(chart: Path) -> None:
    config = _one(render({}, chart), "ConfigMap", "demo-wattline")["data"]["wattline.toml"]

    assert Settings.model_validate(tomllib.loads(config)).tenants["ops"].is_admin


def test_pods_run_without_root_and_cannot_write_their_images(chart: Path) -> None:
    for manifest in render({"workers": {"llama": _MODEL}}, chart):
        if manifest.kind != "Deployment":
            continue
        pod = manifest.content["spec"]["template"]["spec"]
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["automountServiceAccountToken"] is False
        for container in (*pod["initContainers"], *pod["containers"]):
            assert container["securityContext"]["readOnlyRootFilesystem"] is True
            assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}


def test_rules_and_dashboards_are_those_of_the_other_deployments(chart: Path) -> None:
    from ruamel.yaml import YAML  # noqa: PLC0415  # beside its only use

    manifests = render({"prometheusRule": {"enabled": True}, "dashboards": {"enabled": True}}, chart)

    rules = {m.name.removeprefix("demo-wattline-"): m.content["spec"] for m in manifests if m.kind == "PrometheusRule"}
    files = sorted((_TOP / "deploy/prometheus/rules").glob("*.yml"))
    assert rules == {file.stem: YAML(typ="safe").load(file) for file in files}
    shown = {
        name: json.loads(text)
        for manifest in manifests
        if manifest.kind == "ConfigMap" and manifest.content["metadata"]["labels"].get("grafana_dashboard") == "1"
        for name, text in manifest.content["data"].items()
    }
    dashboards = sorted((_TOP / "deploy/grafana/dashboards").glob("*.json"))
    assert shown == {file.name: json.loads(file.read_text(encoding="utf-8")) for file in dashboards}


@pytest.mark.parametrize(
    "values",
    [
        {"policy": "cheapest"},
        {"workers": {"Llama": _MODEL}},
        {"workers": {"llama": {}}},
        {"engine": {"args": ["--max-model-len 4096"]}},
        {"powerCapWatts": 0},
        {"sevice": {"port": 80}},
    ],
    ids=json.dumps,
)
def test_values_that_mean_nothing_are_refused(chart: Path, values: dict[str, Any]) -> None:
    with pytest.raises(helm_python.HelmError):
        render(values, chart)


def test_a_manifest_that_kubernetes_would_refuse_is_named() -> None:
    service = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "x"}, "spec": {"port": 80}}
    monitor = {"apiVersion": "monitoring.coreos.com/v1", "kind": "ServiceMonitor", "metadata": {"name": "x"}}

    assert any("port" in problem for problem in problems_of(Manifest("service.yaml", service)))
    assert any("spec" in problem for problem in problems_of(Manifest("monitor.yaml", monitor)))


def test_the_chart_is_of_the_version_of_the_package() -> None:
    chart = read_values(CHART / "Chart.yaml")
    project = tomllib.loads((_TOP / "pyproject.toml").read_text(encoding="utf-8"))["project"]

    assert chart["version"] == chart["appVersion"] == project["version"]


@pytest.mark.parametrize("name", ["123", "true", "1e5", "my.release", "wattline", "r" * 53])
def test_whatever_a_release_may_be_called_its_objects_have_valid_names(chart: Path, name: str) -> None:
    manifests = render({"workers": {"llama": _MODEL}}, chart, name)

    assert [problem for manifest in manifests for problem in problems_of(manifest)] == []
    services = [manifest.name for manifest in manifests if manifest.kind == "Service"]
    assert all(re.fullmatch("[a-z]([-a-z0-9]{0,61}[a-z0-9])?", service) for service in services), services


@pytest.mark.parametrize("word", ["123", "true", "1e5", "a: b", "a}, hostPath: {path: /etc"])
def test_words_that_yaml_would_read_otherwise_stay_words(chart: Path, word: str) -> None:
    worker = _MODEL | {"runtimeClassName": word, "image": {"tag": word}, "servedName": word, "args": [word]}
    values = {
        "image": {"repository": word},
        "state": {"existingClaim": word},
        "cache": {"enabled": True, "storageClass": word},
        "tls": {"secretName": word},
        "huggingFaceToken": {"secretName": word, "key": word},
        "ledger": {"urlSecret": {"name": word, "key": word}},
        "powercap": {"hostPath": f"/{word}"},
        "serviceAccount": {"name": word},
        "serviceMonitor": {"enabled": True, "keySecret": {"name": word, "key": word}},
    }
    for workers in ({}, {"llama": worker}):
        manifests = render(values | {"workers": workers}, chart)
        assert [problem for manifest in manifests for problem in problems_of(manifest)] == []
        volumes = _one(manifests, "Deployment", "demo-wattline")["spec"]["template"]["spec"]["volumes"]
        assert {"name": "tls", "secret": {"secretName": word, "defaultMode": 288}} in volumes


def test_groups_that_serve_one_name_are_one_model(chart: Path) -> None:
    manifests = render({"workers": {"old": _MODEL, "new": _MODEL, "other": {"model": "x/y"}}}, chart)

    models = json.loads(_environment(_one(manifests, "Deployment", "demo-wattline"))["WATTLINE_MODELS"])
    assert models == [
        {
            "served_name": _MODEL["model"],
            "worker_urls": ["http://demo-wattline-new-0:8000", "http://demo-wattline-old-0:8000"],
        },
        {"served_name": "x/y", "worker_urls": ["http://demo-wattline-other-0:8000"]},
    ]


@pytest.mark.parametrize("text", ["", "a = 1\r\nb = 2\u2028", "\tc = 3\n---\n", "d = '{{ .Values }}'"])
def test_the_configuration_arrives_as_it_was_written(chart: Path, text: str) -> None:
    given = _one(render({"config": text}, chart), "ConfigMap", "demo-wattline")["data"]["wattline.toml"]
    assert given == f"{text.strip()}\n"


def test_a_value_may_be_taken_back(chart: Path) -> None:
    values = {"workers": None, "dashboards": {"enabled": True, "labels": {"grafana_dashboard": None}}}
    assert [problem for manifest in render(values, chart) for problem in problems_of(manifest)] == []
