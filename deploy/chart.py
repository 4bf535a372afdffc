"""The Helm chart as Helm renders it, and Kubernetes' own word on the result.

Rendering, linting and the schema of the values are Helm's: the Go libraries of the `helm` command, through
helm-python-sdk. Manifests are held to the schemas that Kubernetes publishes. Of resources that an operator defines
Kubernetes has none; for those of Prometheus' we hold the fields we use to a schema of ours, and what they carry is
checked where it is made (`promtool`).
"""

import json
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import helm_python
import jsonschema_rs
import kubernetes_validate  # type: ignore[import-untyped]  # it has annotations, and does not say so
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

CHART: Final = Path(__file__).parent / "helm" / "wattline"
_CUSTOM_SCHEMAS: Final = Path(__file__).parent / "helm" / "custom-resources.schema.json"
# The oldest that Chart.yaml allows, and the newest we have schemas of.
KUBERNETES_VERSIONS: Final = ("1.25", kubernetes_validate.latest_version())
_SEVERITIES_THAT_FAIL: Final = 2  # warnings and errors; Helm's 1 is advice


@dataclass(frozen=True, slots=True)
class Manifest:
    """One object as the cluster would get it; `origin` is the template it comes from."""

    origin: str
    content: Mapping[str, Any]

    @property
    def kind(self) -> str:
        return str(self.content["kind"])

    @property
    def name(self) -> str:
        return str(self.content["metadata"]["name"])

    def __str__(self) -> str:
        return f"{self.kind} {self.name}"


@contextmanager
def without_links(chart: Path = CHART) -> Iterator[Path]:
    """A copy of the chart that holds what its links lead to. Helm follows links too, and writes a line about each."""
    with tempfile.TemporaryDirectory() as folder:
        yield Path(shutil.copytree(chart, Path(folder) / chart.name))


def example_values(chart: Path = CHART) -> list[Path]:
    """The files of values that the chart is tried with, beside its own defaults."""
    return sorted((chart / "ci").glob("*-values.yaml"))


def read_values(path: Path) -> dict[str, Any]:
    """The values in a YAML file."""
    return dict(YAML(typ="safe").load(path) or {})


def render(values: Mapping[str, Any], chart: Path = CHART, name: str = "demo") -> list[Manifest]:
    """What `helm template` makes of the chart.

    Raises:
        helm_python.HelmError: the values do not match their schema, or a template fails.
    """
    with helm_python.Chart.load(chart) as loaded:
        loaded.validate_schema(dict(values))
        rendered = loaded.render(dict(values), name=name, namespace="serving", is_install=True)
    texts = {origin: text for origin, text in rendered.items() if origin.endswith(".yaml")}
    return [
        Manifest(origin, content)
        for origin, text in sorted(texts.items())
        for content in YAML(typ="safe").load_all(text)
        if content
    ]


def lint(chart: Path = CHART) -> Iterator[str]:
    """What `helm lint --strict` complains of."""
    report = helm_python.lint(chart, strict=True)
    yield from report["errors"]
    for message in report["messages"]:
        if message["severity"] >= _SEVERITIES_THAT_FAIL:
            yield f"{message['path']}: {message['error']}"


def problems_of(manifest: Manifest, versions: Sequence[str] = KUBERNETES_VERSIONS) -> Iterator[str]:
    """Where a manifest is not what Kubernetes, or Prometheus' operator, expects."""
    custom = json.loads(_CUSTOM_SCHEMAS.read_text(encoding="utf-8"))
    if manifest.kind in custom["definitions"]:
        schema = {**custom, "$ref": f"#/definitions/{manifest.kind}"}
        for error in jsonschema_rs.validator_for(schema).iter_errors(manifest.content):
            yield f"{manifest}, {'.'.join(map(str, error.instance_path))}: {error.message}"
        return
    for version in versions:
        try:
            kubernetes_validate.validate(manifest.content, version, strict=True)
        except kubernetes_validate.SchemaNotFoundError as error:
            yield f"{manifest}: {error.message}"
        except kubernetes_validate.ValidationError as error:
            yield f"{manifest}, {'.'.join(map(str, error.path))}, Kubernetes {version}: {error.message}"


def chart_problems(chart: Path = CHART) -> list[str]:
    """What is wrong with the chart and with what it renders, for its defaults and each example, one line each."""
    found = list(lint(chart))
    for path in (None, *example_values(chart)):
        where = "values.yaml" if path is None else path.name
        try:
            manifests = render({} if path is None else read_values(path), chart)
        except (helm_python.HelmError, YAMLError) as error:
            found.append(f"{where}: {error}")
            continue
        found += [f"{where}: {problem}" for manifest in manifests for problem in problems_of(manifest)]
    return found
