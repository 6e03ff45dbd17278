"""Commits of SCORM players: time to the answer, time until an event is on the topic, and the most a second."""

import asyncio
import base64
import json
import random
import statistics
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any
from urllib.parse import urlsplit

import aiohttp
import httpx
import psycopg
import typer
from confluent_kafka import Consumer

from bench.stack import WHOLE, Stack, percentile, running, stack_with_api
from e2e.system import until
from streams.adapters.avro.codec import AvroCodec
from streams.core.events.event import Event

# One commit in this many has a new score, which makes an event.
EVENT_EVERY = 10


@dataclass
class Arrivals:
    """Reads `session-events`; the time at which each score of each session arrived."""

    bootstrap: str
    at: dict[tuple[str, float], float] = field(default_factory=dict)
    count: int = 0

    def start(self) -> None:
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._stopping.set()
        self._thread.join()

    def _read(self) -> None:
        config = {"bootstrap.servers": self.bootstrap, "group.id": "bench-arrivals", "auto.offset.reset": "earliest"}
        consumer, codec = Consumer({**config, "fetch.wait.max.ms": 10}), AvroCodec()
        consumer.subscribe(["session-events"])
        while not self._stopping.is_set():
            for message in consumer.consume(500, 0.05):
                now = time.monotonic()
                value = message.value()
                if message.error() is not None or value is None:
                    continue
                event = codec.decode(value)
                assert isinstance(event, Event)
                if event.type == "session.scored":
                    self.at[str(event.text("sessionId")), float(str(event.data["scoreRaw"]))] = now
                    self.count += 1
        consumer.close()


@dataclass
class Answers:
    """Milliseconds to each answer, the time of each answer with an event, and what was not answered with success."""

    milliseconds: list[float] = field(default_factory=list)
    answered_at: dict[tuple[str, float], float] = field(default_factory=dict)
    errors: list[int] = field(default_factory=list)

    def figures(self) -> dict[str, float]:
        ms = self.milliseconds
        return {
            "p50": round(statistics.median(ms), 1),
            "p99": round(percentile(ms, 0.99), 1),
            "max": round(max(ms), 1),
        }


