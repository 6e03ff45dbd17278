"""Consecutive failures pause a webhook; one blip is one failure."""

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from builders import NOON
from streams.core.deliveries.delivery import Target, Trigger
from streams.core.deliveries.outcome import OutcomeKind
from streams.core.records.record_checks import MAX_COUNT
from streams.core.webhooks.delivery_options import DEFAULT_FAILURES_TO_PAUSE, PauseAfter
from streams.core.webhooks.health import (
    FALLBACK_FAILURES_TO_REST,
    FALLBACK_REST_SECONDS,
    MAX_FAILING_FALLBACKS,
    UNCOUNTED_OUTCOMES,
    FallbackHealth,
    Fallbacks,
    Health,
    HealthSample,
    epoch_after_restore,
)
from streams.core.webhooks.webhook import PauseReason


def attempted(
    start: float,
    end: float,
    kind: OutcomeKind = OutcomeKind.SERVER_ERROR,
    epoch: int = 1,
    trigger: Trigger = Trigger.EVENT,
    target: Target = Target.PRIMARY,
) -> HealthSample:
    """An attempt from second `start` to second `end`."""
    began, ended = (NOON + timedelta(seconds=second) for second in (start, end))
    return HealthSample(epoch, trigger, target, kind, began, ended)


def in_a_row(count: int) -> list[HealthSample]:
    return [attempted(second, second + 1) for second in range(count)]


def test_five_failures_in_a_row_pause_the_webhook() -> None:
    assert Health().with_attempts(in_a_row(4)).pause is None
    health = Health().with_attempts(in_a_row(5))
    assert health.pause is PauseReason.FAILURES
    assert (health.first_failed_at, health.last_failed_at) == (NOON, NOON + timedelta(seconds=5))


def test_a_webhook_may_have_a_limit_of_its_own() -> None:
    assert Health().with_attempts(in_a_row(1), pause_after=PauseAfter(failures=1)).pause is PauseReason.FAILURES
    assert Health().with_attempts(in_a_row(9), pause_after=PauseAfter(failures=10)).pause is None


def test_a_short_burst_does_not_pause_a_patient_webhook() -> None:
    patient = PauseAfter(failures=3, minutes=10)
    failing = Health().with_attempts(in_a_row(50), pause_after=patient)
    assert (failing.pause, failing.failures) == (None, 50)
    assert failing.with_attempts([attempted(590, 599)], pause_after=patient).pause is None
    assert failing.with_attempts([attempted(590, 600)], pause_after=patient).pause is PauseReason.FAILURES
    # A success restarts the count.
    recovered = failing.with_attempts(
        [attempted(590, 591, OutcomeKind.DELIVERED), attempted(700, 701)], pause_after=patient
    )
    assert (recovered.pause, recovered.failures) == (None, 1)


def test_attempts_after_the_pause_do_not_count() -> None:
    assert Health().with_attempts(in_a_row(9)) == Health().with_attempts(in_a_row(5))


def test_a_blip_with_eight_requests_in_flight_is_one_failure() -> None:
    blip = [attempted(start=number / 10, end=1 + number / 10) for number in range(8)]
    assert Health().with_attempts(blip).failures == 1


def test_a_failure_that_started_when_the_last_one_ended_counts() -> None:
    assert Health().with_attempts([attempted(0, 1), attempted(1, 2)]).failures == 2


def test_a_success_ends_the_run() -> None:
    health = Health().with_attempts([*in_a_row(4), attempted(4, 5, OutcomeKind.DELIVERED)])
    assert health == Health()
    assert health.with_attempts(in_a_row(4)).pause is None


def test_a_success_before_the_last_failure_does_not_reset() -> None:
    assert (
        Health()
        .with_attempts(
            [attempted(0, 10), attempted(0, 10, OutcomeKind.DELIVERED), attempted(0, 9, OutcomeKind.DELIVERED)]
        )
        .failures
        == 1
    )


@pytest.mark.parametrize("epoch", [1, 3])
def test_attempts_of_another_epoch_are_ignored(epoch: int) -> None:
    health = Health(epoch=2).with_attempts(attempt._replace(health_epoch=epoch) for attempt in in_a_row(9))
    assert health == Health(epoch=2)


def test_410_pauses_at_once() -> None:
    assert Health().with_attempts([attempted(0, 1, OutcomeKind.GONE)]).pause is PauseReason.GONE


def test_410_pauses_after_a_concurrent_failure() -> None:
    assert Health().with_attempts([attempted(0, 2), attempted(1, 2, OutcomeKind.GONE)]).pause is PauseReason.GONE


@pytest.mark.parametrize("kind", sorted(UNCOUNTED_OUTCOMES))
def test_a_throttling_endpoint_does_not_count_as_failing(kind: OutcomeKind) -> None:
    asked = [attempted(second, second + 1, kind) for second in range(9)]
    assert Health().with_attempts(asked) == Health()
    assert Health().with_attempts([*in_a_row(4), *asked]).failures == 4


