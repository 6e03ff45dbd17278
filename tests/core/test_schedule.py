"""The retry schedule, and the decisions before and after an attempt."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from builders import delivery, paused, webhook
from streams.core.deliveries.decision import (
    FALLBACK_RETRIES,
    TEST_EXPIRY,
    Done,
    GiveUp,
    Hold,
    RetryLater,
    SendNow,
    UseFallback,
    UsePrimary,
    decide_after_attempt,
    decide_before_attempt,
)
from streams.core.deliveries.delivery import DeathReason, HoldReason, Target, Trigger
from streams.core.deliveries.outcome import Outcome, OutcomeKind
from streams.core.deliveries.schedule import Schedule, Tier, parse_schedule
from streams.core.errors import Invalid
from streams.core.limits import MAX_RETRY_TIERS, MAX_WAITS_IN_TIER
from streams.core.webhooks.delivery_options import parse_options
from streams.core.webhooks.webhook import PauseReason, Status, Webhook

SCHEDULE = parse_schedule("30s,2m,10m,1h,6h")
FALLBACK_URL = "https://backup.example.com/hooks"
DELIVERED = Outcome(OutcomeKind.DELIVERED, "The endpoint responded with 200.")
FAILED = Outcome(OutcomeKind.SERVER_ERROR, "The endpoint responded with 500: its server failed.")
GONE = Outcome(OutcomeKind.GONE, "The endpoint responded with 410 Gone.")
AUTOMATIC = [PauseReason.FAILURES, PauseReason.GONE]

# -- the schedule itself -------------------------------------------------------------------------------------


def test_a_schedule_is_its_waits_in_order() -> None:
    assert [tier.wait.total_seconds() for tier in SCHEDULE.tiers] == [30, 120, 600, 3600, 21600]
    assert SCHEDULE.attempts == 6


def test_spaces_and_days_are_accepted() -> None:
    assert parse_schedule(" 30s, 1d ") == Schedule((Tier("30s"), Tier("1d")))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "tier: '' is not a wait such as 30s, 2m, 6h or 1d"),
        ("30s,", "tier: '' is not a wait such as 30s, 2m, 6h or 1d"),
        ("30", "tier: '30' is not a wait such as 30s, 2m, 6h or 1d"),
        ("0s", "tier: '0s' is not a wait such as 30s, 2m, 6h or 1d"),
        ("-5m", "tier: '-5m' is not a wait such as 30s, 2m, 6h or 1d"),
        ("1.5h", "tier: '1.5h' is not a wait such as 30s, 2m, 6h or 1d"),
        ("2m,30s", "schedule: each wait must be longer than the one before, as in 30s,2m,10m,1h,6h"),
        ("60s,1m", "schedule: each wait must be longer than the one before, as in 30s,2m,10m,1h,6h"),
    ],
)
def test_the_error_of_a_wrong_schedule_shows_a_right_one(text: str, message: str) -> None:
    with pytest.raises(Invalid) as wrong:
        parse_schedule(text)
    assert str(wrong.value) == message


def test_a_schedule_has_at_most_20_waits_of_at_most_366_days() -> None:
    longest = [f"{day}d" for day in range(367 - MAX_RETRY_TIERS, 367)]
    assert parse_schedule(",".join(longest)).attempts == MAX_RETRY_TIERS + 1 == 21
    with pytest.raises(Invalid, match="at most 20 waits"):
        parse_schedule(",".join(["1s", *longest]))
    with pytest.raises(Invalid, match="longer than 366 days"):
        parse_schedule("367d")


schedules = st.lists(st.integers(1, 10**6), min_size=1, max_size=8, unique=True).map(
    lambda waits: parse_schedule(",".join(f"{wait}s" for wait in sorted(waits)))
)
asked = st.none() | st.timedeltas(timedelta(0), timedelta(days=30))


@given(schedules, st.data())
def test_n_tiers_make_n_plus_one_attempts(schedule: Schedule, data: st.DataObject) -> None:
    tried = delivery()
    for number in range(1, schedule.attempts + 1):
        assert tried.attempt == number
        outcome = FAILED._replace(retry_after=data.draw(asked))
        following = decide_after_attempt(tried, outcome, schedule, webhook())
        if isinstance(following, RetryLater):
            tried = following.delivery
    assert isinstance(following, GiveUp)
    assert following.delivery.attempt == schedule.attempts + 1


@given(schedules, st.integers(1, 10), st.data())
def test_retry_after_is_rounded_up_to_a_tier(schedule: Schedule, attempt: int, data: st.DataObject) -> None:
    wait = data.draw(asked | st.sampled_from([tier.wait for tier in schedule.tiers]))
    scheduled, tier = schedule.tier_after(attempt), schedule.tier_after(attempt, wait)
    assert (scheduled is None) is (tier is None) is (attempt >= schedule.attempts)
    if scheduled and tier and wait is not None:
        assert tier.wait >= scheduled.wait
        assert tier.wait >= min(wait, schedule.tiers[-1].wait)
        shorter = [other for other in schedule.tiers if scheduled.wait <= other.wait < tier.wait]
        assert all(other.wait < wait for other in shorter)


# -- before an attempt ---------------------------------------------------------------------------------------


def test_an_active_webhook_is_attempted() -> None:
    active = webhook(fallback_url=FALLBACK_URL)
    assert decide_before_attempt(delivery(), active, SCHEDULE) == SendNow(active, active.url)
    assert decide_before_attempt(delivery().to_fallback(is_attempted=True), active, SCHEDULE) == SendNow(
        active, FALLBACK_URL
    )


def test_a_delivery_of_a_deleted_webhook_is_a_dead_letter() -> None:
    assert decide_before_attempt(delivery(), None, SCHEDULE) == GiveUp(
        DeathReason.DELETED, delivery().to_final(is_attempted=False)
    )


def test_a_test_is_sent_to_a_paused_webhook_until_it_expires() -> None:
    test, held = delivery(trigger=Trigger.TEST), paused(PauseReason.MANUAL)
    assert decide_before_attempt(test, held, SCHEDULE, elapsed=TEST_EXPIRY) == SendNow(held, held.url)
    too_late = decide_before_attempt(test, held, SCHEDULE, elapsed=TEST_EXPIRY + timedelta(seconds=1))
    assert too_late == GiveUp(DeathReason.EXPIRED, test.to_final(is_attempted=False))


@pytest.mark.parametrize("fallback_url", [None, FALLBACK_URL])
def test_a_manual_pause_holds(fallback_url: str | None) -> None:
    held = decide_before_attempt(delivery(), paused(PauseReason.MANUAL, fallback_url=fallback_url), SCHEDULE)
    assert held == Hold(delivery().to_held(HoldReason.PAUSED, "pause_1", is_attempted=False))


@pytest.mark.parametrize("reason", AUTOMATIC)
def test_an_automatic_pause_holds_without_a_fallback_url(reason: PauseReason) -> None:
    held = decide_before_attempt(delivery(), paused(reason), SCHEDULE)
    assert held == Hold(delivery().to_held(HoldReason.PAUSED, "pause_1", is_attempted=False))


@pytest.mark.parametrize("reason", AUTOMATIC)
def test_an_automatic_pause_uses_the_fallback_url(reason: PauseReason) -> None:
    broken = paused(reason, fallback_url=FALLBACK_URL)
    diverted = decide_before_attempt(delivery(), broken, SCHEDULE)
    assert diverted == UseFallback(delivery().to_fallback(is_attempted=False))
    assert decide_before_attempt(diverted.delivery, broken, SCHEDULE) == SendNow(broken, FALLBACK_URL)


def test_a_pause_without_a_reason_holds() -> None:
    held = decide_before_attempt(delivery(), webhook(status=Status.PAUSED, pause=None), SCHEDULE)
    assert held == Hold(delivery().to_held(HoldReason.PAUSED, None, is_attempted=False))


def test_a_removed_fallback_leaves_the_attempts_at_the_primary() -> None:
    tried_twice = delivery(attempt=2, target_attempt=2, step=2)
    on_its_way = tried_twice.to_fallback(is_attempted=True).to_retry()
    following = decide_before_attempt(on_its_way, webhook(), SCHEDULE)
    assert isinstance(following, UsePrimary)
    back = following.delivery
    assert (back.target, back.target_attempt, back.attempt) == (Target.PRIMARY, 3, on_its_way.attempt)
    assert (back.step, back.hold_reason) == (on_its_way.step + 1, None)
    active = webhook()
    assert decide_before_attempt(back, active, SCHEDULE) == SendNow(active, active.url)


def test_a_removed_fallback_after_the_last_attempt_is_exhausted() -> None:
    on_its_way = delivery(attempt=6, target_attempt=6).to_fallback(is_attempted=True).to_retry()
    following = decide_before_attempt(on_its_way, webhook(), SCHEDULE)
    assert following == GiveUp(DeathReason.EXHAUSTED, on_its_way.to_final(is_attempted=False))
    assert isinstance(following, GiveUp)
    assert following.message == "Every attempt at the webhook's URL failed, and its fallback URL was removed."


@pytest.mark.parametrize("reason", list(PauseReason))
def test_a_pause_holds_what_was_on_its_way_to_a_removed_fallback(reason: PauseReason) -> None:
    on_its_way = delivery(attempt=6, target_attempt=6).to_fallback(is_attempted=True)
    held = decide_before_attempt(on_its_way, paused(reason), SCHEDULE)
    assert held == Hold(on_its_way.to_held(HoldReason.PAUSED, "pause_1", is_attempted=False))


@given(schedules, st.integers(0, 10), st.integers(0, 2))
def test_a_removed_fallback_ends_within_the_schedule(schedule: Schedule, primary: int, fallback: int) -> None:
    at = delivery(attempt=primary + 1, target_attempt=primary + 1).to_fallback(is_attempted=False)
    for _ in range(fallback):
        at = at.to_retry()
    following: object = decide_before_attempt(at, webhook(), schedule)
    sent = 0
    while not isinstance(following, GiveUp):
        assert isinstance(following, UsePrimary | RetryLater)
        assert isinstance(decide_before_attempt(following.delivery, webhook(), schedule), SendNow)
        sent += 1
        following = decide_after_attempt(following.delivery, FAILED, schedule, webhook())
    assert sent == max(0, schedule.attempts - primary)


# -- after an attempt ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("target", list(Target))
def test_a_delivered_attempt_is_done(target: Target) -> None:
    assert decide_after_attempt(delivery(target=target), DELIVERED, SCHEDULE, webhook()) == Done()


def test_a_failure_waits_in_the_next_tier() -> None:
    first = decide_after_attempt(delivery(), FAILED, SCHEDULE, webhook())
    assert first == RetryLater(Tier("30s"), delivery().to_retry())
    second = decide_after_attempt(first.delivery, FAILED, SCHEDULE, webhook())
    assert second == RetryLater(Tier("2m"), delivery().to_retry().to_retry())


def test_a_webhook_may_have_a_schedule_of_its_own() -> None:
    patient = webhook(options=parse_options({"retries": ["2m", "24h"]}))
    first = decide_after_attempt(delivery(), FAILED, SCHEDULE, patient)
    assert first == RetryLater(Tier("2m"), delivery().to_retry())
    second = decide_after_attempt(first.delivery, FAILED, SCHEDULE, patient)
    # A day is four waits in the longest tier.
    assert second == RetryLater(Tier("6h"), first.delivery.to_retry(3))
    assert second.delivery.waits_left == 3
    last = decide_after_attempt(second.delivery._replace(waits_left=0), FAILED, SCHEDULE, patient)
    assert isinstance(last, GiveUp)


def test_without_retries_the_first_failure_is_a_dead_letter() -> None:
    impatient = webhook(options=parse_options({"retries": []}))
    assert isinstance(decide_after_attempt(delivery(), FAILED, SCHEDULE, impatient), GiveUp)
    with_fallback = replace(impatient, fallback_url=FALLBACK_URL)
    assert isinstance(decide_after_attempt(delivery(), FAILED, SCHEDULE, with_fallback), UseFallback)
    at_fallback = delivery(target=Target.FALLBACK, primary_attempts=1)
    assert isinstance(decide_after_attempt(at_fallback, FAILED, SCHEDULE, with_fallback), GiveUp)


@given(st.integers(1, 10**6))
def test_a_wait_is_never_shorter_than_asked_for(seconds: int) -> None:
    tier, count = SCHEDULE.waits_for(Tier(f"{seconds}s"))
    assert tier in SCHEDULE.tiers
    assert tier.wait * count >= timedelta(seconds=seconds) or count == MAX_WAITS_IN_TIER
    assert count == 1 or tier is SCHEDULE.tiers[-1]
    if SCHEDULE.can_wait(Tier(f"{seconds}s")):
        assert tier.wait * count == timedelta(seconds=seconds)


@pytest.mark.parametrize(
    ("wait", "is_possible"),
    [
        ("30s", True),
        ("60m", True),
        ("1d", True),
        ("12h", True),
        ("45s", False),
        ("7h", False),
        ("168h", True),
        ("174h", False),
    ],
)
def test_a_wait_is_a_tier_or_several_of_the_longest(wait: str, is_possible: bool) -> None:
    assert SCHEDULE.can_wait(Tier(wait)) is is_possible


def test_the_last_failure_is_a_dead_letter() -> None:
    last = delivery(attempt=6, target_attempt=6, step=6)
    assert decide_after_attempt(last, FAILED, SCHEDULE, webhook()) == GiveUp(
        DeathReason.EXHAUSTED, last.to_final(is_attempted=True)
    )


def test_410_gone_gets_no_retry() -> None:
    assert decide_after_attempt(delivery(), GONE, SCHEDULE, webhook()) == GiveUp(
        DeathReason.GONE, delivery().to_final(is_attempted=True)
    )


@pytest.mark.parametrize(("attempt", "outcome"), [(6, FAILED), (1, GONE)])
def test_the_fallback_is_tried_before_a_dead_letter(attempt: int, outcome: Outcome) -> None:
    last = delivery(attempt=attempt, target_attempt=attempt)
    following = decide_after_attempt(last, outcome, SCHEDULE, webhook(fallback_url=FALLBACK_URL))
    assert following == UseFallback(last.to_fallback(is_attempted=True))


def after_fallback(known: Webhook, outcomes: Sequence[Outcome]) -> list[object]:
    tried = delivery(attempt=6, target_attempt=6).to_fallback(is_attempted=True)
    decisions: list[object] = []
    for outcome in outcomes:
        following = decide_after_attempt(tried, outcome, SCHEDULE, known)
        decisions.append(following)
        if isinstance(following, RetryLater):
            tried = following.delivery
    return decisions


def test_the_fallback_is_retried_after_the_first_two_tiers() -> None:
    one, two, end = after_fallback(webhook(fallback_url=FALLBACK_URL), [FAILED] * (FALLBACK_RETRIES + 1))
    assert isinstance(one, RetryLater)
    assert isinstance(two, RetryLater)
    assert [one.tier, two.tier] == [Tier("30s"), Tier("2m")]
    assert isinstance(end, GiveUp)
    assert (end.reason, end.delivery.attempt) == (DeathReason.EXHAUSTED, 10)


def test_a_fallback_url_that_is_gone_gets_no_retry() -> None:
    (end,) = after_fallback(webhook(fallback_url=FALLBACK_URL), [GONE])
    assert isinstance(end, GiveUp)


@pytest.mark.parametrize("reason", AUTOMATIC)
def test_a_failed_fallback_is_held_during_an_automatic_pause(reason: PauseReason) -> None:
    *_, end = after_fallback(paused(reason, fallback_url=FALLBACK_URL), [FAILED] * 3)
    assert isinstance(end, Hold)
    assert end.delivery.pause_id == "pause_1"
    assert end.delivery.target is Target.PRIMARY


# -- attempt numbers ---------------------------------------------------------------------------------------

moves = st.lists(st.sampled_from(("retry", "use fallback", "use fallback after an attempt")), max_size=12)


@given(moves, st.booleans())
def test_a_held_delivery_resumes_at_the_attempt_that_was_due(moves: list[str], attempted: bool) -> None:
    at = delivery()
    primary = 0
    for move in moves:
        attempted_first = move != "use fallback"
        if move == "retry":
            after = at.to_retry()
        elif at.target is Target.PRIMARY:
            after = at.to_fallback(is_attempted=attempted_first)
        else:
            continue
        assert (after.step, after.attempt) == (at.step + 1, at.attempt + attempted_first)
        primary += attempted_first and at.target is Target.PRIMARY
        at = after
    held = at.to_held(HoldReason.PAUSED, "pause_1", is_attempted=attempted)
    primary += attempted and at.target is Target.PRIMARY
    assert (held.step, held.attempt) == (at.step + 1, at.attempt + attempted)
    assert (held.target, held.target_attempt) == (Target.PRIMARY, primary + 1)


def test_fallback_attempts_do_not_use_the_primary_schedule() -> None:
    at = delivery()
    for _ in range(2):
        at = at.to_fallback(is_attempted=False).to_held(HoldReason.PAUSED, "pause_1", is_attempted=True)
    assert at.target_attempt == 1
