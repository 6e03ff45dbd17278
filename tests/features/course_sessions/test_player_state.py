"""What a player stores comes back at the learner's next launch; a session's metadata is in its events."""

import json
import re
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from dashboard.pages import signed_in
from sqlalchemy import select

from fakes import postponed_work
from features.course_sessions.recording import cases
from rest.api_fixture import PUBLIC_URL, ApiFixture, errors_of, open_api
from streams.adapters.avro.codec import AvroCodec
from streams.adapters.encryption import FernetEncryption, generate_key
from streams.adapters.sql.outgoing_events import SqlOutgoingEvents
from streams.adapters.sql.tables.course_sessions import player_states
from streams.adapters.sql.tables.deliveries import encryption_check
from streams.core.encryption import CHECK_TEXT
from streams.core.events.event import Event
from streams.core.limits import MAX_PLAYER_STATE_BYTES
from streams.core.times import format_time
from streams.features.course_sessions import player_states as player_states_module
from streams.features.course_sessions.player_state import has_state, to_player_state
from streams.features.course_sessions.scorm_time import format_timespan
from streams.features.course_sessions.stage import DueReports
from streams.outage import Outages

pytestmark = pytest.mark.slow

NEW = {"packageId": "pkg_1", "learnerId": "Ada", "keepState": True}
JSON_FORMAT = re.compile(r"(12|2004)-(common-)?(json|flattened)-a?sync")
METADATA = {"department": "sales", "employee": "4711"}


async def opened(api: ApiFixture, **more: Any) -> dict[str, Any]:
    made: dict[str, Any] = await api.acme.post("/v1/sessions", {**NEW, **more})
    return made


def body(place: str = "page-3", **core: Any) -> dict[str, Any]:
    """A commit of a SCORM 1.2 course."""
    more = {"lesson_status": "incomplete", "lesson_location": place, "session_time": "00:10:00", "exit": "suspend"}
    return {"cmi": {"suspend_data": "a=1&é", "core": {**more, **core}, "interactions": {}}, "commitSequence": 1}


async def commit(api: ApiFixture, made: dict[str, Any], sent: Any) -> None:
    path = made["commitUrl"].removeprefix(PUBLIC_URL)
    response = await api.client.post(path, content=json.dumps(sent))
    assert (response.status_code, response.json()) == (200, {"result": True, "errorCode": 0})


async def stored(api: ApiFixture, **more: Any) -> Any:
    """What the next launch gets."""
    return (await opened(api, **more)).get("stored")


async def events(api: ApiFixture) -> list[Event]:
    due = await SqlOutgoingEvents(api.database).list_due(100)
    return [event for one in due if isinstance(event := AvroCodec().decode(one.value), Event)]


async def rows(api: ApiFixture) -> list[Any]:
    async with api.database.read_transaction() as connection:
        return list((await connection.execute(select(player_states))).all())


# -- the player's state ------------------------------------------------------------------------------------------


async def test_the_next_launch_resumes_the_course(api: ApiFixture) -> None:
    first = await opened(api)
    assert "stored" not in first
    await commit(api, first, body())
    again = await opened(api)
    assert again["stored"] == {
        "cmi": {
            "suspend_data": "a=1&é",
            "core": {
                "lesson_status": "incomplete",
                "lesson_location": "page-3",
                "entry": "resume",
                "total_time": "0000:10:00.00",
            },
            "interactions": {},
        }
    }
    assert again["learnerId"] == "Ada"
    for other in ({"learnerId": "Grace"}, {"packageId": "pkg_2"}, {"keepState": False}):
        assert await stored(api, **other) is None
    assert (await api.globex.post("/v1/sessions", NEW)).get("stored") is None


async def test_what_the_earlier_session_reached_is_known(api: ApiFixture) -> None:
    passed = body(lesson_status="passed", score={"raw": "85", "max": "100"})
    first = await opened(api)
    await commit(api, first, passed)
    second = await opened(api, sessionId="s-2")
    # The course begins as it is given back, and its clock at zero.
    await commit(api, second, body(lesson_status="passed", score={"raw": "85", "max": "100"}, session_time="00:01:00"))
    session = await api.acme.get("/v1/sessions/s-2")
    assert [one["type"] for one in session["events"]] == ["session.launched"]
    assert (session["successStatus"], session["scoreRaw"], session["totalTime"]) == ("passed", 85, "PT11M")
    third = await opened(api, sessionId="s-3", known={})
    await commit(api, third, passed)
    assert len((await api.acme.get("/v1/sessions/s-3"))["events"]) == 3


