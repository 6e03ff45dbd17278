"""A person enables a webhook that failures paused: the command says why, and whether the endpoint works now."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from cli.command import run, served

from builders import NOON, attempt
from rest.api_fixture import ApiFixture, open_api
from streams.adapters.avro.codec import AvroCodec
from streams.core.deliveries.attempt import DeadLetter
from streams.core.deliveries.delivery import DeathReason, Delivery, Trigger
from streams.core.deliveries.outcome import OutcomeKind
from streams.topics import TEST_DELIVERIES

pytestmark = pytest.mark.slow
CODEC = AvroCodec()
FAILURE = "The endpoint responded with 500: its server failed."


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[ApiFixture]:
    async with open_api(f"sqlite:///{tmp_path}/db.sqlite") as api:
        yield api


@pytest.fixture(autouse=True)
async def _uses_acme(api: ApiFixture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[None]:
    """Commands use the API over HTTP, with Acme's key."""
    monkeypatch.chdir(tmp_path)
    async with served(api.app) as url:
        monkeypatch.setenv("SCORM_WEBHOOKS_API_URL", url)
        monkeypatch.setenv("SCORM_WEBHOOKS_API_KEY", str(api.acme.key))
        yield


async def paused_webhook(api: ApiFixture, epoch: int = 1, webhook_id: str = "") -> str:
    """A webhook that failures have paused; returns its id."""
    webhook_id = webhook_id or (await api.acme.webhook())["id"]
    for number in range(5):
        started_at = NOON + timedelta(seconds=number)
        failed = attempt(
            account_id=api.acme.account_id,
            webhook_id=webhook_id,
            event_id=f"evt_{epoch}_{number}",
            health_epoch=epoch,
            started_at=started_at,
            ended_at=started_at,
            status=500,
            outcome=OutcomeKind.SERVER_ERROR,
            message=FAILURE,
        )
        await api.record(failed)
    return webhook_id


@asynccontextmanager
async def sending_tests(api: ApiFixture, *, succeed: bool) -> AsyncIterator[None]:
    """While this runs, test events succeed or fail."""

    async def send() -> None:
        done = 0
        while True:
            for record in api.kafka.topic(TEST_DELIVERIES)[done:]:
                done += 1
                owed = CODEC.decode(record.value or b"")
                assert isinstance(owed, Delivery)
                sent: Any = DeadLetter(owed._replace(step=owed.step + 1), DeathReason.EXHAUSTED, FAILURE)
                if succeed:
                    ids = {name: getattr(owed, name) for name in ("account_id", "event_id", "event_type", "webhook_id")}
                    sent = attempt(**ids, trigger=Trigger.TEST)
                await api.record(owed, sent)
            await asyncio.sleep(0.01)

    task = asyncio.create_task(send())
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def test_a_list_names_the_reason_of_a_pause_and_the_remedy(
    api: ApiFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    await paused_webhook(api)
    done = await run("webhooks", "list")
    assert "paused after 5 failures in a row" in done.stdout
    assert "`webhooks enable ID`" in done.stderr


async def test_a_list_without_automatic_pauses_has_no_remedy(api: ApiFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    webhook_id = (await api.acme.webhook())["id"]
    await api.acme.post(f"/v1/webhooks/{webhook_id}/pause")
    done = await run("webhooks", "list")
    assert "paused by a person" in done.stdout
    assert done.stderr == ""


async def test_enable_says_that_the_endpoint_works_now(api: ApiFixture) -> None:
    webhook_id = await paused_webhook(api)
    async with sending_tests(api, succeed=True):
        done = await run("webhooks", "enable", webhook_id)
    assert (done.exit_code, "status              active" in done.stdout) == (0, True)
    assert f"It was paused after 5 failures in a row. The last one: {FAILURE}" in done.stderr
    assert "Its endpoint works: it accepted a test event." in done.stderr
    assert "pauseAfter" not in done.stderr


async def test_enable_says_that_the_endpoint_fails_still(api: ApiFixture) -> None:
    webhook_id = await paused_webhook(api)
    async with sending_tests(api, succeed=False):
        done = await run("webhooks", "enable", webhook_id)
    assert f"Its endpoint does not work yet: {FAILURE} Repair it, or it is paused again" in done.stderr


async def test_the_second_time_enable_offers_a_longer_limit(api: ApiFixture) -> None:
    webhook_id = await paused_webhook(api)
    async with sending_tests(api, succeed=True):
        await run("webhooks", "enable", webhook_id)
        await paused_webhook(api, epoch=2, webhook_id=webhook_id)
        done = await run("webhooks", "enable", webhook_id)
    assert f"`webhooks update {webhook_id} --set 'pauseAfter=" in done.stderr


async def test_enable_for_a_program_sends_no_test(api: ApiFixture) -> None:
    webhook_id = await paused_webhook(api)
    done = await run("webhooks", "enable", webhook_id, "--json")
    assert (done.exit_code, "It was paused" in done.stderr) == (0, False)
    assert not api.kafka.topic(TEST_DELIVERIES)
