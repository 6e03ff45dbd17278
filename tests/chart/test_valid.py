"""Every values file renders resources that Kubernetes accepts."""

from pathlib import Path

import pytest

from chart.rendering import VALUES_FILES, helm, parse, render, render_file
from chart.schemas import problems
from chart_files import ROOT


def test_there_are_values_files_for_each_case() -> None:
    assert {path.stem for path in VALUES_FILES} == {"minimal", "small", "production", "strimzi-cloudnativepg", "keda"}


@pytest.mark.parametrize("path", VALUES_FILES, ids=lambda path: path.stem)
def test_a_values_file_passes_helm_lint(path: Path) -> None:
    done = helm("lint", "--strict", ".", "--values", path)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("path", VALUES_FILES, ids=lambda path: path.stem)
def test_kubernetes_accepts_every_resource(path: Path) -> None:
    resources = render_file(path).resources
    assert len(resources) > 20
    assert [problem for resource in resources for problem in problems(resource)] == []


@pytest.mark.parametrize("path", VALUES_FILES, ids=lambda path: path.stem)
def test_every_name_is_unique_and_has_its_namespace(path: Path) -> None:
    found = [
        (one["kind"], one["metadata"]["namespace"], one["metadata"]["name"]) for one in render_file(path).resources
    ]
    assert len(found) == len(set(found))
    assert max(len(name) for _, _, name in found) <= 63


def test_a_wrong_field_is_found() -> None:
    deployment = render().workload("api")
    wrong = {**deployment, "spec": {**deployment["spec"], "replica": 2}}
    assert any("replica" in problem for problem in problems(wrong))


def test_a_long_release_name_leaves_room_for_a_statefulsets_hash() -> None:
    done = helm("template", "r" * 53, ".", "--values", ROOT / "deploy" / "helm" / "values" / "minimal.yaml")
    names = [one["metadata"]["name"] for one in parse(done.stdout).of_kind("StatefulSet")]
    assert len(names) == 2
    assert max(map(len, names)) <= 52
