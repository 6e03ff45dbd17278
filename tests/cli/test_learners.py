"""`learners erase` counts, asks, and erases to the end."""

import json
from typing import Any

import pytest
from cli.command import run

from builders import EXAMPLE, attempt, delivery
from rest.api_fixture import ApiFixture

LEARNER = str(EXAMPLE["learnerId"])


@pytest.fixture(autouse=True)
async def delivered_event(api: ApiFixture) -> None:
    made = await api.acme.webhook()
    known = {"account_id": api.acme.account_id, "webhook_id": made["id"]}
    await api.record(delivery(**known), attempt(**known))


async def payloads(api: ApiFixture) -> list[Any]:
    rows = (await api.acme.get("/v1/deliveries"))["data"]
    return [(await api.acme.get(f"/v1/deliveries/{row['id']}")).get("payload") for row in rows]


async def test_an_erasure_shows_its_count_and_asks(api: ApiFixture) -> None:
    refused = await run("learners", "erase", api.acme.account_id, LEARNER, answer="n\n")
    assert refused.exit_code == 1
    assert "1 delivery of this learner's events" in refused.stdout
    assert "Erase the learner? This cannot be undone." in refused.stderr
    assert await payloads(api) != [None]
    done = await run("learners", "erase", api.acme.account_id, LEARNER, answer="y\n")
    assert done.exit_code == 0, done.output
    assert "finished" in done.stdout
    assert await payloads(api) == [None]


@pytest.mark.usefixtures("no_publication_wait")
async def test_an_erasure_without_a_publisher_warns(api: ApiFixture) -> None:
    api.publisher.works = False
    done = await run("learners", "erase", api.acme.account_id, LEARNER, "--yes", "--json")
    assert (done.exit_code, json.loads(done.stdout)["propagated"]) == (0, False)
    assert "not on the topic yet: is `publish` running?" in done.stderr


async def test_a_program_gets_the_apis_json(api: ApiFixture) -> None:
    done = await run("learners", "erase", api.acme.account_id, LEARNER, "--yes", "--json")
    erasure = json.loads(done.stdout)
    assert (erasure["status"], erasure["erased"]["events"]) == ("finished", 1)
    assert "session-events" in {topic["name"] for topic in erasure["topics"]}
    assert erasure == json.loads((await run("learners", "show", erasure["id"], "--json")).stdout)
    assert erasure == await api.operator.get(f"/v1/learners/erasures/{erasure['id']}")
    [entry] = (await api.acme.get("/v1/account/audit", action="learner.erased"))["data"]
    assert entry["actor"] == "operator:local"


@pytest.mark.parametrize(
    ("arguments", "field"),
    [(["acc_1", LEARNER, "--json"], "--json"), (["nobody", LEARNER, "--yes"], "accountId")],
)
async def test_wrong_arguments_are_named(api: ApiFixture, arguments: list[str], field: str) -> None:
    done = await run("learners", "erase", *arguments)
    assert (type(done.exception).__name__, str(done.exception).partition(":")[0]) == ("Invalid", field)
