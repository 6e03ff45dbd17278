"""Who may talk to whom, and what the internet sees of the API."""

from collections.abc import Iterator
from ipaddress import ip_network
from typing import Any

import pytest
import yaml

from api.app import create_app
from api.services import Services
from chart.rendering import FULLNAME, STAGES, Resource, at, merged, render
from chart_files import ROOT
from streams.core.webhooks import address

ON = at("networkPolicy.enabled", True)
PROCESSES = [*STAGES.values(), "topics-apply", "db-upgrade", "test"]


def policy(name: str, values: dict[str, Any] | None = None) -> Resource:
    return dict(render(merged(ON, values or {})).find("NetworkPolicy", name)["spec"])


def ports_of(rules: list[Resource]) -> set[int]:
    """The TCP ports of rules, DNS left out."""
    return {port["port"] for rule in rules for port in rule.get("ports", []) if port["port"] != 53}


def egress_to(name: str, values: dict[str, Any] | None = None) -> set[int]:
    return ports_of(policy(name, values)["egress"])


def test_there_is_no_policy_unless_it_is_asked_for() -> None:
    assert render().of_kind("NetworkPolicy") == []


@pytest.mark.parametrize("name", PROCESSES)
def test_a_policy_is_about_the_pods_of_its_process(name: str) -> None:
    selector = policy(name)["podSelector"]["matchLabels"]
    assert selector["app.kubernetes.io/component"] == name
    assert selector.items() <= dict(render().pods())[name]["metadata"]["labels"].items()
    assert policy(name)["policyTypes"] == ["Ingress", "Egress"]


@pytest.mark.parametrize("name", PROCESSES)
def test_every_process_may_ask_for_names(name: str) -> None:
    assert policy(name)["egress"][0]["ports"] == [{"protocol": "UDP", "port": 53}, {"protocol": "TCP", "port": 53}]


@pytest.mark.parametrize(
    ("kafka", "port"),
    [
        ({"oauth": {"enabled": True, "tokenEndpointUrl": "http://login:8080/token", "existingSecret": "a"}}, 8080),
        ({"oauth": {"enabled": True, "tokenEndpointUrl": "https://login/token", "existingSecret": "a"}}, 443),
        ({"msk": {"region": "eu-central-1"}}, 443),
    ],
)
@pytest.mark.parametrize("name", ["fan-out", "topics-apply"])
def test_who_needs_a_token_may_ask_for_it(name: str, kafka: dict[str, Any], port: int) -> None:
    assert egress_to(name, {"kafka": kafka}) == {9092, port}


@pytest.mark.parametrize(
    ("name", "ports"),
    [
        ("fan-out", {9092}),
        ("record", {9092, 5432}),
        ("publish", {9092, 5432}),
        ("maintain", {9092, 5432}),
        ("meter", {9092, 5432}),
        ("api", {9092, 5432}),
        ("notify", {5432}),
        ("deliver", {9092, 5432, 443, 80}),
        ("topics-apply", {9092}),
        ("db-upgrade", {5432}),
        ("test", set()),
    ],
)
def test_a_process_reaches_what_it_needs(name: str, ports: set[int]) -> None:
    assert egress_to(name) == ports


def test_the_ports_of_kafka_are_those_of_the_bootstrap_servers() -> None:
    assert egress_to("fan-out", at("kafka.bootstrapServers", "a:9093,b:9094,c:9093")) == {9093, 9094}
    assert egress_to("fan-out", at("networkPolicy.kafka.ports", [19092])) == {19092}


def test_other_ports_can_be_set() -> None:
    policies = {"database": {"ports": [6432]}, "endpointPorts": [8443], "smtpPorts": [2525]}
    values = merged(at("networkPolicy", policies), at("smtp.existingSecret", "smtp"))
    assert egress_to("notify", values) == {6432, 2525}
    assert egress_to("deliver", values) == {9092, 6432, 8443}


@pytest.mark.parametrize(
    ("url", "port"),
    [("https://registry.example.com", 443), ("http://registry", 80), ("http://registry:8081/api", 8081)],
)
def test_the_registry_is_reached_by_those_who_read_events(url: str, port: int) -> None:
    for name in ("fan-out", "publish", "maintain", "meter", "api"):
        assert port in egress_to(name, at("schemaRegistry.url", url))
    assert port not in egress_to("record", at("schemaRegistry.url", url))


