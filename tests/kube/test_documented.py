"""What the tests of the cluster need of documents and of the chart is there: without a cluster."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

import parts
from chart.rendering import render
from chart.test_document import notes
from conftest import left_out
from kube import release
from kube.documented import command

FOLDER = Path(__file__).parent


def called_with_text(function: str) -> Iterator[str]:
    """The texts that the tests of this folder call a function with."""
    for file in sorted(FOLDER.glob("*.py")):
        for node in ast.walk(ast.parse(file.read_text())):
            match node:
                case ast.Call(func=ast.Name(id=name), args=[ast.Constant(value=str(text))]) if name == function:
                    yield text


@pytest.fixture(scope="module")
def helm() -> None:
    if not parts.kube():
        left_out("helm")


@pytest.mark.parametrize("beginning", sorted(set(called_with_text("command"))))
def test_a_command_is_in_the_document_once(beginning: str) -> None:
    assert command(beginning)


def test_the_document_has_what_the_tests_replace() -> None:
    assert release.DOCUMENTED_DATABASE in command("kubectl create secret generic webhooks-database")
    assert len(release.REVISION.findall(command("helm rollback"))) == 1


@pytest.mark.usefixtures("helm")
def test_the_chart_takes_the_values_of_the_cluster() -> None:
    rendered = render(yaml.safe_load(release.VALUES.read_text()))
    workloads = [*rendered.of_kind("StatefulSet"), *rendered.of_kind("Deployment")]
    assert {release.stage_of(workload) for workload in workloads} == set(release.STAGES)


@pytest.mark.usefixtures("helm")
def test_the_notes_have_the_commands_that_are_run() -> None:
    programs = [line.split()[:2] for line in re.findall(release.COMMAND_OF_THE_NOTES, notes({}), re.MULTILINE)]
    assert programs == [["helm", "test"], ["kubectl", "logs"], ["kubectl", "exec"], ["kubectl", "port-forward"]]
