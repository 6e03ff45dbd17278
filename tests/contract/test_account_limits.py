"""An account's webhooks have a limited size together."""

import asyncio
from dataclasses import replace

import pytest

from builders import NOON, webhook
from contract.stores import SqlStore
from streams.adapters.sql.webhooks import account_limits
from streams.core.errors import Conflict
from streams.core.limits import MAX_SCOPE_IDS, MAX_SCOPE_IDS_PER_ACCOUNT
from streams.core.webhooks.webhook import Registration, Webhook


def scoped(number: int, count: int = MAX_SCOPE_IDS) -> Webhook:
    return webhook(id=f"wh_{number}", packages=frozenset(f"pkg_{number}_{one}" for one in range(count)))


async def test_an_account_has_a_limited_number_of_scope_ids(database: SqlStore) -> None:
    full = MAX_SCOPE_IDS_PER_ACCOUNT // MAX_SCOPE_IDS
    more = [Registration(scoped(number), NOON) for number in range(full + 5)]
    done = await asyncio.gather(*(database.webhooks.add(one) for one in more), return_exceptions=True)
    assert sum(isinstance(result, Conflict) for result in done) == 5
    kept = [one.id for one in await database.webhooks.list("acme") if one.packages_count]

    def one_more(known: Registration) -> Registration:
        return replace(known, webhook=replace(known.webhook, dispatches=frozenset({"dsp_1"})))

    with pytest.raises(Conflict, match="20001 scope ids together, and may have at most 20000: name fewer"):
        await database.webhooks.change("wh_crm", one_more)
    await database.webhooks.change(kept[0], lambda known: None)
    assert await database.webhooks.change("wh_crm", one_more)


async def test_changes_at_once_do_not_exceed_the_limit(database: SqlStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(account_limits, "MAX_SCOPE_IDS_PER_ACCOUNT", 30)
    for number in range(6):
        await database.webhooks.add(Registration(scoped(number, 1), NOON))

    def wider(known: Registration) -> Registration:
        return replace(known, webhook=scoped(int(known.webhook.id[3:]), 10))

    changes = (database.webhooks.change(f"wh_{number}", wider) for number in range(6))
    done = await asyncio.gather(*changes, return_exceptions=True)
    assert sum(isinstance(result, Conflict) for result in done) == 4


async def test_an_account_has_a_limited_length_of_urls_and_headers(
    database: SqlStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(account_limits, "MAX_WEBHOOK_CHARACTERS_PER_ACCOUNT", 1000)
    long = webhook(id="wh_long", fallback_url="https://b.example", encrypted_headers="x" * 900)
    await database.webhooks.add(Registration(long, NOON))
    with pytest.raises(
        Conflict, match=r"URLs, headers, filters and rules of \d+ characters together, and may have at most 1000"
    ):
        await database.webhooks.add(Registration(webhook(id="wh_more", url="https://c.example/" + "c" * 90), NOON))


async def test_an_account_above_a_lowered_limit_goes_on(database: SqlStore, monkeypatch: pytest.MonkeyPatch) -> None:
    await database.webhooks.add(Registration(scoped(1, 50), NOON))
    monkeypatch.setattr(account_limits, "MAX_SCOPE_IDS_PER_ACCOUNT", 10)
    await database.webhooks.add(Registration(webhook(id="wh_unscoped"), NOON))
    assert await database.webhooks.change("wh_1", lambda known: replace(known, description="new"))
    narrower = await database.webhooks.change("wh_1", lambda known: replace(known, webhook=scoped(1, 40)))
    assert narrower is not None
    assert len(narrower.webhook.packages) == 40
