"""An endpoint can do anything to a request: its own deliveries say what happened, and no other customer notices."""

import contextlib
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from adversary import hostile_endpoint as hostile
from adversary.hostile_endpoint import Behaviour, HostileEndpoint, listening, never_accepting
from adversary.system import WEBHOOKS_PER_ACCOUNT, Account, AdversarySystem

from e2e.system import until

pytestmark = pytest.mark.e2e

EVENTS = 50
CONNECTIONS_AT_ONCE = 40
VISIBLE_SECONDS = 20
# Retries wait at most 3 s here, whatever an endpoint asks for.
LONGEST_WAIT = timedelta(minutes=1)


@pytest.mark.parametrize(
    ("behaviour", "outcome"),
    [
        (hostile.is_silent, "timeout"),
        (hostile.reads_and_is_silent, "timeout"),
        (hostile.drips_its_answer, "timeout"),
        (hostile.drips_its_headers, "timeout"),
        (hostile.answers_100_megabytes, "delivered"),
        (hostile.answers_without_end, "delivered"),
        (hostile.answers_a_gzip_bomb, "delivered"),
        (hostile.sets_many_cookies, "delivered"),
        (hostile.answers_before_the_request, "delivered"),
        (hostile.answers_twice, "delivered"),
        (hostile.answers_a_megabyte_of_headers, "invalid_response"),
        (hostile.floods_with_interim_answers, "invalid_response"),
        (hostile.closes_at_once, "reset"),
        (hostile.closes_in_its_answer, "reset"),
        pytest.param(hostile.JUNK, "invalid_response", id="junk"),
        pytest.param(hostile.BAD_STATUS, "invalid_response", id="status 999"),
        pytest.param(hostile.LONG_STATUS, "invalid_response", id="a long status"),
        pytest.param(hostile.SWITCHES_PROTOCOL, "invalid_response", id="101"),
        pytest.param(hostile.ODD_BODY, "server_error", id="an odd body"),
        pytest.param(hostile.ODD_HEADERS, "server_error", id="odd headers"),
        pytest.param(hostile.NUL_IN_A_HEADER, "server_error", id="NUL in a header"),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_an_endpoint_harms_its_own_account_only(
    attacked: AdversarySystem, account: Account, behaviour: Behaviour, outcome: str
) -> None:
    with listening(behaviour) as endpoint, under_attack(attacked, account, endpoint) as webhook_id:
        attempt = first_attempt(attacked, account, webhook_id)
        assert attempt["outcome"] == outcome
        assert attempt["message"].isprintable()
        assert len(attempt["responseBody"]) <= 4096
        assert all(text.isprintable() for header in attempt["responseHeaders"].items() for text in header)


def test_an_endpoint_that_accepts_no_connection(attacked: AdversarySystem, account: Account) -> None:
    with never_accepting() as endpoint, under_attack(attacked, account, endpoint) as webhook_id:
        assert first_attempt(attacked, account, webhook_id)["outcome"] == "connect_timeout"


@pytest.mark.parametrize("wait", ["1" + "0" * 30, "-1", "\xb2", "Fri, 31 Dec 9999 23:59:59 GMT", "9" * 4000])
def test_a_retry_after_beyond_reason_is_not_waited_for(attacked: AdversarySystem, account: Account, wait: str) -> None:
    with listening(hostile.asks_to_wait(wait)) as endpoint, under_attack(attacked, account, endpoint) as webhook_id:
        assert first_attempt(attacked, account, webhook_id)["status"] == 503
        latest = datetime.now(UTC) + LONGEST_WAIT
        due = [row["dueAt"] for row in attacked.deliveries(account, webhook_id) if "dueAt" in row]
        assert all(datetime.fromisoformat(moment) < latest for moment in due)


def test_an_endpoint_that_is_gone_pauses_its_webhook(attacked: AdversarySystem, account: Account) -> None:
    with listening(hostile.GONE) as endpoint, under_attack(attacked, account, endpoint) as webhook_id:
        until(lambda: shown(attacked, account, webhook_id)["status"] == "paused", VISIBLE_SECONDS, "it is paused")
        assert shown(attacked, account, webhook_id)["pauseReason"] == "gone"


@pytest.mark.parametrize("location", ["health port", "API", "itself", "nowhere"])
def test_a_redirect_is_not_followed(attacked: AdversarySystem, account: Account, location: str) -> None:
    with listening(hostile.is_silent) as other:
        target = {
            "health port": f"http://127.0.0.1:{attacked.health_port}/metrics",
            "API": f"http://127.0.0.1:{attacked.api_port}/healthz",
            "itself": other.url(),
            "nowhere": "//[::1",
        }[location]
        with (
            listening(hostile.redirects_to(target)) as endpoint,
            under_attack(attacked, account, endpoint) as webhook_id,
        ):
            attempt = first_attempt(attacked, account, webhook_id)
            assert (attempt["outcome"], attempt["status"], attempt["responseBody"]) == ("redirect", 307, "")
        assert other.connections == 0


def test_silent_endpoints_that_want_every_slot(attacked: AdversarySystem) -> None:
    """Each webhook is new, and together they want more requests at once than a `deliver` sends."""
    accounts = [attacked.open_account("Hostile") for _ in range(4)]
    with listening(hostile.is_silent) as endpoint:
        for account in accounts:
            for number in range(WEBHOOKS_PER_ACCOUNT):
                attacked.register(account, endpoint.url(f"/{number}"))
        for account in accounts:
            attacked.publish_many(account, EVENTS)
        attacked.assert_other_account_is_served()
        until(lambda: endpoint.connections > CONNECTIONS_AT_ONCE, VISIBLE_SECONDS, "many requests hang")
        attacked.assert_other_account_is_served()


# ------------------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def under_attack(attacked: AdversarySystem, account: Account, endpoint: HostileEndpoint) -> Iterator[str]:
    """A webhook whose endpoint holds up events while the bystander's event arrives; each of them is visible."""
    webhook_id = attacked.register(account, endpoint.url())
    event_ids = set(attacked.publish_many(account, EVENTS))
    attacked.assert_other_account_is_served()
    until(lambda: visible(attacked, account, webhook_id) == event_ids, VISIBLE_SECONDS, "every delivery is visible")
    yield webhook_id
    attacked.assert_other_account_is_served()


def visible(attacked: AdversarySystem, account: Account, webhook_id: str) -> set[str]:
    return {row["eventId"] for row in attacked.deliveries(account, webhook_id)}


def first_attempt(attacked: AdversarySystem, account: Account, webhook_id: str) -> dict[str, Any]:
    """The first attempt of some delivery, once there is one."""

    def attempted() -> list[dict[str, Any]]:
        return [row for row in attacked.deliveries(account, webhook_id) if row["attemptCount"]]

    until(attempted, VISIBLE_SECONDS, "an attempt is visible")
    attempt: dict[str, Any] = attacked.delivery(account, attempted()[0]["id"])["attempts"][0]
    return attempt


def shown(attacked: AdversarySystem, account: Account, webhook_id: str) -> dict[str, Any]:
    found: dict[str, Any] = attacked.call("GET", f"/v1/webhooks/{webhook_id}", key=account.key).json
    return found