async def test_the_time_goes_on_whatever_the_platform_says_is_known(api: ApiFixture) -> None:
    await commit(api, await opened(api), body())
    api.clock.advance(1)
    again = await opened(api, sessionId="s-2", known={})
    await commit(api, again, body(session_time="00:01:00"))
    assert (await api.acme.get("/v1/sessions/s-2"))["totalTime"] == "PT11M"
    assert (await stored(api))["cmi"]["core"]["total_time"] == "0000:11:00.00"
    longer = await opened(api, sessionId="s-3", known={"totalTime": "PT20M"})
    await commit(api, longer, body(session_time="00:01:00"))
    assert (await api.acme.get("/v1/sessions/s-3"))["totalTime"] == "PT21M"


async def test_the_newest_commit_wins(api: ApiFixture) -> None:
    first, second = await opened(api), await opened(api)
    await commit(api, second, body("page-9"))
    api.clock.advance(1)
    await commit(api, first, body("page-5"))
    assert (await stored(api))["cmi"]["core"]["lesson_location"] == "page-5"
    assert len(await rows(api)) == 1
    # A late commit of the same player changes nothing.
    await commit(api, first, {**body("page-7"), "commitSequence": 3})
    await commit(api, first, {**body("page-6"), "commitSequence": 2})
    assert (await stored(api))["cmi"]["core"]["lesson_location"] == "page-7"


async def test_a_session_says_when_its_state_was_replaced(api: ApiFixture) -> None:
    first, second = await opened(api, sessionId="s-1"), await opened(api, sessionId="s-2")
    await commit(api, first, body("page-5"))
    api.clock.advance(1)
    await commit(api, second, body("page-9"))
    await opened(api, sessionId="s-3")
    states = [(await api.acme.get(f"/v1/sessions/{name}"))["storedState"] for name in ("s-1", "s-2", "s-3")]
    assert states == ["nothing", "stored", "nothing"]
    # Its learner goes on in it.
    api.clock.advance(1)
    await commit(api, first, {**body("page-6"), "commitSequence": 2})
    assert (await api.acme.get("/v1/sessions/s-1"))["storedState"] == "stored"
    assert (await stored(api))["cmi"]["core"]["lesson_location"] == "page-6"


async def test_a_page_that_is_loaded_again_goes_on(api: ApiFixture) -> None:
    first = await opened(api, sessionId="s-1")
    await commit(api, first, body())
    assert (await stored(api, sessionId="s-1"))["cmi"]["core"]["lesson_location"] == "page-3"


async def test_some_elements_alone_are_no_state(api: ApiFixture) -> None:
    first = await opened(api)
    await commit(api, first, body())
    for part in (
        {"cmi.core.lesson_status": "passed"},
        {"cmi": {"cmi.core.lesson_status": "passed"}},
        [{"name": "cmi.core.lesson_status", "value": "passed"}, {"name": "cmi.suspend_data", "value": "x"}],
        body("review", lesson_mode="review"),
    ):
        await commit(api, first, part)
    assert (await stored(api))["cmi"]["core"]["lesson_location"] == "page-3"


