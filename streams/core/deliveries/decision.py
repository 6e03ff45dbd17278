"""Decisions on a delivery, before and after each attempt."""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import NamedTuple

from streams.core.deliveries.attempt import Attempt, NextStep
from streams.core.deliveries.delivery import DeathReason, Delivery, HoldReason, Target, Trigger
from streams.core.deliveries.outcome import Failure, Outcome, OutcomeKind, Response, judge, truncate_headers
from streams.core.deliveries.request import Request
from streams.core.deliveries.schedule import Schedule, Tier
from streams.core.errors import InvalidRecord
from streams.core.records.invalid_on_failure import invalid_on_failure
from streams.core.webhooks.health import Fallbacks
from streams.core.webhooks.webhook import DeliveryMode, Status, Webhook

FALLBACK_RETRIES = 2
# A test is sent only while somebody waits for its outcome.
TEST_EXPIRY = timedelta(seconds=12)

# Why a delivery was given up without an attempt.
_DELETED_MESSAGE = "The webhook was deleted before the event could be delivered."
_EXPIRED_MESSAGE = f"The test waited for longer than {TEST_EXPIRY.seconds} seconds and was not sent."
_FALLBACK_RESTS_MESSAGE = "The fallback endpoint failed five times in a row. It is not tried again for ten minutes."
_FALLBACK_REMOVED_MESSAGE = "Every attempt at the webhook's URL failed, and its fallback URL was removed."


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
    """The next attempt is due after the tier's wait, which is repeated `waits_left` times."""

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
    """No request is sent until the webhook can receive it."""

    delivery: Delivery
    next_step = NextStep.HELD


@dataclass(frozen=True, slots=True)
class GiveUp:
    """The delivery becomes a dead letter; `message` says why if no attempt does."""

    reason: DeathReason
    delivery: Delivery
    message: str | None = field(default=None, compare=False)
    next_step = NextStep.DEAD


@dataclass(frozen=True, slots=True)
class EndTest:
    """A failed test: nothing follows."""

    next_step = NextStep.FAILED


# After an attempt.
Decision = Done | RetryLater | UseFallback | Hold | GiveUp | EndTest
# Instead of an attempt.
NotSent = UseFallback | UsePrimary | Hold | GiveUp


class DecisionInputs(NamedTuple):
    """The inputs of a decision besides the delivery; `find_webhook` finds a webhook by its id."""

    find_webhook: Callable[[str], Webhook | None]
    schedule: Schedule
    fallbacks: Fallbacks


@invalid_on_failure
def decide(
    delivery: Delivery,
    inputs: DecisionInputs,
    appended_at: datetime,
    now: datetime,
    *,
    hold_reason: HoldReason | None = None,
) -> SendNow | NotSent:
    """Decide whether to attempt a delivery now; its record was appended at `appended_at`.

    Raises `InvalidRecord` if its webhook belongs to another account.
    """
    webhook = inputs.find_webhook(delivery.webhook_id)
    if webhook is not None and webhook.account_id != delivery.account_id:
        raise InvalidRecord("the delivery's account is not the account of its webhook")
    is_resting = delivery.target is Target.FALLBACK and inputs.fallbacks.is_resting(delivery.webhook_id, now)
    elapsed = now - appended_at
    return decide_before_attempt(
        delivery, webhook, inputs.schedule, elapsed=elapsed, is_fallback_resting=is_resting, hold_reason=hold_reason
    )