def test_the_api_reaches_the_identity_provider() -> None:
    values = merged(
        at("settings.oidcIssuer", "https://login.example.com"), at("oidcClientSecret.existingSecret", "oidc")
    )
    assert 443 in egress_to("api", values)


@pytest.mark.parametrize("part", ["kafka", "database"])
def test_kafka_and_the_database_can_be_narrowed(part: str) -> None:
    peers = [{"ipBlock": {"cidr": "10.0.0.0/24"}}]
    narrowed = policy("record", at(f"networkPolicy.{part}.to", peers))["egress"]
    assert [rule.get("to") for rule in narrowed].count(peers) == 1


def test_further_egress_can_be_allowed() -> None:
    rule = {"ports": [{"port": 4317, "protocol": "TCP"}]}
    for name in ("meter", "topics-apply"):
        assert rule in policy(name, at("networkPolicy.extraEgress", [rule]))["egress"]


def test_deliver_reaches_public_networks_alone() -> None:
    [rule] = [rule for rule in policy("deliver")["egress"] if any("ipBlock" in peer for peer in rule.get("to", []))]
    v4, v6 = (peer["ipBlock"] for peer in rule["to"])
    assert (v4["cidr"], v6["cidr"]) == ("0.0.0.0/0", str(address._GLOBAL_V6))
    assert {ip_network(one) for one in v4["except"]} == set(address._FORBIDDEN_V4)
    # An address of 6to4 contains one of IPv4, which the program looks at.
    assert {ip_network(one) for one in v6["except"]} == {*address._FORBIDDEN_V6, address._SIX_TO_FOUR}


def test_networks_that_webhooks_may_reach_are_open() -> None:
    rules = policy("deliver", at("settings.allowedNetworks", ["10.1.0.0/16", "fd00::/8"]))["egress"]
    assert {"to": [{"ipBlock": {"cidr": "10.1.0.0/16"}}, {"ipBlock": {"cidr": "fd00::/8"}}]} in rules


def test_deliver_reaches_the_egress_proxy_and_no_endpoint() -> None:
    values = at("settings.egressProxy", "http://proxy:3128")
    assert egress_to("deliver", values) == {9092, 5432, 3128}
    assert "ipBlock" not in str(policy("deliver", values)["egress"])


@pytest.mark.parametrize("name", ["topics-apply", "db-upgrade", "test"])
def test_nobody_calls_a_job(name: str) -> None:
    assert "ingress" not in policy(name)


@pytest.mark.parametrize("stage", STAGES.values())
def test_a_stage_is_called_for_metrics_and_the_api(stage: str) -> None:
    ports = {port["port"] for rule in policy(stage)["ingress"] for port in rule["ports"]}
    assert ports == ({"metrics", "http"} if stage == "api" else {"metrics"})
    assert all("from" not in rule for rule in policy(stage)["ingress"])


@pytest.mark.parametrize(("option", "port"), [("metricsFrom", "metrics"), ("apiFrom", "http")])
def test_callers_can_be_narrowed_and_the_release_test_stays(option: str, port: str) -> None:
    peer = {"namespaceSelector": {"matchLabels": {"name": "monitoring"}}}
    rules = policy("api", at(f"networkPolicy.{option}", [peer]))["ingress"]
    [rule] = [rule for rule in rules if rule["ports"][0]["port"] == port]
    ours = {"app.kubernetes.io/name": "scorm-webhooks", "app.kubernetes.io/instance": "acme"}
    assert rule["from"] == [peer, {"podSelector": {"matchLabels": ours}}]


# -- the API from outside --------------------------------------------------------------------------------------

INGRESS: dict[str, Any] = {
    "settings": {"trustedProxies": ["10.3.0.0/16"]},
    "api": {
        "ingress": {
            "enabled": True,
            "className": "nginx",
            "annotations": {"a": "b"},
            "hosts": ["webhooks.example.com"],
            "tls": [{"secretName": "webhooks-tls", "hosts": ["webhooks.example.com"]}],
        },
        "service": {"port": 8000, "type": "NodePort", "annotations": {"c": "d"}},
    },
}
ROUTE: dict[str, Any] = {
    "settings": {"trustedProxies": ["10.3.0.0/16"]},
    "api": {
        "httpRoute": {
            "enabled": True,
            "parentRefs": [{"name": "public"}],
            "hostnames": ["webhooks.example.com"],
            "annotations": {"a": "b"},
        }
    },
}


