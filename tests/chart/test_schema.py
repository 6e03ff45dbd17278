"""A mistake in the values is refused, with the field's name."""

import json
from typing import Any

import pytest
import yaml

from chart.rendering import MINIMAL, at, merged, refusal, render
from chart_files import SCHEMA, VALUES

MISTAKES: list[tuple[dict[str, Any], list[str]]] = [
    (at("stages.deliver.replcas", 2), ["/stages/deliver", "'replcas' not allowed"]),
    (at("stages.deliver.replicas", "2"), ["/stages/deliver/replicas", "got string, want integer"]),
    (at("settings.retentiondays", 2), ["/settings", "'retentiondays' not allowed"]),
    (at("settings.slots", 1), ["/settings/slots", "minimum"]),
    (at("settings.logLevel", "verbose"), ["/settings/logLevel", "'debug', 'info', 'warning', 'error'"]),
    (at("settings.retrySchedule", ["soon"]), ["/settings/retrySchedule/0", "pattern"]),
    (at("settings.encryptionKeys", "secret"), ["/settings", "'encryptionKeys' not allowed"]),
    (at("kafka.bootstrapServers", "kafka"), ["/kafka/bootstrapServers", "pattern"]),
    (at("kafka.sasl.mechanism", "GSSAPI"), ["/kafka/sasl/mechanism", "SCRAM-SHA-512"]),
    (at("kafka.config", {"SASL_PASSWORD": "x"}), ["/kafka/config", "'SASL_PASSWORD' not allowed"]),
    (at("topics.managedBy", "both"), ["/topics/managedBy", "'job', 'strimzi', 'nobody'"]),
    (at("stages.deliver.autoscaling.by", ["hpa", "keda"]), ["/stages/deliver/autoscaling/by", "'hpa', 'keda'"]),
    (at("stages.deliver.autoscaling.hpa", {}), ["/stages/deliver/autoscaling", "'hpa' not allowed"]),
    (at("stages.fanOut.autoscaling", {"by": "hpa"}), ["/stages/fanOut", "'autoscaling' not allowed"]),
    (at("stages.publish.autoscaling", {"by": "hpa"}), ["/stages/publish", "'autoscaling' not allowed"]),
    (at("image.digest", "latest"), ["/image/digest", "pattern"]),
    (at("database.tls.mode", "full"), ["/database/tls/mode", "verify-full"]),
    (at("pod.terminationGracePeriodSeconds", 10), ["/pod/terminationGracePeriodSeconds", "minimum"]),
    (at("networkPolicy.endpointPorts", [0]), ["/networkPolicy/endpointPorts/0", "minimum"]),
    (at("stages.api.podDisruptionBudget", {"minAvailable": 1}), ["/stages/api/podDisruptionBudget", "maxProperties"]),
]


@pytest.mark.parametrize(("values", "named"), MISTAKES, ids=[named[0] + " " + named[1][:20] for _, named in MISTAKES])
def test_a_mistyped_value_is_refused_with_its_place(values: dict[str, Any], named: list[str]) -> None:
    message = refusal(values)
    for part in named:
        assert part in message


def autoscaled(count: int, least: int = 2) -> dict[str, Any]:
    scaling = {"by": "keda", "minReplicas": least, "maxReplicas": count}
    return {**at("stages.deliver.autoscaling", scaling), **at("keda.prometheusAddress", "http://prometheus:9090")}


INCOMPLETE: list[tuple[dict[str, Any], str]] = [
    (at("kafka.bootstrapServers", ""), "kafka.bootstrapServers is not set"),
    (at("database.existingSecret", ""), "database.existingSecret is not set"),
    (at("encryptionKeys.existingSecret", ""), "encryptionKeys.existingSecret is not set"),
    (
        {**at("settings.attemptTimeoutSeconds", 60), **at("pod.terminationGracePeriodSeconds", 79)},
        "pod.terminationGracePeriodSeconds is 79: Kubernetes would kill a process that still finishes its requests. "
        "Set at least 80, or null",
    ),
    (
        {**at("settings.attemptTimeoutSeconds", 60), **at("stages.deliver.pod.terminationGracePeriodSeconds", 50)},
        "stages.deliver.pod.terminationGracePeriodSeconds is 50",
    ),
    (at("kafka.sasl.enabled", True), "kafka.sasl.existingSecret is not set"),
    (at("kafka.oauth.enabled", True), "kafka.oauth.existingSecret is not set"),
    (at("kafka.oauth", {"enabled": True, "existingSecret": "a"}), "kafka.oauth.tokenEndpointUrl is not set"),
    (at("kafka.msk.roleArn", "arn"), "kafka.msk.region is not set"),
    (
        at("kafka", {"msk": {"region": "eu-west-1"}, "sasl": {"enabled": True, "existingSecret": "a"}}),
        "kafka.sasl, kafka.oauth and kafka.msk exclude one another",
    ),
    (at("settings.oidcIssuer", "https://login.example.com"), "oidcClientSecret.existingSecret is not set"),
    (at("egressProxyCredentials.existingSecret", "proxy"), "settings.egressProxy is not set"),
    (at("settings.egressProxyResolves", True), "settings.egressProxy is not set"),
    (at("topics.managedBy", "strimzi"), "topics.strimzi.cluster is not set"),
    (at("api.ingress.enabled", True), "api.ingress.hosts is empty"),
    (at("api.httpRoute.enabled", True), "api.httpRoute.parentRefs is empty"),
    (at("api.ingress", {"enabled": True, "hosts": ["a.example.com"]}), "settings.trustedProxies is empty"),
    (at("api.httpRoute", {"enabled": True, "parentRefs": [{"name": "public"}]}), "settings.trustedProxies is empty"),
    (
        at("monitoring", {"serviceMonitor": {"enabled": True}, "podMonitor": {"enabled": True}}),
        "every metric would be read twice",
    ),
    (at("stages.fanOut.replicas", 13), "stages.fanOut.replicas is 13, more than settings.eventPartitions (12)"),
    (at("stages.record.replicas", 25), "stages.record.replicas is 25, more than settings.deliveryPartitions (24)"),
    (at("stages.deliver.autoscaling.by", "keda"), "keda.prometheusAddress is not set"),
    (autoscaled(25), "stages.deliver.autoscaling.maxReplicas is 25, more than settings.deliveryPartitions (24)"),
    (autoscaled(2, least=3), "stages.deliver.autoscaling.minReplicas is more than its maxReplicas"),
    (
        at("stages.deliver.autoscaling", {"by": "hpa", "cpuPercent": None, "overdueSeconds": None}),
        "stages.deliver.autoscaling has nothing to scale by",
    ),
]


