"""The last accounts that events named and that do not exist, in SQL."""

import asyncio
from datetime import timedelta

import pytest
import pytest_asyncio
from sqlalchemy import text

from builders import NOON
from contract.stores import SqlStore
from streams.core.accounts.usage import UnknownAccount
from streams.features.usage.unknown_accounts import SqlUnknownAccounts


@pytest.fixture
def connections() -> int:
    return 2


@pytest_asyncio.fixture
async def stored(database: SqlStore) -> SqlUnknownAccounts:
    return SqlUnknownAccounts(database.database)


def unknown(account_id: str, events: int, minute: int) -> UnknownAccount:
    at = NOON + timedelta(minutes=minute)
    return UnknownAccount(account_id, events, at, at)


async def test_only_stored_accounts_exist(stored: SqlUnknownAccounts) -> None:
    assert await stored.find_existing(["acc_lost", "acme"]) == {"acme"}


async def test_events_of_an_account_are_added_up(stored: SqlUnknownAccounts) -> None:
    await stored.add([unknown("acc_lost", 2, 1), unknown("acc_other", 1, 2)])
    await stored.add([unknown("acc_lost", 3, 5)])
    first, second = await stored.list_newest(10)
    assert first == UnknownAccount("acc_lost", 5, NOON + timedelta(minutes=1), NOON + timedelta(minutes=5))
    assert second.account_id == "acc_other"
    assert await stored.list_newest(1) == [first]


async def test_the_newest_are_kept(database: SqlStore) -> None:
    stored = SqlUnknownAccounts(database.database, max_rows=3)
    for minute in range(5):
        await stored.add([unknown(f"acc_{minute}", 1, minute)])
    assert [one.account_id for one in await stored.list_newest(10)] == ["acc_4", "acc_3", "acc_2"]


async def test_an_account_that_was_made_since_is_known(stored: SqlUnknownAccounts) -> None:
    await stored.add([unknown("acme", 2, 1), unknown("acc_lost", 1, 2)])
    assert [one.account_id for one in await stored.list_newest(10)] == ["acc_lost"]


async def test_two_processes_do_not_wait_for_each_other(database: SqlStore) -> None:
    if database.database.is_sqlite:
        pytest.skip("SQLite has one writer")
    stored = SqlUnknownAccounts(database.database, max_rows=1)
    await stored.add([unknown("acc_old", 1, 1)])
    async with database.database.transaction() as other:
        await other.execute(text("UPDATE unknown_accounts SET events = 2"))
        async with asyncio.timeout(10):
            await stored.add([unknown("acc_new", 1, 2)])
    assert [one.account_id for one in await stored.list_newest(10)] == ["acc_new", "acc_old"]
    await stored.add([unknown("acc_new", 1, 3)])
    assert [one.account_id for one in await stored.list_newest(10)] == ["acc_new"]
