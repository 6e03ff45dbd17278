"""One event is one trace, from the request that published it to each attempt."""

import json
import urllib.request
from collections.abc import Iterator

import pytest

from e2e.collector import CollectedSpan, collected
from e2e.receiver import Receiver, header
from e2e.system import System, until
from real.process import free_ports

pytestmark = pytest.mark.e2e

STAGES = ("publish", "fan-out", "deliver", "api")
CALLER = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
_, TRACE, CALLERS_SPAN, _ = CALLER.split("-")
EVENT = {
    "id": "evt_traced",
    "type": "session.launched",
    "createdAt": "2026-04-10T14:32:00Z",
    "data": {"sessionId": "sess_1", "packageId": "pkg_1", "learnerId": "learner_1"},
}


@pytest.fixture
def collector() -> Iterator[Receiver]:
    server = Receiver()
    yield server
    server.close()


def published(system: System, api: str, receiver: Receiver) -> str:
    """Publish an event as a caller with a trace, to an endpoint that fails once. The webhook's id."""
    account = system.run("accounts", "create", "Acme", "--json")
    webhook = system.webhook(account["id"], receiver.url("/traced"))
    receiver.responses["/traced"] = lambda request: 500 if header(request, "webhook-attempt") == "1" else 200
    headers = {
        "Authorization": f"Bearer {account['apiKey']}",
        "Content-Type": "application/json",
        "traceparent": CALLER,
    }
    urllib.request.urlopen(
        urllib.request.Request(f"{api}/v1/events", json.dumps(EVENT).encode(), headers), timeout=20
    ).close()
    until(lambda: len(receiver.at("/traced")) == 2, 60, "two attempts")
    return str(webhook["id"])


def started(system: System, **env: str) -> str:
    """Start the stages on the way of an event. The API's URL."""
    [port] = free_ports(1)
    system.start(STAGES, SCORM_WEBHOOKS_API_PORT=str(port), OTEL_BSP_SCHEDULE_DELAY="100", **env)
    return f"http://127.0.0.1:{port}"


def by_name(spans: list[CollectedSpan]) -> dict[str, list[CollectedSpan]]:
    return {name: [span for span in spans if span.name == name] for name in {span.name for span in spans}}


def test_a_trace_goes_from_the_request_to_each_attempt(system: System, receiver: Receiver, collector: Receiver) -> None:
    api = started(system, OTEL_EXPORTER_OTLP_ENDPOINT=collector.url(""), SCORM_WEBHOOKS_SEND_TRACEPARENT="true")
    webhook = published(system, api, receiver)
    until(lambda: len(collected(collector)) >= 4, 20, "four spans")

    spans = by_name(collected(collector))
    [request], [fan_out], attempts = spans["POST /v1/events"], spans["fan-out"], spans["attempt"]
    assert {span.trace for span in collected(collector)} == {TRACE}
    assert (request.parent, fan_out.parent) == (CALLERS_SPAN, request.id)
    assert {span.parent for span in attempts} == {fan_out.id}
    assert [span.service for span in (request, fan_out, attempts[0])] == [
        f"scorm-webhooks-{stage}" for stage in ("api", "fan-out", "deliver")
    ]
    assert [span.kind for span in (request, fan_out, attempts[0])] == ["SERVER", "CONSUMER", "CLIENT"]
    failed, delivered = sorted(attempts, key=lambda span: span.attributes["scorm_webhooks.attempt"])
    assert (failed.problem, delivered.problem) == ("server_error", None)
    assert delivered.attributes["http.response.status_code"] == 200
    assert delivered.attributes["server.address"] == "127.0.0.1"
    for span in (fan_out, failed, delivered):
        assert span.attributes["scorm_webhooks.event_id"] == "evt_traced"
    assert delivered.attributes["scorm_webhooks.webhook_id"] == webhook
    # The endpoint can go on with the trace, under the attempt that it answers.
    assert [header(one, "traceparent") for one in receiver.at("/traced")] == [
        failed.trace_parent,
        delivered.trace_parent,
    ]


def test_without_a_collector_events_arrive_and_no_trace_leaves(system: System, receiver: Receiver) -> None:
    [nobody] = free_ports(1)
    api = started(system, OTEL_EXPORTER_OTLP_ENDPOINT=f"http://127.0.0.1:{nobody}")
    published(system, api, receiver)
    assert all("traceparent" not in map(str.lower, one.headers) for one in receiver.at("/traced"))
    for stage in STAGES:
        assert system.stop(stage) == 0
