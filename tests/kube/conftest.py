"""One cluster, one installation of the chart, for every test of this folder. `python -m kube` brings what they need."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

import parts
from kube.happening import Row, table
from kube.images import ARCHIVES
from kube.loaded import LoadedRelease
from kube.node import Node
from kube.published import push_release, serving
from kube.release import Release
from kube.stores import start_stores

ROWS = pytest.StashKey[list[Row]]()
ORDER = [
    "test_install",
    "test_upgrade",
    "test_scale",
    "test_kill",
    "test_drain",
    "test_uninstall",
    "test_small",
    "test_policies",
]
FOLDER = os.environ.get("SCORM_WEBHOOKS_KUBE_FOLDER")


@pytest.fixture(scope="session")
def folder() -> Path:
    if FOLDER is None:
        pytest.skip("`make kube` runs this test, in namespaces of its own")
    return Path(FOLDER)


@pytest.fixture(scope="session")
def node(folder: Path) -> Node:
    """A node with Kafka and PostgreSQL."""
    node = Node(folder, sorted(ARCHIVES.glob("*.tar")))
    start_stores(node.kubectl, folder)
    return node


@pytest.fixture(scope="session")
def release(node: Node, folder: Path) -> Iterator[Release]:
    """The release before, installed from a registry. As long as nothing is released, it is this checkout too."""
    program = parts.image_registry()
    assert program, "tests/parts.py brings it"
    with serving(program, folder) as registry:
        version = push_release(registry, folder / "published")
        release = Release(node.kubectl, f"oci://{registry.chart}", "--version", version, "--plain-http")
        release.prepare()
        release.install()
        yield release


@pytest.fixture(scope="session")
def loaded(release: Release, folder: Path, pytestconfig: pytest.Config) -> Iterator[LoadedRelease]:
    loaded = LoadedRelease(release, folder, pytestconfig.stash.setdefault(ROWS, []))
    try:
        yield loaded
    finally:
        loaded.close()


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The tests share one release, which goes through all of this in order."""
    items.sort(key=lambda item: ORDER.index(item.path.stem) if item.get_closest_marker("kube") else -1)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    if rows := config.stash.get(ROWS, []):
        terminalreporter.section("on a real Kubernetes")
        terminalreporter.write_line(table(rows))
