"""One cluster, one installation of the chart, for every test of this folder. `python -m kube` brings what they need."""

import os
from pathlib import Path

import pytest

from kube.images import ARCHIVES
from kube.node import Node
from kube.release import Release
from kube.stores import start_stores

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
def release(node: Node) -> Release:
    """The release of the commit before the chart, installed."""
    release = Release(node.kubectl)
    release.prepare()
    release.install(**{"image.tag": "previous"})
    return release