def decide_before_attempt(
    delivery: Delivery,
    webhook: Webhook | None,
    schedule: Schedule,
    *,
    elapsed: timedelta = timedelta(),
    is_fallback_resting: bool = False,
    hold_reason: HoldReason | None = None,
) -> SendNow | NotSent:
    """Decide whether to attempt a delivery now; `webhook` is None when it was deleted.

    - A delivery that would wait too long for its endpoint is held for this `hold_reason`, whatever its webhook's state.
    - A delivery of a pull webhook is held until a reader pulls it; no request is ever sent. - A test is sent even to a
    paused webhook, unless its `elapsed` time is longer than `TEST_EXPIRY`. - A paused webhook's deliveries are held;
    during an automatic pause they go to the fallback URL, if there is one. - A probe of an automatic pause is sent. A
    probe that cannot be sent, or whose pause is over, is held in that pause again. - A delivery whose fallback URL was
    removed continues as if it had never existed: with the remaining attempts at the primary endpoint, or else as a dead
    letter. - While the fallback endpoint rests, a delivery to it ends as if it had failed there.

    `schedule` is the deployment's.
    """
    is_in_pause = webhook is not None and webhook.pause is not None and webhook.pause.id == delivery.pause_id
    if delivery.is_probe and webhook is not None and (hold_reason is not None or not is_in_pause):
        # The choice at the end of its pause decides.
        return Hold(delivery.to_held(HoldReason.PAUSED, delivery.pause_id, is_attempted=False))
    if hold_reason is not None:
        return Hold(delivery.to_held(hold_reason, None, is_attempted=False))
    if delivery.trigger is Trigger.TEST and elapsed > TEST_EXPIRY:
        return GiveUp(DeathReason.EXPIRED, delivery.to_final(is_attempted=False), _EXPIRED_MESSAGE)
    if webhook is None:
        return GiveUp(DeathReason.DELETED, delivery.to_final(is_attempted=False), _DELETED_MESSAGE)
    if webhook.delivery is DeliveryMode.PULL:
        return Hold(to_held_for_readers(delivery, webhook))
    if delivery.trigger is Trigger.TEST:
        return SendNow(webhook, _url_of(delivery, webhook))
    if webhook.status is Status.PAUSED:
        pause = webhook.pause
        if delivery.is_probe and pause and pause.reason.is_automatic:
            return SendNow(webhook, webhook.url)
        if not (pause and pause.reason.is_automatic and webhook.fallback_url is not None):
            return Hold(_to_held_in_pause(delivery, webhook))
        if delivery.target is Target.PRIMARY:
            return UseFallback(delivery.to_fallback(is_attempted=False))
    if delivery.target is Target.PRIMARY:
        return SendNow(webhook, webhook.url)
    if webhook.fallback_url is None:
        if delivery.primary_attempts >= (webhook.options.retries or schedule).attempts:
            return GiveUp(DeathReason.EXHAUSTED, delivery.to_final(is_attempted=False), _FALLBACK_REMOVED_MESSAGE)
        return UsePrimary(delivery.to_primary())
    if is_fallback_resting:
        return _end_fallback(delivery, webhook, is_attempted=False)
    return SendNow(webhook, webhook.fallback_url)


def to_held_for_readers(delivery: Delivery, webhook: Webhook) -> Delivery:
    """The record of a pull webhook's delivery: it waits for a reader, or for the end of the webhook's pause."""
    if webhook.status is Status.PAUSED and delivery.trigger is not Trigger.TEST:
        return _to_held_in_pause(delivery, webhook)
    return delivery.to_held(HoldReason.PULL, None, is_attempted=False)


def _to_held_in_pause(delivery: Delivery, webhook: Webhook) -> Delivery:
    return delivery.to_held(HoldReason.PAUSED, webhook.pause.id if webhook.pause else None, is_attempted=False)


def _url_of(delivery: Delivery, webhook: Webhook) -> str:
    is_for_fallback = delivery.target is Target.FALLBACK and webhook.fallback_url is not None
    return webhook.fallback_url if is_for_fallback and webhook.fallback_url else webhook.url


