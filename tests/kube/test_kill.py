"""A pod of each stage is gone without a warning."""

from functools import partial

import pytest

from e2e.system import until
from kube.loaded import READY_SECONDS, LoadedRelease
from kube.node import Node
from kube.release import NAMESPACE, STAGES, Release

pytestmark = pytest.mark.kube


def test_pods_deleted_by_force_lose_nothing(loaded: LoadedRelease) -> None:
    release = loaded.release
    with loaded.under_load("a pod of each stage deleted by force", name="force") as kills:
        for stage in STAGES:
            [pod] = release.pods(stage)
            where = ["--namespace", NAMESPACE, "--force", "--grace-period=0"]
            with kills.doubt():
                release.kubectl.run("delete", "pod", pod["metadata"]["name"], *where)
        loaded.wait_until_ready()
    assert kills.repeated <= kills.allowed


def test_killed_processes_lose_nothing(node: Node, loaded: LoadedRelease) -> None:
    release = loaded.release
    with loaded.under_load("the process of each stage killed (`kill -9`)", name="kill") as kills:
        for stage in STAGES:
            [pod] = release.pods(stage)
            with kills.doubt():
                node.kill(pod)
        until(partial(all_have_restarted, release), READY_SECONDS, "every stage starts again", every=0.5)
        loaded.wait_until_ready()
    assert kills.repeated <= kills.allowed


def all_have_restarted(release: Release) -> bool:
    containers = [container for pod in release.pods() for container in pod["status"]["containerStatuses"]]
    return all(container["restartCount"] for container in containers)