class Players:
    """Commits of open sessions in turn."""

    def __init__(self, base: str, paths: Sequence[tuple[str, str]], suspend_characters: int) -> None:
        self._base = base
        self._paths = paths
        self._suspend_characters = suspend_characters
        self._number = 0

    async def at_rate(self, rate: float, seconds: float) -> Answers:
        """Send at this rate whatever the answers do; a late start counts as waiting."""
        answers, tasks = Answers(), set[asyncio.Task[None]]()
        async with self._client() as client:
            began = time.monotonic()
            for count in range(int(rate * seconds)):
                due = began + count / rate
                await asyncio.sleep(max(0.0, due - time.monotonic()))
                task = asyncio.create_task(self._commit(client, due, answers))
                tasks.add(task)
                task.add_done_callback(tasks.discard)
            await asyncio.gather(*tasks)
        return answers

    async def as_fast_as_possible(self, in_flight: int, seconds: float) -> tuple[Answers, float]:
        """Keep this number in flight; also returns the commits a second."""
        answers = Answers()
        async with self._client() as client:
            began = time.monotonic()

            async def send() -> None:
                while time.monotonic() < began + seconds:
                    await self._commit(client, time.monotonic(), answers)

            await asyncio.gather(*(send() for _ in range(in_flight)))
            return answers, len(answers.milliseconds) / (time.monotonic() - began)

    def _client(self) -> aiohttp.ClientSession:
        return aiohttp.ClientSession(self._base, connector=aiohttp.TCPConnector(limit=256))

    async def _commit(self, client: aiohttp.ClientSession, due: float, answers: Answers) -> None:
        number = self._number
        self._number += 1
        session, path = self._paths[number % len(self._paths)]
        # Each session has a new score at every tenth of its commits, the sessions in turn.
        own = number // len(self._paths)
        score = float((own + number % len(self._paths)) // EVENT_EVERY + 1)
        async with client.post(path, data=_body(number, score, self._suspend_characters), headers=_HEADERS) as response:
            await response.read()
            now = time.monotonic()
            if response.status != 200:
                answers.errors.append(response.status)
                return
        answers.milliseconds.append((now - due) * 1000)
        answers.answered_at.setdefault((session, score), now)


_RANDOM_TEXT = base64.b64encode(random.Random(1).randbytes(64 * 1024)).decode()
_HEADERS = {"Content-Type": "application/json;charset=UTF-8", "Origin": "https://lms.example.com"}


def _body(number: int, score: float, suspend_characters: int) -> str:
    """A commit as scorm-again sends it. Courses store compressed data: its characters repeat nothing."""
    core = {
        "student_id": "learner-42",
        "student_name": "Lovelace, Ada",
        "lesson_location": str(number),
        "credit": "credit",
        "lesson_status": "incomplete",
        "lesson_mode": "normal",
        "session_time": "00:12:30.5",
        "score": {"raw": str(score), "min": "", "max": "100"},
    }
    suspend_data = f"{number} {_RANDOM_TEXT}"[:suspend_characters]
    return json.dumps({"cmi": {"suspend_data": suspend_data, "core": core, "objectives": {}, "interactions": {}}})


def commits(
    rate: Annotated[float, typer.Option(help="Commits a second.")] = 200,
    seconds: Annotated[float, typer.Option(help="Duration of each measurement.")] = 30,
    sessions: Annotated[int, typer.Option(help="Open sessions, which commit in turn.")] = 200,
    away: Annotated[float, typer.Option(help="Seconds without Kafka, at the same rate.")] = 60,
    in_flight: Annotated[int, typer.Option(help="Concurrent commits at the highest rate.")] = 32,
    suspend_characters: Annotated[int, typer.Option(help="Characters of suspend_data in each commit.")] = 2000,
    keep_state: Annotated[bool, typer.Option("--keep-state", help="Sessions keep what their players commit.")] = False,
) -> dict[str, object]:
    """Commits at a rate, without Kafka, and as many as possible; one in ten makes an event. All stages run."""
    with running(stack_with_api()) as stack:
        stack.start((*WHOLE, "api"))
        made = stack.system.run("accounts", "create", "Platform", "--json")
        stack.system.webhook(made["id"], stack.sink.url("/ok"))
        opened = _opened(stack, made["apiKey"], sessions, keep_state)
        players = Players(stack.api_url, opened, suspend_characters)
        arrivals = Arrivals(stack.bootstrap)
        arrivals.start()
        stack.warm_up([made["id"]])
        asyncio.run(players.at_rate(rate, 5))
        database = _database_alone(stack, rate)
        before, wal_before = stack.cpu_seconds(), _wal_bytes(stack)
        steady = asyncio.run(players.at_rate(rate, seconds))
        _wait_for(arrivals, steady)
        after, wal_bytes = stack.cpu_seconds(), _wal_bytes(stack) - wal_before
        delays = [(arrivals.at[key] - at) * 1000 for key, at in steady.answered_at.items() if key in arrivals.at]
        without = _without_kafka(stack, players, arrivals, rate, away) if away else None
        most, a_second = asyncio.run(players.as_fast_as_possible(in_flight, seconds))
        _wait_for(arrivals, most)
        arrivals.stop()
        return stack.say(
            experiment="commits",
            rate=rate,
            sessions=sessions,
            suspend_characters=suspend_characters,
            keep_state=keep_state,
            events=len(steady.answered_at),
            answer_ms=steady.figures(),
            cpu_ms_per_commit={
                part: round(1000 * (after[part] - before[part]) / len(steady.milliseconds), 2) for part in after
            },
            wal_bytes_per_commit=round(wal_bytes / len(steady.milliseconds)),
            database_alone_ms=database,
            event_ms={"p50": round(statistics.median(delays), 1), "p99": round(percentile(delays, 0.99), 1)},
            answer_ms_without_kafka=without.figures() if without else None,
            most_a_second=round(a_second),
            answer_ms_at_most=most.figures(),
            errors=len(steady.errors) + len(most.errors) + (len(without.errors) if without else 0),
        )


def _wal_bytes(stack: Stack) -> int:
    """How much PostgreSQL has written ahead so far; what it archives and sends to replicas."""
    with psycopg.connect(stack.system.env["DATABASE_URL"]) as connection:
        [(position,)] = connection.execute("SELECT pg_current_wal_lsn() - '0/0'::pg_lsn")
    return int(position)


def _opened(stack: Stack, key: str, count: int, keep_state: bool) -> list[tuple[str, str]]:
    """The id and the commit path of new sessions."""
    with httpx.Client(base_url=stack.api_url, headers={"Authorization": f"Bearer {key}"}, timeout=30) as client:
        found: list[tuple[str, str]] = []
        for number in range(count):
            new = {"packageId": "pkg_1", "learnerId": f"learner-{number}", "keepState": keep_state}
            opened: dict[str, Any] = client.post("/v1/sessions", json=new).raise_for_status().json()
            found.append((opened["sessionId"], urlsplit(opened["commitUrl"]).path))
        return found


def _wait_for(arrivals: Arrivals, answers: Answers) -> None:
    """Wait until the newest score of each session has arrived: none is lost. A score may take the place of another."""
    newest = set({session: (session, score) for session, score in sorted(answers.answered_at)}.values())
    until(
        lambda: newest <= arrivals.at.keys(),
        120,
        lambda: f"{len(newest - arrivals.at.keys())} scores are missing",
    )


def _without_kafka(stack: Stack, players: Players, arrivals: Arrivals, rate: float, seconds: float) -> Answers:
    stack.stop_kafka()
    answers = asyncio.run(players.at_rate(rate, seconds))
    stack.start_kafka()
    _wait_for(arrivals, answers)
    return answers


def _database_alone(stack: Stack, rate: float) -> dict[str, float]:
    """Milliseconds of the least that a commit needs: one row read and changed in a transaction, at the same rate."""
    milliseconds = []
    with psycopg.connect(stack.system.env["DATABASE_URL"], autocommit=True) as connection:
        connection.execute("CREATE TABLE bench_rows AS SELECT n, '' AS text FROM generate_series(1, 200) AS n")
        connection.execute("CREATE UNIQUE INDEX ON bench_rows (n)")
        began = time.monotonic()
        for number in range(int(rate * 5)):
            time.sleep(max(0.0, began + number / rate - time.monotonic()))
            at = time.monotonic()
            with connection.transaction():
                one = [number % 200 + 1]
                connection.execute("SELECT * FROM bench_rows WHERE n = %s FOR UPDATE", one).fetchall()
                connection.execute("UPDATE bench_rows SET text = md5(text) WHERE n = %s", one)
            milliseconds.append((time.monotonic() - at) * 1000)
    return {"p50": round(statistics.median(milliseconds), 1), "p99": round(percentile(milliseconds, 0.99), 1)}
