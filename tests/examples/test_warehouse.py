"""The warehouse has exactly one row for each event, whatever comes twice or is killed."""

import json
from datetime import datetime
from pathlib import Path

import duckdb
import pytest

from examples.conftest import Connect
from examples.events import STRANGE_TEXTS, Event, completed, event, later, launched

pytestmark = pytest.mark.e2e

SCORES = (0, -1.5, 92, 99.999999999, 2.0**53, 5e-324)


def events() -> list[Event]:
    """Newest first, of each type."""
    texts = dict(enumerate(STRANGE_TEXTS))
    made = [completed(n, later(n), learnerId=text, totalTime="P1Y2M3DT4H5M6.789S") for n, text in texts.items()]
    made += [launched(100 + n, later(n), learnerId=text, dispatchId="dsp_1", sequence=n) for n, text in texts.items()]
    made += [event(200 + n, "session.scored", later(n), **score(value)) for n, value in enumerate(SCORES)]
    made += [
        event(300 + n, "package.updated", packageId="pkg_1", version=text, title=text) for n, text in texts.items()
    ]
    return made[::-1]


def score(value: float) -> dict[str, object]:
    return {"sessionId": "sess_1", "packageId": "pkg_1", "learnerId": "learner-42", "scoreRaw": value}


def test_each_event_is_one_row(connect: Connect, tmp_path: Path) -> None:
    published = events()
    connect("warehouse").publish_through_kills(published)
    with duckdb.connect(tmp_path / "warehouse.duckdb", read_only=True) as warehouse:
        rows = warehouse.execute(
            "SELECT id, type, created_at, learner_id, score_raw, sequence, data FROM events"
        ).fetchall()
    assert len(rows) == len(published)
    found = {row[0]: row[1:] for row in rows}
    for one in published:
        event_type, created_at, learner, raw, sequence, data = found[one["id"]]
        assert (event_type, created_at) == (one["type"], datetime.fromisoformat(one["createdAt"]))
        assert (learner, raw, sequence) == tuple(
            one["data"].get(name) for name in ("learnerId", "scoreRaw", "sequence")
        )
        assert json.loads(data) == one["data"]
