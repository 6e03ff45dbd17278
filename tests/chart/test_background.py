"""`stages.background` runs several stages in one pod, and these have none of their own."""

from functools import reduce

import pytest

from chart.rendering import FULLNAME, STAGES, at, merged, pod_of, refusal, render, render_file, variables_of
from chart.schemas import problems
from chart_files import ROOT
from streams.runtime.background import BACKGROUND_NAME, BACKGROUND_STAGES

SMALL = at("stages.background.enabled", True)
VALUES = ROOT / "deploy" / "helm" / "values" / "small.yaml"
KINDS = ("Deployment", "StatefulSet", "Service", "PodDisruptionBudget", "NetworkPolicy")


def components(kind: str) -> set[str]:
    rendered = render(merged(SMALL, at("networkPolicy.enabled", True)))
    return {one["metadata"]["labels"].get("app.kubernetes.io/component", "") for one in rendered.of_kind(kind)}


def test_the_default_has_no_background() -> None:
    assert BACKGROUND_NAME not in {one["metadata"]["name"].removeprefix(f"{FULLNAME}-") for one in render().resources}


def test_a_small_deployment_has_five_workloads() -> None:
    workloads = components("Deployment") | components("StatefulSet")
    assert workloads == {"fan-out", "deliver", "record", "api", BACKGROUND_NAME}
    args = render(SMALL).container(BACKGROUND_NAME)["args"]
    assert args == ["run", "--stages", ",".join(BACKGROUND_STAGES)]


@pytest.mark.parametrize("kind", KINDS)
def test_a_stage_in_the_background_has_nothing_of_its_own(kind: str) -> None:
    assert components(kind) & set(BACKGROUND_STAGES) == set()


def test_the_background_gets_what_its_stages_get() -> None:
    secrets = merged(at("smtp.existingSecret", "smtp"), at("kafka.sasl", {"enabled": True, "existingSecret": "kafka"}))
    apart = render(secrets)
    wanted = set().union(*(apart.variables(stage) for stage in BACKGROUND_STAGES))
    assert set(render(merged(SMALL, secrets)).variables(BACKGROUND_NAME)) == wanted


def test_some_stages_may_have_pods_beside_it() -> None:
    rendered = render(merged(SMALL, at("stages.background.runs", ["notify", "maintain"])))
    assert rendered.container(BACKGROUND_NAME)["args"][-1] == "notify,maintain"
    assert rendered.container("publish")["args"] == ["publish"]


def test_a_stage_that_is_not_enabled_is_left_out() -> None:
    rendered = render(merged(SMALL, at("stages.notify.enabled", False)))
    assert rendered.container(BACKGROUND_NAME)["args"][-1] == "publish,meter,maintain"
    nothing = [at(f"stages.{stage}.enabled", False) for stage in BACKGROUND_STAGES]
    assert "stages.background runs nothing" in refusal(reduce(merged, nothing, SMALL))


@pytest.mark.parametrize("runs", [["api"], ["publish", "publish"], []])
def test_other_stages_are_refused(runs: list[str]) -> None:
    assert "runs" in refusal(merged(SMALL, at("stages.background.runs", runs)))


def test_helm_test_asks_the_background() -> None:
    [pod] = render(SMALL).of_kind("Pod")
    urls = pod["spec"]["containers"][0]["args"][1:]
    assert f"http://{FULLNAME}-{BACKGROUND_NAME}:9090/readyz" in urls
    assert len(urls) == len(STAGES) - len(BACKGROUND_STAGES) + 2  # `api` answers at two places


def test_kubernetes_accepts_it() -> None:
    rendered = render(merged(SMALL, at("networkPolicy.enabled", True)))
    assert [problem for one in rendered.resources for problem in problems(one)] == []


def test_the_values_file_has_fewer_partitions() -> None:
    rendered = render_file(VALUES)
    assert rendered.container(BACKGROUND_NAME)["args"][0] == "run"
    [topics] = [job for job in rendered.of_kind("Job") if job["metadata"]["name"].endswith("topics-apply")]
    [container] = pod_of(topics)["spec"]["containers"]
    found = {name: value for name, value in variables_of(container).items() if name.endswith("_PARTITIONS")}
    assert found == {"SCORM_WEBHOOKS_EVENT_PARTITIONS": "6", "SCORM_WEBHOOKS_DELIVERY_PARTITIONS": "6"}
