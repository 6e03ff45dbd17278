"""The retry schedule, and the decisions before and after each attempt."""

import re
from dataclasses import dataclass, field
from datetime import timedelta
from itertools import pairwise

from streams.core.attempt import NextStep
from streams.core.delivery import DeathReason, Delivery, HoldReason, Target, Trigger
from streams.core.errors import FieldError, Invalid
from streams.core.limits import RETRY_TIERS
from streams.core.outcome import Outcome, OutcomeKind
from streams.core.webhook import Status, Webhook

_WAIT = re.compile(r"([1-9]\d{0,6})(s|m|h|d)", re.ASCII)
_UNIT_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}

# No topic keeps its records for this long.
LONGEST_WAIT = timedelta(days=366)

FALLBACK_RETRIES = 2
# A test is sent while somebody waits for its outcome, and never later.
TEST_EXPIRES = timedelta(seconds=12)

# Why a delivery was given up without an attempt.
_DELETED = "The webhook was deleted before the event could be delivered."
_EXPIRED = f"The test waited for longer than {TEST_EXPIRES.seconds} seconds and was not sent."
_FALLBACK_RESTS = "The fallback endpoint failed five times in a row. It is not tried again for ten minutes."
_FALLBACK_REMOVED = "Every attempt at the webhook's URL failed, and its fallback URL was removed."


@dataclass(frozen=True, slots=True)
class Tier:
    """A fixed wait with a topic of its own; `name` is the wait as written, such as `30s`."""

    name: str

    @property
    def wait(self) -> timedelta:
        match = _WAIT.fullmatch(self.name)
        if match is None:
            raise Invalid(FieldError("tier", f"{self.name!r} is not a wait such as 30s, 2m, 6h or 1d"))
        wait = timedelta(seconds=int(match[1]) * _UNIT_SECONDS[match[2]])
        if wait > LONGEST_WAIT:
            raise Invalid(FieldError("tier", f"{self.name!r} is longer than {LONGEST_WAIT.days} days"))
        return wait


@dataclass(frozen=True, slots=True)
class Schedule:
    """The tiers in order, each longer than the one before; n tiers make n + 1 attempts."""

    tiers: tuple[Tier, ...]

    @property
    def attempts(self) -> int:
        return len(self.tiers) + 1

    def tier_after(self, attempt: int, asked: timedelta | None = None) -> Tier | None:
        """The tier after attempt number `attempt` (from 1); None when it was the last attempt.

        A wait that the endpoint asked for is rounded up to a tier, never below the scheduled one.
        """
        if attempt > len(self.tiers):
            return None
        scheduled = self.tiers[attempt - 1 :]
        if asked is None:
            return scheduled[0]
        return next((tier for tier in scheduled if tier.wait >= asked), scheduled[-1])


def parse_schedule(text: str) -> Schedule:
    """Parse a schedule such as `30s,2m,10m,1h,6h`. Raises `Invalid`, which says what would be right."""
    parts = text.split(",")
    if len(parts) > RETRY_TIERS:
        raise Invalid(FieldError("schedule", f"must have at most {RETRY_TIERS} waits"))
    tiers = tuple(Tier(part.strip()) for part in parts)
    waits = [tier.wait for tier in tiers]
    if any(later <= earlier for earlier, later in pairwise(waits)):
        raise Invalid(FieldError("schedule", "each wait must be longer than the one before, as in 30s,2m,10m,1h,6h"))
    return Schedule(tiers)


# -- decisions about a delivery -------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class SendNow:
    """Make an attempt at this URL."""

    webhook: Webhook
    url: str


@dataclass(frozen=True, slots=True)
class Done:
    """The event is delivered."""

    next_step = NextStep.DONE


@dataclass(frozen=True, slots=True)
class RetryLater:
    """The next attempt is due after the tier's wait."""

    tier: Tier
    delivery: Delivery
    next_step = NextStep.TIER


@dataclass(frozen=True, slots=True)
class UseFallback:
    """The next attempt goes to the fallback endpoint, at once."""

    delivery: Delivery
    next_step = NextStep.FALLBACK


@dataclass(frozen=True, slots=True)
class UsePrimary:
    """The fallback URL was removed: the next attempt goes to the primary endpoint, at once."""

    delivery: Delivery


@dataclass(frozen=True, slots=True)
class Hold:
    """No request leaves until the webhook can take it."""

    delivery: Delivery
    next_step = NextStep.HELD


@dataclass(frozen=True, slots=True)
class GiveUp:
    """The delivery becomes a dead letter; `message` says why where no attempt says it."""

    reason: DeathReason
    delivery: Delivery
    message: str | None = field(default=None, compare=False)
    next_step = NextStep.DEAD


