"""A customer with a key makes any request: costs stay small, and other customers are not affected."""

import json
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from functools import partial
from threading import Event
from typing import Any

import pytest

from adversary.system import WEBHOOKS_PER_ACCOUNT, Account, AdversarySystem, Response
from builders import EXAMPLE, WIDEST
from e2e.receiver import header
from e2e.system import until
from streams.core.events.event_data import EVENT_TYPES
from streams.core.limits import (
    MAX_CONCURRENCY,
    MAX_DESCRIPTION_CHARACTERS,
    MAX_HEADER_NAME_CHARACTERS,
    MAX_HEADER_VALUE_CHARACTERS,
    MAX_ID_CHARACTERS,
    MAX_SCOPE_IDS,
    MAX_SCOPE_IDS_PER_ACCOUNT,
    MAX_URL_CHARACTERS,
    MAX_WEBHOOK_HEADERS,
)
from streams.features.course_sessions.session import MIN_SCORE_INTERVAL

pytestmark = pytest.mark.e2e

MEBIBYTE = 1024 * 1024
SMALL_ANSWER_BYTES = 64 * 1024
# One takes 140 KB as JSON with escapes: a request has 1 MiB at most.
EVENTS_IN_A_REQUEST = 6
# The first attempt and one for each tier of `System`.
ATTEMPTS = 4
COMPLETED = {"type": "session.completed", "createdAt": "2026-04-10T14:32:00Z", "data": dict(EXAMPLE)}


# -- size ----------------------------------------------------------------------------------------------------------


def test_a_duration_of_a_million_digits_is_named(attacked: AdversarySystem, account: Account) -> None:
    event = {**COMPLETED, "data": {**EXAMPLE, "totalTime": f"PT{'1' * 999_700}S"}}
    response = attacked.call("POST", "/v1/events", event, key=account.key)
    assert (response.status, response.wrong_fields) == (422, {"data.totalTime"})
    assert len(response.body) < SMALL_ANSWER_BYTES


