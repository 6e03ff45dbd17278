"""Checks a run from the outside: acknowledgements, receipts and the rows of the database.

It does not import the product, and can be run by hand: `python checker.py FOLDER DATABASE_URL`.
"""

import json
import sys
from collections import Counter, defaultdict
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

import psycopg

FINAL = ("delivered", "dead", "held", "discarded")

# An event owed to a webhook.
Pair = tuple[str, str]


@dataclass(frozen=True)
class Receipt:
    """One request that an endpoint received; `sha` is the hash of its body."""

    path: str
    event: str
    attempt: int
    sha: str
    status: int
    at: float

    @property
    def accepted(self) -> bool:
        return 200 <= self.status < 300


@dataclass(frozen=True)
class Delivery:
    """A row of `deliveries`."""

    id: str
    event: str
    webhook: str
    state: str


@dataclass(frozen=True)
class Evidence:
    """`published` and `acknowledged` events; `wanted` has the (event, webhook) pairs of each published event.

    `paths` has the webhook of each path; `attempts` are (delivery id, generation, number).
    """

    published: frozenset[str]
    acknowledged: frozenset[str]
    wanted: frozenset[Pair]
    paths: dict[str, str]
    receipts: list[Receipt]
    deliveries: list[Delivery]
    attempts: list[tuple[str, int, int]]


@dataclass(frozen=True)
class Verdict:
    """The result; `repeated` counts the accepted requests of a pair after its first."""

    owed: frozenset[Pair]
    states: Counter[str]
    missing: frozenset[Pair]
    unsettled: frozenset[Pair]
    unreceived: frozenset[Pair]
    stored_twice: frozenset[Pair]
    unexpected: frozenset[str]
    altered: frozenset[str]
    repeated: Counter[Pair]

    @property
    def lost(self) -> frozenset[Pair]:
        """Pairs that are neither received nor held, dead or discarded."""
        return self.missing | self.unsettled | self.unreceived

    @property
    def is_balanced(self) -> bool:
        """acknowledged × wanting = delivered + dead + held + discarded."""
        return len(self.owed) == sum(self.states[state] for state in FINAL)

    def complaints(self) -> list[str]:
        """One line for each kind of fault; a repeated request alone is not one."""
        found: dict[str, frozenset[Pair] | frozenset[str]] = {
            "owed and not in the database": self.missing,
            "owed and in no final state": self.unsettled,
            "delivered in the database and never received": self.unreceived,
            "stored twice": self.stored_twice,
            "without a published event that was wanted": self.unexpected,
            "whose body was not always the same": self.altered,
        }
        lines = [
            f"{len(things)} {message}: {sorted(map(str, things))[:3]}" for message, things in found.items() if things
        ]
        if not self.is_balanced:
            lines.append(f"{len(self.owed)} are owed, the states are {dict(self.states)}")
        return lines


def check(evidence: Evidence) -> Verdict:
    """Check the evidence."""
    owed = frozenset(pair for pair in evidence.wanted if pair[0] in evidence.acknowledged)
    stored = Counter((row.event, row.webhook) for row in evidence.deliveries)
    states = {(row.event, row.webhook): row.state for row in evidence.deliveries}
    accepted = Counter(
        (receipt.event, evidence.paths.get(receipt.path, "")) for receipt in evidence.receipts if receipt.accepted
    )
    bodies: dict[str, set[str]] = defaultdict(set)
    for receipt in evidence.receipts:
        bodies[receipt.event].add(receipt.sha)
    return Verdict(
        owed=owed,
        states=Counter(states[pair] for pair in owed if pair in states),
        missing=owed - states.keys(),
        unsettled=frozenset(pair for pair in owed if pair in states and states[pair] not in FINAL),
        unreceived=frozenset(pair for pair, state in states.items() if state == "delivered" and not accepted[pair]),
        stored_twice=frozenset(pair for pair, count in stored.items() if count > 1),
        unexpected=frozenset(unexpected(evidence)),
        altered=frozenset(event for event, shas in bodies.items() if len(shas) > 1),
        repeated=Counter({pair: count - 1 for pair, count in accepted.items() if count > 1}),
    )


def unexpected(evidence: Evidence) -> Iterator[str]:
    """Requests, deliveries and attempts without a published event that their webhook wants."""
    for receipt in evidence.receipts:
        webhook = evidence.paths.get(receipt.path)
        if webhook is None or not _is_traced(evidence, receipt.event, webhook):
            yield f"request {receipt.event} at {receipt.path}"
    for row in evidence.deliveries:
        if not _is_traced(evidence, row.event, row.webhook):
            yield f"delivery {row.event} for {row.webhook}"
    known = {row.id for row in evidence.deliveries}
    for delivery, generation, number in evidence.attempts:
        if delivery not in known:
            yield f"attempt {generation}/{number} of {delivery}"


def _is_traced(evidence: Evidence, event: str, webhook: str) -> bool:
    return event in evidence.published and (event, webhook) in evidence.wanted


# -- reading the evidence ----------------------------------------------------------------------------------


def read(folder: Path, database_url: str) -> Evidence:
    """Read the evidence: files of lines in `folder`, and two tables of the database."""
    with psycopg.connect(database_url) as connection:
        deliveries = connection.execute("SELECT id, event_id, webhook_id, state FROM deliveries").fetchall()
        attempts = connection.execute("SELECT delivery_id, generation, number FROM attempts").fetchall()
    return Evidence(
        published=frozenset(_lines(folder / "published")),
        acknowledged=frozenset(_lines(folder / "acknowledged")),
        wanted=frozenset(_pairs(folder / "wanted")),
        paths=dict(_pairs(folder / "paths")),
        receipts=read_receipts(folder),
        deliveries=[Delivery(*row) for row in deliveries],
        attempts=[(delivery, generation, number) for delivery, generation, number in attempts],
    )


def read_receipts(folder: Path) -> list[Receipt]:
    """Every request that the endpoints received."""
    return [Receipt(**json.loads(line)) for line in _lines(folder / "receipts")]


def _lines(path: Path) -> Collection[str]:
    return path.read_text().splitlines() if path.exists() else []


def _pairs(path: Path) -> Iterator[Pair]:
    for line in _lines(path):
        first, second = line.split(" ")
        yield first, second


def main() -> int:
    verdict = check(read(Path(sys.argv[1]), sys.argv[2]))
    print(
        f"owed {len(verdict.owed)}, {dict(verdict.states)}, lost {len(verdict.lost)}, "
        f"repeated {verdict.repeated.total()}"
    )
    print(*verdict.complaints(), sep="\n")
    return 1 if verdict.complaints() else 0


if __name__ == "__main__":
    sys.exit(main())
