"""Each stage runs as the kind of workload that suits it, and gets what it needs and nothing more."""

import json
import subprocess
import sys

import pytest

from chart.rendering import FULLNAME, STAGES, at, merged, render
from streams.runtime.startup import STAGES as STAGES_OF_THE_PROGRAM

EVERY_SECRET = {
    "operatorKeys": {"existingSecret": "operators"},
    "smtp": {"existingSecret": "smtp"},
    "oidcClientSecret": {"existingSecret": "oidc"},
    "egressProxyCredentials": {"existingSecret": "proxy"},
    "schemaRegistry": {"url": "https://registry.example.com", "existingSecret": "registry"},
    "kafka": {"sasl": {"enabled": True, "existingSecret": "kafka"}},
    "settings": {
        "oidcIssuer": "https://login.example.com",
        "oidcClientId": "webhooks",
        "publicUrl": "https://webhooks.example.com",
        "egressProxy": "http://proxy:3128",
    },
}
# Makes each stage, and prints which ask for an encryption key, and which for a schema registry.
ASK_THE_PROGRAM = """
import asyncio, json, os
from streams.adapters.encryption import generate_key
from streams.core.errors import Misconfigured
from streams.runtime.deployment import Deployment
from streams.runtime.startup import STAGES
from streams.telemetry import PrometheusTelemetry

CLUSTER = {"KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:1", "DATABASE_URL": "postgresql://x@127.0.0.1:1/y"}
CASES = {
    "SCORM_WEBHOOKS_ENCRYPTION_KEYS": {},
    "SCHEMA_REGISTRY_URL": {
        "SCORM_WEBHOOKS_ENCRYPTION_KEYS": generate_key(), "SCORM_WEBHOOKS_EVENT_FRAMING": "confluent"
    },
}

def asks(name, missing, environ):
    deployment = Deployment.from_environment({**CLUSTER, **environ})
    try:
        STAGES[name].check_settings(deployment)
        STAGES[name].load_factory()(deployment, PrometheusTelemetry(name))
    except Misconfigured as wrong:
        return missing in str(wrong)
    return False

async def main():
    asked = {missing: [name for name in STAGES if asks(name, missing, environ)] for missing, environ in CASES.items()}
    print(json.dumps(asked), flush=True)
    os._exit(0)

asyncio.run(main())
"""


def stages_with(variable: str) -> set[str]:
    rendered = render(EVERY_SECRET)
    return {stage for stage in STAGES.values() if variable in rendered.variables(stage)}


STAGES_BUT_API = sorted({*STAGES.values()} - {"api"})


def test_the_chart_has_every_stage() -> None:
    assert set(STAGES.values()) == STAGES_OF_THE_PROGRAM.keys()
    assert [render().container(stage)["args"] for stage in STAGES.values()] == [[stage] for stage in STAGES.values()]


@pytest.mark.parametrize("stage", ["fan-out", "deliver"])
def test_a_fixed_number_is_a_statefulset_with_static_members(stage: str) -> None:
    workload = render().workload(stage)
    assert (workload["kind"], workload["spec"]["podManagementPolicy"]) == ("StatefulSet", "Parallel")
    assert render().variables(stage)["SCORM_WEBHOOKS_INSTANCE_ID"] == "metadata.name"
    assert render().find("Service", stage)["spec"]["clusterIP"] == "None"
    assert workload["spec"]["serviceName"] == f"{FULLNAME}-{stage}"


@pytest.mark.parametrize("name", [*STAGES_BUT_API, "api-metrics"])
def test_a_pod_that_is_not_ready_has_a_name_too(name: str) -> None:
    # `helm test` and a person ask it at /readyz what is missing.
    assert render().find("Service", name)["spec"]["publishNotReadyAddresses"] is True


def test_clients_reach_pods_of_the_api_that_are_ready() -> None:
    assert "publishNotReadyAddresses" not in render().find("Service", "api")["spec"]