@pytest.mark.parametrize(
    "changes",
    [{"trigger": Trigger.TEST}, {"target": Target.FALLBACK}, {"trigger": Trigger.MANUAL, "target": Target.FALLBACK}],
    ids=["test", "fallback", "manual-at-fallback"],
)
@pytest.mark.parametrize("kind", [OutcomeKind.SERVER_ERROR, OutcomeKind.GONE, OutcomeKind.DELIVERED])
def test_tests_and_the_fallback_endpoint_count_for_nothing(
    changes: dict[str, Trigger | Target], kind: OutcomeKind
) -> None:
    uncounted = attempted(10, 11, kind)._replace(**changes)  # type: ignore[arg-type]
    failing = Health().with_attempts(in_a_row(4))
    assert failing.with_attempts([uncounted]) == failing


def test_a_retry_by_a_person_that_succeeds_ends_the_run() -> None:
    retried = attempted(10, 11, OutcomeKind.DELIVERED, trigger=Trigger.MANUAL)
    assert Health().with_attempts([*in_a_row(4), retried]) == Health()


@pytest.mark.parametrize("kind", [OutcomeKind.SERVER_ERROR, OutcomeKind.TIMEOUT, OutcomeKind.GONE])
def test_a_retry_by_a_person_that_fails_does_not_count(kind: OutcomeKind) -> None:
    failing = Health().with_attempts(in_a_row(4))
    assert failing.with_attempts([attempted(10, 11, kind, trigger=Trigger.MANUAL)]) == failing


starts, durations = st.integers(0, 50), st.integers(0, 10)
kinds = st.sampled_from([OutcomeKind.DELIVERED, OutcomeKind.SERVER_ERROR, OutcomeKind.TIMEOUT, OutcomeKind.THROTTLED])
one_attempt = st.builds(lambda start, takes, kind: attempted(start, start + takes, kind), starts, durations, kinds)
attempts = st.lists(one_attempt, max_size=30)


@given(attempts, st.integers(0, 30))
def test_health_does_not_depend_on_batches(attempts: list[HealthSample], cut: int) -> None:
    at_once = Health().with_attempts(attempts)
    assert Health().with_attempts(attempts[:cut]).with_attempts(attempts[cut:]) == at_once


@given(attempts)
def test_a_webhook_is_paused_exactly_at_the_limit(attempts: list[HealthSample]) -> None:
    health = Health().with_attempts(attempts)
    assert 0 <= health.failures <= DEFAULT_FAILURES_TO_PAUSE
    assert (health.pause is None) is (health.failures < DEFAULT_FAILURES_TO_PAUSE)
    assert (health.first_failed_at is None) is (health.failures == 0)


# -- the fallback endpoint -------------------------------------------------------------------------------------


def test_a_limited_number_of_failing_fallbacks_is_kept() -> None:
    fallbacks = Fallbacks()
    for _ in range(5):
        fallbacks.record_result("wh_failing", False, NOON)
    assert fallbacks.is_resting("wh_failing", NOON)
    for number in range(MAX_FAILING_FALLBACKS):
        fallbacks.record_result(f"wh_{number}", True, NOON)
    assert fallbacks.is_resting("wh_failing", NOON)
    for number in range(MAX_FAILING_FALLBACKS):
        fallbacks.record_result(f"wh_{number}", False, NOON)
    assert not fallbacks.is_resting("wh_failing", NOON)


def test_a_fallback_url_is_skipped_after_five_failures() -> None:
    health = FallbackHealth()
    for _ in range(FALLBACK_FAILURES_TO_REST - 1):
        health.record_result(False, NOON)
    health.record_result(True, NOON)
    for _ in range(FALLBACK_FAILURES_TO_REST):
        assert not health.is_resting(NOON)
        health.record_result(False, NOON)
    end = NOON + timedelta(seconds=FALLBACK_REST_SECONDS)
    assert health.is_resting(end - timedelta(seconds=1))
    assert not health.is_resting(end)
    health.record_result(False, end)
    assert health.is_resting(end)
    health.record_result(True, end)
    assert not health.is_resting(end)


def test_old_failures_do_not_count() -> None:
    attempts = in_a_row(5)
    fifth = attempts[-1]
    assert Health().with_attempts(attempts, counted_since=fifth.ended_at).failures == 1
    assert Health().with_attempts(attempts, counted_since=attempts[0].ended_at).pause is PauseReason.FAILURES


def test_an_old_success_ends_a_streak() -> None:
    attempts = [*in_a_row(4), attempted(4, 5, OutcomeKind.DELIVERED)]
    health = Health().with_attempts(in_a_row(4)).with_attempts(attempts[4:], counted_since=NOON + timedelta(days=1))
    assert health.failures == 0


def test_the_epoch_of_a_restore_is_above_every_other() -> None:
    # More than a webhook is enabled, also after the dump; and not more than the records and the column take.
    assert 1_000_000 < epoch_after_restore(NOON) < epoch_after_restore(NOON + timedelta(minutes=1))
    assert epoch_after_restore(NOON + timedelta(days=36_500)) < MAX_COUNT
