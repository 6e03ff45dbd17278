"""Memory and start of `deliver` with many erased learners."""

import time
from functools import partial
from typing import Annotated

import psycopg
import typer

from bench.stack import Stack, running
from e2e.system import until

READY_SECONDS = 300
PUBLISHED_SECONDS = 1200
# Random hashes, in SQL as erasures of this minute, for each account in turn.
_INSERT = """
    WITH erased AS (
        SELECT 'acc_' || number % %(accounts)s AS account_id, md5('a' || number) || md5('b' || number) AS learner_hash
        FROM generate_series(1, %(count)s) number
    ), stored AS (
        INSERT INTO erased_learners
        SELECT account_id, learner_hash, (SELECT max(hash_key_id) FROM erased_learners), now() FROM erased
    )
    INSERT INTO dirty_erasures SELECT account_id, learner_hash, now() FROM erased
"""


def erasures(
    learners: Annotated[int, typer.Option(help="Erased learners.")] = 1_000_000,
    accounts: Annotated[int, typer.Option(help="Accounts that they are of.")] = 100,
) -> dict[str, object]:
    """Memory and start time of `deliver` with many erased learners on the topic; time and memory of `publish`."""
    with running(Stack()) as stack:
        stack.start(["publish"])
        system = stack.system
        # The first erasure makes the key of the hashes.
        system.run("learners", "erase", stack.register_account(["/ok/0"]), "learner-1", "--yes", "--json")
        ready: dict[str, float] = {}
        memory: dict[str, int] = {}

        def measure_start(stage: str, name: str) -> None:
            began = time.monotonic()
            system.launch(stage)
            until(partial(system.is_ready, stage), READY_SECONDS, lambda: f"{stage}: {system.problem(stage)}")
            ready[name] = round(time.monotonic() - began, 1)
            memory[name] = round(stack.memory_mb(stage))

        measure_start("deliver", "one")
        system.stop("deliver")
        with psycopg.connect(system.env["DATABASE_URL"]) as connection:
            connection.execute(_INSERT.replace("% %", "%% %").encode(), {"accounts": accounts, "count": learners})
        began = time.monotonic()
        until(lambda: not system._rows("SELECT 1 FROM dirty_erasures LIMIT 1"), PUBLISHED_SECONDS, "all published")
        published_seconds = round(time.monotonic() - began, 1)
        measure_start("deliver", "all")
        until(lambda: system.metric("deliver", "erased_learners") == learners + 1, 60, "all known")
        return stack.say(
            experiment="erasures",
            learners=learners,
            accounts=accounts,
            published_seconds=published_seconds,
            publish_mb=round(stack.memory_mb("publish")),
            ready_seconds=ready,
            deliver_mb=memory,
        )
