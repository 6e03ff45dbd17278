"""Pods are restricted, probed, and configurable.

These are the checks that checkov has for pods. checkov is not used: it brings a hundred packages with pins of its own.
"""

from typing import Any

import pytest

from chart.rendering import STAGES, Resource, at, merged, render
from streams.core.deliveries.time_limits import MAX_ATTEMPT_SECONDS, TimeLimits

POD_NAMES = [*STAGES.values(), "topics-apply", "db-upgrade", "test"]


def pod(name: str, values: dict[str, Any] | None = None) -> Resource:
    return dict(render(values).pods())[name]


def container(name: str, values: dict[str, Any] | None = None) -> Resource:
    [only] = pod(name, values)["spec"]["containers"]
    return dict(only)


def test_every_pod_is_looked_at() -> None:
    assert sorted(name for name, _ in render().pods()) == sorted(POD_NAMES)


@pytest.mark.parametrize("name", POD_NAMES)
def test_a_pod_meets_the_restricted_standard(name: str) -> None:
    spec = pod(name)["spec"]
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["securityContext"]["runAsUser"] == 65532
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container(name)["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "readOnlyRootFilesystem": True,
    }
    assert not {"hostNetwork", "hostPID", "hostIPC"} & spec.keys()
    assert all("hostPath" not in volume for volume in spec.get("volumes", []))


@pytest.mark.parametrize("name", POD_NAMES)
def test_a_pod_has_no_token_and_no_service_links(name: str) -> None:
    spec = pod(name)["spec"]
    assert spec["automountServiceAccountToken"] is False
    assert spec["enableServiceLinks"] is False
    assert (
        spec["serviceAccountName"] == f"acme-scorm-webhooks{'-hooks' if name in ('topics-apply', 'db-upgrade') else ''}"
    )


@pytest.mark.parametrize("name", POD_NAMES)
def test_a_pod_asks_for_cpu_and_bounds_its_memory(name: str) -> None:
    resources = container(name)["resources"]
    assert resources["requests"].keys() == {"cpu", "memory"}
    assert resources["limits"].keys() == {"memory"}


@pytest.mark.parametrize("name", [*STAGES.values(), "topics-apply", "db-upgrade"])
def test_a_pod_may_write_to_tmp_alone(name: str) -> None:
    assert {"name": "tmp", "mountPath": "/tmp"} in container(name)["volumeMounts"]
    assert {"name": "tmp", "emptyDir": {"sizeLimit": "64Mi"}} in pod(name)["spec"]["volumes"]


@pytest.mark.parametrize("name", POD_NAMES)
def test_only_the_api_keeps_a_local_key_in_memory(name: str) -> None:
    mounts = [one["mountPath"] for one in container(name).get("volumeMounts", []) if one["name"] == "local-key"]
    volumes = [one["emptyDir"] for one in pod(name)["spec"].get("volumes", []) if one["name"] == "local-key"]
    is_api = name == STAGES["api"]
    assert mounts == (["/run/scorm-webhooks"] if is_api else [])
    assert volumes == ([{"medium": "Memory", "sizeLimit": "1Mi"}] if is_api else [])


@pytest.mark.parametrize("stage", STAGES.values())
def test_only_readiness_depends_on_kafka_and_the_database(stage: str) -> None:
    found = container(stage)
    paths = {probe: found[probe]["httpGet"] for probe in ("startupProbe", "livenessProbe", "readinessProbe")}
    assert paths == {
        "startupProbe": {"path": "/healthz", "port": "metrics"},
        "livenessProbe": {"path": "/healthz", "port": "metrics"},
        "readinessProbe": {"path": "/readyz", "port": "metrics"},
    }
    ports = {one["name"]: one["containerPort"] for one in found["ports"]}
    variables = render().variables(stage)
    assert variables["SCORM_WEBHOOKS_HEALTH_PORT"] == str(ports["metrics"])
    assert variables["SCORM_WEBHOOKS_HEALTH_HOST"] == "0.0.0.0"


