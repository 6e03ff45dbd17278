"""`deliver` gets more processes and fewer, in both of its forms."""

from functools import partial

import pytest

from e2e.system import until
from kube.loaded import READY_SECONDS, LoadedRelease, is_ready
from kube.release import FULLNAME, NAMESPACE, Release

pytestmark = pytest.mark.kube

DELIVER = "stages.deliver"
AUTOSCALED = {f"{DELIVER}.autoscaling.{name}": value for name, value in {"by": "hpa", "minReplicas": 1}.items()}


def test_a_statefulset_grows_and_shrinks(loaded: LoadedRelease) -> None:
    release = loaded.release
    with loaded.under_load("`deliver` from 1 to 3 processes and back, as a StatefulSet", name="statefulset") as scaling:
        release.upgrade(**{f"{DELIVER}.replicas": 3})
        until(partial(all_have_partitions, release, 3), READY_SECONDS, "three processes share the partitions")
        release.upgrade()
    assert scaling.unexplained() == 0
    assert scaling.bad_ends() == []


def test_a_pod_has_its_name_before_it_is_ready(loaded: LoadedRelease) -> None:
    release, pod = loaded.release, f"{FULLNAME}-deliver-1"
    scale(release, "statefulset", 2)
    until(partial(has_name, release, f"{pod}.{FULLNAME}-deliver"), READY_SECONDS, "the name of the new pod resolves")
    assert not all(map(is_ready, release.pods("deliver")))
    loaded.wait_until_ready()
    scale(release, "statefulset", 1)


def test_a_deployment_grows_and_shrinks(loaded: LoadedRelease) -> None:
    release = loaded.release
    with loaded.under_load("the same as a Deployment, and the change to it and back", name="deployment") as scaling:
        release.upgrade(**AUTOSCALED)
        for count in (3, 1):
            scale(release, "deployment", count)
            until(partial(all_have_partitions, release, count), READY_SECONDS, f"{count} share the partitions")
        release.upgrade()
    assert scaling.unexplained() == 0
    assert scaling.bad_ends() == []


def scale(release: Release, kind: str, count: int) -> None:
    """What an autoscaler does. None acts here: there are no metrics."""
    release.kubectl.run("scale", "--namespace", NAMESPACE, f"{kind}/{FULLNAME}-deliver", f"--replicas={count}")


def all_have_partitions(release: Release, count: int) -> bool:
    """Whether `deliver` has this number of processes, and each one says that it has partitions."""
    pods = [pod["metadata"]["name"] for pod in release.pods("deliver") if "deletionTimestamp" not in pod["metadata"]]
    return len(pods) == count and all("partitions_assigned" in log_of(release, pod) for pod in pods)


def has_name(release: Release, name: str) -> bool:
    """As a pod resolves it."""
    resolve = ["python3", "-c", f"import socket; socket.gethostbyname('{name}')"]
    return release.kubectl.succeeds("exec", "--namespace", NAMESPACE, f"deploy/{FULLNAME}-api", "--", *resolve)


def log_of(release: Release, pod: str) -> str:
    """Empty before its process starts."""
    return release.kubectl.attempt("kubectl", "logs", "--namespace", NAMESPACE, pod).stdout
