"""One attempt: build the request, send it, judge the result, decide what follows."""

from dataclasses import dataclass
from datetime import datetime

from streams.core.attempt import Attempt
from streams.core.delivery import Delivery, Trigger
from streams.core.errors import InvalidRecord
from streams.core.outcome import Failure, OutcomeKind, Response, judge, kept_headers
from streams.core.request import Request, build_request
from streams.core.schedule import Decision, RetryLater, Schedule, SendNow, after_attempt
from streams.core.trace import SpanName
from streams.core.url import host_of
from streams.core.webhook import Webhook
from streams.ports import (
    Clock,
    Codec,
    Encryption,
    ErasedLearners,
    RecordProducer,
    ReplayLookup,
    Sender,
    Subscriptions,
    Telemetry,
)
from streams.stages.invalid_records import run_pure

# An attempt has the step after that of its delivery's record, and `fan-out` writes step 1.
FIRST_ATTEMPT_STEP = 2


@dataclass(frozen=True, slots=True)
class DeliveryPolicy:
    """How a deployment delivers: its retry schedule, the timeout of an attempt, and two of a request's headers."""

    schedule: Schedule
    timeout_seconds: float = 10.0
    signature_header: str = "X-AllureConnect-Signature"
    sends_trace_parent: bool = False


@dataclass(frozen=True, slots=True)
class DeliverPorts:
    """The ports that `deliver` needs."""

    codec: Codec
    subscriptions: Subscriptions
    replay_lookup: ReplayLookup
    erased_learners: ErasedLearners
    encryption: Encryption
    sender: Sender
    producer: RecordProducer
    clock: Clock
    telemetry: Telemetry


class AttemptSender:
    """Makes attempts for any webhook. A failure of the endpoint or the network is an outcome, never an exception."""

    def __init__(self, ports: DeliverPorts, policy: DeliveryPolicy) -> None:
        self._ports = ports
        self._policy = policy

    async def attempt(self, delivery: Delivery, target: SendNow) -> tuple[Attempt, Decision]:
        """POST once. Returns the attempt as it is recorded, and what follows it.

        Raises `InvalidRecord` where our own code fails at the result, `Unavailable` when this machine is short of
        something.
        """
        span = self._ports.telemetry.span(SpanName.ATTEMPT, delivery.trace_parent)
        try:
            attempt, decision = await self._attempt(delivery, target, span.trace_parent)
        except BaseException as error:
            span.end(delivery.ids, type(error).__name__)
            raise
        if span.is_recording:
            # Not its message, which may quote the endpoint.
            span.end(_attributes(attempt), None if attempt.outcome is OutcomeKind.DELIVERED else attempt.outcome)
        return attempt, decision

    async def _attempt(self, delivery: Delivery, target: SendNow, trace_parent: str | None) -> tuple[Attempt, Decision]:
        started_at = self._ports.clock.now()
        request: Request | None = None
        result: Response | Failure
        try:
            request = self._build_request(delivery, target, started_at, trace_parent)
        except (InvalidRecord, ValueError) as wrong:
            # A request that cannot be signed is retried like any failure. It stops no other webhook.
            result = Failure(OutcomeKind.UNSENDABLE, str(wrong))
        else:
            result = await self._ports.sender.send(request)
        ended_at = self._ports.clock.now()
        return run_pure(
            lambda: self._judge(delivery, target.webhook, target.url, request, result, started_at, ended_at)
        )

    def _build_request(self, delivery: Delivery, target: SendNow, now: datetime, trace_parent: str | None) -> Request:
        webhook, encryption = target.webhook, self._ports.encryption
        return build_request(
            delivery,
            target.url,
            [encryption.decrypt(secret.ciphertext) for secret in webhook.valid_secrets(now)],
            encryption.decrypt_headers(webhook.headers_for(target.url)),
            int(now.timestamp()),
            self._policy.signature_header,
            trace_parent if self._policy.sends_trace_parent else None,
        )

    def _judge(
        self,
        delivery: Delivery,
        webhook: Webhook,
        url: str,
        request: Request | None,
        result: Response | Failure,
        started_at: datetime,
        ended_at: datetime,
    ) -> tuple[Attempt, Decision]:
        outcome = judge(result, ended_at, self._policy.timeout_seconds)
        decision = after_attempt(delivery, outcome, self._policy.schedule, webhook)
        response = result if isinstance(result, Response) else result.begun
        if response and request and request.private:
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
            url=url,
            first_seen_at=delivery.first_seen_at,
            started_at=started_at,
            ended_at=ended_at,
            request_headers=request.public_headers if request else {},
            status=response.status if response else None,
            response_headers=kept_headers(response.headers) if response else {},
            response_body=response.body if response else b"",
            outcome=outcome.kind,
            message=outcome.message,
            next_step=decision.next_step,
            tier=decision.tier.name if isinstance(decision, RetryLater) else None,
        )
        return attempt, decision


def observe(telemetry: Telemetry, attempt: Attempt) -> None:
    """Count an attempt, with how long it took, and log it at debug. Call it when its record is acknowledged."""
    milliseconds = attempt.milliseconds
    telemetry.count("attempts_total", outcome=attempt.outcome)
    telemetry.observe("attempt_seconds", milliseconds / 1000)
    if attempt.outcome is OutcomeKind.DELIVERED:
        telemetry.observe("event_to_delivered_seconds", _seconds_since_first_seen(attempt, attempt.ended_at))
    if attempt.step == FIRST_ATTEMPT_STEP and attempt.trigger is Trigger.EVENT:
        telemetry.observe("first_attempt_delay_seconds", _seconds_since_first_seen(attempt, attempt.started_at))
    if telemetry.is_debug_enabled:
        _log(telemetry, attempt)


def _seconds_since_first_seen(attempt: Attempt, moment: datetime) -> float:
    return max((moment - attempt.first_seen_at).total_seconds(), 0.0)


def _log(telemetry: Telemetry, attempt: Attempt) -> None:
    telemetry.debug(
        "delivery_attempt_succeeded" if attempt.outcome is OutcomeKind.DELIVERED else "delivery_attempt_failed",
        delivery_id=attempt.delivery_id,
        event_id=attempt.event_id,
        webhook_id=attempt.webhook_id,
        account_id=attempt.account_id,
        generation=attempt.generation,
        number=attempt.number,
        target=attempt.target,
        outcome=attempt.outcome,
        status=attempt.status,
        milliseconds=round(attempt.milliseconds, 1),
        next_step=attempt.next_step,
        tier=attempt.tier,
    )


def _attributes(attempt: Attempt) -> dict[str, str | int]:
    """What a span says of an attempt: nothing of its URL but the host."""
    found: dict[str, str | int] = {
        "delivery_id": attempt.delivery_id,
        "event_id": attempt.event_id,
        "event_type": attempt.event_type,
        "account_id": attempt.account_id,
        "webhook_id": attempt.webhook_id,
        "attempt": attempt.number,
        "outcome": attempt.outcome,
        "server.address": host_of(attempt.url),
    }
    return found if attempt.status is None else {**found, "http.response.status_code": attempt.status}
