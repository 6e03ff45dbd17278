"""A platform opens a session, its player commits, and the platform reads and closes it."""

import asyncio
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest

from api.course_sessions import commits
from api.middleware import MAX_BODY_BYTES
from builders import NOON
from features.course_sessions.test_recorded import STORED, caused
from rest.api_fixture import PUBLIC_URL, ApiClient, ApiFixture, errors_of, open_api
from streams.adapters.sql.tables.course_sessions import commit_urls, course_sessions
from streams.core.times import format_time
from streams.features.course_sessions import service as course_session_service
from streams.ports.storage import Prunable

pytestmark = pytest.mark.slow

NEW = {"packageId": "pkg_1", "learnerId": "Ada Lovelace <ada@example.com>", "sessionId": "s-1"}
PASSED = '{"cmi":{"core":{"lesson_status":"passed","score":{"raw":"85","max":"100"},"session_time":"00:12:30.5"}}}'
ORIGIN = "https://lms.example.com"
UNKNOWN = f"/runtime/commit/{'x' * 43}"


async def opened(client: ApiClient, **more: Any) -> str:
    """The path of the commit URL of a new session."""
    made = await client.post("/v1/sessions", {**NEW, **more})
    assert made["commitUrl"].startswith(f"{PUBLIC_URL}/runtime/commit/")
    return str(made["commitUrl"]).removeprefix(PUBLIC_URL)


async def commit(api: ApiFixture, path: str, body: str | bytes = PASSED, **headers: str) -> int:
    response = await api.client.post(path, content=body, headers={"Origin": ORIGIN, **headers})
    assert response.headers["access-control-allow-origin"] == ORIGIN
    assert response.headers["access-control-allow-credentials"] == "true"
    assert response.headers["vary"] == "Origin"
    assert response.headers["cache-control"] == "no-store"
    assert response.status_code != 200 or response.json() == STORED
    return response.status_code


async def test_a_session_is_opened_followed_and_closed(api: ApiFixture) -> None:
    response = await api.acme.request("POST", "/v1/sessions", {**NEW, "dispatchId": "dsp_1"})
    assert response.status_code == 201
    assert response.headers["location"] == "/v1/sessions/s-1"
    made = response.json()
    assert made.keys() == {"sessionId", "commitUrl", "expiresAt"}
    assert made["expiresAt"] == format_time(NOON + timedelta(hours=24))
    api.clock.advance(300)
    assert await commit(api, made["commitUrl"].removeprefix(PUBLIC_URL)) == 200
    session = await api.acme.get("/v1/sessions/s-1")
    events = session.pop("events")
    later = format_time(NOON + timedelta(minutes=5))
    assert session == {
        "sessionId": "s-1",
        "packageId": "pkg_1",
        "dispatchId": "dsp_1",
        "learnerId": NEW["learnerId"],
        "launchedAt": format_time(NOON),
        "lastCommitAt": later,
        "expiresAt": made["expiresAt"],
        "completionStatus": "completed",
        "successStatus": "passed",
        "scoreRaw": 85,
        "scoreMax": 100,
        "totalTime": "PT12M30.5S",
    }
    assert [(one["type"], one["createdAt"]) for one in events] == [
        ("session.launched", format_time(NOON)),
        ("session.scored", later),
        ("session.completed", later),
    ]
    closed = await api.acme.post("/v1/sessions/s-1/close")
    assert closed["closedAt"] == later
    assert (await api.acme.get("/v1/sessions/s-1"))["closedAt"] == later


async def test_the_events_name_their_subjects(api: ApiFixture) -> None:
    from streams.adapters.avro.codec import AvroCodec
    from streams.adapters.sql.outgoing_events import SqlOutgoingEvents
    from streams.core.events.event import Event

    launched_at = NOON - timedelta(days=2)
    await opened(api.acme, dispatchId="dsp_1", createdAt=format_time(launched_at))
    [waiting] = await SqlOutgoingEvents(api.database).list_due(10)
    assert waiting.key == "s-1"
    event = AvroCodec().decode(waiting.value)
    assert isinstance(event, Event)
    assert event.occurred_at == launched_at
    assert event.data == {
        "sessionId": "s-1",
        "packageId": "pkg_1",
        "dispatchId": "dsp_1",
        "learnerId": NEW["learnerId"],
        "sequence": 1,
    }


async def test_an_open_session_gets_a_further_commit_url(api: ApiFixture) -> None:
    first = await opened(api.acme)
    assert len(await caused(api)) == 1
    second = await opened(api.acme, known={"completionStatus": "completed", "successStatus": "passed"})
    assert first != second
    assert await caused(api) == []
    assert await commit(api, first, "cmi.core.lesson_status=completed") == 200
    assert await commit(api, second, "cmi.core.lesson_status=passed") == 200
    assert [kind for kind, _ in await caused(api)] == ["session.completed", "session.completed"]