async def test_a_state_that_is_too_large_is_not_kept(api: ApiFixture) -> None:
    first = await opened(api, sessionId="s-1")
    assert (await api.acme.get("/v1/sessions/s-1"))["storedState"] == "nothing"
    await commit(api, first, body())
    assert (await api.acme.get("/v1/sessions/s-1"))["storedState"] == "stored"
    await commit(api, first, {"cmi": {"suspend_data": "é" * (MAX_PLAYER_STATE_BYTES // 2)}})
    session = await api.acme.get("/v1/sessions/s-1")
    assert session["storedState"] == "too large"
    assert (await stored(api))["cmi"]["core"]["lesson_location"] == "page-3"
    assert "storedState" not in await api.acme.get(f"/v1/sessions/{(await opened(api, keepState=False))['sessionId']}")


async def test_the_database_has_the_state_encrypted(api: ApiFixture) -> None:
    await commit(api, await opened(api), body("a secret place"))
    assert "secret" not in str(await rows(api))


async def test_an_erased_learner_begins_at_the_start(api: ApiFixture) -> None:
    await commit(api, await opened(api), body())
    headers = {"Idempotency-Key": "launch-1"}
    await api.acme.request("POST", "/v1/sessions", NEW, headers=headers)
    await api.acme.post("/v1/learners/erase", {"learnerId": "Ada"})
    assert await rows(api) == []
    again = await api.acme.request("POST", "/v1/sessions", NEW, headers=headers)
    assert (again.status_code, again.content) == (201, b"")
    api.clock.advance(1)
    assert await stored(api) is None


async def test_without_its_key_a_state_is_not_given_back(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/db.sqlite"
    async with open_api(url) as api:
        await commit(api, await opened(api), body())
        state = (await rows(api))[0].encrypted_state
    async with open_api(f"sqlite:///{tmp_path}/other.sqlite") as api:
        await commit(api, await opened(api), body())
        async with api.database.transaction() as connection:
            await connection.execute(player_states.update().values(encrypted_state=state))
        assert await stored(api) is None
        assert api.telemetry.logged_count("player_state_not_decrypted") == 1


async def test_wrong_keys_are_no_empty_state(api: ApiFixture) -> None:
    first = await opened(api)
    second = await opened(api)
    for made in (first, second):
        api.clock.advance(1)
        await commit(api, made, body())
    assert len(await rows(api)) == 2
    others = FernetEncryption([generate_key()])
    async with api.database.transaction() as connection:
        await connection.execute(encryption_check.delete())
        await connection.execute(encryption_check.insert().values(id=1, ciphertext=others.encrypt(CHECK_TEXT)))
        newest = player_states.c.committed_at == api.clock.now()
        await connection.execute(player_states.update().where(newest).values(encrypted_state=others.encrypt("{}")))
    before = await rows(api)
    response = await api.acme.request("POST", "/v1/sessions", NEW)
    assert response.status_code == 503, response.text
    assert await rows(api) == before


async def test_beyond_the_limit_no_further_state_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(player_states_module, "TOTAL_SECONDS", 0)
    settings = {"SCORM_WEBHOOKS_PLAYER_STATES_MIB": "1"}
    large = {**body(), "cmi": {**body()["cmi"], "suspend_data": "x" * 60_000}}
    async with open_api(f"sqlite:///{tmp_path}/db.sqlite", settings=settings) as api:
        opened_before = [await opened(api, learnerId=f"learner-{number}") for number in range(25)]
        for made in opened_before:
            await commit(api, made, large)
        kept = len(await rows(api))
        assert kept == 14  # of 80 KB each, encrypted, until they have a MiB
        refused = await api.acme.request("POST", "/v1/sessions", {**NEW, "learnerId": "one more"})
        assert (refused.status_code, "without keepState" in refused.text) == (409, True)
        usage = await api.acme.get("/v1/usage")
        assert usage["stateBytes"] > usage["maxStateBytes"] == 1024**2
        browser = await signed_in(api)
        assert "take 1 MiB of 1 MiB" in (await browser.open("/usage")).text
        await browser.close()
        # A learner who has one resumes, and replaces it.
        api.clock.advance(1)
        again = await opened(api, learnerId="learner-0")
        assert again["stored"]["cmi"]["suspend_data"] == "x" * 60_000
        await commit(api, again, body())
        assert len(await rows(api)) == kept + 1
        # Events go on for a session that keeps nothing.
        assert (await api.acme.request("POST", "/v1/sessions", {**NEW, "keepState": False})).status_code == 201
        other = await api.globex.request("POST", "/v1/sessions", NEW)
        assert other.status_code == 201


@pytest.mark.parametrize("case", [name for name in cases() if JSON_FORMAT.fullmatch(name)])
async def test_each_json_format_of_the_player_is_kept(api: ApiFixture, case: str) -> None:
    sent = [one for one in cases()[case] if one.kind == "commit" and one.is_stored]
    made = await opened(api)
    for one in sent:
        api.clock.advance(1)
        await api.client.post(made["commitUrl"].removeprefix(PUBLIC_URL), content=one.body, headers=one.headers)
    cmi = (await stored(api))["cmi"]
    assert cmi["suspend_data"] == "a=1&b=2;é+ %"
    assert isinstance(cmi["interactions"], dict)
    assert "session_time" not in str(cmi)


@pytest.mark.parametrize(
    ("sent", "entry"),
    [("suspend", "resume"), ("", "resume"), ("time-out", "resume"), ("normal", ""), ("logout", "")],
)
def test_the_exit_decides_how_the_next_session_begins(sent: str, entry: str) -> None:
    for data in ({"cmi": {"suspend_data": "", "exit": sent}}, {"cmi.suspend_data": "", "cmi.exit": sent}):
        state = to_player_state(data, Decimal(90))
        assert state is not None
        assert json.loads(state) == {"cmi": {"suspend_data": "", "entry": entry, "total_time": "PT1M30S"}}


def test_a_state_that_no_player_makes_is_not_kept() -> None:
    deep: Any = {}
    for _ in range(1000):
        deep = {"a": deep}
    assert to_player_state({"cmi": {"suspend_data": "", "interactions": deep}}, Decimal()) is None
    odd = {"cmi.suspend_data": "", "cmi.core": "x", "cmi.core.exit": "normal", "cmi." + "a." * 1000: 1, "cmi..": 1}
    assert to_player_state(odd, Decimal()) is not None


@pytest.mark.parametrize(
    ("seconds", "text"),
    [("0", "0000:00:00.00"), ("59.999", "0000:00:59.99"), ("3723.5", "0001:02:03.50"), ("1e9", "277777:46:40.00")],
)
def test_a_timespan_is_that_of_scorm_1_2(seconds: str, text: str) -> None:
    assert format_timespan(Decimal(seconds)) == text


# -- metadata, and the ends of sessions --------------------------------------------------------------------------


class NotRead(dict[str, Any]):
    """A commit whose elements nobody may walk through."""

    def items(self) -> Any:
        raise AssertionError("other callers wait meanwhile")


def test_a_commit_with_too_many_elements_is_not_read() -> None:
    """A learner has the commit URL, and may send a megabyte of anything."""
    elements = NotRead({f"cmi.{number:x}.b.c": 1 for number in range(MAX_PLAYER_STATE_BYTES // 6)})
    elements["cmi.suspend_data"] = ""
    assert has_state(elements)
    assert to_player_state(elements, Decimal()) is None


def test_an_element_deeper_than_any_of_scorm_is_left_out() -> None:
    deepest = "cmi.interactions.0.correct_responses.0.pattern"
    state = to_player_state({"cmi.suspend_data": "", deepest: "a", "cmi" + ".a" * 60: "b"}, Decimal())
    assert state is not None
    cmi = json.loads(state)["cmi"]
    assert cmi["interactions"] == {"0": {"correct_responses": {"0": {"pattern": "a"}}}}
    assert "a" not in cmi


async def test_each_event_has_the_metadata_of_its_session(api: ApiFixture) -> None:
    made = await opened(api, sessionId="s-1", metadata=METADATA)
    await commit(api, made, body(lesson_status="passed"))
    await api.acme.post("/v1/sessions/s-1/close")
    found = await events(api)
    assert [(one.type, one.data["sequence"], one.data["metadata"]) for one in found] == [
        ("session.launched", 1, METADATA),
        ("session.completed", 2, METADATA),
        ("session.ended", 3, METADATA),
    ]
    session = await api.acme.get("/v1/sessions/s-1")
    assert (session["metadata"], session["endedAt"]) == (METADATA, session["closedAt"])


@pytest.mark.parametrize(
    "wrong", [{"a": 1}, {"": "x"}, {"a" * 65: "x"}, {"a": "x" * 501}, {"a": "\n"}, {str(n): "x" for n in range(21)}]
)
async def test_metadata_has_the_rule_of_events(api: ApiFixture, wrong: dict[str, Any]) -> None:
    response = await api.acme.request("POST", "/v1/sessions", {**NEW, "metadata": wrong})
    assert response.status_code == 422
    assert errors_of(response).keys() == {"metadata"}


async def test_a_session_goes_on_with_a_further_url_after_its_end(api: ApiFixture) -> None:
    await opened(api, sessionId="s-1", expiresAt=format_time(api.clock.now() + timedelta(hours=1)))
    api.clock.advance(3600)
    sessions = api.app.state.services.course_sessions._sessions
    reports = DueReports(sessions, api.clock, Outages(api.telemetry), postponed_work(api.telemetry))
    assert await reports._end_sessions("") == api.acme.account_id
    again = await opened(api, sessionId="s-1")
    await commit(api, again, body(lesson_status="passed"))
    api.clock.advance(86_400)
    assert await reports._end_sessions("") is None
    assert [one.type for one in await events(api)] == ["session.launched", "session.ended", "session.completed"]
