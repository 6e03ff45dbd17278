"""What an operator sees of all accounts, on each database."""

from dataclasses import replace
from datetime import timedelta

from builders import NOON, attempt, delivery, webhook
from contract.stores import SqlStore
from streams.core.accounts.access import ApiKey
from streams.core.accounts.account import Account
from streams.core.accounts.audit import AuditEntry, AuditFilter
from streams.core.deliveries.attempt import NextStep
from streams.core.deliveries.delivery_state import RecordedValue, merge_records
from streams.core.deliveries.outcome import OutcomeKind
from streams.core.webhooks.webhook import Registration
from streams.features.platform.storage import SqlPlatformStats
from streams.features.shared.accounts import SqlAccounts
from streams.features.shared.audit_log import SqlAuditLog


async def add_account(database: SqlStore, account_id: str, name: str, minutes: int) -> None:
    account = Account(account_id, name, (), NOON + timedelta(minutes=minutes))
    key = ApiKey(f"key_{account_id}", account_id, "first", "sk_", f"hash-{account_id}", NOON)
    await SqlAccounts(database.database).add(account, key)


async def test_accounts_are_paged_and_found_by_name_or_id(database: SqlStore) -> None:
    await add_account(database, "globex", "Globex 50 %", 1)
    await add_account(database, "initech", "Initech", 2)
    stats = SqlPlatformStats(database.database)
    first = await stats.accounts(None, 2)
    rest = await stats.accounts(first.next_cursor, 2)
    assert [row.account.id for row in [*first.rows, *rest.rows]] == ["initech", "globex", "acme"]
    assert [(row.webhooks, row.paused) for row in rest.rows] == [(1, 0)]
    for text in ("globex", "GLOBEX", "0 %"):
        assert [row.account.id for row in (await stats.accounts(None, 5, text)).rows] == ["globex"], text
    assert (await stats.accounts(None, 5, "_")).rows == []


async def test_failing_webhooks_of_all_accounts_come_newest_first(database: SqlStore) -> None:
    await add_account(database, "globex", "Globex", 1)
    other = replace(webhook(), id="wh_other", account_id="globex")
    await database.webhooks.add(Registration(other, NOON, description="Warehouse"))
    failures = [
        attempt(webhook_id="wh_crm", outcome=OutcomeKind.TIMEOUT, status=None, message="too slow"),
        attempt(
            webhook_id="wh_other",
            account_id="globex",
            outcome=OutcomeKind.REFUSED,
            status=None,
            message="refused",
            started_at=NOON + timedelta(seconds=5),
            ended_at=NOON + timedelta(seconds=6),
        ),
    ]
    await database.recorder.record(merge_records([RecordedValue(one, NOON) for one in failures]))
    found = await SqlPlatformStats(database.database).list_failing_webhooks(10)
    assert [(one.account_name, one.webhook_id, one.failure_streak.failures) for one in found] == [
        ("Globex", "wh_other", 1),
        ("Acme", "wh_crm", 1),
    ]
    assert (found[0].name, found[0].failure_streak.last_message) == ("Warehouse", "refused")
    slow = await SqlPlatformStats(database.database).list_slowest_webhooks(NOON - timedelta(hours=1), 10)
    assert [(one.webhook_id, one.mean_ms, one.attempts) for one in slow] == [
        ("wh_other", 1000.0, 1),
        ("wh_crm", 0.0, 1),
    ]


async def test_waiting_deliveries_are_counted_by_tier(database: SqlStore) -> None:
    waiting = [delivery(event_id=f"evt_{number}") for number in range(3)]
    retried = attempt(
        event_id="evt_0", outcome=OutcomeKind.TIMEOUT, status=None, next_step=NextStep.TIER, tier="30s", message="slow"
    )
    values = [*(RecordedValue(one, NOON) for one in waiting), RecordedValue(retried, NOON)]
    await database.recorder.record(merge_records(values))
    assert await SqlPlatformStats(database.database).waiting_by_tier() == {"30s": 1, "": 2}


async def test_audit_entries_are_found_by_each_part(database: SqlStore) -> None:
    log = SqlAuditLog(database.database)
    for number, (actor, action, object_id) in enumerate(
        [
            ("user:1", "webhook.paused", "wh_1"),
            ("key:1", "webhook.paused", "wh_2"),
            ("key:1", "webhook.created", "wh_2"),
        ]
    ):
        await log.add(AuditEntry(f"a{number}", actor, action, object_id, NOON + timedelta(hours=number), "acme"))

    async def found(wanted: AuditFilter) -> list[str]:
        return [entry.id for entry in (await log.list(wanted, None, 10)).rows]

    assert await found(AuditFilter("acme")) == ["a2", "a1", "a0"]
    assert await found(AuditFilter("acme", actor="key:1")) == ["a2", "a1"]
    assert await found(AuditFilter("acme", action="webhook.paused")) == ["a1", "a0"]
    assert await found(AuditFilter("acme", object_id="wh_2", action="webhook.paused")) == ["a1"]
    assert await found(AuditFilter(since=NOON + timedelta(hours=1), until=NOON + timedelta(hours=2))) == ["a1"]
    assert await found(AuditFilter("other")) == []