def first_segments() -> set[str]:
    """The first part of every path of the application."""
    app = create_app(Services.__new__(Services), "0", 1)
    return {"/" + path.split("/")[1] for path in paths_of(app.routes)}


def paths_of(routes: Any) -> Iterator[str]:
    for route in routes:
        if hasattr(route, "original_router"):
            yield from paths_of(route.original_router.routes)
        else:
            yield route.path


def test_the_internet_sees_every_path_but_metrics_and_probes() -> None:
    [rule] = render(INGRESS).find("Ingress", "api")["spec"]["rules"]
    shown = {(path["path"], path["pathType"]) for path in rule["http"]["paths"]}
    assert {path for path, kind in shown if kind == "Prefix"} | {"/"} == first_segments() - {
        "/metrics",
        "/healthz",
        "/readyz",
    }
    # As a prefix it would be every path.
    assert ("/", "Exact") in shown


def test_an_ingress_has_its_host_class_and_certificate() -> None:
    ingress = render(INGRESS).find("Ingress", "api")
    [rule] = ingress["spec"]["rules"]
    assert (rule["host"], ingress["spec"]["ingressClassName"]) == ("webhooks.example.com", "nginx")
    assert ingress["spec"]["tls"] == INGRESS["api"]["ingress"]["tls"]
    assert ingress["metadata"]["annotations"] == {"a": "b"}
    backend = {"service": {"name": f"{FULLNAME}-api", "port": {"name": "http"}}}
    assert all(path["backend"] == backend for path in rule["http"]["paths"])


def test_the_service_of_the_api_can_be_changed() -> None:
    service = render(INGRESS).find("Service", "api")
    assert (service["spec"]["type"], service["spec"]["ports"][0]["port"]) == ("NodePort", 8000)
    assert service["metadata"]["annotations"] == {"c": "d"}
    # Metrics have a Service of their own, which is never published.
    assert len(service["spec"]["ports"]) == 1
    assert render(INGRESS).find("Service", "api-metrics")["spec"]["clusterIP"] == "None"


def test_a_route_of_the_gateway_has_the_same_paths() -> None:
    route = render(ROUTE).find("HTTPRoute", "api")
    assert route["spec"]["parentRefs"] == [{"name": "public"}]
    assert route["spec"]["hostnames"] == ["webhooks.example.com"]
    assert route["metadata"]["annotations"] == {"a": "b"}
    # The Gateway API allows eight matches in a rule.
    assert all(len(rule["matches"]) <= 8 for rule in route["spec"]["rules"])
    matches = [match["path"] for rule in route["spec"]["rules"] for match in rule["matches"]]
    [rule] = render(INGRESS).find("Ingress", "api")["spec"]["rules"]
    assert [(one["value"], one["type"].removeprefix("Path")) for one in matches] == [
        (path["path"], path["pathType"]) for path in rule["http"]["paths"]
    ]
    assert all(rule["backendRefs"] == [{"name": f"{FULLNAME}-api", "port": 80}] for rule in route["spec"]["rules"])


def test_without_the_api_nothing_is_published() -> None:
    values = merged(merged(INGRESS, ROUTE), at("stages.api.enabled", False))
    assert not render(values).of_kind("Ingress") + render(values).of_kind("HTTPRoute")


def test_the_peers_that_production_shows_are_valid() -> None:
    text = (ROOT / "deploy" / "helm" / "values" / "production.yaml").read_text()
    block = text[text.index("networkPolicy:\n") : text.index("\nmonitoring:")]
    values = yaml.safe_load(block.replace("  # ", "  "))
    assert {"kafka", "database", "apiFrom", "metricsFrom"} < values["networkPolicy"].keys()
    peers = [rule.get("to", []) for rule in policy("deliver", values)["egress"]]
    assert values["networkPolicy"]["kafka"]["to"] in peers
    assert values["networkPolicy"]["database"]["to"] in peers
    callers = [peer for rule in policy("api", values)["ingress"] for peer in rule.get("from", [])]
    assert values["networkPolicy"]["apiFrom"][0] in callers
    assert values["networkPolicy"]["metricsFrom"][0] in callers