@invalid_on_failure
def judge_attempt(
    delivery: Delivery,
    target: SendNow,
    request: Request | None,
    result: Response | Failure,
    started_at: datetime,
    ended_at: datetime,
    schedule: Schedule,
    timeout_seconds: float,
) -> tuple[Attempt, Decision]:
    """Judge the result of an attempt. Returns the attempt as it is recorded, and what follows it.

    `schedule` is the deployment's, `timeout_seconds` the attempt's.
    """
    webhook = target.webhook
    outcome = judge(result, ended_at, timeout_seconds)
    decision = decide_after_attempt(delivery, outcome, schedule, webhook)
    response = result if isinstance(result, Response) else result.partial_response
    if response and request and request.private_names:
        response = request.mask(response)
    attempt = Attempt(
        account_id=delivery.account_id,
        event_id=delivery.event_id,
        event_type=delivery.event_type,
        webhook_id=delivery.webhook_id,
        trigger=delivery.trigger,
        generation=delivery.generation,
        step=delivery.step + 1,
        number=delivery.attempt,
        target=delivery.target,
        target_attempt=delivery.target_attempt,
        health_epoch=webhook.health_epoch,
        url=target.url,
        first_seen_at=delivery.first_seen_at,
        started_at=started_at,
        ended_at=ended_at,
        request_headers=request.public_headers if request else {},
        status=response.status if response else None,
        response_headers=truncate_headers(response.headers) if response else {},
        response_body=response.body if response else b"",
        outcome=outcome.kind,
        message=outcome.message,
        next_step=decision.next_step,
        tier=decision.tier.name if isinstance(decision, RetryLater) else None,
        waits=decision.delivery.waits_left + 1 if isinstance(decision, RetryLater) else 1,
        webhook_version=webhook.version,
        fields=webhook.options.fields,
        pause_id=delivery.pause_id if delivery.is_probe else None,
        certificate_ends_at=response.certificate_ends_at if response else None,
    )
    return attempt, decision


def decide_after_attempt(delivery: Delivery, outcome: Outcome, schedule: Schedule, webhook: Webhook) -> Decision:
    """Decide what follows an attempt."""
    if outcome.is_delivered:
        return Done()
    if delivery.trigger is Trigger.TEST:
        return EndTest()
    if delivery.is_probe:
        return Hold(delivery.to_held_after_probe())
    if delivery.target is Target.FALLBACK:
        return _decide_after_fallback(delivery, outcome, schedule, webhook)
    if outcome.kind is OutcomeKind.GONE:
        return _give_up(delivery, DeathReason.GONE, webhook)
    return _retry(delivery, outcome, schedule, webhook) or _give_up(delivery, DeathReason.EXHAUSTED, webhook)


def _retry(delivery: Delivery, outcome: Outcome, schedule: Schedule, webhook: Webhook) -> RetryLater | None:
    """The wait that follows a failed attempt, by the webhook's schedule or the deployment's; None after the last."""
    retries = webhook.options.retries
    if retries is None:
        tier = schedule.tier_after(delivery.target_attempt, outcome.retry_after)
        return RetryLater(tier, delivery.to_retry()) if tier else None
    wait = retries.tier_after(delivery.target_attempt, outcome.retry_after)
    if wait is None:
        return None
    tier, count = schedule.waits_for(wait)
    return RetryLater(tier, delivery.to_retry(count - 1))


def _give_up(delivery: Delivery, reason: DeathReason, webhook: Webhook) -> UseFallback | GiveUp:
    if webhook.fallback_url is not None:
        return UseFallback(delivery.to_fallback(is_attempted=True))
    return GiveUp(reason, delivery.to_final(is_attempted=True))


def _decide_after_fallback(delivery: Delivery, outcome: Outcome, schedule: Schedule, webhook: Webhook) -> Decision:
    if delivery.target_attempt <= FALLBACK_RETRIES and outcome.kind is not OutcomeKind.GONE:
        retry = _retry(delivery, outcome, schedule, webhook)
        if retry is not None:
            return retry
    return _end_fallback(delivery, webhook, is_attempted=True)


def _end_fallback(delivery: Delivery, webhook: Webhook, *, is_attempted: bool) -> Hold | GiveUp:
    if webhook.status is Status.PAUSED and webhook.pause is not None and webhook.pause.reason.is_automatic:
        return Hold(delivery.to_held(HoldReason.PAUSED, webhook.pause.id, is_attempted=is_attempted))
    message = None if is_attempted else _FALLBACK_RESTS_MESSAGE
    return GiveUp(DeathReason.EXHAUSTED, delivery.to_final(is_attempted=is_attempted), message)