def test_the_api_listens_where_its_service_sends() -> None:
    ports = {one["name"]: one["containerPort"] for one in container("api")["ports"]}
    assert render().variables("api")["SCORM_WEBHOOKS_API_PORT"] == str(ports["http"])
    [port] = render().find("Service", "api")["spec"]["ports"]
    assert (port["port"], port["targetPort"]) == (80, "http")


def test_the_api_answers_until_proxies_know_that_it_ends() -> None:
    slept = container("api")["lifecycle"]["preStop"]["sleep"]["seconds"]
    assert slept == 5
    assert pod("api")["spec"]["terminationGracePeriodSeconds"] >= slept + TimeLimits(10).stop_seconds
    assert "lifecycle" not in container("deliver")


@pytest.mark.parametrize("attempt", [0.1, 2.5, 10, 10.5, 59.9, MAX_ATTEMPT_SECONDS])
@pytest.mark.parametrize("name", ["deliver", "api", "db-upgrade"])
def test_a_pod_has_the_time_that_its_process_needs(name: str, attempt: float) -> None:
    values = {**at("settings.attemptTimeoutSeconds", attempt), **at("stages.api.preStopSleepSeconds", 15)}
    grace = pod(name, values)["spec"]["terminationGracePeriodSeconds"]
    assert TimeLimits(attempt).stop_seconds + 15 <= grace <= TimeLimits(attempt).stop_seconds + 15 + 16


def test_a_pod_has_45_seconds_by_default() -> None:
    assert pod("deliver")["spec"]["terminationGracePeriodSeconds"] == 45


@pytest.mark.parametrize("stage", STAGES.values())
def test_a_stages_pods_spread_over_zones_and_nodes(stage: str) -> None:
    constraints = pod(stage)["spec"]["topologySpreadConstraints"]
    assert [one["topologyKey"] for one in constraints] == ["topology.kubernetes.io/zone", "kubernetes.io/hostname"]
    for constraint in constraints:
        labels = constraint["labelSelector"]["matchLabels"]
        assert labels["app.kubernetes.io/component"] == stage
        assert labels.items() <= pod(stage)["metadata"]["labels"].items()


def test_a_constraint_keeps_its_own_selector() -> None:
    own = {"maxSkew": 2, "topologyKey": "rack", "whenUnsatisfiable": "DoNotSchedule", "labelSelector": {}}
    own["labelSelector"] = {"matchLabels": {"tier": "webhooks"}}
    assert pod("api", at("pod.topologySpreadConstraints", [own]))["spec"]["topologySpreadConstraints"] == [own]


POD_OPTIONS: dict[str, Any] = {
    "nodeSelector": {"disk": "fast"},
    "affinity": {"nodeAffinity": {}},
    "tolerations": [{"key": "webhooks", "operator": "Exists"}],
    "priorityClassName": "high",
    "terminationGracePeriodSeconds": 60,
}


@pytest.mark.parametrize("option", POD_OPTIONS)
@pytest.mark.parametrize("name", ["deliver", "api", "db-upgrade"])
def test_an_option_of_pods_reaches_them(name: str, option: str) -> None:
    assert pod(name, {"pod": POD_OPTIONS})["spec"][option] == POD_OPTIONS[option]


def test_a_stages_own_options_win_and_extras_are_appended() -> None:
    values = {
        "pod": {
            "labels": {"team": "a", "cost": "1"},
            "annotations": {"note": "a"},
            "extraEnv": [{"name": "A", "value": "1"}],
            "extraVolumes": [{"name": "a", "emptyDir": {}}],
            "extraVolumeMounts": [{"name": "a", "mountPath": "/a"}],
        },
        "stages": {
            "deliver": {
                "pod": {
                    "labels": {"team": "b"},
                    "annotations": {"note": "b"},
                    "priorityClassName": "high",
                    "extraEnv": [{"name": "B", "value": "2"}],
                    "extraVolumes": [{"name": "b", "emptyDir": {}}],
                    "extraVolumeMounts": [{"name": "b", "mountPath": "/b"}],
                }
            }
        },
    }
    found, only = pod("deliver", values), container("deliver", values)
    assert (found["metadata"]["labels"]["team"], found["metadata"]["labels"]["cost"]) == ("b", "1")
    assert found["metadata"]["annotations"]["note"] == "b"
    assert found["spec"]["priorityClassName"] == "high"
    assert [one["name"] for one in only["env"]][-2:] == ["A", "B"]
    assert [one["name"] for one in found["spec"]["volumes"]] == ["tmp", "a", "b"]
    assert [one["mountPath"] for one in only["volumeMounts"]] == ["/tmp", "/a", "/b"]
    assert "priorityClassName" not in pod("record", values)["spec"]
    assert pod("record", values)["metadata"]["labels"]["team"] == "a"


