"""Every setting of the program has one place in the chart, and reaches each process as it was given."""

from typing import Any

import pytest
import yaml

from chart.rendering import STAGES, at, merged, render
from chart_files import OTHERS, SCHEMA, VALUES, default_of, expected, settings
from streams.settings import PREFIX, Settings, load_settings

# A value of each setting that is not its default.
GIVEN: dict[str, Any] = {
    "databaseConnections": 2,
    "databasePooler": "transaction",
    "retrySchedule": ["5s", "1m"],
    "topicPrefix": "acme.",
    "kafkaGroupProtocol": "classic",
    "eventPartitions": 6,
    "deliveryPartitions": 48,
    "replicationFactor": 2,
    "eventFraming": "confluent",
    "eventSubject": "scormwebhooks.v1.SessionEvent",
    "fanOutConsumer": "librdkafka",
    "allowedNetworks": ["10.1.0.0/16", "10.2.0.0/16"],
    "egressProxy": "http://proxy.example.com:3128",
    "egressProxyResolves": True,
    "sourceAddresses": ["203.0.113.7/32", "2001:db8::/48"],
    "allowHttp": True,
    "dnsProbeHost": "example.com",
    "userAgent": "acme-learning/2",
    "signatureHeader": "X-Acme-Signature",
    "sendTraceparent": True,
    "attemptTimeoutSeconds": 2.5,
    "slots": 100_000,
    "releaseRate": 99_999,
    "latencyBudgetMs": 0,
    "watchdogSeconds": 0,
    "apiConnections": 1000,
    "webhooksPerAccount": 50,
    "rateLimit": 1_000_000,
    "eventRateLimit": 50,
    "publicUrl": "https://webhooks.example.com",
    "brandName": "Acme: events",
    "accentColor": "#001122",
    "frameAncestors": ["https://a.example.com", "https://b.example.com"],
    "trustedProxies": ["10.3.0.0/16"],
    "oidcIssuer": "https://login.example.com",
    "oidcClientId": "webhooks",
    "oidcName": "Acme",
    "oidcScopes": "openid email",
    "oidcAccountClaim": "account",
    "oidcRoleClaim": "role",
    "oidcOperatorGroup": "operators",
    "mailFrom": "Acme <webhooks@example.com>",
    "playerStatesMib": 2,
    "retentionDays": 7,
    "deadLetterRetentionDays": 90,
    "sessionRetentionDays": 5,
    "auditRetentionDays": 30,
    "logFormat": "console",
    "logLevel": "debug",
}
CASE = {
    "settings": GIVEN,
    "oidcClientSecret": {"existingSecret": "oidc"},
    "schemaRegistry": {"url": "https://registry.example.com"},
}


def settings_of(stage: str, values: dict[str, Any]) -> Settings:
    """What the program reads in a pod of this stage."""
    return load_settings(render(values).variables(stage))


def test_every_setting_has_one_place() -> None:
    assert set(settings().values()) | OTHERS.keys() == set(Settings.model_fields)
    assert set(GIVEN) == set(settings())


def test_a_settings_default_is_the_programs() -> None:
    written = yaml.safe_load(VALUES.read_text())["settings"]
    assert written == {key: default_of(name) for key, name in settings().items()}


def test_the_program_reads_its_own_defaults() -> None:
    read = settings_of("deliver", {}).model_dump()
    chosen = load_settings({"KAFKA_BOOTSTRAP_SERVERS": "kafka:9092"}).model_dump()
    differ = {name for name in read if read[name] != chosen[name]}
    assert differ == {"encryption_keys", "health_host", "health_port", "instance_id"}


@pytest.mark.parametrize("key", GIVEN)
def test_the_program_reads_a_setting_as_it_was_given(key: str) -> None:
    name = settings()[key]
    read = settings_of("api", CASE)
    wanted = ",".join(GIVEN[key]) if isinstance(GIVEN[key], list) else str(GIVEN[key])
    rest = {PREFIX + "OIDC_ISSUER": "https://login.example.com", PREFIX + "OIDC_CLIENT_ID": "webhooks"}
    rest |= {PREFIX + "OIDC_CLIENT_SECRET": "x", PREFIX + "PUBLIC_URL": "https://webhooks.example.com"}
    rest |= {PREFIX + "OIDC_ACCOUNT_CLAIM": "account", PREFIX + "EGRESS_PROXY": "http://proxy.example.com:3128"}
    alone = load_settings({"KAFKA_BOOTSTRAP_SERVERS": "kafka:9092", **rest, PREFIX + name.upper(): wanted})
    assert getattr(read, name) == getattr(alone, name)
    assert getattr(read, name) != getattr(load_settings({"KAFKA_BOOTSTRAP_SERVERS": "kafka:9092"}), name)


@pytest.mark.parametrize("stage", STAGES.values())
def test_a_stage_starts_with_the_settings_of_the_chart(stage: str) -> None:
    # Raises Misconfigured for a setting that is unknown, wrong or incomplete.
    assert settings_of(stage, CASE).topic_prefix == "acme."


def test_every_stage_listens_where_the_values_say() -> None:
    assert {settings_of(stage, at("listenAddress", "::")).health_host for stage in STAGES.values()} == {"::"}
    assert settings_of("api", at("listenAddress", "::")).api_host == "::"


def test_the_api_knows_whether_mail_is_sent() -> None:
    assert settings_of("api", at("smtp.existingSecret", "smtp")).sends_mail is True
    assert not settings_of("api", {}).sends_mail


def test_the_config_map_is_named_by_its_content() -> None:
    [before], [after] = (render(values).of_kind("ConfigMap") for values in ({}, at("settings.logLevel", "debug")))
    assert before["metadata"]["name"] != after["metadata"]["name"]
    assert before["immutable"] is True
    # Processes of the release before still need theirs while they are replaced.
    assert before["metadata"]["annotations"]["helm.sh/resource-policy"] == "keep"


def test_a_wrong_setting_stops_the_new_pods_alone() -> None:
    # A setting changes the ConfigMap's name: pods are replaced, and the old ones keep the old one.
    old, new = (render(values).pod("record")["spec"] for values in ({}, at("settings.logLevel", "debug")))
    assert old["containers"][0]["envFrom"] != new["containers"][0]["envFrom"]


def test_a_registry_is_named_to_the_stages() -> None:
    values = merged(CASE, at("schemaRegistry.existingSecret", "registry"))
    variables = render(values).variables("fan-out")
    assert variables["SCHEMA_REGISTRY_URL"] == "https://registry.example.com"
    assert variables["SCHEMA_REGISTRY_CONFIG_BASIC_AUTH_USER_INFO"] == "registry/user-info"


@pytest.mark.parametrize("path", [VALUES, SCHEMA], ids=lambda path: path.name)
def test_what_follows_from_the_settings_is_written(path: Any) -> None:
    assert path.read_text() == expected()[path], "run: make generated"