async def test_a_relaunch_tells_only_what_is_new(api: ApiFixture) -> None:
    known = {"completionStatus": "completed", "scoreRaw": 85, "scoreMax": 100, "totalTime": "PT1H"}
    path = await opened(api.acme, known=known)
    await caused(api)
    assert await commit(api, path) == 200
    assert await caused(api) == [
        (
            "session.completed",
            {
                "completionStatus": "completed",
                "successStatus": "passed",
                "scoreRaw": 85,
                "scoreMax": 100,
                "totalTime": pytest.approx(3600 + 750.5),
            },
        )
    ]


@pytest.mark.parametrize("other", [{"packageId": "pkg_2"}, {"learnerId": "Grace"}])
async def test_a_session_stays_with_its_package_and_learner(api: ApiFixture, other: dict[str, str]) -> None:
    await opened(api.acme)
    response = await api.acme.request("POST", "/v1/sessions", {**NEW, **other})
    assert response.status_code == 409
    assert "use another sessionId" in response.json()["detail"]
    # Another account has sessions of its own.
    await opened(api.globex, **other)


async def test_a_closed_session_takes_late_commits_only(api: ApiFixture) -> None:
    path = await opened(api.acme)
    await api.acme.post("/v1/sessions/s-1/close")
    assert (await api.acme.request("POST", "/v1/sessions", NEW)).status_code == 409
    api.clock.advance(14 * 60)
    await api.acme.post("/v1/sessions/s-1/close")
    assert await commit(api, path) == 200
    api.clock.advance(60)
    assert await commit(api, path) == 410


async def test_a_commit_url_ends(api: ApiFixture) -> None:
    path = await opened(api.acme, expiresAt=format_time(NOON + timedelta(hours=1)))
    further = await opened(api.acme)
    api.clock.advance(3600)
    assert await commit(api, path) == 410
    assert await commit(api, further) == 200


@pytest.mark.parametrize(
    ("wrong", "field"),
    [
        ({"packageId": "a.b"}, "packageId"),
        ({"learnerId": ""}, "learnerId"),
        ({"learnerId": "x" * 1025}, "learnerId"),
        # PostgreSQL indexes no longer text: to it this would be an outage of the database.
        ({"learnerId": "学" * 801}, "learnerId"),
        ({"sessionId": "é"}, "sessionId"),
        ({"expiresAt": format_time(NOON)}, "expiresAt"),
        ({"expiresAt": format_time(NOON + timedelta(days=31))}, "expiresAt"),
        ({"known": {"totalTime": "an hour"}}, "known.totalTime"),
        ({"known": {"scoreScaled": 1.5}}, "known.scoreScaled"),
        ({"known": {"completionStatus": "done"}}, "known.completionStatus"),
        ({"accountId": "globex"}, "accountId"),
        ({"learner": "Ada"}, "learner"),
    ],
)
async def test_a_wrong_field_is_named(api: ApiFixture, wrong: dict[str, Any], field: str) -> None:
    response = await api.acme.request("POST", "/v1/sessions", {**NEW, **wrong})
    assert response.status_code == 422
    assert list(errors_of(response)) == [field]
    assert await caused(api) == []


async def test_an_operator_names_the_account(api: ApiFixture) -> None:
    response = await api.operator.request("POST", "/v1/sessions", NEW)
    assert errors_of(response) == {"accountId": "is required with an operator's key"}
    response = await api.operator.request("POST", "/v1/sessions", {**NEW, "accountId": "nobody"})
    assert "there is no account" in errors_of(response)["accountId"]
    await opened(api.operator, accountId=api.acme.account_id)
    assert (await api.acme.get("/v1/sessions/s-1"))["packageId"] == "pkg_1"
    assert "closedAt" in await api.operator.post("/v1/sessions/s-1/close", {"accountId": api.acme.account_id})


async def test_the_scopes_are_those_of_events_and_deliveries(api: ApiFixture) -> None:
    reader = await api.with_scopes(api.acme.account_id, "deliveries:read")
    writer = await api.with_scopes(api.acme.account_id, "events:write")
    assert (await reader.request("POST", "/v1/sessions", NEW)).status_code == 403
    await opened(writer)
    assert (await writer.request("GET", "/v1/sessions/s-1")).status_code == 403
    assert (await reader.get("/v1/sessions/s-1"))["sessionId"] == "s-1"
    assert (await reader.request("POST", "/v1/sessions/s-1/close")).status_code == 403
    for method, path in (("GET", "/v1/sessions/s-2"), ("POST", "/v1/sessions/s-2/close")):
        assert (await api.acme.request(method, path)).status_code == 404
    assert (await api.globex.request("GET", "/v1/sessions/s-1")).status_code == 404


