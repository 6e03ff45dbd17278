"""Say which webhooks an event reaches, as things are now, and refuse events of accounts that do not exist."""

import asyncio
from collections.abc import Sequence

from streams.core.errors import FieldError, Invalid, Unavailable
from streams.core.event import Event
from streams.core.webhook import Webhook, wants
from streams.ports import AccountWebhooks

# A hint for people; events do not wait longer for it.
LOOK_UP_SECONDS = 2.0


class RecipientService:
    """Compares events with the webhooks of their accounts."""

    def __init__(self, webhooks: AccountWebhooks) -> None:
        self._webhooks = webhooks

    async def count(self, events: Sequence[Event], fields: Sequence[str]) -> Sequence[int] | None:
        """How many webhooks want each event, paused ones included; None when the database does not answer.

        `fields` names the account of each event in errors. Raises `Invalid` for accounts that do not exist.
        """
        try:
            async with asyncio.timeout(LOOK_UP_SECONDS):
                known = await self._webhooks.of_accounts({event.account_id for event in events})
        except (Unavailable, TimeoutError):
            return None
        errors = [
            FieldError(field, f"there is no account {event.account_id}: open it first, or correct the id")
            for event, field in zip(events, fields, strict=True)
            if event.account_id not in known
        ]
        if errors:
            raise Invalid(*errors)
        return [await self._count(event, known[event.account_id]) for event in events]

    async def _count(self, event: Event, webhooks: Sequence[Webhook]) -> int:
        # An account may have a thousand webhooks, and a request 500 events: others have their turn in between.
        await asyncio.sleep(0)
        return sum(wants(webhook, event) for webhook in webhooks)
