"""Ports of delivery: subscriptions, encryption, DNS, HTTP and mail."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from streams.core.accounts.mail import RenderedMail
from streams.core.deliveries.delivery import Delivery, SubscriptionsPosition
from streams.core.deliveries.outcome import Failure, Response
from streams.core.deliveries.request import Request
from streams.core.webhooks.webhook import Webhook


class Subscriptions(Protocol):
    """The webhooks, as the compacted topic `subscriptions` has them."""

    async def catch_up(self, ago: float = 0.0) -> SubscriptionsPosition:
        """Wait until every record that was on the topic `ago` seconds ago is read. Returns the position reached."""

    async def wait_for(self, position: SubscriptionsPosition) -> None:
        """Wait until this position is read."""

    def of_account(self, account_id: str) -> Sequence[Webhook]: ...

    def count_of_account(self, account_id: str) -> int: ...

    def find(self, webhook_id: str) -> Webhook | None: ...


class ReplayLookup(Protocol):
    """Looks up whether a delivery was replayed."""

    async def newest_generation(self, delivery_id: str) -> int | None:
        """The newest generation of a delivery; None if the database does not know it, or is away."""


class ErasedLearners(Protocol):
    """Knows the erased learners."""

    async def is_erased(self, delivery: Delivery) -> bool:
        """Whether the delivery's event belongs to a learner who was erased after the event.

        The answer covers every erasure that was on the topic two seconds ago. It rarely has to wait for that.
        """

    def is_current(self) -> bool:
        """Whether every erasure is known that was on the topic two seconds ago."""

    async def wait_until_current(self) -> None: ...

    def is_erased_now(self, delivery: Delivery) -> bool:
        """The answer of `is_erased` without a wait, while `is_current`."""


class Encryption(Protocol):
    """Encrypts texts that nobody may read at rest or on a topic. Raises `InvalidRecord` if no configured key fits."""

    def encrypt(self, plain: str) -> str: ...

    def reencrypt(self, ciphertext: str) -> str:
        """The same text, encrypted with the newest key."""

    def decrypt(self, ciphertext: str) -> str: ...

    def decrypt_headers(self, ciphertext: str | None) -> Mapping[str, str]:
        """A webhook's own headers; empty for None."""


class EncryptionCheck(Protocol):
    """Checks that this process has the keys that the others encrypt with."""

    async def require_right_keys(self) -> str:
        """The encrypted check text. Raises `Unavailable` if no configured key decrypts it."""

    async def reencrypt(self) -> None:
        """Encrypt the check text with the newest key. Raises the same errors as `verify`."""


@dataclass(frozen=True, slots=True)
class DnsResult:
    """Why a URL is not allowed, and whether its host resolves. A host that does not resolve yet is allowed."""

    problem: str | None = None
    resolves: bool = True


class DnsCheck(Protocol):
    """Resolves the host of a webhook's URL, in turns between accounts."""

    async def check(self, url: str, account_id: str) -> DnsResult: ...


class Sender(Protocol):
    """Sends one POST within the timeout of an attempt. A network error is a `Failure`, never an exception."""

    async def send(self, request: Request) -> Response | Failure:
        """Send a request. Raises `Unavailable` if this machine lacks a resource: that is not an outcome."""


class MailTransport(Protocol):
    """Sends mails."""

    async def send(self, message_id: str, emails: Sequence[str], mail_text: RenderedMail) -> str | None:
        """Send a mail to all addresses. Returns a note about the delivery, if there is one.

        Raises `Unavailable` if it can be tried again, `PartiallySent` if only some addresses have the mail, and
        `RowRefused` if no address will ever take it.
        """
