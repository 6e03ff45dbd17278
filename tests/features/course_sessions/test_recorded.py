"""Each request of a real player causes exactly the events that it must."""

from typing import Any

import pytest

from features.course_sessions.recording import Recorded, cases, comparable
from rest.api_fixture import PUBLIC_URL, ApiFixture
from streams.adapters.avro.codec import AvroCodec
from streams.adapters.sql.outgoing_events import SqlOutgoingEvents
from streams.core.events.event import Event
from streams.features.course_sessions.session import MIN_SCORE_INTERVAL

pytestmark = pytest.mark.slow

STORED = {"result": True, "errorCode": 0}


async def caused(api: ApiFixture) -> list[tuple[str, dict[str, Any]]]:
    """The events since the last call, in the order in which they are sent."""
    waiting = SqlOutgoingEvents(api.database)
    due = await waiting.list_due(100)
    await waiting.remove([one.id for one in due])
    events = [AvroCodec().decode(one.value) for one in due]
    return [(one.type, comparable(one.data)) for one in events if isinstance(one, Event)]


@pytest.mark.parametrize("case", cases())
async def test_a_recorded_case_causes_its_events(api: ApiFixture, case: str) -> None:
    paths: dict[int, str] = {}
    for one in cases()[case]:
        if one.kind == "launch":
            paths[one.session] = await launch(api, one)
            assert await caused(api) == [("session.launched", {})]
        elif one.kind == "preflight":
            asked = await api.client.options(paths[one.session], headers=one.headers)
            assert asked.status_code == 204
            assert asked.headers["access-control-allow-origin"] == one.headers["origin"]
            assert asked.headers["access-control-allow-headers"] == one.headers["access-control-request-headers"]
        elif one.is_stored:
            # So no score waits for a newer one.
            api.clock.advance(MIN_SCORE_INTERVAL.total_seconds())
            response = await api.client.post(paths[one.session], content=one.body, headers=one.headers)
            assert (response.status_code, response.json()) == (one.fields.get("status", 200), STORED)
            events = await caused(api)
            assert sorted(events, key=str) == sorted(one.expected, key=str)
            # Scored comes before completed.
            assert [kind for kind, _ in events] == sorted((kind for kind, _ in events), reverse=True)


async def launch(api: ApiFixture, one: Recorded) -> str:
    session = {"packageId": "pkg_1", "learnerId": "learner-42", "known": one.fields["before"]}
    opened = await api.acme.post("/v1/sessions", session)
    return str(opened["commitUrl"]).removeprefix(PUBLIC_URL)


def test_every_recording_is_played() -> None:
    commits = [one for lines in cases().values() for one in lines if one.kind == "commit"]
    assert (len(cases()), len(commits)) == (92, 207)
