"""What people's work needs: accounts, webhooks, deliveries looked at and acted on."""

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from streams.core.account import Account, ApiKey, DeliveryFilter, DeliverySeen
from streams.core.held import HeldChoice
from streams.core.standing import Standing, Tally
from streams.core.webhook import Registration


class Replays(Protocol):
    """Deliveries that people act on."""

    async def again(self, wanted: DeliveryFilter) -> Sequence[str]:
        """Start a new generation of those that match and whose webhook lives; their ids."""

    async def discard(self, wanted: DeliveryFilter) -> Sequence[str]:
        """Give those that match up for good; their ids."""


class Accounts(Protocol):
    """The accounts and their keys."""

    async def add(self, account: Account, key: ApiKey) -> None: ...

    async def find(self, account_id: str) -> Account | None: ...

    async def list(self) -> Sequence[Account]: ...


class Webhooks(Protocol):
    """The webhooks in SQL; every change becomes due for the topic in the same transaction."""

    async def add(self, registration: Registration) -> Registration: ...

    async def list(self, account_id: str | None = None) -> Sequence[Registration]: ...

    async def find(self, webhook_id: str) -> Registration | None: ...

    async def change(
        self,
        webhook_id: str,
        change: Callable[[Registration], Registration | None],
        held: HeldChoice = HeldChoice.DELIVER,
    ) -> Registration | None:
        """Apply `change` to the current state and raise the version; None from it deletes.

        If it ends a pause, `held` is what becomes of what that pause holds. What is stored now (of a deleted one:
        what it was), or None when there is no such webhook.
        """


class Propagation(Protocol):
    """Whether a webhook's newest version is on the topic."""

    async def is_published(self, webhook_id: str) -> bool: ...


class DeliveryLog(Protocol):
    """What was recorded of deliveries, newest first."""

    async def list(self, wanted: DeliveryFilter) -> Sequence[Standing]: ...

    async def find(self, delivery_id: str) -> DeliverySeen | None: ...

    async def tally(self) -> Mapping[str, Sequence[Tally]]:
        """How many deliveries stand where, by webhook id."""


class Sealer(Protocol):
    """Encrypts what must not be read at rest."""

    def seal(self, plain: str) -> str: ...
