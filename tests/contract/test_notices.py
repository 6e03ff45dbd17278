"""Accounts get a notice when a webhook fails, stays paused, recovers, or is about to lose its old secret."""

from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
import pytest_asyncio
from sqlalchemy import insert

from builders import NEW_SECRET, NOON, attempt, ciphertext, webhook
from contract.stores import SqlStore
from streams.adapters.avro.codec import AvroCodec
from streams.adapters.sql.outgoing_events import OutgoingEventWriter, SqlOutgoingEvents
from streams.adapters.sql.tables.usage import usage_notices
from streams.core.accounts.mail import MUTED_MESSAGE, Mail, MailKind, MailStatus
from streams.core.deliveries.attempt import NextStep
from streams.core.deliveries.delivery_state import RecordedValue, merge_records
from streams.core.deliveries.outcome import OutcomeKind
from streams.core.events.event import Event, check_event
from streams.core.webhooks.webhook import Registration
from streams.features.mails.storage import MAX_EVENTS_AN_HOUR, SqlMails
from streams.features.mails.text import compose
from streams.features.shared.accounts import SqlAccounts
from streams.features.webhooks.changes import to_active

MINUTE, DAY = timedelta(minutes=1), timedelta(days=1)


class NoticeFixture:
    """A database with one webhook, and its notices. `at` is the time since noon."""

    def __init__(self, store: SqlStore) -> None:
        self.store = store
        self.mails = SqlMails(store.database, OutgoingEventWriter(AvroCodec()))

    async def attempts(self, *minutes: float, outcome: OutcomeKind = OutcomeKind.SERVER_ERROR, epoch: int = 1) -> None:
        for at in minutes:
            moment = NOON + at * MINUTE
            status, tier = (500, "30s") if outcome is OutcomeKind.SERVER_ERROR else (200, None)
            made = attempt(
                event_id=f"evt_{at}_{outcome}",
                first_seen_at=moment,
                started_at=moment,
                ended_at=moment,
                outcome=outcome,
                status=status,
                next_step=NextStep.TIER if tier else NextStep.DONE,
                tier=tier,
                health_epoch=epoch,
            )
            self.store.clock.advance((moment - self.store.clock.now()).total_seconds())
            await self.store.recorder.record(merge_records([RecordedValue(made, moment)]))

    async def look(self, at: timedelta) -> list[MailKind]:
        """The kinds of the notices that are new at this time."""
        known = {mail.id for mail in await self.all()}
        await self.mails.enqueue_notices(NOON + at)
        return [mail.kind for mail in await self.all() if mail.id not in known]

    async def all(self) -> Sequence[Mail]:
        return (await self.mails.list("acme", None, 100)).rows

    async def events(self) -> list[Event]:
        await self.mails.store_events(100)
        due = await SqlOutgoingEvents(self.store.database).list_due(100)
        values = [AvroCodec().decode(event.value) for event in due]
        return [check_event(value, NOON + 100 * DAY) for value in values if isinstance(value, Event)]


@pytest_asyncio.fixture(name="fixture")
async def notice_fixture(database: SqlStore) -> AsyncIterator[NoticeFixture]:
    yield NoticeFixture(database)


async def change(fixture: NoticeFixture, **changes: Any) -> None:
    def apply(known: Registration) -> Registration:
        return replace(known, webhook=replace(known.webhook, **changes))

    await fixture.store.webhooks.change("wh_crm", apply)


async def test_five_minutes_of_failures_are_reported_once(fixture: NoticeFixture) -> None:
    await fixture.attempts(0, 1)
    assert await fixture.look(4.9 * MINUTE) == []
    assert await fixture.look(5 * MINUTE) == [MailKind.FAILING]
    await fixture.attempts(6)
    assert await fixture.look(60 * MINUTE) == []
    [event] = await fixture.events()
    assert (event.type, event.account_id, event.occurred_at) == ("webhook.failing", "acme", NOON + 5 * MINUTE)
    assert event.data == {
        "webhookId": "wh_crm",
        "url": "https://crm.example.com/hooks",
        "failures": 2,
        "since": "2026-04-10T12:00:00Z",
        "lastStatus": 500,
    }
    assert await fixture.events() == [event]


