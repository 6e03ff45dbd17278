"""Terminals: short-lived API keys that a person makes for a command line."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta

from streams.core.accounts.access import ApiKey, Scope
from streams.core.limits import MAX_NAME_CHARACTERS
from streams.features.accounts.access import AccessService
from streams.features.shared.accounts import SqlApiKeys
from streams.ports.runtime import Clock

# A working day.
TERMINAL_LIFETIME = timedelta(hours=12)
# A member's scopes, without publishing events.
TERMINAL_SCOPES = (Scope.WEBHOOKS_READ, Scope.WEBHOOKS_WRITE, Scope.DELIVERIES_READ, Scope.DELIVERIES_WRITE)


@dataclass(frozen=True, slots=True)
class NewTerminal:
    """The key of a new terminal with its text, which is shown once to its person."""

    key: ApiKey
    api_key: str = field(repr=False)


@dataclass
class TerminalService:
    """Keys of the terminals of people. `actor` is the person; each person has separate keys."""

    _access: AccessService
    _keys: SqlApiKeys
    _clock: Clock

    async def connect(self, account_id: str, person_name: str, *, actor: str) -> NewTerminal:
        """Make a key for a terminal. Raises `Conflict` if the person or the account has too many."""
        name = f"Terminal of {person_name}"[:MAX_NAME_CHARACTERS]
        expires_at = self._clock.now() + TERMINAL_LIFETIME
        new_key = await self._access.add_key(account_id, name, TERMINAL_SCOPES, expires_at, actor=actor, person=actor)
        return NewTerminal(new_key.key, new_key.api_key)

    async def list(self, account_id: str, *, actor: str) -> Sequence[ApiKey]:
        """The active keys of the person's terminals."""
        return await self._keys.list_terminals(account_id, actor, self._clock.now())

    async def disconnect(self, account_id: str, key_id: str, *, actor: str) -> None:
        """Revoke a key of the person's terminals. Raises `NotFound`."""
        await self._access.revoke_key(account_id, key_id, actor=actor, person=actor)
