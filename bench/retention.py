"""How fast `maintain` deletes old rows while others are stored, who notices, and whether the disk comes back."""

import statistics
import time
from collections.abc import Sequence
from typing import Annotated

import psycopg
import typer

from bench.old_rows import TABLES, fill
from bench.stack import WARM_DELIVERIES, Stack, percentile, running
from e2e.system import until

_KEPT_LONGER = {"SCORM_WEBHOOKS_RETENTION_DAYS": "3650"}


def retention(
    rows: Annotated[int, typer.Option(help="Deliveries that are older than their retention.")] = 200_000,
    rate: Annotated[float, typer.Option(help="Events a second while rows are deleted.")] = 1000,
    seconds: Annotated[float, typer.Option(help="Seconds of publishing, before the deletion and during it.")] = 15,
    warm: Annotated[int, typer.Option(help="Deliveries before the measurement.")] = WARM_DELIVERIES,
) -> dict[str, object]:
    """Deliveries deleted a second, with their attempts and events, and the latency of events before and during it."""
    with running(Stack(**_KEPT_LONGER)) as stack:
        stack.start()
        owners = stack.register([f"/ok/{number}" for number in range(100)], max_concurrency=64)
        stack.warm_up([account for account, _ in owners], warm)
        load, url = _Load(stack, owners), stack.system.env["DATABASE_URL"]
        before = load.run("before", rate, seconds)
        fill(url, owners, rows)
        _settle(url)
        sizes = {"filled": _megabytes(url)}
        _restart_maintain(stack, days=30)
        recorded, deleted, began = load.recorded(), _deleted(stack), time.monotonic()
        meanwhile = load.run("meanwhile", rate, seconds)
        took = time.monotonic() - began
        stored, gone = (load.recorded() - recorded) / took, (_deleted(stack) - deleted) / took
        until(lambda: _deleted(stack) >= rows, 300, "all old rows are deleted", 0.2)
        until(lambda: _are_vacuumed(url, rows), 240, "autovacuum came by", 1)
        sizes["vacuumed"] = _megabytes(url)
        _restart_maintain(stack, days=3650)
        fill(url, owners, rows)
        sizes["filled_again"] = _megabytes(url)
        return stack.say(
            experiment="retention",
            rows=rows,
            rate=rate,
            deleted_per_second=round(gone),
            stored_per_second=round(stored),
            deleted_over_stored=round(gone / stored, 1),
            deleted_per_second_alone=_alone(stack, rows),
            p50_ms_before=round(statistics.median(before), 1),
            p50_ms_meanwhile=round(statistics.median(meanwhile), 1),
            p99_ms_before=round(percentile(before, 0.99), 1),
            p99_ms_meanwhile=round(percentile(meanwhile, 0.99), 1),
            megabytes=sizes,
        )


class _Load:
    """Publishes at a rate, and waits until all is delivered."""

    def __init__(self, stack: Stack, owners: Sequence[tuple[str, str]]) -> None:
        self._stack = stack
        self._accounts = [account for account, _ in owners]

    def recorded(self) -> float:
        """Deliveries that are recorded, with an attempt each."""
        return self._stack.system.metric("record", "records_stored_total") / 2

    def run(self, name: str, rate: float, seconds: float) -> list[float]:
        """Milliseconds from each event to its receipt."""
        sent: dict[str, float] = {}

        def publish(number: int) -> None:
            sent[f"{name}_{number}"] = time.monotonic()
            self._stack.publish(f"{name}_{number}", self._accounts[number % len(self._accounts)])

        recorded = self.recorded()
        count = self._stack.at_rate(rate, seconds, publish)
        self._stack.wait_for(count, 120)
        until(lambda: self.recorded() >= recorded + count, 120, f"{count} deliveries are recorded", 0.2)
        return [1000 * (at - sent[event_id]) for _, event_id, at, _ in self._stack.take() if event_id in sent]


def _alone(stack: Stack, rows: int) -> int:
    """Deliveries that retention deletes a second while nothing else happens."""
    _restart_maintain(stack, days=30)
    deleted, began = _deleted(stack), time.monotonic()
    until(lambda: _deleted(stack) >= 0.9 * rows, 300, "old rows are deleted", 0.1)
    return round((_deleted(stack) - deleted) / (time.monotonic() - began))


def _restart_maintain(stack: Stack, days: int) -> None:
    stack.system.stop("maintain")
    stack.system.start(["maintain"], SCORM_WEBHOOKS_RETENTION_DAYS=str(days))


def _deleted(stack: Stack) -> float:
    return stack.system.metric("maintain", "rows_pruned_total")


def _settle(url: str) -> None:
    """End what a large COPY leaves behind, and let autovacuum look every five seconds instead of every minute."""
    with psycopg.connect(url, autocommit=True) as connection:
        for statement in ("VACUUM ANALYZE", "CHECKPOINT", "ALTER SYSTEM SET autovacuum_naptime = '5s'"):
            connection.execute(statement.encode())
        connection.execute("SELECT pg_reload_conf()")


def _megabytes(url: str) -> int:
    """The size of the tables with their indexes."""
    with psycopg.connect(url) as connection:
        query = "SELECT sum(pg_total_relation_size(name::regclass)) FROM unnest(%s::text[]) AS name"
        ((size,),) = connection.execute(query, [list(TABLES)]).fetchall()
    return round(int(size) / 1e6)


def _are_vacuumed(url: str, rows: int) -> bool:
    """Whether the server's statistics know of all deletions, and autovacuum has removed the dead rows."""
    with psycopg.connect(url) as connection:
        is_done = "n_tup_del >= %s AND n_dead_tup <= 0.2 * n_live_tup + 50"
        query = f"SELECT count(*) FROM pg_stat_user_tables WHERE relname = ANY(%s) AND {is_done}"
        ((count,),) = connection.execute(query.encode(), [list(TABLES), rows]).fetchall()
    return int(count) == len(TABLES)
