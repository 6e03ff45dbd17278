"""`deliver` knows the erased learners without a wait, and through an outage."""

from datetime import timedelta

import pytest

from builders import NOON
from contract.learners import ADA, learners, of_learner
from contract.stores import SqlStore
from fakes import FakeEncryption, FakeTelemetry
from streams.adapters.driver_queries import PostgresQueries, SqliteQueries
from streams.adapters.erased_learners import SqlErasedLearners, erased_learners
from streams.outage import Outages


def known_by(database: SqlStore, telemetry: FakeTelemetry | None = None) -> SqlErasedLearners:
    url = database.database.url.render_as_string(hide_password=False)
    return erased_learners(url, FakeEncryption(), Outages(telemetry or FakeTelemetry()))


async def erase(database: SqlStore, learner: str = ADA) -> None:
    service = learners(database)
    await service.finish(await service.start("acme", learner, actor="ada"))


async def test_an_erasure_is_known_after_a_refresh(database: SqlStore) -> None:
    known = known_by(database)
    await known.refresh()
    assert not known.covers(of_learner(1))
    await erase(database)
    await known.refresh()
    assert known.covers(of_learner(1))
    assert not known.covers(of_learner(1, learner="grace"))
    assert not known.covers(of_learner(1, account_id="globex"))


async def test_what_happens_later_is_not_covered(database: SqlStore) -> None:
    known = known_by(database)
    await erase(database)
    await known.refresh()
    later = NOON + timedelta(seconds=1)
    assert not known.covers(of_learner(1, at=later))
    # Published again: a new place in the topic, an old time in the body.
    assert known.covers(of_learner(1, first_seen_at=later))
    database.clock.advance(2)
    await erase(database)
    await known.refresh()
    assert known.covers(of_learner(1, at=later))


async def test_an_erasure_that_is_committed_late_is_found(database: SqlStore) -> None:
    known = known_by(database)
    await erase(database, "grace")
    await known.refresh()
    database.clock.advance(-60)
    await erase(database)
    await known.refresh()
    assert known.covers(of_learner(1))


async def test_an_outage_keeps_what_is_known(database: SqlStore, monkeypatch: pytest.MonkeyPatch) -> None:
    telemetry = FakeTelemetry()
    known = known_by(database, telemetry)
    await erase(database)
    await known.refresh()
    with monkeypatch.context() as patch:
        for queries in (PostgresQueries, SqliteQueries):
            patch.setattr(queries, "rows", away)
        await known.refresh()
        await known.refresh()
    assert known.covers(of_learner(1))
    assert telemetry.logged_count("database_unreachable") == 1
    await known.refresh()
    assert telemetry.logged_count("database_reachable") == 1


async def away(*_: object) -> None:
    raise OSError("connection refused")
