"""Render the chart with helm, and find resources in the result."""

import copy
import json
import os
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

import parts
from chart_files import CHART, ROOT

VALUES_FILES = sorted((ROOT / "deploy" / "helm" / "values").glob("*.yaml"))
MINIMAL = yaml.safe_load((ROOT / "deploy" / "helm" / "values" / "minimal.yaml").read_text())
RELEASE, NAMESPACE, FULLNAME = "acme", "webhooks", "acme-scorm-webhooks"
STAGES = {
    "fanOut": "fan-out",
    "deliver": "deliver",
    "record": "record",
    "publish": "publish",
    "maintain": "maintain",
    "meter": "meter",
    "notify": "notify",
    "api": "api",
}

Resource = dict[str, Any]


@dataclass(frozen=True)
class Rendered:
    """The resources of a release."""

    resources: list[Resource]

    def of_kind(self, kind: str) -> list[Resource]:
        return [resource for resource in self.resources if resource["kind"] == kind]

    def find(self, kind: str, name: str) -> Resource:
        """The resource of this name, without the release's part of it."""
        [found] = [one for one in self.of_kind(kind) if one["metadata"]["name"] == f"{FULLNAME}-{name}"]
        return found

    def workload(self, stage: str) -> Resource:
        """The Deployment or StatefulSet of a stage."""
        workloads = [*self.of_kind("Deployment"), *self.of_kind("StatefulSet")]
        [found] = [one for one in workloads if one["metadata"]["name"] == f"{FULLNAME}-{stage}"]
        return found

    def pod(self, stage: str) -> Resource:
        return pod_of(self.workload(stage))

    def container(self, stage: str) -> Resource:
        [container] = self.pod(stage)["spec"]["containers"]
        return dict(container)

    def variables(self, stage: str) -> dict[str, str]:
        """The variables of a stage: values, and `secret/key` for those from a Secret."""
        container = self.container(stage)
        found: dict[str, str] = {}
        for source in container.get("envFrom", []):
            [config] = [
                one for one in self.of_kind("ConfigMap") if one["metadata"]["name"] == source["configMapRef"]["name"]
            ]
            found |= config["data"]
        return found | variables_of(container)

    def pods(self) -> Iterator[tuple[str, Resource]]:
        """Each pod with the name of its process: stages, Jobs and the test."""
        for resource in self.resources:
            if resource["kind"] in ("Deployment", "StatefulSet", "Job"):
                yield resource["metadata"]["name"].removeprefix(f"{FULLNAME}-"), pod_of(resource)
            elif resource["kind"] == "Pod":
                yield "test", resource


def pod_of(workload: Resource) -> Resource:
    return dict(workload["spec"]["template"])


def variables_of(container: Resource) -> dict[str, str]:
    """The variables in `env`: values, and `secret/key` for those from a Secret."""
    found: dict[str, str] = {}
    for one in container.get("env", []):
        secret = one.get("valueFrom", {}).get("secretKeyRef")
        field = one.get("valueFrom", {}).get("fieldRef", {}).get("fieldPath")
        found[one["name"]] = f"{secret['name']}/{secret['key']}" if secret else one.get("value", field)
    return found


def merged(values: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """As helm merges values files."""
    result = dict(copy.deepcopy(values))
    for name, value in over.items():
        below = result.get(name)
        result[name] = merged(below, value) if isinstance(value, dict) and isinstance(below, dict) else value
    return result


def at(path: str, value: Any) -> dict[str, Any]:
    """The values with this one at a path such as `kafka.tls.enabled`."""
    first, _, rest = path.partition(".")
    return {first: at(rest, value) if rest else value}


def helm(*arguments: str | Path, chart: Path = CHART) -> subprocess.CompletedProcess[str]:
    with tempfile.TemporaryDirectory() as home:
        environment = {"PATH": os.environ["PATH"], "HOME": home}
        command = [parts.KUBE / "bin" / "helm", *arguments]
        return subprocess.run(command, cwd=chart, env=environment, capture_output=True, text=True, check=False)


def template(values: Mapping[str, Any], *options: str | Path, chart: Path = CHART) -> subprocess.CompletedProcess[str]:
    with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
        json.dump(values, file)
        file.flush()
        return helm("template", RELEASE, ".", "--namespace", NAMESPACE, "--values", file.name, *options, chart=chart)


def render(values: Mapping[str, Any] | None = None, chart: Path = CHART) -> Rendered:
    """The resources for these values over the minimal ones."""
    return _render(json.dumps(merged(MINIMAL, values or {}), sort_keys=True), chart)


@cache
def _render(values: str, chart: Path) -> Rendered:
    done = template(json.loads(values), chart=chart)
    assert done.returncode == 0, done.stderr
    return parse(done.stdout)


@cache
def render_file(path: Path) -> Rendered:
    done = helm("template", RELEASE, ".", "--namespace", NAMESPACE, "--values", path)
    assert done.returncode == 0, done.stderr
    return parse(done.stdout)


def parse(text: str) -> Rendered:
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    return Rendered([one for one in yaml.load_all(text, Loader=loader) if one])


def refusal(values: Mapping[str, Any], *, over_minimal: bool = True) -> str:
    """Why helm refuses these values."""
    done = template(merged(MINIMAL, values) if over_minimal else values)
    assert done.returncode != 0, "helm accepts the values"
    return done.stderr
