"""The chart installs on a real cluster, and every pod is what it promises."""

import pytest

from kube.release import Release

pytestmark = pytest.mark.kube


def test_an_installation_is_ready_and_says_so(release: Release) -> None:
    said = release.test()
    assert "ready" in said
    assert all(container["ready"] for pod in release.pods() for container in pod["status"]["containerStatuses"])