def test_an_event_of_a_time_to_come_is_named(attacked: AdversarySystem, account: Account) -> None:
    tomorrow = datetime.now(UTC) + timedelta(days=1)
    for seconds, expected in ((-60, 202), (60, 422)):
        event = {**COMPLETED, "createdAt": (tomorrow + timedelta(seconds=seconds)).isoformat()}
        response = attacked.call("POST", "/v1/events", {"events": [COMPLETED, event]}, key=account.key)
        assert response.status == expected
    assert response.wrong_fields == {"events[1].createdAt"}


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"headers": {"x" * 800_000: "value"}}, "headers"),
        ({"headers": {"X-Name": "v" * 800_000}}, "headers.X-Name"),
        ({"headers": {f"X-{number}": "v" for number in range(50_000)}}, "headers"),
        ({"packages": [1] * (MEBIBYTE // 3 - 100)}, "packages"),
        ({"packages": [f"pkg_{number}" for number in range(MAX_SCOPE_IDS + 1)]}, "packages"),
        ({"dispatches": [f"dsp_{number}" for number in range(MAX_SCOPE_IDS + 1)]}, "dispatches"),
        ({"events": ["session.completed"] * 20_000}, "events"),
        ({"description": "\u202e" * 150_000}, "description"),
        ({"fallbackUrl": "https://example.com/" + "x" * 900_000}, "fallbackUrl"),
        ({"maxConcurrency": int("9" * 4000)}, "maxConcurrency"),
        ({"x" * 900_000: 1}, None),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_webhook_beyond_a_limit_is_refused(
    attacked: AdversarySystem, account: Account, body: dict[str, Any], field: str | None
) -> None:
    response = attacked.call("POST", "/v1/webhooks", {"url": attacked.receiver.url("/x"), **body}, key=account.key)
    assert response.status == 422
    assert field is None or any(name.startswith(field) for name in response.wrong_fields)
    assert len(response.body) < SMALL_ANSWER_BYTES


@pytest.mark.parametrize(
    "body",
    [b"[" * 500_000, b'{"a":' * 200_000, b'{"maxConcurrency":' + b"9" * 900_000 + b"}", b'{"url":"\xff"}', b"\0" * 9],
    ids=["deep lists", "deep objects", "a long number", "not UTF-8", "NUL"],
)
def test_invalid_json_gets_400(attacked: AdversarySystem, account: Account, body: bytes) -> None:
    response = attacked.call("POST", "/v1/webhooks", body, key=account.key)
    assert response.status == 400
    assert len(response.body) < SMALL_ANSWER_BYTES


def test_events_at_every_limit_are_delivered(attacked: AdversarySystem, account: Account) -> None:
    attacked.register(account, attacked.receiver.url("/widest"), events=list(EVENT_TYPES))
    events = [widest_event(name, number) for number in range(20) for name in EVENT_TYPES]
    for start in range(0, len(events), EVENTS_IN_A_REQUEST):
        publish(attacked, account, events[start : start + EVENTS_IN_A_REQUEST])
    attacked.assert_other_account_is_served()
    attacked.receiver.wait_for("/widest", {event["id"] for event in events})


def test_a_webhook_at_every_limit_gets_its_events(attacked: AdversarySystem, account: Account) -> None:
    own_headers = {
        f"{number:x>{MAX_HEADER_NAME_CHARACTERS}}": "v" * MAX_HEADER_VALUE_CHARACTERS
        for number in range(MAX_WEBHOOK_HEADERS)
    }
    url = f"{attacked.receiver.url('/wide')}?{'u' * MAX_URL_CHARACTERS}"[:MAX_URL_CHARACTERS]
    attacked.register(
        account,
        url,
        fallbackUrl=url[:-1] + "f",
        description="\U0001f4a5" * MAX_DESCRIPTION_CHARACTERS,
        packages=[f"{number:p>{MAX_ID_CHARACTERS}}" for number in range(MAX_SCOPE_IDS)],
        dispatches=[f"{number:d>{MAX_ID_CHARACTERS}}" for number in range(MAX_SCOPE_IDS)],
        events=list(EVENT_TYPES),
        headers=own_headers,
        maxConcurrency=MAX_CONCURRENCY,
    )
    event_id = attacked.new_id("evt_wide")
    data = {**EXAMPLE, "packageId": f"{MAX_SCOPE_IDS - 1:p>{MAX_ID_CHARACTERS}}"}
    publish(attacked, account, [{**COMPLETED, "id": event_id, "data": data}])
    path = url.removeprefix(attacked.receiver.url(""))
    attacked.receiver.wait_for(path, {event_id})
    [request] = attacked.receiver.at(path)
    assert all(header(request, name) == value for name, value in own_headers.items())


# -- number --------------------------------------------------------------------------------------------------------


def test_an_account_has_a_limited_number_of_webhooks(attacked: AdversarySystem, account: Account) -> None:
    """The limit holds for concurrent requests too."""
    with ThreadPoolExecutor(8) as pool:
        body = {"url": attacked.receiver.url("/many")}
        asked = pool.map(
            lambda _: attacked.call("POST", "/v1/webhooks", body, key=account.key), range(WEBHOOKS_PER_ACCOUNT * 3)
        )
        statuses = [response.status for response in asked]
    assert statuses.count(201) == WEBHOOKS_PER_ACCOUNT
    assert statuses.count(409) == WEBHOOKS_PER_ACCOUNT * 2
    attacked.register(attacked.open_account("Neighbour"), attacked.receiver.url("/neighbour"))


def test_an_account_full_of_scopes_delays_no_other(attacked: AdversarySystem, account: Account) -> None:
    scope = [f"{number:p>{MAX_ID_CHARACTERS}}" for number in range(MAX_SCOPE_IDS)]
    body = {"url": attacked.receiver.url("/scoped"), "packages": scope, "dispatches": scope}
    assert MAX_SCOPE_IDS_PER_ACCOUNT == WEBHOOKS_PER_ACCOUNT * 2 * MAX_SCOPE_IDS
    with ThreadPoolExecutor(4) as pool:
        asked = pool.map(
            lambda _: attacked.call("POST", "/v1/webhooks", body, key=account.key), range(WEBHOOKS_PER_ACCOUNT)
        )
        assert {response.status for response in asked} == {201}
    event_id = attacked.new_id("evt_scoped")
    publish(attacked, account, [{**COMPLETED, "id": event_id, "data": {**EXAMPLE, "packageId": scope[0]}}])
    attacked.assert_other_account_is_served()
    attacked.receiver.wait_for("/scoped", {event_id})


def test_a_large_response_is_not_kept_for_a_repetition(attacked: AdversarySystem, account: Account) -> None:
    scope = [f"{number:p>{MAX_ID_CHARACTERS}}" for number in range(MAX_SCOPE_IDS)]
    body = {"url": attacked.receiver.url("/scoped"), "packages": scope}
    key = {"Idempotency-Key": "once"}
    assert attacked.call("POST", "/v1/webhooks", body, key=account.key, headers=key).status == 201
    again = attacked.call("POST", "/v1/webhooks", body, key=account.key, headers=key)
    assert (again.status, len(again.body) < 1000) == (409, True)


def test_one_idempotency_key_at_the_same_time_acts_once(attacked: AdversarySystem, account: Account) -> None:
    with ThreadPoolExecutor(8) as pool:
        body = {"url": attacked.receiver.url("/once")}
        headers = {"Idempotency-Key": "once"}
        responses = list(
            pool.map(lambda _: attacked.call("POST", "/v1/webhooks", body, key=account.key, headers=headers), range(16))
        )
    assert {response.status for response in responses} <= {201, 409}
    assert len({response.json["id"] for response in responses if response.status == 201}) == 1
    assert len(attacked.call("GET", "/v1/webhooks", key=account.key).json["data"]) == 1


# -- pace ----------------------------------------------------------------------------------------------------------


def test_tests_that_wait_are_limited(attacked: AdversarySystem, account: Account) -> None:
    """A hundred requests for tests of an endpoint that does not respond."""
    may_respond = Event()
    attacked.receiver.responses["/silent"] = lambda request: 200 if may_respond.wait(30) else 500
    webhook_id = attacked.register(account, attacked.receiver.url("/silent"))
    path = f"/v1/webhooks/{webhook_id}/test"
    with ThreadPoolExecutor(50) as pool:
        asked = [pool.submit(attacked.call, "POST", path, key=account.key) for _ in range(100)]
        until(lambda: sum(one.done() for one in asked) >= 98, 20, "98 answers")
        attacked.assert_other_account_is_served()
        may_respond.set()
    statuses = [one.result().status for one in asked]
    assert 200 in statuses
    assert set(statuses) <= {200, 409, 429}
    assert statuses.count(200) <= 4


def test_scores_at_twenty_a_second_are_few_events(attacked: AdversarySystem, account: Account) -> None:
    attacked.register(account, attacked.receiver.url("/scores"), events=["session.scored"])
    session = {"packageId": "pkg_1", "learnerId": "learner-42"}
    opened = attacked.call("POST", "/v1/sessions", session, key=account.key).json
    path = "/runtime/commit/" + opened["commitUrl"].rpartition("/")[2]

    def is_stored(number: int) -> bool:
        return attacked.call("POST", path, {"cmi": {"core": {"score": {"raw": str(number)}}}}).status == 200

    began = time.monotonic()
    for number in range(1, 41):
        until(partial(is_stored, number), 20, "a stored commit", every=0.05)
    attacked.assert_other_account_is_served()
    until(lambda: scores(attacked)[-1:] == [40], 15, "the newest score")
    assert len(scores(attacked)) <= 2 + (time.monotonic() - began) / MIN_SCORE_INTERVAL.total_seconds()


def test_a_megabyte_of_elements_is_not_stored(attacked: AdversarySystem, account: Account) -> None:
    session = {"packageId": "pkg_1", "learnerId": "learner-42", "keepState": True}
    opened = attacked.call("POST", "/v1/sessions", session, key=account.key).json
    path = "/runtime/commit/" + opened["commitUrl"].rpartition("/")[2]
    deep = {f"cmi.{number:04x}{'.a' * 59}": 1 for number in range(7_000)}
    for _ in range(5):
        assert attacked.call("POST", path, {"cmi.suspend_data": "", **deep}).status == 200
    wide = {f"cmi.{number:x}.b.c": 1 for number in range(40_000)}
    assert attacked.call("POST", path, {"cmi.suspend_data": "", **wide}).status == 200
    attacked.assert_other_account_is_served()
    stored = attacked.call("GET", f"/v1/sessions/{opened['sessionId']}", key=account.key).json
    assert stored["storedState"] == "too large"


def scores(attacked: AdversarySystem) -> list[float]:
    """The scores that the endpoint got, in their order."""
    return [json.loads(request.body)["data"]["scoreRaw"] for request in attacked.receiver.at("/scores")]


# -- addresses -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "url",
    [
        "http://169.254.169.254/latest/meta-data",
        "http://10.0.0.1/",
        "http://192.168.0.1/",
        "http://100.100.100.200/",
        "http://168.63.129.16/",
        "http://0.0.0.0/",
        "http://224.0.0.1/",
        "http://255.255.255.255/",
        "http://[::]/",
        "http://[::1]/",
        "http://[::1%25lo]/",
        "http://[fe80::1]/",
        "http://[fd00:ec2::254]/",
        "http://[::ffff:10.0.0.1]/",
        "http://[64:ff9b::a9fe:a9fe]/",
        "http://[2002:a9fe:a9fe::]/",
        "http://10.0.0.1./",
        "http://127.1/",
        "http://2130706433/",
        "http://0x7f000001/",
        "http://0177.0.0.1/",
        "http://user:password@example.com/",
        "http://example.com\\@10.0.0.1/",
        "http://example.com#@10.0.0.1/",
        "http://example.com:0/",
        "http://example.com:65536/",
        "http://example.com:-1/",
        "http://example.com/\r\nX-Injected: yes",
        "http://example.com/\0",
        "http://\u24d4\u24e7\u24d0\u24dc\u24df\u24db\u24d4.com/",
        "http://ex\u3002ample.com/",
        "http:///path",
        "http://",
        "//example.com/",
        "file:///etc/passwd",
        "gopher://example.com/",
        "javascript:alert(1)",
        "",
        "http://example.com/" + "x" * 2048,
    ],
    ids=lambda url: repr(url[:40]),
)
def test_a_private_or_invalid_url_is_refused(attacked: AdversarySystem, account: Account, url: str) -> None:
    for field in ("url", "fallbackUrl"):
        body = {"url": attacked.receiver.url("/x"), field: url}
        response = attacked.call("POST", "/v1/webhooks", body, key=account.key)
        assert (response.status, response.wrong_fields) == (422, {field})


# -- our own ports as endpoints ------------------------------------------------------------------------------------


@pytest.mark.parametrize("target", ["events", "test", "pause", "enable", "retry-waiting", "secret"])
def test_the_api_as_an_endpoint_does_not_loop(attacked: AdversarySystem, account: Account, target: str) -> None:
    """A custom header has an API key: each delivery is an authorised request to the API."""
    webhook_id = attacked.register(account, attacked.receiver.url("/first"))
    path = "/v1/events" if target == "events" else f"/v1/webhooks/{webhook_id}/{target}"
    changes = {
        "url": f"http://127.0.0.1:{attacked.api_port}{path}",
        "headers": {"Authorization": f"Bearer {account.key}"},
    }
    changed = attacked.call("PATCH", f"/v1/webhooks/{webhook_id}", changes, key=account.key)
    assert (changed.status, changed.json["propagated"]) == (200, True)
    event_ids = set(attacked.publish_many(account, 20))
    attacked.assert_other_account_is_served()
    until(lambda: handled(attacked, account, webhook_id) == event_ids, 20, "each event is attempted or held")
    rows = attacked.deliveries(account, webhook_id)
    assert len(rows) == len(event_ids)
    # On a busy machine some of these requests get 429 and wait; each later one may send them again.
    generations = len(event_ids) if target == "retry-waiting" else 1
    assert all(row["generation"] <= generations for row in rows)
    assert all(row["attemptCount"] <= ATTEMPTS * generations for row in rows)


def test_the_health_port_as_an_endpoint_reveals_nothing(attacked: AdversarySystem, account: Account) -> None:
    webhook_id = attacked.register(account, f"http://127.0.0.1:{attacked.health_port}/metrics")
    attacked.publish(account)
    until(lambda: attempted(attacked, account, webhook_id), 20, "the health port got the event")
    [row] = attempted(attacked, account, webhook_id)
    attempt = attacked.delivery(account, row["id"])["attempts"][0]
    assert attempt["outcome"] == "client_error"
    assert "scorm_webhooks_" not in attempt["responseBody"]


# -- other accounts ------------------------------------------------------------------------------------------------


def test_ids_of_another_account_are_not_found(attacked: AdversarySystem, account: Account) -> None:
    event_id = attacked.publish(attacked.bystander)
    until(
        lambda: delivery_ids(attacked, attacked.bystander, attacked.bystander_webhook, event_id),
        20,
        "the delivery is recorded",
    )
    [delivery_id] = delivery_ids(attacked, attacked.bystander, attacked.bystander_webhook, event_id)
    webhook, delivery = f"/v1/webhooks/{attacked.bystander_webhook}", f"/v1/deliveries/{delivery_id}"
    requests: list[tuple[str, str, object]] = [
        ("GET", webhook, None),
        ("PATCH", webhook, {"url": attacked.receiver.url("/stolen")}),
        ("DELETE", webhook, None),
        *(("POST", f"{webhook}/{what}", None) for what in ("test", "pause", "enable", "retry-waiting")),
        *(("POST", f"{webhook}/secret{what}", None) for what in ("", "/rotate", "/finish-rotation")),
        ("GET", f"{webhook}/health", None),
        ("GET", f"{webhook}/stats", None),
        ("GET", delivery, None),
        ("POST", f"{delivery}/retry", None),
    ]
    for method, path, body in requests:
        response = attacked.call(method, path, body, key=account.key)
        assert response.status == 404, (method, path, response.body)
        assert b"/bystander" not in response.body


@pytest.mark.parametrize("path", ["/v1/deliveries", "/v1/dead-letters", "/v1/webhooks", "/v1/account/audit"])
def test_a_list_shows_nothing_of_another_account(attacked: AdversarySystem, account: Account, path: str) -> None:
    """Also with a filter that names an id of the other account."""
    named = f"?webhookId={attacked.bystander_webhook}" if path in ("/v1/deliveries", "/v1/dead-letters") else ""
    response = attacked.call("GET", path + named, key=account.key)
    assert response.status == 200
    assert attacked.bystander.id.encode() not in response.body
    assert attacked.bystander_webhook.encode() not in response.body


def test_ids_of_another_account_are_not_acted_on(attacked: AdversarySystem, account: Account) -> None:
    event_id = attacked.publish(attacked.bystander)
    until(
        lambda: delivery_ids(attacked, attacked.bystander, attacked.bystander_webhook, event_id),
        20,
        "the delivery is recorded",
    )
    ids = delivery_ids(attacked, attacked.bystander, attacked.bystander_webhook, event_id)
    for what in ("retry", "discard"):
        response = attacked.call("POST", f"/v1/dead-letters/{what}", {"ids": ids}, key=account.key)
        assert (response.status, response.json["ids"]) == (200, [])


def test_a_job_of_another_account_is_not_found(attacked: AdversarySystem, account: Account) -> None:
    job = attacked.call("POST", "/v1/dead-letters/retry", {"filter": {}}, key=attacked.bystander.key)
    assert job.status == 202
    assert attacked.call("GET", f"/v1/jobs/{job.json['id']}", key=account.key).status == 404


def test_a_job_for_a_webhook_of_another_account_does_nothing(attacked: AdversarySystem, account: Account) -> None:
    chosen = {"filter": {"webhookId": attacked.bystander_webhook}}
    job = attacked.call("POST", "/v1/dead-letters/discard", chosen, key=account.key)
    assert (job.status, job.json["total"]) == (202, 0)


def test_an_operators_calls_need_an_operators_key(attacked: AdversarySystem, account: Account) -> None:
    for method, path in (("GET", "/v1/accounts"), ("POST", "/v1/accounts"), ("GET", "/v1/audit")):
        response = attacked.call(method, path, {"name": "StillAssigned", "emails": []}, key=account.key)
        assert response.status == 403
    keys = attacked.call(
        "POST", f"/v1/accounts/{attacked.bystander.id}/keys", {"name": "StillAssigned"}, key=account.key
    )
    assert keys.status == 403


def test_an_event_of_another_account_is_refused(attacked: AdversarySystem, account: Account) -> None:
    event = {**COMPLETED, "accountId": attacked.bystander.id}
    response = attacked.call("POST", "/v1/events", event, key=account.key)
    assert (response.status, response.wrong_fields) == (422, {"accountId"})


def test_the_event_id_of_another_account_changes_nothing(attacked: AdversarySystem, account: Account) -> None:
    """Both accounts publish the same id; each gets its own event."""
    attacked.register(account, attacked.receiver.url("/same"))
    event_id = attacked.new_id("evt_same")
    publish(attacked, account, [{**COMPLETED, "id": event_id, "data": {**EXAMPLE, "learnerId": "attacker"}}])
    publish(
        attacked, attacked.bystander, [{**COMPLETED, "id": event_id, "data": {**EXAMPLE, "learnerId": "bystander"}}]
    )
    for path, learner in (("/same", "attacker"), ("/bystander", "bystander")):
        until(lambda path=path: attacked.receiver.has_some(path, event_id), 20, f"the event at {path}")  # type: ignore[misc]
        bodies = [request.body for request in attacked.receiver.at(path) if header(request, "webhook-id") == event_id]
        assert {json.loads(body)["data"]["learnerId"] for body in bodies} == {learner}


def test_an_event_id_with_another_body_keeps_the_first(attacked: AdversarySystem, account: Account) -> None:
    webhook_id = attacked.register(account, attacked.receiver.url("/twice"))
    event_id, before = attacked.new_id("evt_twice"), attacked.count_invalid()
    publish(attacked, account, [{**COMPLETED, "id": event_id, "data": {**EXAMPLE, "learnerId": "first"}}])
    until(lambda: attacked.receiver.has_some("/twice", event_id), 20, "the first body")
    publish(attacked, account, [{**COMPLETED, "id": event_id, "data": {**EXAMPLE, "learnerId": "second"}}])
    until(lambda: attacked.count_invalid() > before, 20, "the second body is stored as invalid")
    assert {json.loads(request.body)["data"]["learnerId"] for request in attacked.receiver.at("/twice")} == {"first"}
    until(lambda: delivery_ids(attacked, account, webhook_id, event_id), 20, "the delivery is recorded")
    [delivery_id] = delivery_ids(attacked, account, webhook_id, event_id)
    until(lambda: "payload" in attacked.delivery(account, delivery_id), 20, "the payload is recorded")
    assert attacked.delivery(account, delivery_id)["payload"]["data"]["learnerId"] == "first"


def test_accounts_do_not_share_idempotency_keys(attacked: AdversarySystem, account: Account) -> None:
    """The same request with the same key gets its own response, with its own secret."""
    body, headers = {"url": attacked.receiver.url("/shared")}, {"Idempotency-Key": attacked.new_id("shared")}
    neighbour = attacked.open_account("Neighbour")
    responses = [
        attacked.call("POST", "/v1/webhooks", body, key=key, headers=headers) for key in (neighbour.key, account.key)
    ]
    assert [response.status for response in responses] == [201, 201]
    assert responses[0].json["id"] != responses[1].json["id"]
    assert responses[0].json["secret"] != responses[1].json["secret"]


@pytest.mark.parametrize("value", ["", "x" * 256, "a b", "\xff", "a\tb"], ids=repr)
def test_an_invalid_idempotency_key_is_refused(attacked: AdversarySystem, account: Account, value: str) -> None:
    response = attacked.call("POST", "/v1/events", COMPLETED, key=account.key, headers={"Idempotency-Key": value})
    assert (response.status, response.wrong_fields) == (422, {"Idempotency-Key"})


def test_an_idempotency_key_with_another_body_is_refused(attacked: AdversarySystem, account: Account) -> None:
    headers, body = {"Idempotency-Key": "again"}, {"url": attacked.receiver.url("/again")}
    assert attacked.call("POST", "/v1/webhooks", body, key=account.key, headers=headers).status == 201
    other = {**body, "events": ["session.completed"]}
    response = attacked.call("POST", "/v1/webhooks", other, key=account.key, headers=headers)
    assert (response.status, response.wrong_fields) == (422, {"Idempotency-Key"})


def test_an_idempotency_key_of_other_events_gives_other_ids(attacked: AdversarySystem, account: Account) -> None:
    headers = {"Idempotency-Key": attacked.new_id("events")}
    bodies = COMPLETED, COMPLETED, {**COMPLETED, "createdAt": "2026-04-10T14:32:01Z"}
    responses = [attacked.call("POST", "/v1/events", body, key=account.key, headers=headers) for body in bodies]
    first, again, other = (response.json["ids"] for response in responses)
    assert first == again != other


# ------------------------------------------------------------------------------------------------------------------


def widest_event(name: str, number: int) -> dict[str, Any]:
    """An event with the longest value in every field."""
    data = {field: WIDEST[field] for field in EVENT_TYPES[name]}
    event_id = f"{name.replace('.', '-')}:{number:0>4}".rjust(MAX_ID_CHARACTERS, "i")
    return {"id": event_id, "type": name, "createdAt": "2026-04-10T14:32:00.999999+02:00", "data": data}


def publish(attacked: AdversarySystem, account: Account, events: list[dict[str, Any]]) -> None:
    """Publish the events; repeat while the API is full."""
    responses: list[Response] = []

    def is_accepted() -> bool:
        responses.append(attacked.call("POST", "/v1/events", {"events": events}, key=account.key))
        return responses[-1].status != 503

    until(is_accepted, 30, "the API accepts the events")
    assert responses[-1].status == 202, responses[-1].body


def attempted(attacked: AdversarySystem, account: Account, webhook_id: str) -> list[dict[str, Any]]:
    return [row for row in attacked.deliveries(account, webhook_id) if row["attemptCount"]]


def handled(attacked: AdversarySystem, account: Account, webhook_id: str) -> set[str]:
    """The events whose delivery was attempted or is held."""
    rows = attacked.deliveries(account, webhook_id)
    return {row["eventId"] for row in rows if row["attemptCount"] or row["state"] == "held"}


def delivery_ids(attacked: AdversarySystem, account: Account, webhook_id: str, event_id: str) -> list[str]:
    return [row["id"] for row in attacked.deliveries(account, webhook_id) if row["eventId"] == event_id]
