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
            with kills.doubt():
                where = ["--namespace", NAMESPACE, "--force", "--grace-period=0"]
                release.kubectl.run("delete", "pod", pod["metadata"]["name"], *where)
                loaded.wait_until_ready(stage)
    assert kills.repeated <= kills.allowed


def test_killed_processes_lose_nothing(node: Node, loaded: LoadedRelease) -> None:
    release = loaded.release
    with loaded.under_load("the process of each stage killed (`kill -9`)", name="kill") as kills:
        for stage in STAGES:
            [pod] = release.pods(stage)
            with kills.doubt():
                node.kill(pod)
                until(partial(has_restarted, release, stage), READY_SECONDS, f"{stage} starts again")
                loaded.wait_until_ready(stage)
    assert kills.repeated <= kills.allowed


def has_restarted(release: Release, stage: str) -> bool:
    return any(
        container["restartCount"] for pod in release.pods(stage) for container in pod["status"]["containerStatuses"]
    )