@pytest.mark.parametrize("by", ["hpa", "keda"])
def test_an_autoscaled_deliver_is_a_deployment_without_names(by: str) -> None:
    values = merged(at("stages.deliver.autoscaling.by", by), at("keda.prometheusAddress", "http://prometheus:9090"))
    rendered = render(values)
    workload = rendered.workload("deliver")
    assert workload["kind"] == "Deployment"
    assert "replicas" not in workload["spec"]
    assert "SCORM_WEBHOOKS_INSTANCE_ID" not in rendered.variables("deliver")


@pytest.mark.parametrize("stage", ["record", "publish", "maintain", "meter", "notify", "api"])
def test_the_other_stages_are_deployments(stage: str) -> None:
    workload = render().workload(stage)
    assert workload["kind"] == "Deployment"
    assert workload["spec"]["strategy"]["rollingUpdate"] == {"maxSurge": 1, "maxUnavailable": 0}
    assert "SCORM_WEBHOOKS_INSTANCE_ID" not in render().variables(stage)


@pytest.mark.parametrize("key", STAGES)
def test_a_stage_can_be_left_out(key: str) -> None:
    left = render(at(f"stages.{key}.enabled", False))
    name = f"{FULLNAME}-{STAGES[key]}"
    assert [one["kind"] for one in left.resources if one["metadata"]["name"].startswith(name)] == []


@pytest.mark.parametrize("key", STAGES)
def test_a_stage_has_the_replicas_that_are_set(key: str) -> None:
    assert render(at(f"stages.{key}.replicas", 3)).workload(STAGES[key])["spec"]["replicas"] == 3


def test_keys_and_registry_go_to_the_stages_that_ask_for_them() -> None:
    done = subprocess.run(
        [sys.executable, "-c", ASK_THE_PROGRAM], capture_output=True, text=True, timeout=120, check=True
    )
    asked = json.loads(done.stdout)
    assert set(asked["SCORM_WEBHOOKS_ENCRYPTION_KEYS"]) == stages_with("SCORM_WEBHOOKS_ENCRYPTION_KEYS")
    assert set(asked["SCHEMA_REGISTRY_URL"]) == stages_with("SCHEMA_REGISTRY_CONFIG_BASIC_AUTH_USER_INFO")


def test_the_database_goes_to_the_stages_that_use_it() -> None:
    # `deliver` works without it, and asks it for replays.
    use = {name for name, spec in STAGES_OF_THE_PROGRAM.items() if spec.database_deployment} | {"deliver"}
    assert stages_with("DATABASE_URL") == use


def test_kafkas_password_goes_to_the_stages_that_need_topics() -> None:
    assert stages_with("KAFKA_CONFIG_SASL_PASSWORD") == STAGES_OF_THE_PROGRAM.keys() - {"notify"}


@pytest.mark.parametrize(
    ("variable", "stage", "source"),
    [
        ("SMTP_URL", "notify", "smtp/url"),
        ("SCORM_WEBHOOKS_OPERATOR_KEYS", "api", "operators/operator-keys"),
        ("SCORM_WEBHOOKS_OIDC_CLIENT_SECRET", "api", "oidc/client-secret"),
        ("SCORM_WEBHOOKS_EGRESS_PROXY_CREDENTIALS", "deliver", "proxy/credentials"),
        ("SCORM_WEBHOOKS_OIDC_ISSUER", "api", "https://login.example.com"),
    ],
)
def test_some_variables_go_to_one_stage_alone(variable: str, stage: str, source: str) -> None:
    assert stages_with(variable) == {stage}
    assert render(EVERY_SECRET).variables(stage)[variable] == source


def test_a_username_may_be_in_the_values_or_in_the_secret() -> None:
    assert render(EVERY_SECRET).variables("deliver")["KAFKA_CONFIG_SASL_USERNAME"] == "kafka/username"
    named = render(merged(EVERY_SECRET, at("kafka.sasl.username", "events")))
    assert named.variables("deliver")["KAFKA_CONFIG_SASL_USERNAME"] == "events"


def test_no_value_of_a_secret_is_rendered() -> None:
    assert render(EVERY_SECRET).of_kind("Secret") == []


def test_oidc_settings_wait_for_an_issuer() -> None:
    # The program refuses a part of them.
    assert not [name for name in render().variables("api") if "OIDC" in name]