def test_an_image_is_named_by_tag_or_digest() -> None:
    assert container("api")["image"] == "scorm-webhooks:0.1.0"
    assert container("api", {"image": {"repository": "registry/w", "tag": "2"}})["image"] == "registry/w:2"
    digest = f"sha256:{'a' * 64}"
    assert container("test", at("image.digest", digest))["image"] == f"scorm-webhooks@{digest}"


TLS = {
    "kafka": {
        "tls": {
            "enabled": True,
            "ca": {"existingSecret": "kafka-ca", "key": "authority"},
            "client": {"existingSecret": "kafka-user", "certificateKey": "user.crt", "privateKeyKey": "user.key"},
        }
    },
    "database": {
        "tls": {"mode": "verify-full", "ca": {"existingSecret": "db-ca"}, "client": {"existingSecret": "db-user"}}
    },
    "trustedCertificates": {"configMap": "trust"},
    "brandLogo": {"configMap": "logo", "key": "logo.png"},
}


@pytest.mark.parametrize(
    ("name", "variable", "path"),
    [
        ("deliver", "KAFKA_CONFIG_SSL_CA_LOCATION", "kafka-ca/ca.crt"),
        ("deliver", "KAFKA_CONFIG_SSL_CERTIFICATE_LOCATION", "kafka-client/tls.crt"),
        ("deliver", "KAFKA_CONFIG_SSL_KEY_LOCATION", "kafka-client/tls.key"),
        ("record", "PGSSLROOTCERT", "database-ca/ca.crt"),
        ("record", "PGSSLCERT", "database-client/tls.crt"),
        ("record", "PGSSLKEY", "database-client/tls.key"),
        ("notify", "SCORM_WEBHOOKS_CA_FILE", "trusted-certificates/ca.crt"),
        ("api", "SCORM_WEBHOOKS_BRAND_LOGO", "brand-logo/logo.png"),
    ],
)
def test_a_variable_names_a_file_that_is_mounted(name: str, variable: str, path: str) -> None:
    assert render(TLS).variables(name)[variable] == f"/etc/scorm-webhooks/{path}"
    volume, file = path.split("/")
    mounts = {one["name"]: one["mountPath"] for one in container(name, TLS)["volumeMounts"]}
    assert mounts[volume] == f"/etc/scorm-webhooks/{volume}"
    [source] = [one for one in pod(name, TLS)["spec"]["volumes"] if one["name"] == volume]
    items = (source.get("secret") or source["configMap"])["items"]
    assert file in [item["path"] for item in items]


def test_files_come_from_the_secrets_and_keys_that_are_set() -> None:
    volumes = {one["name"]: one for one in pod("deliver", TLS)["spec"]["volumes"]}
    assert volumes["kafka-client"]["secret"] == {
        "secretName": "kafka-user",
        "defaultMode": 0o440,
        "items": [{"key": "user.crt", "path": "tls.crt"}, {"key": "user.key", "path": "tls.key"}],
    }
    assert volumes["kafka-ca"]["secret"]["items"] == [{"key": "authority", "path": "ca.crt"}]


def test_a_job_reads_kafkas_files_and_no_others() -> None:
    mounted = [one["name"] for one in container("topics-apply", TLS)["volumeMounts"]]
    assert mounted == ["tmp", "kafka-ca", "kafka-client", "trusted-certificates"]


