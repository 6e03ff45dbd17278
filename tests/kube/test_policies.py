"""NetworkPolicies, enforced: a process reaches only what its stage needs; chosen pods reach the API or the metrics."""

import json
from collections.abc import Iterator

import pytest

from e2e.system import until
from kube.loaded import READY_SECONDS, LoadedRelease
from kube.node import Node
from kube.release import NAMESPACE, STAGES, Release
from kube.stores import KAFKA_ADDRESS, POSTGRES_ADDRESS
from kube.stores import NAMESPACE as ELSEWHERE
from kube.test_upgrade import CHANGED_SETTING

pytestmark = pytest.mark.kube


def pods_elsewhere(app: str) -> list[dict[str, object]]:
    namespace = {"matchLabels": {"kubernetes.io/metadata.name": ELSEWHERE}}
    return [{"namespaceSelector": namespace, "podSelector": {"matchLabels": {"app": app}}}]


POLICIES = {
    "networkPolicy.enabled": True,
    "networkPolicy.apiFrom": pods_elsewhere("postgres"),
    "networkPolicy.metricsFrom": pods_elsewhere("kafka"),
}
KAFKA, DATABASE, ENDPOINTS, API, METRICS = "Kafka", "PostgreSQL", "endpoints", "the API", "the metrics of deliver"
BOTH = {KAFKA, DATABASE}
REACHED = {
    **dict.fromkeys(("record", "publish", "maintain", "meter"), BOTH),
    "fan-out": {KAFKA},
    "deliver": {*BOTH, ENDPOINTS},
    "notify": {DATABASE},
    "api": BOTH,
}
# Prints which of the places can be connected to.
CONNECT = """\
import json, socket, sys
reached = []
for name, (host, port) in json.loads(sys.argv[1]).items():
    try:
        socket.create_connection((host, port), 2).close()
    except OSError:
        continue
    reached.append(name)
print(json.dumps(reached))
"""


@pytest.fixture(scope="module")
def guarded(node: Node, loaded: LoadedRelease) -> Iterator[LoadedRelease]:
    """The deployment with its policies, on a node that enforces them."""
    before, loaded.release = loaded.release, Release(loaded.release.kubectl)
    loaded.release.upgrade("--install", **POLICIES)
    node.enforce_policies()
    until(lambda: ENDPOINTS not in reached(loaded, "notify"), READY_SECONDS, "policies are enforced", every=0.5)
    yield loaded
    loaded.release = before


def test_a_release_works_under_its_policies(guarded: LoadedRelease) -> None:
    with guarded.under_load("`helm upgrade` with enforced NetworkPolicies", name="policies") as upgrade:
        guarded.release.upgrade(**POLICIES, **CHANGED_SETTING)
    assert upgrade.unexplained() == 0
    assert upgrade.bad_ends() == []
    assert "ready" in guarded.release.test()


@pytest.mark.parametrize("stage", STAGES)
def test_a_process_reaches_only_what_its_stage_needs(guarded: LoadedRelease, stage: str) -> None:
    assert reached(guarded, stage) == REACHED[stage] | listening_in(stage)


def test_only_chosen_pods_reach_the_api_and_the_metrics(guarded: LoadedRelease) -> None:
    found = {app: reached_from(guarded, ELSEWHERE, f"statefulset/{app}") for app in ("kafka", "postgres")}
    assert {app: names & {API, METRICS} for app, names in found.items()} == {"kafka": {METRICS}, "postgres": {API}}


def reached(loaded: LoadedRelease, stage: str) -> set[str]:
    [pod] = [pod for pod in loaded.release.pods(stage) if "deletionTimestamp" not in pod["metadata"]]
    return reached_from(loaded, NAMESPACE, f"pod/{pod['metadata']['name']}")


def listening_in(stage: str) -> set[str]:
    """What a pod reaches in itself: no policy is between."""
    return {"api": {API}, "deliver": {METRICS}}.get(stage, set())


def reached_from(loaded: LoadedRelease, namespace: str, pod: str) -> set[str]:
    release = loaded.release
    [api], [deliver] = release.pods("api"), release.pods("deliver")
    places = {
        KAFKA: (KAFKA_ADDRESS, 9092),
        DATABASE: (POSTGRES_ADDRESS, 5432),
        ENDPOINTS: loaded.endpoints,
        API: (api["status"]["podIP"], 8080),
        METRICS: (deliver["status"]["podIP"], 9090),
    }
    run = ["exec", "--namespace", namespace, pod, "--", "python3", "-c", CONNECT, json.dumps(places)]
    return set(json.loads(release.kubectl.run(*run)))
