"""deliver: one attempt at a delivery, and a record of what follows."""

from dataclasses import dataclass
from datetime import datetime

from streams.core.attempt import Attempt, DeadLetter, Followed
from streams.core.delivery import DeathReason, Delivery
from streams.core.errors import Unreadable
from streams.core.outcome import Answer, Failure, Kind, Outcome, judge
from streams.core.request import Request, build_request, endpoint
from streams.core.schedule import (
    Bury,
    Divert,
    Done,
    Following,
    Hold,
    Schedule,
    Wait,
    after_attempt,
    before_attempt,
)
from streams.core.webhook import Webhook
from streams.ports import Clock, Codec, Directory, Log, Noun, Outgoing, Record, Report, Sealed, Sender
from streams.stages.invalid import parked
from streams.stages.repeats import Repeats
from streams.stages.slot_keeper import SlotKeeper
from streams.topics import ATTEMPTS, DEAD_LETTERS, DELIVERIES, HELD, retry_topic


@dataclass(frozen=True, slots=True)
class Manner:
    """How a deployment delivers: its schedule, the whole attempt's time, the platform's signature header."""

    schedule: Schedule
    timeout_seconds: float = 10.0
    signature_header: str = "X-AllureConnect-Signature"


@dataclass(frozen=True, slots=True)
class World:
    """The ports that `deliver` needs."""

    codec: Codec
    directory: Directory
    sealed: Sealed
    sender: Sender
    log: Log
    clock: Clock
    report: Report


class Deliver:
    """Attends to one record at a time; whoever calls completes it only after `handle` returned."""

    def __init__(self, world: World, manner: Manner, slots: SlotKeeper, repeats: Repeats | None = None) -> None:
        self._world = world
        self._manner = manner
        self._slots = slots
        self._repeats = repeats or Repeats()

    async def handle(self, record: Record) -> None:
        """Attempt a delivery, or hold or bury it; returns when all that follows is acknowledged."""
        world = self._world
        try:
            delivery = self._read(record)
        except Unreadable as wrong:
            await self._park(record, str(wrong))
            return
        await world.directory.wait_for(delivery.seen)
        if delivery in self._repeats:
            world.report.count("repeats_dropped_total")
            return
        webhook = world.directory.find(delivery.webhook_id)
        if webhook is not None and webhook.account_id != delivery.account_id:
            await self._park(record, "the delivery's account is not the account of its webhook")
            return
        await world.log.produce(await self._consequences(delivery))
        self._repeats.add(delivery)

    def _read(self, record: Record) -> Delivery:
        delivery = self._world.codec.decode(record.value or b"")
        if not isinstance(delivery, Delivery):
            raise Unreadable(f"a {type(delivery).__name__.lower()} is not a delivery")
        return delivery

    async def _park(self, record: Record, error: str) -> None:
        self._world.report.count("deliveries_invalid_total")
        self._world.report.tell("delivery parked", topic=record.partition.topic, offset=record.offset, why=error)
        await self._world.log.produce([parked(record, error)])

    async def _consequences(self, delivery: Delivery) -> list[Outgoing]:
        instead, webhook = self._instead(delivery)
        if instead is not None or webhook is None:
            return self._follow(instead, None)
        async with self._slots.slot(webhook.id, webhook.max_concurrency):
            # It may have been paused or changed while this delivery waited for its slot.
            instead, webhook = self._instead(delivery)
            if instead is not None or webhook is None:
                return self._follow(instead, None)
            return await self._attempt(delivery, webhook)

    def _instead(self, delivery: Delivery) -> tuple[Following | None, Webhook | None]:
        webhook = self._world.directory.find(delivery.webhook_id)
        if webhook is None:
            return Bury(DeathReason.DELETED, delivery.ended(attempted=False)), None
        return before_attempt(delivery, webhook), webhook

    async def _attempt(self, delivery: Delivery, webhook: Webhook) -> list[Outgoing]:
        world, manner = self._world, self._manner
        started_at = world.clock.now()
        url = endpoint(delivery, webhook) or webhook.url
        request, result = await self._send(delivery, webhook, url, started_at)
        ended_at = world.clock.now()
        outcome = judge(result, ended_at, manner.timeout_seconds)
        following = after_attempt(delivery, outcome, manner.schedule, webhook)
        answer = result if isinstance(result, Answer) else None
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
            status=answer.status if answer else None,
            answer_headers=answer.headers if answer else {},
            answer=answer.body if answer else b"",
            kind=outcome.kind,
            words=outcome.words,
            followed=_followed(following),
            tier=following.tier.name if isinstance(following, Wait) else None,
        )
        self._tell(attempt)
        return [self._outgoing(ATTEMPTS, delivery.webhook_id, attempt), *self._follow(following, outcome)]

    async def _send(
        self, delivery: Delivery, webhook: Webhook, url: str, now: datetime
    ) -> tuple[Request | None, Answer | Failure]:
        try:
            request = build_request(
                delivery,
                url,
                [self._world.sealed.secret(secret.sealed) for secret in webhook.valid_secrets(now)],
                self._world.sealed.headers(webhook.sealed_headers),
                int(now.timestamp()),
                self._manner.signature_header,
            )
        except (Unreadable, ValueError) as wrong:
            # What cannot be signed for one webhook waits like any failure; it stops no other.
            return None, Failure(Kind.UNSENDABLE, str(wrong))
        return request, await self._world.sender.send(request)

    def _follow(self, following: Following | None, outcome: Outcome | None) -> list[Outgoing]:
        match following:
            case Wait(tier, delivery):
                return [self._outgoing(retry_topic(tier), delivery.webhook_id, delivery)]
            case Divert(delivery):
                return [self._outgoing(DELIVERIES, delivery.webhook_id, delivery)]
            case Hold(delivery):
                self._world.report.count("deliveries_held_total", reason=str(delivery.hold_reason))
                return [self._outgoing(HELD, delivery.webhook_id, delivery)]
            case Bury(reason, delivery):
                self._world.report.count("dead_letters_total", reason=reason)
                words = outcome.words if outcome else "The webhook was deleted before the event could be delivered."
                letter = DeadLetter(delivery, reason, words)
                return [self._outgoing(DEAD_LETTERS, delivery.webhook_id, letter)]
        return []

    def _outgoing(self, topic: str, webhook_id: str, noun: Noun) -> Outgoing:
        return Outgoing(topic, webhook_id.encode(), self._world.codec.encode(noun))

    def _tell(self, attempt: Attempt) -> None:
        report = self._world.report
        report.count("attempts_total", outcome=attempt.kind)
        report.observe("attempt_seconds", attempt.milliseconds / 1000)
        if attempt.kind is Kind.DELIVERED:
            delay = (attempt.ended_at - attempt.first_seen_at).total_seconds()
            report.observe("event_to_delivered_seconds", max(delay, 0.0))
        report.tell(
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
            milliseconds=round(attempt.milliseconds, 1),
            followed=attempt.followed,
            tier=attempt.tier,
        )


_FOLLOWED: dict[type[Following], Followed] = {
    Done: Followed.DONE,
    Wait: Followed.TIER,
    Divert: Followed.FALLBACK,
    Hold: Followed.HELD,
    Bury: Followed.DEAD,
}


def _followed(following: Following) -> Followed:
    return _FOLLOWED[type(following)]
