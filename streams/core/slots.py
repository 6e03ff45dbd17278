"""Slots: who may send next, so that no endpoint takes what is due to the others."""

from collections import OrderedDict, deque
from collections.abc import Hashable, Iterable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Generic, TypeVar

Ticket = TypeVar("Ticket", bound=Hashable)

START_CAP = 8
TEST_CAP = 2
# A request older than this makes its line slow: it may be the first of many that hang.
SLOW_SECONDS = 1.0
# What a line's own cap delays by more than this does not wait in memory.
PATIENCE_SECONDS = 5.0
IDLE_LINES_KEPT = 10_000
_NEWEST_WEIGHT = 0.2


class Repute(StrEnum):
    """What is known of a line; the lines of one repute together have a share of all slots."""

    PROVEN = "proven"
    UNPROVEN = "unproven"
    SUSPECT = "suspect"
    TEST = "test"


class Errand(StrEnum):
    """Why a slot is wanted: an event's first attempt, one of those that come after, or a test."""

    FRESH = "fresh"
    AGAIN = "again"
    TEST = "test"


@dataclass(slots=True)
class _Line(Generic[Ticket]):
    """Those who want to send to one endpoint: `flying` hold a slot since the time given, the others wait for one.

    `seconds` is how long answers take of late; `moved_at` when the last one came back, or when the first one left.
    """

    name: str
    ceiling: int
    cap: int
    repute: Repute
    failing: bool = False
    seconds: float | None = None
    moved_at: float = 0.0
    flying: dict[Ticket, tuple[float, Errand]] = field(default_factory=dict)
    again_flying: int = 0
    slow: set[Ticket] = field(default_factory=set)
    fresh: deque[tuple[int, Ticket]] = field(default_factory=deque)
    again: deque[tuple[int, Ticket]] = field(default_factory=deque)

    @property
    def length(self) -> int:
        return len(self.fresh) + len(self.again)

    @property
    def next_errand(self) -> Errand | None:
        """Who goes next: first come, first served, but retries hold at most half the cap; None when nobody may."""
        if len(self.flying) >= self.cap:
            return None
        again = self.again and self.again_flying < max(1, self.cap // 2)
        if again and not (self.fresh and self.fresh[0] < self.again[0]):
            return Errand.AGAIN
        return Errand.FRESH if self.fresh else None

    def judged(self) -> Repute:
        if self.repute is Repute.TEST:
            return Repute.TEST
        if self.failing or self.slow or (self.seconds or 0.0) > SLOW_SECONDS:
            return Repute.SUSPECT
        return Repute.UNPROVEN if self.seconds is None else Repute.PROVEN

    def delay(self, now: float) -> float:
        """Seconds that the last in the line would wait at the pace observed, as far as the line itself is the reason.

        A healthy line may still grow to its ceiling; a suspect one is taken at what it has.
        """
        suspect = self.repute is Repute.SUSPECT
        if not suspect and len(self.flying) < self.cap:
            return 0.0
        # While nothing comes back, an answer takes at least as long as that.
        stalled = now - self.moved_at if self.flying else 0.0
        at_once = max(1, len(self.flying)) if suspect else self.ceiling
        return self.length * max(self.seconds or 0.0, stalled) / at_once

    def learn(self, delivered: bool, seconds: float) -> None:
        """An answer came, or none in time: the cap grows by one, or is halved."""
        self.failing = not delivered
        self.cap = min(self.cap + 1, self.ceiling) if delivered else max(1, self.cap // 2)
        known = seconds if self.seconds is None else self.seconds
        self.seconds = known + _NEWEST_WEIGHT * (seconds - known)


class Slots(Generic[Ticket]):
    """Every line has a cap that adapts, lines of one repute have a share, and lines that wait take turns.

    A state machine without I/O or clock (`now` is in seconds): `ask` queues a ticket, `grant` names the tickets
    that may go now, `release` gives a slot back and `spill` names those that would wait for too long.
    Lines that fail or are slow hold at most a quarter of all slots together, those that never answered yet at most
    half, and the last free slot is kept for tests.
    """

    def __init__(self, total: int) -> None:
        self._free = total
        self._reserved = 1 if total > 1 else 0
        self._shares = {
            Repute.PROVEN: total,
            Repute.UNPROVEN: max(1, total // 2),
            Repute.SUSPECT: max(1, total // 4),
            Repute.TEST: total,
        }
        self._held = dict.fromkeys(Repute, 0)
        self._lines: dict[str, _Line[Ticket]] = {}
        self._idle: OrderedDict[str, None] = OrderedDict()
        self._turns: dict[Repute, OrderedDict[str, _Line[Ticket]]] = {repute: OrderedDict() for repute in Repute}
        self._rotation = deque(Repute)
        self._by_age: deque[tuple[float, str, Ticket]] = deque()
        self._asked = 0

    @property
    def free(self) -> int:
        return self._free

    def held(self, repute: Repute) -> int:
        """How many slots the lines of this repute have together."""
        return self._held[repute]

    def waiting(self) -> int:
        """How many wait for a slot."""
        return sum(line.length for line in self._lines.values() if line.length)

    def ask(self, name: str, ticket: Ticket, errand: Errand = Errand.FRESH, ceiling: int = 32) -> None:
        """Queue `ticket` in the line of that name; tests need a line of their own. `ceiling` bounds the line's cap."""
        line = self._lines.get(name)
        if line is None:
            line = self._open_line(name, errand, ceiling)
        line.ceiling = ceiling
        line.cap = min(line.cap, ceiling)
        self._asked += 1
        (line.again if errand is Errand.AGAIN else line.fresh).append((self._asked, ticket))
        self._idle.pop(name, None)
        self._enlist(line)

    def grant(self, now: float) -> list[tuple[str, Ticket]]:
        """The lines and tickets that may go now, in turn; each holds a slot until it is released."""
        self._mark_slow(now)
        granted: list[tuple[str, Ticket]] = []
        while (one := self._grant_one(now)) is not None:
            granted.append(one)
        return granted

    def release(self, name: str, ticket: Ticket, now: float, delivered: bool | None) -> None:
        """The slot is free again; `delivered` says how the attempt ended, None that none was made."""
        line = self._lines[name]
        since, errand = line.flying.pop(ticket)
        line.again_flying -= errand is Errand.AGAIN
        line.slow.discard(ticket)
        line.moved_at = now
        self._free += 1
        self._held[line.repute] -= 1
        if delivered is not None:
            line.learn(delivered, now - since)
        self._judge(line)
        self._enlist(line)
        self._forget_idle(line)

    def spill(self, now: float, names: Iterable[str] | None = None) -> list[Ticket]:
        """Take out who would wait too long for the line's own sake, the last come first; all lines unless named."""
        self._mark_slow(now)
        lines = list(self._lines.values()) if names is None else [self._lines[name] for name in names]
        spilled: list[Ticket] = []
        for line in lines:
            while line.length and line.repute is not Repute.TEST and line.delay(now) > PATIENCE_SECONDS:
                last = line.again if not line.fresh or (line.again and line.again[-1] > line.fresh[-1]) else line.fresh
                spilled.append(last.pop()[1])
            if not line.length:
                self._turns[line.repute].pop(line.name, None)
                self._forget_idle(line)
        return spilled

    def _open_line(self, name: str, errand: Errand, ceiling: int) -> _Line[Ticket]:
        test = errand is Errand.TEST
        cap, repute = (TEST_CAP, Repute.TEST) if test else (START_CAP, Repute.UNPROVEN)
        line = self._lines[name] = _Line[Ticket](name, ceiling, min(cap, ceiling), repute)
        return line

    def _grant_one(self, now: float) -> tuple[str, Ticket] | None:
        for _ in range(len(self._rotation)):
            repute = self._rotation[0]
            self._rotation.rotate(-1)
            if self._free <= (0 if repute is Repute.TEST else self._reserved):
                continue
            turns = self._turns[repute]
            while self._held[repute] < self._shares[repute] and turns:
                _, line = turns.popitem(last=False)
                # Its cap may have been halved since it was listed.
                if (errand := line.next_errand) is not None:
                    return line.name, self._fly(line, errand, now)
        return None

    def _fly(self, line: _Line[Ticket], errand: Errand, now: float) -> Ticket:
        _, ticket = (line.again if errand is Errand.AGAIN else line.fresh).popleft()
        if not line.flying:
            line.moved_at = now
        line.flying[ticket] = now, errand
        line.again_flying += errand is Errand.AGAIN
        self._free -= 1
        self._held[line.repute] += 1
        self._by_age.append((now, line.name, ticket))
        self._enlist(line)
        return ticket

    def _mark_slow(self, now: float) -> None:
        while self._by_age and self._by_age[0][0] < now - SLOW_SECONDS:
            since, name, ticket = self._by_age.popleft()
            line = self._lines.get(name)
            if line and line.flying.get(ticket, (None,))[0] == since:
                line.slow.add(ticket)
                self._judge(line)

    def _judge(self, line: _Line[Ticket]) -> None:
        """Move the line to where its repute belongs, with what it holds and its turn."""
        before, after = line.repute, line.judged()
        if before is after:
            return
        line.repute = after
        self._held[before] -= len(line.flying)
        self._held[after] += len(line.flying)
        if self._turns[before].pop(line.name, None):
            self._turns[after][line.name] = line

    def _enlist(self, line: _Line[Ticket]) -> None:
        if line.next_errand is not None:
            self._turns[line.repute].setdefault(line.name, line)

    def _forget_idle(self, line: _Line[Ticket]) -> None:
        """Keep what was learned of the newest idle lines; to forget one costs it a new start."""
        if line.flying or line.length:
            return
        self._idle[line.name] = None
        self._idle.move_to_end(line.name)
        if len(self._idle) > IDLE_LINES_KEPT:
            oldest, _ = self._idle.popitem(last=False)
            del self._lines[oldest]
