"""One attempt: prepare, send, judge, decide what follows."""

from dataclasses import dataclass
from datetime import datetime

from streams.core.attempt import Attempt, NextStep
from streams.core.delivery import Delivery
from streams.core.errors import InvalidRecord
from streams.core.outcome import Failure, Kind, Response, judge
from streams.core.request import Request, build_request, endpoint
from streams.core.schedule import (
    Decision,
    Discard,
    Done,
    GiveUp,
    Hold,
    RetryLater,
    Schedule,
    UseFallback,
    after_attempt,
)
from streams.core.webhook import Webhook
from streams.ports import Clock, Codec, Encryption, RecordProducer, ReplayLookup, Sender, Subscriptions, Telemetry
from streams.stages.invalid_records import run_pure


@dataclass(frozen=True, slots=True)
class DeliveryPolicy:
    """How a deployment delivers: its schedule, the whole attempt's time, the platform's signature header."""

    schedule: Schedule
    timeout_seconds: float = 10.0
    signature_header: str = "X-AllureConnect-Signature"


@dataclass(frozen=True, slots=True)
class DeliverPorts:
    """The ports that `deliver` needs."""

    codec: Codec
    subscriptions: Subscriptions
    replay_lookup: ReplayLookup
    encryption: Encryption
    sender: Sender
    producer: RecordProducer
    clock: Clock
    telemetry: Telemetry


class AttemptSender:
    """Sends for any webhook; a failure of the endpoint or of the network is an outcome, never an exception."""

    def __init__(self, ports: DeliverPorts, policy: DeliveryPolicy) -> None:
        self._ports = ports
        self._policy = policy

    async def attempt(self, delivery: Delivery, webhook: Webhook) -> tuple[Attempt, Decision]:
        """POST once; the attempt as it is recorded, and what follows it.

        Raises `InvalidRecord` where our own code fails at what came of it.
        """
        started_at = self._ports.clock.now()
        url = endpoint(delivery, webhook) or webhook.url
        request, result = await self._send(delivery, webhook, url, started_at)
        ended_at = self._ports.clock.now()
        attempt, following = run_pure(
            lambda: self._judge(delivery, webhook, url, request, result, started_at, ended_at)
        )
        self._tell(attempt)
        return attempt, following

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
        following = after_attempt(delivery, outcome, self._policy.schedule, webhook)
        response = result if isinstance(result, Response) else None
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
            response_headers=response.headers if response else {},
            response_body=response.body if response else b"",
            kind=outcome.kind,
            message=outcome.message,
            next_step=_followed(following),
            tier=following.tier.name if isinstance(following, RetryLater) else None,
        )
        return attempt, following

    async def _send(
        self, delivery: Delivery, webhook: Webhook, url: str, now: datetime
    ) -> tuple[Request | None, Response | Failure]:
        try:
            request = build_request(
                delivery,
                url,
                [self._ports.encryption.decrypt(secret.ciphertext) for secret in webhook.valid_secrets(now)],
                self._ports.encryption.decrypt_headers(webhook.encrypted_headers),
                int(now.timestamp()),
                self._policy.signature_header,
            )
        except (InvalidRecord, ValueError) as wrong:
            # What cannot be signed for one webhook waits like any failure; it stops no other.
            return None, Failure(Kind.UNSENDABLE, str(wrong))
        return request, await self._ports.sender.send(request)

    def _tell(self, attempt: Attempt) -> None:
        telemetry, milliseconds = self._ports.telemetry, attempt.milliseconds
        telemetry.count("attempts_total", outcome=attempt.kind)
        telemetry.observe("attempt_seconds", milliseconds / 1000)
        if attempt.kind is Kind.DELIVERED:
            delay = (attempt.ended_at - attempt.first_seen_at).total_seconds()
            telemetry.observe("event_to_delivered_seconds", max(delay, 0.0))
        if telemetry.is_info_enabled:
            self._producer(attempt, milliseconds)

    def _producer(self, attempt: Attempt, milliseconds: float) -> None:
        self._ports.telemetry.info(
            "attempt",
            delivery_id=attempt.delivery_id,
            event_id=attempt.event_id,
            webhook_id=attempt.webhook_id,
            account_id=attempt.account_id,
            generation=attempt.generation,
            number=attempt.number,
            target=attempt.target,
            outcome=attempt.kind,
            status=attempt.status,
            milliseconds=round(milliseconds, 1),
            next_step=attempt.next_step,
            tier=attempt.tier,
        )


_FOLLOWED: dict[type[Decision], NextStep] = {
    Done: NextStep.DONE,
    RetryLater: NextStep.TIER,
    UseFallback: NextStep.FALLBACK,
    Hold: NextStep.HELD,
    GiveUp: NextStep.DEAD,
    Discard: NextStep.DISCARDED,
}


def _followed(following: Decision) -> NextStep:
    return _FOLLOWED[type(following)]