@pytest.mark.parametrize(("values", "message"), INCOMPLETE, ids=[message[:40] for _, message in INCOMPLETE])
def test_incomplete_values_are_refused_with_what_to_set(values: dict[str, Any], message: str) -> None:
    assert message in refusal(values)


SECRETS_OF_KAFKA = [
    "sasl.password",
    "ssl.key.password",
    "ssl.key.pem",
    "ssl.keystore.password",
    "sasl.oauthbearer.client.secret",
    "sasl.oauthbearer.client.credentials.client.secret",
    "sasl.oauthbearer.assertion.private.key.passphrase",
    "sasl.oauthbearer.assertion.private.key.pem",
]


@pytest.mark.parametrize("name", SECRETS_OF_KAFKA)
def test_a_secret_of_kafka_is_refused(name: str) -> None:
    message = refusal(at("kafka.config", {name: "marker"}))
    variable = f"KAFKA_CONFIG_{name.upper().replace('.', '_')}"
    assert f"kafka.config has {name}, which is a secret" in message
    assert f"pod.extraEnv with {variable} from a Secret" in message
    assert "marker" not in message


def test_properties_of_kafka_that_are_no_secrets_are_accepted() -> None:
    public = {"ssl.key.location": "/k", "ssl.ca.pem": "x", "ssl.keystore.location": "/s", "client.rack": "a"}
    assert render(at("kafka.config", public)).of_kind("ConfigMap")


@pytest.mark.parametrize(
    "place",
    [
        "schemaRegistry.url",
        "kafka.oauth.tokenEndpointUrl",
        "keda.prometheusAddress",
        "settings.publicUrl",
        "settings.oidcIssuer",
    ],
)
@pytest.mark.parametrize(
    "url", ["https://user:marker@host.example.com", "https://marker@host", "http://a,http://u:p/marker@b"]
)
def test_a_url_with_a_password_is_refused(place: str, url: str) -> None:
    message = refusal(at(place, url))
    assert f"{place} has a user name or a password in its URL" in message
    assert "marker" not in message


def test_a_property_of_kafka_has_no_password_in_a_url() -> None:
    name = "sasl.oauthbearer.token.endpoint.url"
    message = refusal(at("kafka.config", {name: "https://user:marker@host"}))
    assert f"kafka.config.{name} has a user name or a password in its URL" in message


def test_everything_that_is_missing_is_said_at_once() -> None:
    message = refusal({}, over_minimal=False)
    assert all(f"{name} is not set" in message for name in ("kafka.bootstrapServers", "encryptionKeys.existingSecret"))


def test_a_limit_of_partitions_may_be_reached() -> None:
    with pytest.raises(AssertionError, match="helm accepts"):
        refusal(merged(MINIMAL, autoscaled(24)))


def objects(schema: Any) -> list[dict[str, Any]]:
    found = [schema] if isinstance(schema, dict) and "properties" in schema else []
    below = schema.values() if isinstance(schema, dict) else schema if isinstance(schema, list) else []
    return found + [one for value in below for one in objects(value)]


def test_the_schema_knows_every_value_and_no_other() -> None:
    schema = json.loads(SCHEMA.read_text())
    assert schema["$schema"] == "http://json-schema.org/draft-07/schema#"
    assert set(schema["properties"]) == yaml.safe_load(VALUES.read_text()).keys() | {"global"}
    loose = [one for one in objects(schema) if one.get("additionalProperties") is not False]
    # A variable of a pod has fields of Kubernetes.
    assert [set(one["properties"]) for one in loose] == [{"name"}]
