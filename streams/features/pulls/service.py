"""Pull deliveries instead of getting requests: readers lease them, and acknowledge them or give them back."""

from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from functools import cached_property

from streams.core.deliveries.delivery_state import Batch, RecordedValue, delivery_state_of
from streams.core.deliveries.lease import Lease, attempt_of_lease
from streams.core.deliveries.outcome import OutcomeKind
from streams.core.deliveries.request import USER_AGENT, build_request
from streams.core.errors import Conflict, InvalidRecord, NotFound, RowRefused, Unavailable
from streams.core.webhooks.webhook import TEMPORARY_LIFE, DeliveryMode, Registration, Status, Webhook
from streams.features.pulls.storage import SqlPulls
from streams.features.pulls.waits import Waits
from streams.ports.delivery import Encryption
from streams.ports.runtime import Clock, Telemetry
from streams.ports.storage import Recorder
from streams.ports.webhooks import Webhooks

KEEP_INTERVAL = timedelta(minutes=5)


@dataclass(frozen=True, slots=True)
class PulledItem:
    """One delivery as a request would bring it: its signatures are over `body`."""

    id: str
    headers: Mapping[str, str]
    body: str


@dataclass
class PullService:
    """Readers of pull webhooks. A lease ends on time, even if its process died.

    A leased delivery goes to no other reader before its lease ends, and an acknowledged one to no reader again.
    """

    _pulls: SqlPulls
    _webhooks: Webhooks
    _recorder: Recorder
    _encryption: Encryption
    _clock: Clock
    _telemetry: Telemetry
    _signature_header: str
    _sends_trace_parent: bool = False
    _user_agent: str = USER_AGENT

    @cached_property
    def _waits(self) -> Waits:
        return Waits(self._pulls.available)

    async def wait(self, webhook_id: str, seconds: float, limit: int, rate_seconds: float) -> bool:
        """Wait until there may be a delivery for a reader that takes `limit`; False if there is none in time.

        `rate_seconds` comes from its last pull. Raises `Unavailable`.
        """
        return await self._waits.wait(webhook_id, seconds, limit, rate_seconds)

    def end_waits(self) -> None:
        """End every wait when the process stops."""
        self._waits.end()

    async def pull(
        self, webhook_id: str, limit: int, lease_seconds: int, account_id: str | None
    ) -> tuple[Sequence[PulledItem], float]:
        """Lease the oldest deliveries, at most `limit`. Returns them, and the seconds until the rate allows more.

        While the webhook is paused there are none. Raises `NotFound`, and `Conflict` for a webhook that gets requests.
        """
        registration = await self._find_registration(webhook_id, account_id)
        webhook = registration.webhook
        if webhook.delivery is not DeliveryMode.PULL:
            raise Conflict(f"webhook {webhook_id} gets requests: change its delivery to {DeliveryMode.PULL} first")
        await self._keep(registration)
        if webhook.status is Status.PAUSED:
            return (), 0.0
        leased = await self._pulls.lease(webhook, limit, timedelta(seconds=lease_seconds))
        for row in leased.failed_rows:
            self._telemetry.error("pulled_row_invalid", delivery_id=row.id, account_id=row.account_id, why=row.error)
        await self._record(webhook, leased.ended_leases, OutcomeKind.LEASE_ENDED)
        rate_seconds = (leased.allowed_at - self._clock.now()).total_seconds() if leased.allowed_at else 0.0
        return await self._items(webhook, leased.leases), max(0.0, rate_seconds)

    async def acknowledge(
        self, webhook_id: str, delivery_ids: Collection[str], account_id: str | None
    ) -> Sequence[str]:
        """End these deliveries as delivered, also after their lease. Returns the ids of delivered ones, in their order.

        A second call changes nothing.
        """
        webhook = await self._find(webhook_id, account_id)
        leases = await self._pulls.leased(webhook_id, delivery_ids)
        now = self._clock.now()
        attempts = [attempt_of_lease(lease, webhook, OutcomeKind.DELIVERED, now) for lease in leases]
        if attempts:
            states = [delivery_state_of(RecordedValue(attempt, now)) for attempt in attempts]
            await self._recorder.record(Batch([state for state in states if state is not None], attempts))
            # Not among the attempts of `deliver`, whose alerts would miss that it stands still.
            self._telemetry.count("leases_total", len(attempts), outcome=OutcomeKind.DELIVERED)
        settled_ids = {lease.delivery.id for lease in leases}
        if others := set(delivery_ids) - settled_ids:
            settled_ids |= set(await self._pulls.delivered(webhook_id, others))
        return [delivery_id for delivery_id in dict.fromkeys(delivery_ids) if delivery_id in settled_ids]

    async def give_back(
        self, webhook_id: str, delivery_ids: Collection[str], wait_seconds: int, account_id: str | None
    ) -> Sequence[str]:
        """Let the next reader pull these deliveries after some seconds. Returns the ids that had a lease."""
        webhook = await self._find(webhook_id, account_id)
        leases = await self._pulls.give_back(webhook_id, delivery_ids, timedelta(seconds=wait_seconds))
        await self._record(webhook, leases, OutcomeKind.NOT_ACKNOWLEDGED)
        given_back = {lease.delivery.id for lease in leases}
        return [delivery_id for delivery_id in dict.fromkeys(delivery_ids) if delivery_id in given_back]

    async def _record(
        self, webhook: Webhook, leases: Sequence[Lease], outcome: OutcomeKind, message: str | None = None
    ) -> None:
        """Store the results of leases. If that fails, or the process dies, a line of history is missing."""
        if not leases:
            return
        now = self._clock.now()
        attempts = [attempt_of_lease(lease, webhook, outcome, min(now, lease.until), message) for lease in leases]
        # Leased deliveries must reach their reader.
        with suppress(Unavailable, RowRefused):
            await self._recorder.record(Batch(attempts=attempts))
            await self._pulls.forget_attempts(leases)
        self._telemetry.count("leases_total", len(attempts), outcome=outcome)

    async def _keep(self, registration: Registration) -> None:
        """Keep a temporary webhook, which has a reader, for another hour. Not at each pull, to save writes."""
        expires_at = self._clock.now() + TEMPORARY_LIFE
        if registration.expires_at is not None and expires_at - registration.expires_at > KEEP_INTERVAL:
            await self._pulls.keep(registration.webhook.id, expires_at)

    async def _find(self, webhook_id: str, account_id: str | None) -> Webhook:
        return (await self._find_registration(webhook_id, account_id)).webhook

    async def _find_registration(self, webhook_id: str, account_id: str | None) -> Registration:
        registration = await self._webhooks.find(webhook_id)
        if registration is None or account_id not in (None, registration.webhook.account_id):
            raise NotFound(f"there is no webhook {webhook_id}")
        return registration

    async def _items(self, webhook: Webhook, leases: Sequence[Lease]) -> Sequence[PulledItem]:
        """The items of these leases. If one cannot be built, its attempt says why."""
        items: list[PulledItem] = []
        secrets: list[str] | None = None
        for lease in leases:
            delivery = lease.delivery
            try:
                if secrets is None:
                    valid_secrets = webhook.valid_secrets(lease.began_at)
                    secrets = [self._encryption.decrypt(secret.ciphertext) for secret in valid_secrets]
                request = build_request(
                    delivery,
                    webhook.url,
                    secrets,
                    {},
                    int(lease.began_at.timestamp()),
                    self._signature_header,
                    delivery.trace_parent if self._sends_trace_parent else None,
                    fields=webhook.options.fields,
                    user_agent=self._user_agent,
                )
                items.append(PulledItem(delivery.id, request.headers, request.body.decode()))
            except (InvalidRecord, ValueError) as error:
                await self._record(webhook, [lease], OutcomeKind.UNSENDABLE, str(error))
        return items
