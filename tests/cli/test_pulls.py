"""A person pulls events at a terminal, as a program would."""

import json
from datetime import timedelta

import pytest
from cli.command import run

from builders import delivery
from rest.api_fixture import ApiFixture
from streams.core.deliveries.delivery import HoldReason

pytestmark = pytest.mark.slow


async def hold(api: ApiFixture, webhook_id: str, event_id: str, seconds: int) -> None:
    owed = delivery(account_id=api.acme.account_id, webhook_id=webhook_id, event_id=event_id)
    held_at = api.clock.now() - timedelta(seconds=9 - seconds)
    await api.record(owed.to_held(HoldReason.PULL, None, is_attempted=False), at=held_at)


async def test_a_webhook_without_a_url_is_pulled(api: ApiFixture) -> None:
    made = await run("webhooks", "create", "--pull", "--account", api.acme.account_id, "--json")
    webhook = json.loads(made.stdout)
    assert webhook["delivery"] == "pull"
    assert (await run("webhooks", "pull", webhook["id"])).output == ""
    await hold(api, webhook["id"], "evt_1", 1)
    await hold(api, webhook["id"], "evt_2", 2)
    pulled = await run("webhooks", "pull", webhook["id"], "--lease", "30")
    first, second = (json.loads(line) for line in pulled.output.splitlines())
    assert first["headers"]["webhook-id"] == "evt_1"
    done = await run("webhooks", "ack", webhook["id"], first["id"], "--json")
    assert (done.exit_code, json.loads(done.stdout)) == (0, {"ids": [first["id"]], "unknown": []})
    back = await run("webhooks", "nack", webhook["id"], second["id"], "dlv_unknown", "--json")
    assert (back.exit_code, json.loads(back.stdout)) == (1, {"ids": [second["id"]], "unknown": ["dlv_unknown"]})
    listed = await run("webhooks", "list", "--account", api.acme.account_id)
    assert webhook["id"] in listed.output


async def test_the_deletion_of_a_pull_webhook_names_it(api: ApiFixture) -> None:
    made = await run(
        "webhooks", "create", "--pull", "--account", api.acme.account_id, "--description", "Till", "--json"
    )
    webhook_id = json.loads(made.stdout)["id"]
    deleted = await run("webhooks", "delete", webhook_id, answer="y\n")
    assert "Delete the webhook for Till?" in deleted.output
    assert deleted.exit_code == 0
