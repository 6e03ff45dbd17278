"""Slots: who may send next, so that no endpoint takes what is due to the others."""

from collections import OrderedDict, deque
from collections.abc import Iterable
from typing import Generic

from streams.core.endpoint_queue import (
    SLOW_SECONDS,
    START_CAP,
    TEST_CAP,
    EndpointClass,
    EndpointQueue,
    Priority,
    Waiter,
)

IDLE_LINES_KEPT = 10_000


class Slots(Generic[Waiter]):
    """Every line has a cap that adapts, lines of one repute have a share, and lines that wait take turns.

    A state machine without I/O or clock (`now` is in seconds): `seize` takes a slot where nobody waits, `ask` queues a
    ticket, `grant` names the tickets that may go now, `release` gives a slot back and `spill` names those that would
    wait for too long.
    Lines that fail or are slow hold at most a quarter of all slots together, those that never answered yet at most
    half, and the last free slot is kept for tests.
    """

    def __init__(self, total: int) -> None:
        self._free = total
        self._reserved = 1 if total > 1 else 0
        self._shares = {
            EndpointClass.PROVEN: total,
            EndpointClass.UNPROVEN: max(1, total // 2),
            EndpointClass.SUSPECT: max(1, total // 4),
            EndpointClass.TEST: total,
        }
        self._held = dict.fromkeys(EndpointClass, 0)
        self._lines: dict[str, EndpointQueue[Waiter]] = {}
        self._idle: OrderedDict[str, None] = OrderedDict()
        self._turns: dict[EndpointClass, OrderedDict[str, EndpointQueue[Waiter]]] = {
            repute: OrderedDict() for repute in EndpointClass
        }
        self._rotation = deque(EndpointClass)
        self._by_age: deque[tuple[float, str, Waiter]] = deque()
        self._asked = 0

    @property
    def free(self) -> int:
        return self._free

    def held(self, repute: EndpointClass) -> int:
        """How many slots the lines of this repute have together."""
        return self._held[repute]

    def waiting(self) -> int:
        """How many wait for a slot."""
        return sum(line.length for line in self._lines.values() if line.length)

    def seize(
        self, name: str, ticket: Waiter, now: float, errand: Priority = Priority.FRESH, ceiling: int = 32
    ) -> bool:
        """Take a slot at once, as `ask` and `grant` would give it; False where anybody waits, or there is none."""
        self._mark_slow(now)
        line = self._line(name, errand, ceiling)
        if any(self._turns.values()) or line.length or not line.has_room(errand) or not self._has_slot(line.repute):
            return False
        self._idle.pop(name, None)
        self._fly(line, ticket, errand, now)
        return True

    def ask(self, name: str, ticket: Waiter, errand: Priority = Priority.FRESH, ceiling: int = 32) -> None:
        """Queue `ticket` in the line of that name; tests need a line of their own. `ceiling` bounds the line's cap."""
        line = self._line(name, errand, ceiling)
        self._asked += 1
        (line.again if errand is Priority.AGAIN else line.fresh).append((self._asked, ticket))
        self._idle.pop(name, None)
        self._enlist(line)

    def grant(self, now: float) -> list[tuple[str, Waiter]]:
        """The lines and tickets that may go now, in turn; each holds a slot until it is released."""
        self._mark_slow(now)
        granted: list[tuple[str, Waiter]] = []
        while any(self._turns.values()) and (one := self._grant_one(now)) is not None:
            granted.append(one)
        return granted

    def release(self, name: str, ticket: Waiter, now: float, delivered: bool | None) -> None:
        """The slot is free again; `delivered` says how the attempt ended, None that none was made."""
        line = self._lines[name]
        since, errand = line.flying.pop(ticket)
        line.again_flying -= errand is Priority.AGAIN
        line.slow.discard(ticket)
        line.moved_at = now
        self._free += 1
        self._held[line.repute] -= 1
        if delivered is not None:
            line.learn(delivered, now - since)
        self._judge(line)
        self._enlist(line)
        self._forget_idle(line)

    def spill(self, now: float, names: Iterable[str] | None = None) -> list[Waiter]:
        """Take out who would wait too long for the line's own sake, the last come first; all lines unless named."""
        self._mark_slow(now)
        lines = list(self._lines.values()) if names is None else [self._lines[name] for name in names]
        spilled: list[Waiter] = []
        for line in lines:
            while line.length and line.repute is not EndpointClass.TEST and line.is_too_long(now):
                last = line.again if not line.fresh or (line.again and line.again[-1] > line.fresh[-1]) else line.fresh
                spilled.append(last.pop()[1])
            if not line.length:
                self._turns[line.repute].pop(line.name, None)
                self._forget_idle(line)
        return spilled

    def _line(self, name: str, errand: Priority, ceiling: int) -> EndpointQueue[Waiter]:
        line = self._lines.get(name)
        if line is None:
            cap, repute = (
                (TEST_CAP, EndpointClass.TEST) if errand is Priority.TEST else (START_CAP, EndpointClass.UNPROVEN)
            )
            line = self._lines[name] = EndpointQueue[Waiter](name, ceiling, cap, repute)
        line.ceiling = ceiling
        line.cap = min(line.cap, ceiling)
        return line

    def _has_slot(self, repute: EndpointClass) -> bool:
        reserved = 0 if repute is EndpointClass.TEST else self._reserved
        return self._free > reserved and self._held[repute] < self._shares[repute]

    def _grant_one(self, now: float) -> tuple[str, Waiter] | None:
        for _ in range(len(self._rotation)):
            repute = self._rotation[0]
            self._rotation.rotate(-1)
            turns = self._turns[repute]
            while turns and self._has_slot(repute):
                _, line = turns.popitem(last=False)
                # Its cap may have been halved since it was listed.
                if (errand := line.next_errand) is not None:
                    _, ticket = (line.again if errand is Priority.AGAIN else line.fresh).popleft()
                    self._fly(line, ticket, errand, now)
                    self._enlist(line)
                    return line.name, ticket
        return None

    def _fly(self, line: EndpointQueue[Waiter], ticket: Waiter, errand: Priority, now: float) -> None:
        if not line.flying:
            line.moved_at = now
        line.flying[ticket] = now, errand
        line.again_flying += errand is Priority.AGAIN
        self._free -= 1
        self._held[line.repute] += 1
        self._by_age.append((now, line.name, ticket))

    def _mark_slow(self, now: float) -> None:
        while self._by_age and self._by_age[0][0] < now - SLOW_SECONDS:
            since, name, ticket = self._by_age.popleft()
            line = self._lines.get(name)
            if line and line.flying.get(ticket, (None,))[0] == since:
                line.slow.add(ticket)
                self._judge(line)

    def _judge(self, line: EndpointQueue[Waiter]) -> None:
        """Move the line to where its repute belongs, with what it holds and its turn."""
        before, after = line.repute, line.judged()
        if before is after:
            return
        line.repute = after
        self._held[before] -= len(line.flying)
        self._held[after] += len(line.flying)
        if self._turns[before].pop(line.name, None):
            self._turns[after][line.name] = line

    def _enlist(self, line: EndpointQueue[Waiter]) -> None:
        if line.next_errand is not None:
            self._turns[line.repute].setdefault(line.name, line)

    def _forget_idle(self, line: EndpointQueue[Waiter]) -> None:
        """Keep what was learned of the newest idle lines; to forget one costs it a new start."""
        if line.flying or line.length:
            return
        self._idle[line.name] = None
        self._idle.move_to_end(line.name)
        if len(self._idle) > IDLE_LINES_KEPT:
            oldest, _ = self._idle.popitem(last=False)
            del self._lines[oldest]
