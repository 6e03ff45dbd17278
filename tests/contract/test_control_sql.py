"""Tables of access, responses, mails and statistics, and their retention."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import asdict, replace
from datetime import UTC, datetime, timedelta

import psycopg
import pytest
from sqlalchemy import URL, insert
from sqlalchemy.ext.asyncio import AsyncConnection

from builders import NOON, attempt, dead_letter, delivery, webhook
from contract.stores import SqlStore, failed, sql_store
from streams.adapters.avro.codec import AvroCodec
from streams.adapters.sql.engine.database import Database
from streams.adapters.sql.outgoing_events import OutgoingEventWriter
from streams.adapters.sql.pruning import SqlPruning
from streams.adapters.sql.tables.accounts import mails as mails_table
from streams.adapters.sql.tables.deliveries import attempts, deliveries, events
from streams.core.accounts.access import ApiKey, Role, Scope, make_key
from streams.core.accounts.account import Account, DeliveryFilter, User
from streams.core.accounts.audit import AuditEntry, AuditFilter
from streams.core.accounts.mail import Mail, MailKind
from streams.core.accounts.oidc import PendingSignIn
from streams.core.accounts.session import Session, SignIn
from streams.core.deliveries.delivery_state import RecordedValue, merge_records
from streams.core.errors import Conflict, NotFound
from streams.core.events.event_filter import parse_filter
from streams.core.page import Cursor
from streams.core.webhooks.webhook import Registration
from streams.features.events import storage as account_webhooks
from streams.features.events.storage import SqlAccountWebhooks
from streams.features.mails.storage import SqlMails
from streams.features.mails.text import group_mails
from streams.features.shared.accounts import SqlAccounts, SqlApiKeys, SqlUsers
from streams.features.shared.audit_log import SqlAuditLog
from streams.features.shared.idempotency import SqlIdempotencyStore
from streams.features.sign_in.storage import SqlPendingSignIns, SqlSessions, SqlSignIns
from streams.features.webhooks.stats_storage import SqlWebhookStats
from streams.ports.storage import Prunable

DAY = timedelta(days=1)


def audit_entry(number: int | str = 1, **changes: object) -> AuditEntry:
    made = AuditEntry(f"audit_{number}", "ada", "key.created", "key_2", NOON, "acme")
    return replace(made, **changes)  # type: ignore[arg-type]


# -- access ----------------------------------------------------------------------------------------------------


async def test_uses_at_once_are_stored_for_each_key(database: SqlStore) -> None:
    keys = SqlApiKeys(database.database)
    for number in (2, 3):
        key = ApiKey(
            f"key_{number}", "acme", "export", "sk_abc", f"sha-{number}", NOON, frozenset({Scope.EVENTS_WRITE})
        )
        await keys.add(key, audit_entry(number))
    await asyncio.gather(*(keys.touch(f"key_{number}", NOON + timedelta(hours=number)) for number in (2, 2, 3)))
    used = {key.id: key.last_used_at for key in await keys.list("acme")}
    assert used["key_1"] is None
    assert {used["key_2"], used["key_3"]} <= {NOON + timedelta(hours=2), NOON + timedelta(hours=3)}


async def test_a_key_is_found_by_its_hash_and_belongs_to_one_account(database: SqlStore) -> None:
    keys = SqlApiKeys(database.database)
    key = ApiKey("key_2", "acme", "export", "sk_abc", "sha", NOON, frozenset({Scope.EVENTS_WRITE}), NOON + DAY)
    await keys.add(key, audit_entry())
    assert await keys.find("sha") == key
    assert await keys.find("other") is None
    assert [known.id for known in await keys.list("acme")] == ["key_1", "key_2"]
    assert await keys.list("globex") == []
    assert not await keys.revoke("globex", "key_2", audit_entry(2))
    await keys.touch("key_2", NOON + timedelta(hours=1))
    assert await keys.revoke("acme", "key_2", audit_entry(3, at=NOON + timedelta(hours=2)))
    assert await keys.revoke("acme", "key_2", audit_entry(4, at=NOON + timedelta(hours=3)))
    seen = await keys.find("sha")
    assert seen is not None
    assert (seen.last_used_at, seen.revoked_at) == (NOON + timedelta(hours=1), NOON + timedelta(hours=2))
    page = await SqlAuditLog(database.database).list(AuditFilter("acme"), None, 10)
    assert {one.id for one in page.rows} == {"audit_1", "audit_3"}


async def test_the_last_second_of_the_calendar_is_read(url: URL) -> None:
    """Also from a server whose zone is already in the year after."""
    if url.get_backend_name() == "postgresql":
        with psycopg.connect(url.set(drivername="postgresql").render_as_string(hide_password=False)) as connection:
            connection.execute(f"ALTER DATABASE {url.database} SET timezone = 'Asia/Tokyo'")
    async with sql_store(url) as store:
        keys, last = SqlApiKeys(store.database), datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)
        await keys.add(ApiKey("key_2", "acme", "export", "sk_abc", "sha", NOON, expires_at=last), audit_entry())
        assert [key.expires_at for key in await keys.list("acme")] == [None, last]


async def test_an_account_is_changed_and_one_that_is_not_there_is_not(database: SqlStore) -> None:
    accounts = SqlAccounts(database.database)
    changed = await accounts.change(
        "acme", lambda known: replace(known, plan_limit=7, weekly_digest=False), lambda *_: audit_entry()
    )
    assert await accounts.find("acme") == changed
    assert (changed.plan_limit, changed.weekly_digest) == (7, False)
    with pytest.raises(NotFound):
        await accounts.change("globex", lambda known: known, lambda *_: audit_entry())


async def test_a_user_has_a_role_and_one_address(database: SqlStore) -> None:
    users = SqlUsers(database.database)
    ada = User("usr_1", "acme", "ada@acme.example", NOON, Role.VIEWER)
    assert await users.add(ada, audit_entry()) == ada
    assert await users.add(replace(ada, id="usr_2", role=Role.OWNER), audit_entry(2)) == ada
    assert await users.find_by_email("ada@acme.example") == [ada]
    assert await users.change_role("globex", "usr_1", Role.OWNER, audit_entry(3)) is None
    changed = await users.change_role("acme", "usr_1", Role.OWNER, audit_entry(4))
    assert changed == await users.find("usr_1") == replace(ada, role=Role.OWNER)


async def test_a_link_is_used_once_until_it_expires(database: SqlStore) -> None:
    users, sign_ins = SqlUsers(database.database), SqlSignIns(database.database)
    await users.add(User("usr_1", "acme", "ada@acme.example", NOON), audit_entry())
    for name in ("one", "two", "three", "four"):
        await sign_ins.add(SignIn(name, "operator", NOON, NOON + timedelta(minutes=15), user_id="usr_1"))
    first = await sign_ins.redeem("one", NOON)
    assert first
    assert (first.user_id, first.actor) == ("usr_1", "operator")
    assert await sign_ins.redeem("one", NOON) is None
    assert await sign_ins.redeem("two", NOON + timedelta(minutes=15)) is None
    both = await asyncio.gather(*(sign_ins.redeem("three", NOON) for _ in range(2)))
    assert both.count(None) == 1
    assert not await users.remove("globex", "usr_1", audit_entry(3))
    assert await users.remove("acme", "usr_1", audit_entry(4))
    assert await sign_ins.redeem("four", NOON) is None
    assert await users.find("usr_1") is None


async def test_open_mails_are_counted_with_the_one_that_is_added(database: SqlStore) -> None:
    await SqlUsers(database.database).add(User("usr_1", "acme", "ada@acme.example", NOON), audit_entry())
    sign_ins = SqlSignIns(database.database)

    async def ask(number: int) -> bool:
        name = f"mail_{number}"
        mail = Mail(name, name, "acme", "", MailKind.SIGN_IN, {"email": "ada@acme.example"}, NOON, due_at=NOON)
        sign_in = SignIn(name, "email", NOON, NOON + DAY, email="ada@acme.example", code_sha256="right")
        return await sign_ins.add_with_mail(sign_in, mail, 3)

    results = await asyncio.gather(*map(ask, range(10)))
    assert sum(results) == 3
    assert await sign_ins.count_usable_sign_ins("ada@acme.example", NOON) == 3


async def test_a_code_has_a_limited_number_of_guesses(database: SqlStore) -> None:
    sign_ins = SqlSignIns(database.database)
    sign_in = SignIn("one", "email", NOON, NOON + DAY, email="ada@acme.example", code_sha256="right", guesses_left=3)
    await sign_ins.add(replace(sign_in, browser_sha256="mine"))
    await sign_ins.add(replace(sign_in, sha256="two", browser_sha256="other"))
    await sign_ins.add(SignIn("not mailed", "email", NOON, NOON + DAY, email="ada@acme.example"))
    assert await sign_ins.count_usable_sign_ins("ada@acme.example", NOON) == 2
    assert await sign_ins.count_usable_sign_ins("ada@acme.example", NOON + timedelta(minutes=15)) == 0
    assert await sign_ins.guess("unknown", "right", NOON) is None
    assert [await sign_ins.guess("mine", "wrong", NOON) for _ in range(2)] == [None, None]
    assert await sign_ins.guess("mine", "right", NOON) is not None
    assert await sign_ins.count_usable_sign_ins("ada@acme.example", NOON) == 1
    assert await sign_ins.guess("mine", "right", NOON) is None
    guesses = await asyncio.gather(*(sign_ins.guess("other", "wrong", NOON) for _ in range(5)))
    assert guesses == [None] * 5
    assert await sign_ins.guess("other", "right", NOON) is None


async def test_a_pending_sign_in_is_taken_once_by_its_browser(database: SqlStore) -> None:
    pending = SqlPendingSignIns(database.database)
    for state in ("one", "two"):
        await pending.add(PendingSignIn(state, "mine", "ciphertext", NOON, NOON + timedelta(minutes=10)))
    assert await pending.take("one", "other", NOON) is None
    assert await pending.take("one", "mine", NOON + timedelta(minutes=10)) is None
    both = await asyncio.gather(*(pending.take("one", "mine", NOON) for _ in range(2)))
    assert both.count(None) == 1
    assert await pending.take("unknown", "mine", NOON) is None
    assert await pending.take("two", "mine", NOON) == PendingSignIn(
        "two", "mine", "ciphertext", NOON, NOON + timedelta(minutes=10)
    )


async def test_a_session_keeps_the_accounts_to_choose_from(database: SqlStore) -> None:
    sessions = SqlSessions(database.database)
    session = Session("session_1", "oidc:1", NOON, NOON, NOON + DAY, role=Role.VIEWER, account_ids=("acme", "globex"))
    await sessions.add(session, "hash")
    assert await sessions.find("hash") == session


async def test_a_session_has_the_role_that_its_user_has_now(database: SqlStore) -> None:
    users, sessions = SqlUsers(database.database), SqlSessions(database.database)
    ada = await users.add(User("usr_1", "acme", "ada@acme.example", NOON), audit_entry())
    session = Session("session_1", "user:usr_1", NOON, NOON, NOON + DAY, proved_email="ada@x.example").for_user(ada)
    portal = Session("session_2", "operator:x", NOON, NOON, NOON + DAY, account_id="acme", role=Role.VIEWER)
    await sessions.add(session, "hash", audit_entry(2))
    await sessions.add(portal, "hash 2")
    await users.change_role("acme", "usr_1", Role.MEMBER, audit_entry(3))
    assert await sessions.find("hash") == replace(session, role=Role.MEMBER)
    assert await sessions.find("hash 2") == portal
    assert [one.id for one in await sessions.list("acme", NOON)] == ["session_2", "session_1"]
    await sessions.touch("session_1", NOON + DAY / 2)
    found = await sessions.find("hash")
    assert found
    assert found.used_at == NOON + DAY / 2
    # Another tab goes on in an account while this one notes its use.
    await sessions.change(replace(portal, account_id=None, role=None))
    await sessions.touch("session_2", NOON + DAY / 2)
    assert await sessions.find("hash 2") == replace(portal, account_id=None, role=None, used_at=NOON + DAY / 2)
    assert not await sessions.remove("session_1", "globex")
    assert await sessions.remove("session_1", "acme")
    assert await sessions.find("hash") is None


async def test_the_audit_log_is_read_in_pages_newest_first(database: SqlStore) -> None:
    producer = SqlAuditLog(database.database)
    for number in range(4):
        await producer.add(
            audit_entry(number, at=NOON + timedelta(seconds=number // 2), account_id="acme" if number else None)
        )
    first = await producer.list(AuditFilter(), None, 3)
    assert [one.id for one in first.rows] == ["audit_3", "audit_2", "audit_1"]
    assert first.next_cursor == Cursor(NOON, "audit_1")
    rest = await producer.list(AuditFilter(), first.next_cursor, 3)
    assert ([one.id for one in rest.rows], rest.next_cursor) == (["audit_0"], None)
    assert len((await producer.list(AuditFilter("acme"), None, 10)).rows) == 3


async def test_a_thousand_unknown_keys_use_one_connection(database: SqlStore, monkeypatch: pytest.MonkeyPatch) -> None:
    keys, open_now, most, queries = SqlApiKeys(database.database), 0, 0, 0
    reading = type(database.database).read_transaction

    @asynccontextmanager
    async def counted(self: Database) -> AsyncIterator[AsyncConnection]:
        nonlocal open_now, most, queries
        open_now, queries = open_now + 1, queries + 1
        most = max(most, open_now)
        async with reading(self) as connection:
            yield connection
        open_now -= 1

    monkeypatch.setattr(Database, "read_transaction", counted)
    assert await asyncio.gather(*(keys.find(f"unknown-{number}") for number in range(1000))) == [None] * 1000
    assert (most, queries) == (1, 2)


async def test_only_the_first_request_of_an_idempotency_key_runs(database: SqlStore) -> None:
    responses = SqlIdempotencyStore(database.database)
    assert await responses.begin("key:1", "k", "same", NOON) is None
    under_way = await responses.begin("key:1", "k", "other", NOON + DAY)
    assert under_way is not None
    assert (under_way.fingerprint, under_way.begun_at, under_way.status) == ("same", NOON, None)
    assert await responses.begin("key:2", "k", "same", NOON) is None
    await responses.finish("key:1", "k", NOON + DAY, 500, "of another")
    await responses.finish("key:1", "k", NOON, 201, "ciphertext")
    done = await responses.begin("key:1", "k", "same", NOON)
    assert done is not None
    assert (done.status, done.encrypted_response) == (201, "ciphertext")
    await responses.forget("key:1", "k", NOON + DAY)
    assert await responses.begin("key:1", "k", "same", NOON) is not None
    await responses.forget("key:1", "k", NOON)
    assert await responses.begin("key:1", "k", "same", NOON) is None


# -- mails and numbers -----------------------------------------------------------------------------------------


async def test_dead_letters_a_day_old_cause_a_mail_and_a_weekly_one(
    database: SqlStore,
) -> None:
    mails = SqlMails(database.database, OutgoingEventWriter(AvroCodec()))
    await database.recorder.record(merge_records([RecordedValue(dead_letter(), NOON)]))
    assert await mails.enqueue_reminders(NOON + DAY - timedelta(seconds=1)) == 0
    assert await mails.enqueue_reminders(NOON + DAY) == 1
    assert await mails.enqueue_reminders(NOON + 2 * DAY) == 0
    # One was dead before the last mail, and one was not.
    await database.recorder.record(
        merge_records([RecordedValue(dead_letter(delivery=delivery(event_id="evt_2")), NOON + DAY / 2)])
    )
    await database.replays.discard(DeliveryFilter(event_id=delivery().event_id))
    assert await mails.enqueue_reminders(NOON + 3 * DAY) == 0
    owed = await mails.next_due(MailKind.DEAD_LETTERS, "", NOON + DAY)
    assert owed is not None
    [due_mail] = owed.mails
    assert (owed.emails, due_mail.kind) == (("ops@acme.example",), MailKind.DEAD_LETTERS)
    assert due_mail.details == {
        "url": "https://crm.example.com/hooks",
        "count": 1,
        "since": "2026-04-10T12:00:00Z",
    }
    assert await mails.enqueue_reminders(NOON + 8 * DAY) == 1
    await database.replays.discard(DeliveryFilter(event_id="evt_2"))
    later = dead_letter(delivery=delivery(event_id="evt_3"))
    await database.recorder.record(merge_records([RecordedValue(later, NOON + 10 * DAY)]))
    assert await mails.enqueue_reminders(NOON + 10 * DAY) == 0
    accounts = SqlAccounts(database.database)
    await accounts.change("acme", lambda known: replace(known, weekly_digest=False))
    assert await mails.enqueue_reminders(NOON + 11 * DAY) == 1
    assert await mails.enqueue_reminders(NOON + 30 * DAY) == 0
    reminders = []
    while owed := await mails.next_due(MailKind.DEAD_LETTERS, "", NOON + 30 * DAY):
        reminders += [one.details.get("reminder") for one in owed.mails]
        await mails.settle([replace(one, due_at=None, sent_at=NOON + DAY, tries=1) for one in owed.mails])
    assert reminders == [None, True, None]


async def test_mails_are_read_account_by_account(database: SqlStore) -> None:
    names = ("acme", "beta", "zeta")
    for name in names[1:]:
        key = ApiKey(f"key_{name}", name, "first", "sk_", f"hash_{name}", NOON)
        await SqlAccounts(database.database).add(Account(name, name, (f"ops@{name}.example",), NOON), key)
    rows = [
        Mail(f"mail_{name}_{n}", f"{name}/{n}", name, f"wh_{n}", MailKind.PAUSED, {}, NOON, due_at=NOON)
        for name in names
        for n in range(3)
    ]
    async with database.database.transaction() as connection:
        await connection.execute(insert(mails_table), [asdict(row) for row in rows])
    mails = SqlMails(database.database, OutgoingEventWriter(AvroCodec()))
    for after, following in (("acme", "beta"), ("beta", "zeta"), ("zeta", "acme"), ("", "acme")):
        owed = await mails.next_due(MailKind.PAUSED, after, NOON)
        assert owed is not None
        assert [one.account_id for one in owed.mails] == [following] * 3
    assert await mails.next_due(MailKind.PAUSED, "", NOON - timedelta(seconds=1)) is None
    assert owed is not None
    sent = [replace(one, due_at=None, sent_at=NOON) for one in group_mails(owed.mails)]
    await mails.settle(sent)
    assert (await mails.list("acme", None, 10)).rows[::-1] == sent
    owed = await mails.next_due(MailKind.PAUSED, "", NOON)
    assert owed is not None
    assert owed.mails[0].account_id == "beta"


async def test_statistics_add_up_and_count_a_batch_once(database: SqlStore) -> None:
    numbers = SqlWebhookStats(database.database)
    for _ in range(2):
        for number in (1, 2, 3):
            await database.recorder.record(merge_records([failed(number)]))
    end = NOON + timedelta(milliseconds=40)
    await database.recorder.record(merge_records([RecordedValue(attempt(ended_at=end), NOON)]))
    seen = {hour.outcome: hour for hour in (await numbers.stats("wh_crm", NOON)).hours}
    assert (seen["server_error"].attempts, seen["server_error"].milliseconds) == (3, 15.0)
    assert (seen["delivered"].attempts, seen["delivered"].slowest_ms) == (1, 40.0)
    assert await numbers.last_attempt_at("wh_crm", "delivered") == end
    assert await numbers.last_attempt_at("wh_crm", "dns") is None
    assert (await numbers.stats("wh_crm", NOON + timedelta(hours=1))).hours == []
    failing = await numbers.failure_streak("wh_crm")
    assert (failing.failures, failing.last_status) == (3, 500)
    await database.webhooks.change("wh_crm", lambda r: replace(r, webhook=replace(r.webhook, health_epoch=2)))
    assert (await numbers.failure_streak("wh_crm")).failures == 0
    [waiting] = (await numbers.stats("wh_crm", NOON)).unfinished
    assert (waiting.state, waiting.tier, waiting.count) == ("waiting", "30s", 3)


# -- retention -------------------------------------------------------------------------------------------------


async def test_a_done_delivery_is_pruned_with_its_rows_in_batches(
    database: SqlStore,
) -> None:
    pruning = SqlPruning(database.database)
    await database.webhooks.add(Registration(webhook(id="wh_lrs"), NOON))
    for number in range(3):
        shared = {"event_id": f"evt_{number}"}
        for hook in ("wh_crm", "wh_lrs"):
            due_mail = delivery(**shared, webhook_id=hook)
            await database.recorder.record(merge_records([RecordedValue(due_mail, NOON)]))
        await database.recorder.record(merge_records([RecordedValue(attempt(**shared), NOON)]))
    assert (await pruning.prune(Prunable.DELIVERIES, NOON, 10)).rows == 0
    assert (await pruning.prune(Prunable.DELIVERIES, NOON + DAY, 2)).rows == 2
    assert (await pruning.prune(Prunable.DELIVERIES, NOON + DAY, 2)).rows == 1
    assert (await pruning.prune(Prunable.DELIVERIES, NOON + DAY, 2)).rows == 0
    left = (await database.delivery_log.list(DeliveryFilter())).rows
    assert {state.webhook_id for state in left} == {"wh_lrs"}
    assert await database.count(attempts) == 0
    assert await database.count(events) == 3
    for number in range(3):
        made_attempt = attempt(event_id=f"evt_{number}", webhook_id="wh_lrs")
        await database.recorder.record(merge_records([RecordedValue(made_attempt, NOON)]))
    assert (await pruning.prune(Prunable.DELIVERIES, NOON + DAY, 10)).rows == 3
    assert await database.count(events) == await database.count(deliveries) == 0


async def test_dead_held_and_waiting_deliveries_are_not_pruned(database: SqlStore) -> None:
    pruning = SqlPruning(database.database)
    await database.recorder.record(
        merge_records([RecordedValue(dead_letter(), NOON), RecordedValue(delivery(event_id="evt_2"), NOON)])
    )
    assert (await pruning.prune(Prunable.DELIVERIES, NOON + 365 * DAY, 10)).rows == 0
    assert (await pruning.prune(Prunable.DEAD_LETTERS, NOON, 10)).rows == 0
    assert (await pruning.prune(Prunable.DEAD_LETTERS, NOON + DAY, 10)).rows == 1
    assert await database.count(deliveries) == 1


async def test_a_key_is_pruned_after_its_end(database: SqlStore) -> None:
    keys, pruning = SqlApiKeys(database.database), SqlPruning(database.database)
    for number, expires_at in enumerate((NOON, NOON + 2 * DAY, None)):
        key = make_key(
            f"key_end_{number}", "acme", "export", f"token-end-{number}", NOON - DAY, expires_at=expires_at
        ).key
        await keys.add(key, audit_entry(number))
    assert (await pruning.prune(Prunable.API_KEYS, NOON, 10)).rows == 0
    assert (await pruning.prune(Prunable.API_KEYS, NOON + DAY, 10)).rows == 1
    left = [key.id for key in await keys.list("acme")]
    assert "key_end_0" not in left
    assert {"key_end_1", "key_end_2"} <= set(left)


async def test_every_other_kind_is_taken_away_by_its_age(database: SqlStore) -> None:
    base, pruning = database.database, SqlPruning(database.database)
    await SqlAuditLog(base).add(audit_entry())
    await SqlIdempotencyStore(base).begin("key:1", "k", "same", NOON)
    users = SqlUsers(base)
    await users.add(User("usr_1", "acme", "ada@acme.example", NOON), audit_entry(2))
    await SqlSignIns(base).add(SignIn("one", "operator", NOON, NOON, user_id="usr_1"))
    await SqlSessions(base).add(Session("session_1", "user:usr_1", NOON, NOON, NOON, user_id="usr_1"), "hash")
    for number in range(5):
        await database.recorder.record(merge_records([failed(number)]))
    mails = SqlMails(base, OutgoingEventWriter(AvroCodec()))
    owed = await mails.next_due(MailKind.PAUSED, "", NOON + DAY)
    assert owed is not None
    found = {
        Prunable.AUDIT: 3,
        Prunable.RESPONSES: 1,
        Prunable.SIGN_INS: 1,
        Prunable.SESSIONS: 1,
        Prunable.ATTEMPTS_BY_HOUR: 1,
        Prunable.MAILS: 0,
    }
    for what, count in found.items():
        assert (await pruning.prune(what, NOON, 10)).rows == 0, what
        assert (await pruning.prune(what, NOON + DAY, 10)).rows == count, what
    await mails.settle([replace(one, due_at=None, sent_at=NOON) for one in owed.mails])
    assert (await pruning.prune(Prunable.MAILS, NOON + DAY, 10)).rows == 1
    assert (await pruning.prune(Prunable.JOBS, NOON + DAY, 10)).rows == 0


# -- webhooks of accounts --------------------------------------------------------------------------------------


async def test_registrations_at_once_do_not_exceed_the_limit(database: SqlStore) -> None:
    new = [Registration(webhook(id=f"wh_new_{number}"), NOON) for number in range(5)]
    done = await asyncio.gather(
        *(database.webhooks.add(one, limit=3) for one in new),
        return_exceptions=True,
    )
    assert sum(isinstance(result, Conflict) for result in done) == 3
    assert len(await database.webhooks.list("acme")) == 3


async def test_unknown_accounts_are_absent_and_deleted_webhooks_too(database: SqlStore) -> None:
    await database.webhooks.add(Registration(webhook(id="wh_gone"), NOON))
    await database.webhooks.change("wh_gone", lambda known: None)
    existing = SqlAccountWebhooks(database.database).existing_accounts
    assert set(await existing({"acme", "nobody"})) == {"acme"}
    assert await ids_that_take(database, "session.completed") == {"wh_crm"}


async def ids_that_take(database: SqlStore, *event_types: str, **limits: int) -> set[str] | None:
    found = await SqlAccountWebhooks(database.database, **limits).webhooks_taking({"acme", "nobody"}, event_types)
    return None if found is None else {one.id for theirs in found.values() for one in theirs}


async def test_webhooks_that_take_other_types_are_left_out(database: SqlStore) -> None:
    launched = webhook(id="wh_launched", event_types=frozenset({"session.launched"}))
    await database.webhooks.add(Registration(launched, NOON))
    assert await ids_that_take(database, "session.completed") == {"wh_crm"}
    assert await ids_that_take(database, "session.launched", "usage.threshold") == {"wh_crm", "wh_launched"}


async def test_webhooks_that_take_a_type_have_their_filters(database: SqlStore) -> None:
    filtered = webhook(id="wh_filtered", filter=parse_filter({"successStatus": "passed"}))
    await database.webhooks.add(Registration(filtered, NOON))
    found = await SqlAccountWebhooks(database.database).webhooks_taking({"acme"}, {"session.completed"})
    assert found is not None
    assert {one.id: one.filter for one in found["acme"]} == {"wh_crm": None, "wh_filtered": filtered.filter}


async def test_webhooks_are_read_in_portions(database: SqlStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(account_webhooks, "ROWS_PER_TURN", 2)
    monkeypatch.setattr(account_webhooks, "CHARACTERS_PER_TURN", 40)
    scoped = [webhook(id=f"wh_{n}", packages=frozenset({f"pkg_{n}", "é"}), dispatches=frozenset()) for n in range(7)]
    for one in scoped:
        await database.webhooks.add(Registration(one, NOON))
    found = await SqlAccountWebhooks(database.database).webhooks_taking({"acme"}, {"session.completed"})
    assert found is not None
    packages = {one.id: one.packages for one in found["acme"]}
    assert packages == {"wh_crm": frozenset(), **{one.id: one.packages for one in scoped}}


async def test_more_webhooks_than_the_limit_are_not_read(database: SqlStore) -> None:
    await database.webhooks.add(Registration(webhook(id="wh_two"), NOON))
    assert await ids_that_take(database, "session.completed", max_webhooks=1) is None


async def test_only_scopes_of_webhooks_that_take_a_type_count(database: SqlStore) -> None:
    scope = frozenset(f"pkg_{number}" for number in range(100))
    scoped = webhook(id="wh_scoped", event_types=frozenset({"session.launched"}), packages=scope)
    await database.webhooks.add(Registration(scoped, NOON))
    assert await ids_that_take(database, "session.completed", max_scope_and_filter_characters=500) == {"wh_crm"}
    assert await ids_that_take(database, "session.launched", max_scope_and_filter_characters=500) is None