async def test_a_recovery_is_reported_after_trouble_and_only_then(fixture: NoticeFixture) -> None:
    await fixture.attempts(0, outcome=OutcomeKind.DELIVERED)
    assert await fixture.look(MINUTE) == []
    await fixture.attempts(2)
    # One failure, perhaps long ago, says little.
    assert await fixture.look(8 * MINUTE) == []
    await fixture.attempts(3)
    assert await fixture.look(8 * MINUTE) == [MailKind.FAILING]
    assert await fixture.look(9 * MINUTE) == []
    await fixture.attempts(10, outcome=OutcomeKind.DELIVERED)
    assert await fixture.look(11 * MINUTE) == [MailKind.RECOVERED]
    assert await fixture.look(12 * MINUTE) == []
    # The next trouble is reported too.
    await fixture.attempts(20, 21)
    assert await fixture.look(26 * MINUTE) == [MailKind.FAILING]
    failing, recovered, _ = await fixture.events()
    assert (recovered.type, recovered.data["since"]) == ("webhook.recovered", "2026-04-10T12:08:00Z")
    assert failing.id != recovered.id


async def test_of_pauses_again_and_again_some_have_an_event(fixture: NoticeFixture) -> None:
    for number in range(MAX_EVENTS_AN_HOUR + 3):
        await fixture.attempts(*(number + second / 60 for second in range(5)), epoch=number + 1)
        await fixture.store.webhooks.change("wh_crm", to_active)
    assert len(await fixture.all()) == MAX_EVENTS_AN_HOUR + 3
    assert len(await fixture.events()) == MAX_EVENTS_AN_HOUR
    await fixture.attempts(*(70 + second / 60 for second in range(5)), epoch=MAX_EVENTS_AN_HOUR + 4)
    assert len(await fixture.events()) == MAX_EVENTS_AN_HOUR + 1


async def test_a_pause_is_reported_at_once_after_a_day_and_at_its_end(fixture: NoticeFixture) -> None:
    await fixture.attempts(0, 1, 2, 3, 4)
    [paused] = await fixture.all()
    assert paused.kind is MailKind.PAUSED
    assert await fixture.look(23.9 * 60 * MINUTE) == []
    assert await fixture.look(DAY + 5 * MINUTE) == [MailKind.STILL_PAUSED]
    assert await fixture.look(3 * DAY) == []
    await fixture.store.webhooks.change("wh_crm", to_active)
    assert await fixture.look(3 * DAY) == []
    await fixture.attempts(4 * 1440, outcome=OutcomeKind.DELIVERED, epoch=2)
    assert await fixture.look(4 * DAY + MINUTE) == [MailKind.RECOVERED]
    first, later, recovered = await fixture.events()
    assert (first.type, first.data["reason"], first.data["pausedHours"]) == ("webhook.paused", "failures", 0)
    assert (later.type, later.data["pausedHours"], later.data["pausedAt"]) == (
        *("webhook.paused", 24, "2026-04-10T12:04:00Z"),
    )
    assert recovered.type == "webhook.recovered"


async def test_a_secret_that_ends_is_reported_hours_before(fixture: NoticeFixture) -> None:
    until = NOON + 3 * DAY
    old = replace(webhook().secrets[0], valid_until=until)
    await change(fixture, secrets=(old, ciphertext(NEW_SECRET)))
    assert await fixture.look(2.7 * DAY) == []
    assert await fixture.look(2.75 * DAY) == [MailKind.SECRET_ENDING]
    assert await fixture.look(2.9 * DAY) == []
    assert await fixture.look(4 * DAY) == []
    [event] = await fixture.events()
    assert (event.type, event.data["until"]) == ("webhook.secret.ending", "2026-04-13T12:00:00Z")


async def test_a_muted_notice_makes_an_event_and_no_mail(fixture: NoticeFixture) -> None:
    accounts = SqlAccounts(fixture.store.database)
    muted = (MailKind.FAILING, MailKind.PAUSED)
    await accounts.change("acme", lambda known: replace(known, muted_mails=muted))
    await fixture.attempts(0, 1)
    assert await fixture.look(5.5 * MINUTE) == [MailKind.FAILING]
    await fixture.attempts(6, 7, 8)
    assert {mail.kind for mail in await fixture.all()} == set(muted)
    for mail in await fixture.all():
        assert (mail.status, mail.problem) == (MailStatus.NOT_SENT, MUTED_MESSAGE)
    assert [event.type for event in await fixture.events()] == ["webhook.failing", "webhook.paused"]