@dataclass(frozen=True, slots=True)
class EndTest:
    """A test that failed: nothing follows."""

    next_step = NextStep.FAILED


# After an attempt.
Decision = Done | RetryLater | UseFallback | Hold | GiveUp | EndTest
# Instead of an attempt.
NotSent = UseFallback | UsePrimary | Hold | GiveUp


def before_attempt(
    delivery: Delivery,
    webhook: Webhook | None,
    schedule: Schedule,
    *,
    waited: timedelta = timedelta(),
    fallback_rests: bool = False,
) -> SendNow | NotSent:
    """Decide whether to attempt a delivery now; `webhook` is None when it was deleted.

    - A test is sent even to a paused webhook, unless it `waited` longer than `TEST_EXPIRES`.
    - A paused webhook's deliveries are held; during an automatic pause they go to the fallback URL, if there is one.
    - A delivery whose fallback URL was removed goes on as if there had been none: with the attempts that are left at
      the primary endpoint, else as a dead letter.
    - While the fallback endpoint rests, a delivery to it ends as if it had failed there.
    """
    if delivery.trigger is Trigger.TEST and waited > TEST_EXPIRES:
        return GiveUp(DeathReason.EXPIRED, delivery.ended(attempted=False), _EXPIRED)
    if webhook is None:
        return GiveUp(DeathReason.DELETED, delivery.ended(attempted=False), _DELETED)
    if delivery.trigger is Trigger.TEST:
        return SendNow(webhook, _url_of(delivery, webhook))
    if webhook.status is Status.PAUSED:
        pause = webhook.pause
        if not (pause and pause.reason.automatic and webhook.fallback_url is not None):
            return Hold(delivery.held(HoldReason.PAUSED, pause.id if pause else None, attempted=False))
        if delivery.target is Target.PRIMARY:
            return UseFallback(delivery.diverted(attempted=False))
    if delivery.target is Target.PRIMARY:
        return SendNow(webhook, webhook.url)
    if webhook.fallback_url is None:
        if delivery.primary_attempts >= schedule.attempts:
            return GiveUp(DeathReason.EXHAUSTED, delivery.ended(attempted=False), _FALLBACK_REMOVED)
        return UsePrimary(delivery.returned())
    if fallback_rests:
        return _fallback_failed(delivery, webhook, attempted=False)
    return SendNow(webhook, webhook.fallback_url)


def _url_of(delivery: Delivery, webhook: Webhook) -> str:
    at_fallback = delivery.target is Target.FALLBACK and webhook.fallback_url is not None
    return webhook.fallback_url if at_fallback and webhook.fallback_url else webhook.url


def after_attempt(delivery: Delivery, outcome: Outcome, schedule: Schedule, webhook: Webhook) -> Decision:
    """Decide what follows an attempt."""
    if outcome.delivered:
        return Done()
    if delivery.trigger is Trigger.TEST:
        return EndTest()
    if delivery.target is Target.FALLBACK:
        return _after_fallback(delivery, outcome, schedule, webhook)
    if outcome.kind is OutcomeKind.GONE:
        return _give_up(delivery, DeathReason.GONE, webhook)
    tier = schedule.tier_after(delivery.target_attempt, outcome.retry_after)
    return RetryLater(tier, delivery.retried()) if tier else _give_up(delivery, DeathReason.EXHAUSTED, webhook)


def _give_up(delivery: Delivery, reason: DeathReason, webhook: Webhook) -> UseFallback | GiveUp:
    if webhook.fallback_url is not None:
        return UseFallback(delivery.diverted(attempted=True))
    return GiveUp(reason, delivery.ended(attempted=True))


def _after_fallback(delivery: Delivery, outcome: Outcome, schedule: Schedule, webhook: Webhook) -> Decision:
    tier = schedule.tier_after(delivery.target_attempt, outcome.retry_after)
    if delivery.target_attempt <= FALLBACK_RETRIES and tier is not None and outcome.kind is not OutcomeKind.GONE:
        return RetryLater(tier, delivery.retried())
    return _fallback_failed(delivery, webhook, attempted=True)


def _fallback_failed(delivery: Delivery, webhook: Webhook, *, attempted: bool) -> Hold | GiveUp:
    if webhook.status is Status.PAUSED and webhook.pause is not None and webhook.pause.reason.automatic:
        return Hold(delivery.held(HoldReason.PAUSED, webhook.pause.id, attempted=attempted))
    message = None if attempted else _FALLBACK_RESTS
    return GiveUp(DeathReason.EXHAUSTED, delivery.ended(attempted=attempted), message)
