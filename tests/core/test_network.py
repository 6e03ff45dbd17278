"""Our own network is down when most endpoints are out of reach."""

from collections.abc import Sequence
from datetime import timedelta

from builders import NOON, attempt
from streams.core.deliveries.attempt import Attempt
from streams.core.deliveries.outcome import OutcomeKind
from streams.core.webhooks.health import Health, HealthSample
from streams.core.webhooks.network import OwnNetwork


def attempted(kind: OutcomeKind, webhooks: Sequence[int], second: float = 0, hosts: int = 100) -> list[Attempt]:
    """One attempt of each webhook; webhook n is on host n modulo `hosts`."""
    ended_at = NOON + timedelta(seconds=second)
    return [
        attempt(webhook_id=f"wh_{n}", url=f"https://host-{n % hosts}.example/", outcome=kind, ended_at=ended_at)
        for n in webhooks
    ]


def network(*attempts: list[Attempt]) -> OwnNetwork:
    known = OwnNetwork()
    for some in attempts:
        known.record_attempts(some)
    return known


def test_half_of_twenty_webhooks_unreachable_is_an_outage() -> None:
    assert network(attempted(OutcomeKind.DELIVERED, range(10)), attempted(OutcomeKind.DNS, range(10, 20))).is_down()
    assert not network(attempted(OutcomeKind.DELIVERED, range(11)), attempted(OutcomeKind.DNS, range(11, 20))).is_down()


def test_fewer_than_twenty_webhooks_prove_nothing() -> None:
    assert not network(attempted(OutcomeKind.REFUSED, range(19))).is_down()


def test_fewer_than_ten_hosts_prove_nothing() -> None:
    assert not network(attempted(OutcomeKind.REFUSED, range(100), hosts=9)).is_down()


def test_one_dead_host_is_not_an_outage_of_our_network() -> None:
    dead = attempted(OutcomeKind.CONNECT_TIMEOUT, range(500), hosts=1)
    assert not network(dead, attempted(OutcomeKind.DELIVERED, range(500, 520))).is_down()


def test_error_responses_are_not_an_outage_of_our_network() -> None:
    for kind in (OutcomeKind.SERVER_ERROR, OutcomeKind.TIMEOUT, OutcomeKind.TLS, OutcomeKind.RESET):
        assert not network(attempted(kind, range(50))).is_down()


def test_an_outage_and_its_end_are_detected_at_once() -> None:
    known = network(attempted(OutcomeKind.DELIVERED, range(40)), attempted(OutcomeKind.REFUSED, range(20), second=5))
    assert known.is_down()
    known.record_attempts(attempted(OutcomeKind.DELIVERED, range(5), second=6))
    assert not known.is_down()


def test_attempts_older_than_a_minute_do_not_count() -> None:
    known = network(
        attempted(OutcomeKind.REFUSED, range(30)), attempted(OutcomeKind.DELIVERED, range(30, 35), second=61)
    )
    assert not known.is_down()


def test_an_older_attempt_changes_nothing() -> None:
    known = network(
        attempted(OutcomeKind.REFUSED, range(30), second=10), attempted(OutcomeKind.DELIVERED, range(30), second=9)
    )
    assert known.is_down()


def test_during_an_outage_network_failures_do_not_count() -> None:
    def failures(kind: OutcomeKind) -> int:
        made = [
            HealthSample(
                1,
                a.trigger,
                a.target,
                a.outcome,
                a.started_at + timedelta(seconds=n),
                a.ended_at + timedelta(seconds=n),
            )
            for n in range(3)
            for a in attempted(kind, [1])
        ]
        return Health().with_attempts(made, own_network_is_down=True).failures

    assert failures(OutcomeKind.REFUSED) == 0
    assert failures(OutcomeKind.SERVER_ERROR) == 3
