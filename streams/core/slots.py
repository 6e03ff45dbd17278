"""Slots: who may send next, so that no webhook takes what is due to the others."""

from collections import deque
from dataclasses import dataclass, field
from typing import Generic, TypeVar

Ticket = TypeVar("Ticket")


@dataclass(slots=True)
class _Line(Generic[Ticket]):
    cap: int
    in_use: int = 0
    listed: bool = False
    waiting: deque[Ticket] = field(default_factory=deque)

    @property
    def ready(self) -> bool:
        return bool(self.waiting) and self.in_use < self.cap


class Slots(Generic[Ticket]):
    """A cap for each webhook and one for all; webhooks that wait take turns.

    A state machine without I/O: `ask` queues a ticket, `grant` names the tickets that may go now,
    `release` gives a slot back.
    """

    def __init__(self, total: int) -> None:
        self._free = total
        self._lines: dict[str, _Line[Ticket]] = {}
        self._turns: deque[str] = deque()

    @property
    def free(self) -> int:
        return self._free

    def ask(self, webhook_id: str, cap: int, ticket: Ticket) -> None:
        """Queue `ticket` behind the webhook's others; `cap` is the webhook's current one."""
        line = self._lines.setdefault(webhook_id, _Line(cap))
        line.cap = cap
        line.waiting.append(ticket)
        self._enlist(webhook_id, line)

    def grant(self) -> list[tuple[str, Ticket]]:
        """The webhooks and tickets that may go now, in turn; each holds a slot until it is released."""
        granted: list[tuple[str, Ticket]] = []
        while self._free and self._turns:
            webhook_id = self._turns.popleft()
            line = self._lines[webhook_id]
            line.listed = False
            if not line.ready:
                continue
            line.in_use += 1
            self._free -= 1
            granted.append((webhook_id, line.waiting.popleft()))
            self._enlist(webhook_id, line)
        return granted

    def release(self, webhook_id: str) -> None:
        """The webhook gives one slot back."""
        line = self._lines[webhook_id]
        line.in_use -= 1
        self._free += 1
        if line.waiting:
            self._enlist(webhook_id, line)
        elif not line.in_use and not line.listed:
            del self._lines[webhook_id]

    def _enlist(self, webhook_id: str, line: _Line[Ticket]) -> None:
        if line.ready and not line.listed:
            line.listed = True
            self._turns.append(webhook_id)
