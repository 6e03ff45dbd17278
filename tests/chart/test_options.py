"""Every value of the chart has an effect."""

import json
from collections.abc import Iterator
from functools import cache
from typing import Any

import pytest
import yaml

from chart.rendering import MINIMAL, at, merged, parse, template
from chart_files import VALUES

FIELDS = {"name": "other"}
RULE = {"ports": [{"port": 1, "protocol": "TCP"}]}
RESOURCES = {"requests": {"cpu": "3", "memory": "3Gi"}, "limits": {"memory": "3Gi"}}
# With these, every option can be seen.
EVERYTHING: dict[str, Any] = {
    "kafka": {
        "tls": {"enabled": True, "ca": {"existingSecret": "a"}, "client": {"existingSecret": "b"}},
        "sasl": {"enabled": True, "existingSecret": "c"},
    },
    "schemaRegistry": {"url": "https://registry.example.com", "existingSecret": "d"},
    "database": {
        "tls": {"ca": {"existingSecret": "e"}, "client": {"existingSecret": "f"}},
        "owner": {"existingSecret": "l"},
    },
    "operatorKeys": {"existingSecret": "g"},
    "smtp": {"existingSecret": "h"},
    "oidcClientSecret": {"existingSecret": "i"},
    "egressProxyCredentials": {"existingSecret": "o"},
    "trustedCertificates": {"configMap": "j"},
    "brandLogo": {"configMap": "k"},
    "settings": {
        "oidcIssuer": "https://login.example.com",
        "trustedProxies": ["10.3.0.0/16"],
        "egressProxy": "http://proxy:3128",
    },
    "stages": {stage: {"autoscaling": {"by": "keda"}} for stage in ("deliver", "record", "api")},
    "keda": {"overdueQuery": "late", "prometheusAddress": "http://prometheus:9090"},
    "topics": {"managedBy": "strimzi", "strimzi": {"cluster": "events"}},
    "api": {
        "ingress": {"enabled": True, "hosts": ["a.example.com"]},
        "httpRoute": {"enabled": True, "parentRefs": [FIELDS]},
    },
    "networkPolicy": {"enabled": True},
    "monitoring": {
        "podMonitor": {"enabled": True},
        "prometheusRule": {"enabled": True},
        "dashboard": {"enabled": True},
    },
}
# They exclude one another.
OTHER_WAYS_TO_SIGN_IN: dict[str, dict[str, Any]] = {
    "kafka.oauth.": {
        "oauth": {
            "enabled": True,
            "tokenEndpointUrl": "https://login.example.com/token",
            "existingSecret": "m",
            "ca": {"existingSecret": "n"},
        }
    },
    "kafka.msk.": {"msk": {"region": "eu-west-1", "roleArn": "arn:aws:iam::123456789012:role/kafka"}},
}
# A value for each option that its default does not have. Settings have a test of their own.
OTHER: dict[str, Any] = {
    "nameOverride": "events",
    "fullnameOverride": "events",
    "commonLabels": {"team": "a"},
    "image.repository": "registry/webhooks",
    "image.tag": "9",
    "image.digest": f"sha256:{'a' * 64}",
    "image.pullPolicy": "Always",
    "imagePullSecrets": [FIELDS],
    "serviceAccount.create": False,
    "serviceAccount.name": "own",
    "serviceAccount.annotations": {"role": "a"},
    "kafka.bootstrapServers": "other:9092",
    "kafka.tls.enabled": False,
    "kafka.tls.ca.existingSecret": "other",
    "kafka.tls.ca.key": "other",
    "kafka.tls.client.existingSecret": "other",
    "kafka.tls.client.certificateKey": "other",
    "kafka.tls.client.privateKeyKey": "other",
    "kafka.sasl.enabled": False,
    "kafka.sasl.mechanism": "PLAIN",
    "kafka.sasl.username": "me",
    "kafka.sasl.existingSecret": "other",
    "kafka.sasl.usernameKey": "other",
    "kafka.sasl.passwordKey": "other",
    "kafka.oauth.enabled": False,
    "kafka.oauth.tokenEndpointUrl": "https://other.example.com/token",
    "kafka.oauth.clientId": "me",
    "kafka.oauth.existingSecret": "other",
    "kafka.oauth.clientIdKey": "other",
    "kafka.oauth.clientSecretKey": "other",
    "kafka.oauth.scope": "kafka",
    "kafka.oauth.extensions": "logicalCluster=lkc-1",
    "kafka.oauth.ca.existingSecret": "other",
    "kafka.oauth.ca.key": "other",
    "kafka.msk.region": "eu-central-1",
    "kafka.msk.roleArn": "",
    "kafka.config": {"client.rack": "a"},
    "topics.managedBy": "job",
    "topics.strimzi.apiVersion": "kafka.strimzi.io/v1beta2",
    "topics.strimzi.cluster": "other",
    "topics.strimzi.namespace": "kafka",
    "schemaRegistry.url": "https://other.example.com",
    "schemaRegistry.existingSecret": "other",
    "schemaRegistry.key": "other",
    "database.existingSecret": "other",
    "database.key": "other",
    "database.tls.mode": "require",
    "database.tls.ca.existingSecret": "other",
    "database.tls.ca.key": "other",
    "database.tls.client.existingSecret": "other",
    "database.tls.client.certificateKey": "other",
    "database.tls.client.privateKeyKey": "other",
    "database.owner.existingSecret": "other",
    "database.owner.key": "other",
    "database.grantTo": "stages",
    "database.upgrade": False,
    "encryptionKeys.existingSecret": "other",
    "encryptionKeys.key": "other",
    "operatorKeys.existingSecret": "other",
    "operatorKeys.key": "other",
    "smtp.existingSecret": "other",
    "smtp.key": "other",
    "oidcClientSecret.existingSecret": "other",
    "oidcClientSecret.key": "other",
    "egressProxyCredentials.existingSecret": "other",
    "egressProxyCredentials.key": "other",
    "trustedCertificates.configMap": "other",
    "trustedCertificates.key": "other",
    "brandLogo.configMap": "other",
    "brandLogo.key": "other.png",
    "listenAddress": "::",
    "pod.labels": {"a": "b"},
    "pod.annotations": {"a": "b"},
    "pod.nodeSelector": {"a": "b"},
    "pod.affinity": {"nodeAffinity": {}},
    "pod.tolerations": [{"operator": "Exists"}],
    "pod.topologySpreadConstraints": [],
    "pod.priorityClassName": "high",
    "pod.terminationGracePeriodSeconds": 90,
    "pod.securityContext": {"fsGroup": 1},
    "pod.containerSecurityContext": {"readOnlyRootFilesystem": False},
    "pod.extraEnv": [{"name": "A", "value": "b"}],
    "pod.extraVolumes": [{"name": "a", "emptyDir": {}}],
    "pod.extraVolumeMounts": [{"name": "a", "mountPath": "/a"}],
    "keda.prometheusAddress": "http://other:9090",
    "keda.overdueQuery": "other",
    "keda.authenticationRef": FIELDS,
    "jobs.backoffLimit": 1,
    "jobs.activeDeadlineSeconds": 60,
    "jobs.resources": RESOURCES,
    "api.service.type": "NodePort",
    "api.service.port": 8000,
    "api.service.annotations": {"a": "b"},
    "api.ingress.enabled": False,
    "api.ingress.className": "nginx",
    "api.ingress.annotations": {"a": "b"},
    "api.ingress.hosts": ["b.example.com"],
    "api.ingress.tls": [{"secretName": "a"}],
    "api.httpRoute.enabled": False,
    "api.httpRoute.parentRefs": [{"name": "public"}],
    "api.httpRoute.hostnames": ["b.example.com"],
    "api.httpRoute.annotations": {"a": "b"},
    "networkPolicy.enabled": False,
    "networkPolicy.kafka.ports": [1],
    "networkPolicy.kafka.to": [{"podSelector": {}}],
    "networkPolicy.database.ports": [1],
    "networkPolicy.database.to": [{"podSelector": {}}],
    "networkPolicy.endpointPorts": [1],
    "networkPolicy.smtpPorts": [1],
    "networkPolicy.apiFrom": [{"podSelector": {}}],
    "networkPolicy.metricsFrom": [{"podSelector": {}}],
    "networkPolicy.extraEgress": [RULE],
    "monitoring.interval": "1m",
    "monitoring.labels": {"a": "b"},
    "monitoring.podMonitor.enabled": False,
    "monitoring.prometheusRule.enabled": False,
    "monitoring.prometheusRule.runbookUrl": "https://runbooks.example.com/",
    "monitoring.dashboard.enabled": False,
    "monitoring.dashboard.labels": {"a": "b"},
    "monitoring.dashboard.annotations": {"a": "b"},
    "extraObjects": [{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "mine"}}],
    "stages.deliver.autoscaling.overdueSeconds": 9,
    "stages.api.preStopSleepSeconds": 9,
    **{f"stages.{stage}.autoscaling.by": "hpa" for stage in ("deliver", "record", "api")},
    **{f"stages.{stage}.autoscaling.minReplicas": 3 for stage in ("deliver", "record", "api")},
    **{f"stages.{stage}.autoscaling.maxReplicas": 12 for stage in ("deliver", "record", "api")},
    **{f"stages.{stage}.autoscaling.cpuPercent": 50 for stage in ("deliver", "record", "api")},
}
# A stage's own options, in the minimal case.
OF_A_STAGE: dict[str, Any] = {
    "enabled": False,
    "replicas": 5,
    "resources": RESOURCES,
    "podDisruptionBudget": None,
    "pod": {"labels": {"a": "b"}},
}
# Tests of their own: the two monitors exclude each other, and `runs` needs `background`.
ELSEWHERE = {"monitoring.serviceMonitor.enabled", "stages.background.runs"}