async def test_notices_of_one_kind_within_a_minute_are_one_mail(fixture: NoticeFixture) -> None:
    for number in range(3):
        await fixture.store.webhooks.add(Registration(webhook(id=f"wh_{number}"), NOON))
        failed = attempt(
            webhook_id=f"wh_{number}", outcome=OutcomeKind.SERVER_ERROR, next_step=NextStep.TIER, tier="30s"
        )
        later = failed._replace(number=2, started_at=NOON + MINUTE, ended_at=NOON + MINUTE)
        await fixture.store.recorder.record(merge_records([RecordedValue(one, NOON) for one in (failed, later)]))
    assert await fixture.look(60 * MINUTE) == [MailKind.FAILING] * 3
    owed = await fixture.mails.next_due(MailKind.FAILING, "", NOON + 62 * MINUTE)
    assert owed is not None
    assert len(owed.mails) == 3
    assert len(await fixture.events()) == 3


async def test_a_deleted_webhook_has_no_notice(fixture: NoticeFixture) -> None:
    await fixture.attempts(0, 1)
    await fixture.store.webhooks.change("wh_crm", lambda known: None)
    assert await fixture.look(60 * MINUTE) == []


@pytest.mark.parametrize("public_url", ["https://hooks.example.com", None])
async def test_each_notice_has_a_mail_for_people(fixture: NoticeFixture, public_url: str | None) -> None:
    await fixture.attempts(0, 1)
    await fixture.look(5 * MINUTE)
    await fixture.attempts(6, 7, 8)
    await fixture.look(2 * DAY)
    old = replace(webhook().secrets[0], valid_until=NOON + 3 * DAY)
    await change(fixture, secrets=(old, ciphertext(NEW_SECRET)))
    await fixture.look(2.8 * DAY)
    await fixture.store.webhooks.change("wh_crm", to_active)
    await fixture.attempts(4 * 1440, outcome=OutcomeKind.DELIVERED, epoch=2)
    await fixture.look(4 * DAY + MINUTE)
    subjects = [compose(mail, public_url).subject for mail in (await fixture.all())[::-1]]
    name = "https://crm.example.com/hooks"
    assert subjects == [
        f"Webhook failing: {name}",
        f"Webhook paused: {name}",
        f"Webhook still paused: {name}",
        f"Old signing secret ends: {name}",
        f"Webhook recovered: {name}",
    ]
    for mail in await fixture.all():
        assert (public_url or "scorm-webhooks webhooks show wh_crm") in compose(mail, public_url).text


async def test_a_threshold_of_launches_is_mailed_once(fixture: NoticeFixture) -> None:
    reached = {"account_id": "acme", "month": "2026-04", "launches": 80, "plan_limit": 100}
    async with fixture.store.database.transaction() as connection:
        for percent, at in ((80, NOON), (100, NOON), (80, NOON - 3 * DAY)):
            month = "2026-04" if at == NOON else "2026-03"
            await connection.execute(
                insert(usage_notices).values({**reached, "percent": percent, "at": at, "month": month})
            )
    assert await fixture.look(MINUTE) == [MailKind.QUOTA] * 2
    assert await fixture.look(2 * MINUTE) == []
    # Webhooks get `usage.threshold` from `meter`.
    assert await fixture.events() == []
    subjects = {compose(mail, None).subject for mail in await fixture.all()}
    assert subjects == {f"{percent} percent of the launches of 2026-04 are used" for percent in (80, 100)}


async def test_a_certificate_that_ends_is_reported_once(fixture: NoticeFixture) -> None:
    ends_at = NOON + 10 * DAY
    for number in range(2):
        seen = attempt(event_id=f"evt_{number}", certificate_ends_at=ends_at)
        await fixture.store.recorder.record(merge_records([RecordedValue(seen, NOON)]))
        assert await fixture.look(number * DAY) == [MailKind.CERTIFICATE_ENDING][number:]
    [event] = await fixture.events()
    assert (event.type, event.data["until"]) == ("webhook.certificate.ending", "2026-04-20T12:00:00Z")
    [mail] = await fixture.all()
    assert "ends within two weeks" in compose(mail, None).text