@pytest.mark.parametrize(
    ("tls", "sasl", "protocol"),
    [(False, False, None), (True, False, "SSL"), (False, True, "SASL_PLAINTEXT"), (True, True, "SASL_SSL")],
)
def test_the_protocol_follows_from_tls_and_sasl(tls: bool, sasl: bool, protocol: str | None) -> None:
    kafka = {"tls": {"enabled": tls}, "sasl": {"enabled": sasl, "existingSecret": "kafka"}}
    variables = render({"kafka": kafka}).variables("fan-out")
    assert variables.get("KAFKA_CONFIG_SECURITY_PROTOCOL") == protocol
    assert variables.get("KAFKA_CONFIG_SASL_MECHANISM") == ("SCRAM-SHA-512" if sasl else None)


OAUTH = {"enabled": True, "tokenEndpointUrl": "https://login.example.com/token", "existingSecret": "client"}


def test_oauth_reads_its_secret_from_a_secret() -> None:
    kafka = {"tls": {"enabled": True}, "oauth": {**OAUTH, "clientId": "webhooks", "scope": "kafka"}}
    variables = render({"kafka": kafka}).variables("fan-out")
    prefix = "KAFKA_CONFIG_SASL_"
    assert {name.removeprefix(prefix): value for name, value in variables.items() if name.startswith(prefix)} == {
        "MECHANISM": "OAUTHBEARER",
        "OAUTHBEARER_METHOD": "oidc",
        "OAUTHBEARER_TOKEN_ENDPOINT_URL": "https://login.example.com/token",
        "OAUTHBEARER_CLIENT_ID": "webhooks",
        "OAUTHBEARER_CLIENT_SECRET": "client/client-secret",
        "OAUTHBEARER_SCOPE": "kafka",
    }
    assert variables["KAFKA_CONFIG_SECURITY_PROTOCOL"] == "SASL_SSL"
    assert "KAFKA_CONFIG_SASL_OAUTHBEARER_CLIENT_SECRET" not in render({"kafka": kafka}).variables("notify")


def test_the_authority_of_the_token_endpoint_is_a_file() -> None:
    values = {"kafka": {"oauth": {**OAUTH, "ca": {"existingSecret": "authority"}}}}
    assert (
        render(values).variables("fan-out")["KAFKA_CONFIG_HTTPS_CA_LOCATION"]
        == "/etc/scorm-webhooks/kafka-oauth-ca/ca.crt"
    )
    for name in ("fan-out", "topics-apply"):
        assert "kafka-oauth-ca" in [one["name"] for one in container(name, values)["volumeMounts"]]


def test_msk_needs_a_region_alone() -> None:
    variables = render({"kafka": {"msk": {"region": "eu-central-1"}}}).variables("deliver")
    assert variables["KAFKA_MSK_REGION"] == "eu-central-1"
    assert not [name for name in variables if name.startswith("KAFKA_CONFIG_S")]


def test_a_property_of_librdkafka_can_be_set() -> None:
    config = at("kafka.config", {"client.rack": "eu-1a", "socket.keepalive.enable": True, "fetch.max.bytes": 2000000})
    variables = render(config).variables("deliver")
    assert variables["KAFKA_CONFIG_CLIENT_RACK"] == "eu-1a"
    assert variables["KAFKA_CONFIG_SOCKET_KEEPALIVE_ENABLE"] == "true"
    assert variables["KAFKA_CONFIG_FETCH_MAX_BYTES"] == "2000000"


def test_images_can_be_pulled_with_a_secret() -> None:
    for name in POD_NAMES:
        assert pod(name, {"imagePullSecrets": [{"name": "registry"}]})["spec"]["imagePullSecrets"] == [
            {"name": "registry"}
        ]


def test_a_service_account_may_be_yours() -> None:
    values = merged(at("serviceAccount.create", False), at("serviceAccount.name", "events"))
    assert render(values).of_kind("ServiceAccount") == []
    assert {one["spec"]["serviceAccountName"] for _, one in render(values).pods()} == {"events"}


def test_service_accounts_mount_no_token() -> None:
    accounts = render().of_kind("ServiceAccount")
    assert len(accounts) == 2
    assert all(one["automountServiceAccountToken"] is False for one in accounts)