def leaves(values: Any, path: str = "") -> Iterator[str]:
    """The paths of values, down to the fields of Kubernetes."""
    whole = path in OTHER or path in stages_options()
    if isinstance(values, dict) and values and not whole:
        for key, value in values.items():
            yield from leaves(value, f"{path}.{key}" if path else key)
    else:
        yield path


@cache
def text(values: str) -> str:
    """What helm renders, which is enough to see a difference."""
    done = template(json.loads(values))
    assert done.returncode == 0, done.stderr
    return done.stdout


def differs(values: dict[str, Any], others: dict[str, Any]) -> bool:
    one, other = (text(json.dumps(merged(MINIMAL, found), sort_keys=True)) for found in (values, others))
    return one != other


@cache
def stages_options() -> list[str]:
    stages = yaml.safe_load(VALUES.read_text())["stages"]
    return [f"stages.{stage}.{option}" for stage in stages for option in OF_A_STAGE]


def test_every_option_is_tried() -> None:
    found = {path for path in leaves(yaml.safe_load(VALUES.read_text())) if not path.startswith("settings.")}
    assert found == OTHER.keys() | ELSEWHERE | set(stages_options())


@pytest.mark.parametrize("path", OTHER)
def test_an_option_has_an_effect(path: str) -> None:
    everything = EVERYTHING
    for prefix, kafka in OTHER_WAYS_TO_SIGN_IN.items():
        if path.startswith(prefix):
            everything = merged(EVERYTHING, {"kafka": {**kafka, "sasl": {"enabled": False}}})
    if path == "networkPolicy.endpointPorts":
        # `deliver` reaches endpoints only without a proxy.
        without_proxy = {**at("settings.egressProxy", None), **at("egressProxyCredentials.existingSecret", "")}
        everything = merged(EVERYTHING, without_proxy)
    assert differs(everything, merged(everything, at(path, OTHER[path])))


@pytest.mark.parametrize("path", stages_options())
def test_an_option_of_a_stage_has_an_effect(path: str) -> None:
    stage, option = path.split(".")[1:]
    # `background` is not enabled by default.
    usual = at("stages.background.enabled", stage == "background")
    assert differs(usual, merged(usual, at(f"stages.{stage}.{option}", OF_A_STAGE[option])))


def test_an_object_of_yours_may_be_a_template() -> None:
    own = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: '{{ .Release.Name }}-mine'}"
    done = template(merged(MINIMAL, {"extraObjects": [own]}))
    assert "acme-mine" in [one["metadata"]["name"] for one in parse(done.stdout).of_kind("ConfigMap")]
