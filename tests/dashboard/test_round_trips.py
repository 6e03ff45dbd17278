"""A page asks the database a few times, whatever it shows."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from dashboard.pages import FakeBrowser
from sqlalchemy import event
from sqlalchemy.engine import Engine

from builders import attempt, delivery
from rest.api_fixture import ApiFixture
from streams.core.deliveries.attempt import NextStep
from streams.core.deliveries.outcome import OutcomeKind


@contextmanager
def statements() -> Iterator[list[str]]:
    """The SQL statements meanwhile, on all engines."""
    sent: list[str] = []

    def note(connection: object, cursor: object, statement: str, *details: object) -> None:
        sent.append(statement)

    event.listen(Engine, "before_cursor_execute", note)
    try:
        yield sent
    finally:
        event.remove(Engine, "before_cursor_execute", note)


async def test_the_page_of_a_webhook_asks_a_few_times(api: ApiFixture, browser: FakeBrowser) -> None:
    made = await api.acme.webhook()
    known = {"account_id": api.acme.account_id, "webhook_id": made["id"]}
    failed = attempt(**known, outcome=OutcomeKind.SERVER_ERROR, next_step=NextStep.TIER, tier="30s")
    await api.record(delivery(**known), failed)
    with statements() as sent:
        page = await browser.open(f"/webhooks/{made['id']}")
    assert page.status == 200
    # Those of one transaction are one trip to the pool.
    assert sent.count("BEGIN") <= 8
    assert len(sent) - sent.count("BEGIN") <= 11


async def test_the_overview_is_three_transactions(api: ApiFixture, browser: FakeBrowser) -> None:
    await api.acme.webhook()
    await browser.open("/")
    with statements() as sent:
        assert (await browser.open("/")).status == 200
    # The session, who looks at it, and what it shows.
    assert sent.count("BEGIN") == 3


async def test_tasks_of_a_page_share_no_connection(api: ApiFixture) -> None:
    database = api.database

    async def read() -> object:
        async with database.read_transaction() as connection:
            return connection

    async with database.shared_read_transaction():
        own, again, of_a_task = await read(), await read(), await asyncio.create_task(read())
        assert own is again
        assert of_a_task is not own
    assert await read() is not own
