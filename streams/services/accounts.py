"""Open an account, with its first API key."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from streams.core.account import Account, ApiKey
from streams.core.errors import FieldError, Invalid
from streams.ports import Accounts, Clock

KEY_PREFIX = "sk_"
SHOWN_CHARACTERS = 10


@dataclass(frozen=True, slots=True)
class Opened:
    """A new account; `api_key` is shown once and stored only as its hash."""

    account: Account
    api_key: str


class AccountService:
    """`new_id` mints ids by their prefix, `new_token` makes an unguessable text."""

    def __init__(
        self, accounts: Accounts, clock: Clock, new_id: Callable[[str], str], new_token: Callable[[], str]
    ) -> None:
        self._accounts = accounts
        self._clock = clock
        self._new_id = new_id
        self._new_token = new_token

    async def open(self, name: str, emails: Sequence[str] = ()) -> Opened:
        """A new account with a first key. Raises `Invalid`."""
        errors = [] if name.strip() else [FieldError("name", "must not be empty")]
        errors += [FieldError("emails", f"{email!r} is no e-mail address") for email in emails if not _is_email(email)]
        if errors:
            raise Invalid(*errors)
        now = self._clock.now()
        account = Account(self._new_id("acc"), name.strip(), tuple(emails), now)
        api_key = KEY_PREFIX + self._new_token()
        key = ApiKey(
            id=self._new_id("key"),
            account_id=account.id,
            name="first key",
            prefix=api_key[:SHOWN_CHARACTERS],
            sha256=hashlib.sha256(api_key.encode()).hexdigest(),
            created_at=now,
        )
        await self._accounts.add(account, key)
        return Opened(account, api_key)


def _is_email(text: str) -> bool:
    name, _, host = text.rpartition("@")
    return bool(name) and bool(host) and not any(character.isspace() for character in text)