async def test_a_repeated_launch_is_done_once(api: ApiFixture) -> None:
    new = {"packageId": "pkg_1", "learnerId": "Ada"}
    headers = {"Idempotency-Key": "launch-1"}
    first = await api.acme.request("POST", "/v1/sessions", new, headers=headers)
    again = await api.acme.request("POST", "/v1/sessions", new, headers=headers)
    assert again.json() == first.json()
    assert len(await caused(api)) == 1
    assert first.json()["sessionId"].startswith("sess_")


# -- what a player may do wrong ------------------------------------------------------------------------------------


async def test_a_commit_that_is_refused_says_why(api: ApiFixture) -> None:
    path = await opened(api.acme)
    for body in ("", "hello", '{"a":1}', "[" * 9999):
        assert await commit(api, path, body) == 400
    assert await commit(api, UNKNOWN) == 404
    assert await commit(api, "/runtime/commit/short") == 404
    assert await commit(api, path, b"x" * (MAX_BODY_BYTES + 1)) == 413
    assert await commit(api, path, b'{"cmi":{"suspend_data":"%s"}}' % (b"x" * 900_000)) == 200
    response = await api.client.get(path, headers={"Origin": ORIGIN})
    assert (response.status_code, response.headers["access-control-allow-origin"]) == (405, ORIGIN)


async def test_a_commit_url_takes_twenty_a_second(api: ApiFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(commits, "time", SimpleNamespace(monotonic=lambda: 1000.0))
    path, other = await opened(api.acme), await opened(api.acme, sessionId="s-2")
    statuses = [await commit(api, path) for _ in range(40)]
    assert statuses[:20] == [200] * 20
    assert 429 in statuses
    assert await commit(api, other) == 200


async def test_without_a_database_a_commit_is_to_be_repeated(api: ApiFixture) -> None:
    path = await opened(api.acme)
    with api.database_away():
        response = await api.client.post(path, content=PASSED, headers={"Origin": ORIGIN})
    assert response.status_code == 503
    assert response.headers["retry-after"] == "5"
    assert response.headers["access-control-allow-origin"] == ORIGIN
    assert await commit(api, path) == 200


async def test_a_database_that_hangs_is_an_outage_soon(api: ApiFixture) -> None:
    path = await opened(api.acme)

    async def hanging(token_sha256: str, apply: object) -> bool:
        await asyncio.Event().wait()
        return True

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(course_session_service, "COMMIT_TIMEOUT_SECONDS", 0.05)
        patch.setattr(api.app.state.services.course_sessions._sessions, "commit", hanging)
        assert await commit(api, path) == 503


async def test_no_log_line_has_a_token(api: ApiFixture) -> None:
    path = await opened(api.acme)
    await commit(api, path)
    await commit(api, path, "hello")
    token = path.rpartition("/")[2]
    assert api.telemetry.logged_count("request_handled") >= 3
    assert token not in str(api.telemetry.logged)
    assert "/runtime/commit/{token}" in str(api.telemetry.logged)


async def test_a_beacon_may_be_sent_from_any_origin(api: ApiFixture) -> None:
    path = await opened(api.acme)
    headers = {
        "Origin": "null",
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "content-type,x-course",
    }
    response = await api.client.options(path, headers=headers)
    assert response.status_code == 204
    assert response.headers["access-control-allow-origin"] == "null"
    assert response.headers["access-control-allow-methods"] == "POST"
    assert response.headers["access-control-allow-headers"] == "content-type,x-course"
    assert response.headers["access-control-max-age"] == "86400"


async def test_commits_at_the_same_time_tell_once(api: ApiFixture) -> None:
    path = await opened(api.acme)
    await caused(api)
    assert set(await asyncio.gather(*(commit(api, path) for _ in range(10)))) == {200}
    assert [kind for kind, _ in await caused(api)] == ["session.scored", "session.completed"]


async def test_without_a_public_url_the_host_of_the_request_counts(tmp_path: Any) -> None:
    url = f"sqlite:///{tmp_path}/db.sqlite"
    async with open_api(url, settings={"SCORM_WEBHOOKS_PUBLIC_URL": ""}) as api:
        made = await api.acme.request("POST", "/v1/sessions", NEW, headers={"Host": "lms.internal:8080"})
        assert made.json()["commitUrl"].startswith("https://lms.internal:8080/runtime/commit/")


async def test_sessions_are_pruned_after_their_retention(api: ApiFixture) -> None:
    from sqlalchemy import func, select

    from streams.adapters.sql.pruning import SqlPruning

    await opened(api.acme)
    await api.acme.post("/v1/sessions/s-1/close")
    pruning, ended = SqlPruning(api.database), NOON + timedelta(hours=24)
    for what, table in ((Prunable.COURSE_SESSIONS, course_sessions), (Prunable.COMMIT_URLS, commit_urls)):
        assert (await pruning.prune(what, ended, 100)).rows == 0
        assert (await pruning.prune(what, ended + timedelta(seconds=1), 100)).rows == 1
        async with api.database.read_transaction() as connection:
            assert await connection.scalar(select(func.count()).select_from(table)) == 0
