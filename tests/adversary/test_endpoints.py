"""Whatever an endpoint does, its deliveries say what happened, and other customers are not affected."""

import contextlib
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from adversary import misbehaving_endpoint as endpoints
from adversary.misbehaving_endpoint import Behaviour, MisbehavingEndpoint, listening, never_accepting
from adversary.system import WEBHOOKS_PER_ACCOUNT, Account, AdversarySystem
from e2e.system import until

pytestmark = pytest.mark.e2e

EVENTS = 50
CONNECTIONS_AT_ONCE = 40
# Of 256.
MOST_SLOTS = 250
VISIBLE_SECONDS = 20
# For what comes before an attack, on a busy machine.
PATIENCE_SECONDS = 60
# Retries wait at most 3 s here, also with Retry-After.
MAX_WAIT = timedelta(minutes=1)


@pytest.mark.parametrize(
    ("behaviour", "outcome"),
    [
        (endpoints.is_silent, "timeout"),
        (endpoints.reads_and_is_silent, "timeout"),
        (endpoints.drips_its_response, "timeout"),
        (endpoints.drips_its_headers, "timeout"),
        (endpoints.sends_100_megabytes, "delivered"),
        (endpoints.sends_without_end, "delivered"),
        (endpoints.sends_a_gzip_bomb, "delivered"),
        (endpoints.sets_many_cookies, "delivered"),
        # By chance the response arrives before or after the first byte of the request.
        (endpoints.responds_before_the_request, "delivered or invalid_response"),
        (endpoints.responds_twice, "delivered"),
        (endpoints.sends_a_megabyte_of_headers, "invalid_response"),
        (endpoints.sends_many_interim_responses, "invalid_response"),
        (endpoints.closes_at_once, "reset"),
        (endpoints.closes_in_its_response, "reset"),
        pytest.param(endpoints.JUNK, "invalid_response", id="junk"),
        pytest.param(endpoints.BAD_STATUS, "invalid_response", id="status 999"),
        pytest.param(endpoints.LONG_STATUS, "invalid_response", id="a long status"),
        pytest.param(endpoints.SWITCHES_PROTOCOL, "invalid_response", id="101"),
        pytest.param(endpoints.ODD_BODY, "server_error", id="an odd body"),
        pytest.param(endpoints.ODD_HEADERS, "server_error", id="odd headers"),
        pytest.param(endpoints.NUL_IN_A_HEADER, "server_error", id="NUL in a header"),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_an_endpoint_affects_its_own_account_only(
    attacked: AdversarySystem, account: Account, behaviour: Behaviour, outcome: str
) -> None:
    with listening(behaviour) as endpoint, under_attack(attacked, account, endpoint) as webhook_id:
        attempt = first_attempt(attacked, account, webhook_id)
        assert attempt["outcome"] in outcome.split(" or ")
        assert attempt["message"].isprintable()
        assert len(attempt["responseBody"]) <= 4096
        assert all(text.isprintable() for header in attempt["responseHeaders"].items() for text in header)


def test_an_endpoint_that_accepts_no_connection(attacked: AdversarySystem, account: Account) -> None:
    with never_accepting() as endpoint, under_attack(attacked, account, endpoint) as webhook_id:
        assert first_attempt(attacked, account, webhook_id)["outcome"] == "connect_timeout"


@pytest.mark.parametrize("wait", ["1" + "0" * 30, "-1", "\xb2", "Fri, 31 Dec 9999 23:59:59 GMT", "9" * 4000])
def test_an_unreasonable_retry_after_is_limited(attacked: AdversarySystem, account: Account, wait: str) -> None:
    with listening(endpoints.asks_to_wait(wait)) as endpoint, under_attack(attacked, account, endpoint) as webhook_id:
        assert first_attempt(attacked, account, webhook_id)["status"] == 503
        latest = datetime.now(UTC) + MAX_WAIT
        due = [row["dueAt"] for row in attacked.deliveries(account, webhook_id) if "dueAt" in row]
        assert all(datetime.fromisoformat(moment) < latest for moment in due)


def test_an_endpoint_that_is_gone_pauses_its_webhook(attacked: AdversarySystem, account: Account) -> None:
    with listening(endpoints.GONE) as endpoint, under_attack(attacked, account, endpoint) as webhook_id:
        until(lambda: get_webhook(attacked, account, webhook_id)["status"] == "paused", VISIBLE_SECONDS, "it is paused")
        assert get_webhook(attacked, account, webhook_id)["pauseReason"] == "gone"


@pytest.mark.parametrize("location", ["health port", "API", "itself", "nowhere"])
def test_a_redirect_is_not_followed(attacked: AdversarySystem, account: Account, location: str) -> None:
    with listening(endpoints.is_silent) as other:
        target = {
            "health port": f"http://127.0.0.1:{attacked.health_port}/metrics",
            "API": f"http://127.0.0.1:{attacked.api_port}/healthz",
            "itself": other.url(),
            "nowhere": "//[::1",
        }[location]
        with (
            listening(endpoints.redirects_to(target)) as endpoint,
            under_attack(attacked, account, endpoint) as webhook_id,
        ):
            attempt = first_attempt(attacked, account, webhook_id)
            assert (attempt["outcome"], attempt["status"], attempt["responseBody"]) == ("redirect", 307, "")
        assert other.connections == 0


def test_silent_endpoints_do_not_use_every_slot(attacked: AdversarySystem) -> None:
    """New webhooks that together exceed the slots of `deliver`."""
    accounts = [attacked.open_account("Attacker") for _ in range(4)]
    with listening(endpoints.is_silent) as endpoint:
        for account in accounts:
            for number in range(WEBHOOKS_PER_ACCOUNT):
                attacked.register(account, endpoint.url(f"/{number}"))
        for account in accounts:
            attacked.publish_many(account, EVENTS)
        attacked.assert_other_account_is_served()
        until(lambda: endpoint.connections > CONNECTIONS_AT_ONCE, VISIBLE_SECONDS, "many requests hang")
        attacked.assert_other_account_is_served()


def test_healthy_endpoints_that_hang_do_not_keep_every_slot(attacked: AdversarySystem) -> None:
    """They may have all slots for a moment: they have answered many events, and their timeout is the longest."""
    account, is_over = attacked.open_account("Attacker"), threading.Event()
    with listening(endpoints.answers_until(is_over)) as endpoint:
        for number in range(WEBHOOKS_PER_ACCOUNT):
            attacked.register(account, endpoint.url(f"/{number}"), timeoutSeconds=30)
        attacked.publish_many(account, EVENTS)
        answered = EVENTS * WEBHOOKS_PER_ACCOUNT
        until(lambda: endpoint.connections >= answered, PATIENCE_SECONDS, "all are answered")
        is_over.set()
        attacked.publish_many(account, EVENTS)
        until(lambda: endpoint.connections >= answered + MOST_SLOTS, PATIENCE_SECONDS, "most slots are in use")
        for _ in range(5):
            attacked.assert_other_account_is_served()


# ------------------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def under_attack(attacked: AdversarySystem, account: Account, endpoint: MisbehavingEndpoint) -> Iterator[str]:
    """A webhook with events at this endpoint; at the end each delivery is visible."""
    webhook_id = attacked.register(account, endpoint.url())
    event_ids = set(attacked.publish_many(account, EVENTS))
    attacked.assert_other_account_is_served()
    until(
        lambda: visible_events(attacked, account, webhook_id) == event_ids, VISIBLE_SECONDS, "every delivery is visible"
    )
    yield webhook_id
    attacked.assert_other_account_is_served()


def visible_events(attacked: AdversarySystem, account: Account, webhook_id: str) -> set[str]:
    return {row["eventId"] for row in attacked.deliveries(account, webhook_id)}


def first_attempt(attacked: AdversarySystem, account: Account, webhook_id: str) -> dict[str, Any]:
    """Wait for an attempt of the webhook; return the first attempt of a delivery."""

    def attempted() -> list[dict[str, Any]]:
        return [row for row in attacked.deliveries(account, webhook_id) if row["attemptCount"]]

    until(attempted, VISIBLE_SECONDS, "an attempt is visible")
    attempt: dict[str, Any] = attacked.delivery(account, attempted()[0]["id"])["attempts"][0]
    return attempt


def get_webhook(attacked: AdversarySystem, account: Account, webhook_id: str) -> dict[str, Any]:
    found: dict[str, Any] = attacked.call("GET", f"/v1/webhooks/{webhook_id}", key=account.key).json
    return found
