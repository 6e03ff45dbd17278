"""Fixtures for real Kafka and PostgreSQL; they start on first use, and a test without its part is skipped."""

import gc
import logging
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import pytest
import structlog
from distribution import ByFileOrFolder, longest_first, shuffle_files
from hypothesis import settings
from nightly import marks_of
from not_played import NotPlayed
from seconds_by_kind import SecondsByKind

import parts
from real.container import KafkaInContainer
from real.kafka import Kafka
from real.older_kafka import OLDER
from real.pgbouncer import PgBouncer
from real.postgres import Postgres
from real.registry import SchemaRegistry
from real.secured_kafka import SecuredKafka
from real.tinyproxy import Tinyproxy
from streams.features.shared import publication

# A shared machine may be slow for a moment; that must not fail a test.
settings.register_profile("short", deadline=None, max_examples=40)
settings.register_profile("thorough", deadline=None, max_examples=200)
# As the processes of the product do: the search for cycles among seven thousand tests took a third of the time.
gc.set_threshold(50_000, 20, 20)

REAL = {
    "kafka",
    "own_kafka",
    "kafka_3_7",
    "kafka_3_9",
    "unfinished_kafka",
    "upgraded",
    "secured_kafka",
    "oauth_kafka",
    "kafka_in_container",
    "postgres",
    "own_postgres",
    "pgbouncer",
    "tinyproxy",
    "schema_registry",
    "image",
    "helm_program",
    "promtool_program",
}


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--shuffle-files", type=int, metavar="SEED", help="play the files in an order of this seed")


def pytest_configure(config: pytest.Config) -> None:
    # `make nightly` asks for the other one.
    if not config.getoption("--hypothesis-profile"):
        settings.load_profile("short")
    config.pluginmanager.register(NotPlayed())
    if not hasattr(config, "workerinput"):
        config.pluginmanager.register(SecondsByKind())


def pytest_collection_finish() -> None:
    gc.freeze()


def pytest_runtest_setup(item: pytest.Item) -> None:
    # Python 3.11 fails when a finalizer parses code, as the traceback of a forgotten task does, while Hypothesis
    # parses code (gh-106905): what earlier tests left is collected before.
    if item.get_closest_marker("hypothesis"):
        gc.collect()


@dataclass(frozen=True)
class Broker:
    """The address of a Kafka, and the topic prefix of this session."""

    bootstrap: str
    prefix: str


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> ByFileOrFolder:
    return ByFileOrFolder(config, log)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Mark each test that uses a real part `real`, mark when a test is played, and order the files."""
    if (seed := config.getoption("--shuffle-files")) is not None:
        shuffle_files(items, seed)
    elif hasattr(config, "workerinput"):
        longest_first(items)
    for item in items:
        if isinstance(item, pytest.Function) and REAL & set(item.fixturenames):
            item.add_marker(pytest.mark.real)
        for mark in marks_of(item):
            item.add_marker(mark)


@pytest.fixture(scope="session")
def kafka() -> Iterator[Broker]:
    """One broker for the session; `topic_prefix` gives each test its own topics."""
    prefix = random_prefix()
    if bootstrap := os.environ.get("TEST_KAFKA_BOOTSTRAP_SERVERS"):
        yield Broker(bootstrap, prefix)
    elif parts.java() and parts.kafka() and not os.environ.get("TEST_KAFKA_IN_CONTAINER"):
        with running_kafka() as server:
            yield Broker(server.bootstrap, prefix)
    elif parts.docker() and parts.kafka():
        with running_container() as container:
            yield Broker(container.bootstrap, prefix)
    else:
        left_out("Kafka")


@pytest.fixture
def own_kafka() -> Iterator[Kafka]:
    """A broker for one test; the test may stop or kill it."""
    if not (parts.java() and parts.kafka()):
        left_out("Kafka")
    with running_kafka() as server:
        yield server


@pytest.fixture(scope="module")
def kafka_3_7() -> Iterator[Kafka]:
    with older_kafka("3.7") as server:
        yield server


@pytest.fixture(scope="module")
def kafka_3_9() -> Iterator[Kafka]:
    with older_kafka("3.9") as server:
        yield server


@pytest.fixture
def kafka_in_container() -> Iterator[KafkaInContainer]:
    """A broker in a container; without a Docker engine the test is skipped, in CI too."""
    if not parts.docker():
        pytest.skip(parts.NO_ENGINE)
    if not parts.kafka():
        left_out("Kafka")
    with running_container() as container:
        yield container


@pytest.fixture(scope="module")
def secured_kafka() -> Iterator[SecuredKafka]:
    """A broker whose other listeners require a password or a certificate."""
    if not (parts.java() and parts.kafka()):
        left_out("Kafka")
    server = SecuredKafka()
    try:
        yield server
    finally:
        server.remove()


@pytest.fixture
def logging_as_it_was() -> Iterator[None]:
    """What a test configures of logging is undone."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    logging.captureWarnings(False)
    structlog.reset_defaults()


