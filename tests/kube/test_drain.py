"""A node is drained while events flow, and takes pods again."""

import json
import subprocess

import pytest

from kube.loaded import LoadedRelease
from kube.node import NODE
from kube.release import FULLNAME, NAME, NAMESPACE, STAGES, Release
from kube.stores import wait_for_stores

pytestmark = pytest.mark.kube

DRAIN = ["drain", NODE, "--delete-emptydir-data", "--timeout=120s"]
DRAIN_STAGES = [*DRAIN, f"--pod-selector=app.kubernetes.io/instance={NAME}"]


def test_an_eviction_takes_one_pod_of_a_stage(loaded: LoadedRelease) -> None:
    release = loaded.release
    release.kubectl.run("scale", "--namespace", NAMESPACE, f"statefulset/{FULLNAME}-deliver", "--replicas=2")
    loaded.wait_until_ready()
    with loaded.under_load("one of two processes of `deliver` evicted", name="evict") as eviction:
        release.kubectl.run("cordon", NODE)
        try:
            assert evict(release, f"{FULLNAME}-deliver-0").returncode == 0
            assert "disruption budget" in evict(release, f"{FULLNAME}-deliver-1").stderr
        finally:
            release.kubectl.run("uncordon", NODE)
        loaded.wait_until_ready()
        release.kubectl.run("scale", "--namespace", NAMESPACE, f"statefulset/{FULLNAME}-deliver", "--replicas=1")
    assert eviction.unexplained() == 0
    assert eviction.bad_ends() == []


def test_a_drain_of_every_stage_loses_nothing(loaded: LoadedRelease) -> None:
    release = loaded.release
    with loaded.under_load("`kubectl drain` of every stage, then `kubectl uncordon`", name="drain") as drain:
        release.kubectl.run(*DRAIN_STAGES)
        release.kubectl.run("uncordon", NODE)
        loaded.wait_until_ready()
    assert drain.unexplained() == 0
    assert drain.bad_ends() == []
    assert len(drain.ends) == len(STAGES)


def test_a_drain_of_kafka_and_postgresql_loses_nothing(loaded: LoadedRelease) -> None:
    release = loaded.release
    with (
        loaded.under_load("the same with Kafka and PostgreSQL on that node", name="everything") as drain,
        drain.doubt(),
    ):
        release.kubectl.run(*DRAIN)
        release.kubectl.run("uncordon", NODE)
        wait_for_stores(release.kubectl)
        loaded.wait_until_ready()
    assert drain.repeated <= drain.allowed


def evict(release: Release, pod: str) -> "subprocess.CompletedProcess[str]":
    """By the API that `kubectl drain` calls."""
    metadata = {"name": pod, "namespace": NAMESPACE}
    eviction = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": metadata}
    where = f"/api/v1/namespaces/{NAMESPACE}/pods/{pod}/eviction"
    return release.kubectl.attempt("kubectl", "create", "--raw", where, "--filename", "-", stdin=json.dumps(eviction))