@pytest.fixture
def no_publication_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    """No request waits until its change is on a topic: no publisher runs."""
    monkeypatch.setattr(publication, "PUBLICATION_WAIT_SECONDS", 0)


@pytest.fixture
def topic_prefix() -> str:
    return random_prefix()


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """One server for the session; each `url()` is a new database."""
    with running_postgres() as server:
        yield server


@pytest.fixture
def own_postgres() -> Iterator[Postgres]:
    """A server for one test; the test may stop or kill it."""
    with running_postgres() as server:
        yield server


@pytest.fixture(scope="module")
def pgbouncer(postgres: Postgres) -> Iterator[PgBouncer]:
    """A pooler in transaction mode before the session's PostgreSQL."""
    if not parts.pgbouncer():
        left_out("PgBouncer")
    server = PgBouncer(postgres)
    try:
        yield server
    finally:
        server.remove()


@pytest.fixture(scope="module")
def tinyproxy() -> Iterator[Tinyproxy]:
    """A proxy for one file of tests; every request needs a password."""
    if not parts.tinyproxy():
        left_out("tinyproxy")
    server = Tinyproxy()
    try:
        yield server
    finally:
        server.remove()


@pytest.fixture(scope="module")
def schema_registry() -> Iterator[SchemaRegistry]:
    """A schema registry for one file of tests; every request needs a password."""
    if not (parts.java() and parts.registry()):
        left_out("schema registry")
    server = SchemaRegistry()
    try:
        yield server
    finally:
        server.remove()


@pytest.fixture
def sqlite(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/db.sqlite"


@pytest.fixture
def postgresql(postgres: Postgres) -> str:
    return postgres.url()


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.real)])
def database_url(request: pytest.FixtureRequest) -> str:
    """The URL of an empty database, of each supported kind."""
    return str(request.getfixturevalue(request.param))


@contextmanager
def older_kafka(release: str) -> Iterator[Kafka]:
    if not (parts.java() and parts.kafka(release)):
        left_out(f"Kafka {release}")
    server = OLDER[release]()
    try:
        yield server
    finally:
        server.remove()


@contextmanager
def running_kafka() -> Iterator[Kafka]:
    server = Kafka()
    try:
        yield server
    finally:
        server.remove()


@contextmanager
def running_container() -> Iterator[KafkaInContainer]:
    container = KafkaInContainer()
    try:
        yield container
    finally:
        container.remove()


@contextmanager
def running_postgres() -> Iterator[Postgres]:
    if not parts.postgres():
        left_out("PostgreSQL")
    server = Postgres()
    try:
        yield server
    finally:
        server.remove()


def random_prefix() -> str:
    return f"t{secrets.token_hex(3)}."


def left_out(part: str) -> NoReturn:
    """Skip the test; in CI fail, because a skipped test is easily missed."""
    reason = f"no {part} here; `python3 tests/parts.py` brings it"
    if parts.in_ci():
        pytest.fail(reason)
    pytest.skip(reason)
