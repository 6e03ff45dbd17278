"""`notify` sends each mail once, through any failure of the mail server."""

import asyncio
import inspect
import itertools
import json
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from sqlalchemy import insert, select, update
from sqlalchemy.dialects.sqlite import insert as sqlite_insert

from contract.stores import SqlStore, failed, sql_store
from fakes import FakeEncryption, FakeLease, FakeTelemetry, postponed_work
from streams.adapters.avro.codec import AvroCodec
from streams.adapters.sql.engine.database import database_url
from streams.adapters.sql.outgoing_events import OutgoingEventWriter
from streams.adapters.sql.tables.accounts import accounts, mails
from streams.core.accounts.mail import PAUSE_GROUPING_WINDOW, Mail, MailKind, MailStatus, RenderedMail
from streams.core.accounts.session import LINK_LIFETIME, SignIn
from streams.core.deliveries.delivery_state import merge_records
from streams.core.errors import InvalidRecord, PartiallySent, RowRefused, Unavailable
from streams.core.failed_work import FailedRow, FailedRows
from streams.features.mails import stage as notify_module
from streams.features.mails.stage import Notify, NotifyTimes
from streams.features.mails.storage import SqlMails
from streams.features.mails.text import compose
from streams.features.sign_in.storage import SqlSignIns
from streams.outage import Outages
from streams.ports.storage import DueMails


@dataclass
class FakeMailTransport:
    """A `MailTransport` that raises the errors of `script` first, and then sends."""

    script: list[Exception] = field(default_factory=list)
    sent: list[tuple[str, tuple[str, ...], RenderedMail]] = field(default_factory=list)
    on_send: Callable[[], object] = lambda: None
    asked: asyncio.Event = field(default_factory=asyncio.Event)
    # The mail server answers when this is set.
    answers: asyncio.Event | None = None

    async def send(self, message_id: str, emails: Sequence[str], mail_text: RenderedMail) -> str | None:
        await asyncio.sleep(0)
        self.asked.set()
        if self.answers:
            await self.answers.wait()
        if self.script:
            raise self.script.pop(0)
        self.sent.append((message_id, tuple(emails), mail_text))
        if inspect.isawaitable(meanwhile := self.on_send()):
            await meanwhile
        return None


QUICK = NotifyTimes(poll_interval=0.005)


class WrongEncryption(FakeEncryption):
    """With keys of which none fits."""

    def decrypt(self, ciphertext: str) -> str:
        raise InvalidRecord("no encryption key fits")


@dataclass
class NotifyFixture:
    """The `notify` stage, and a database with one mail to send."""

    store: SqlStore
    mails: SqlMails
    transport: FakeMailTransport
    lease: FakeLease
    telemetry: FakeTelemetry
    has_mail_server: bool = True
    encryption: FakeEncryption = field(default_factory=FakeEncryption)
    public_url: str | None = "https://hooks.example.com"
    times: NotifyTimes = QUICK

    def stage(self) -> Notify:
        transport = self.transport if self.has_mail_server else None
        return Notify(
            self.mails,
            transport,
            self.lease,
            self.encryption,
            self.store.clock,
            self.telemetry,
            Outages(self.telemetry),
            postponed_work(self.telemetry, self.store.clock),
            self.public_url,
            self.times,
        )

    async def mail(self) -> Mail:
        [mail] = (await self.mails.list("acme", None, 10)).rows
        return mail

    async def run_until(self, condition: Callable[[Mail], bool]) -> Mail:
        stage = self.stage()
        running = asyncio.create_task(stage.run())
        try:
            async with asyncio.timeout(5):
                while not condition(mail := await self.mail()):
                    await asyncio.sleep(0.005)
            await stage.drain(5)  # The log follows the change in SQL.
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
        return mail


@pytest_asyncio.fixture(name="fixture")
async def notify_fixture(tmp_path: Path) -> AsyncIterator[NotifyFixture]:
    async with sql_store(database_url(f"sqlite:///{tmp_path}/db.sqlite")) as store:
        for number in range(5):
            await store.recorder.record(merge_records([failed(number)]))
        store.clock.advance(PAUSE_GROUPING_WINDOW.total_seconds())
        mails = SqlMails(store.database, OutgoingEventWriter(AvroCodec()))
        yield NotifyFixture(store, mails, FakeMailTransport(), FakeLease(clock=store.clock), FakeTelemetry())


async def test_a_pause_mails_the_accounts_addresses_once(fixture: NotifyFixture) -> None:
    mail = await fixture.run_until(lambda mail: mail.sent_at is not None)
    assert (mail.tries, mail.due_at, mail.problem) == (1, None, None)
    [(message_id, emails, mail_text)] = fixture.transport.sent
    assert (message_id, emails) == (mail.id, ("ops@acme.example",))
    assert "5 attempts in a row failed" in mail_text.text
    fixture.store.clock.advance(7 * 86_400)
    await fixture.run_until(lambda mail: True)
    assert len(fixture.transport.sent) == 1


async def test_the_waits_between_tries_of_a_mail_grow(fixture: NotifyFixture) -> None:
    fixture.transport.script = [Unavailable("connection refused")] * 3
    mail = await fixture.run_until(lambda mail: mail.tries == 1)
    assert (mail.problem, mail.sent_at) == ("connection refused", None)
    for tries, seconds in ((2, 30), (3, 120)):
        fixture.store.clock.advance(seconds - 1)
        assert (await fixture.run_until(lambda mail: True)).tries == tries - 1
        fixture.store.clock.advance(1)
        await fixture.run_until(lambda mail, tries=tries: mail.tries == tries)  # type: ignore[misc]
    fixture.store.clock.advance(600)
    mail = await fixture.run_until(lambda mail: mail.sent_at is not None)
    assert (mail.tries, mail.problem) == (4, None)


async def test_an_outage_of_the_mail_server_is_logged_once(fixture: NotifyFixture) -> None:
    fixture.transport.script = [Unavailable("connection refused")] * 2
    stage = fixture.stage()
    running = asyncio.create_task(stage.run())
    async with asyncio.timeout(5):
        while (mail := await fixture.mail()).sent_at is None:
            if mail.due_at:
                fixture.store.clock.advance(max(0.0, (mail.due_at - fixture.store.clock.now()).total_seconds()))
            await asyncio.sleep(0.005)
    await stage.drain(5)  # The log follows the change in SQL.
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    logged = [event for event, _ in fixture.telemetry.logged if event != "mail_postponed"]
    assert logged == ["mail_server_unreachable", "mail_server_reachable", "mail_sent"]


async def test_only_unreached_recipients_get_a_mail_again(fixture: NotifyFixture) -> None:
    async with fixture.store.database.transaction() as connection:
        await connection.execute(update(accounts).values(emails=["ops@acme.example", "cto@acme.example"]))
    fixture.transport.script = [
        PartiallySent("450 greylisted", ["cto@acme.example"]),
        Unavailable("connection refused"),
    ]
    mail = await fixture.run_until(lambda mail: mail.tries == 1)
    assert (mail.problem, mail.sent_at, mail.unreached) == ("450 greylisted", None, ("cto@acme.example",))
    for seconds in (30, 120):
        fixture.store.clock.advance(seconds)
        mail = await fixture.run_until(lambda mail, tries=mail.tries + 1: mail.tries == tries)  # type: ignore[misc]
    assert (mail.problem, mail.unreached, mail.sent_at is not None) == (None, (), True)
    assert [emails for _, emails, _ in fixture.transport.sent] == [("cto@acme.example",)]


async def test_a_recipient_who_left_the_account_gets_no_retry(fixture: NotifyFixture) -> None:
    fixture.transport.script = [PartiallySent("450 greylisted", ["former@acme.example"])]
    await fixture.run_until(lambda mail: mail.tries == 1)
    fixture.store.clock.advance(30)
    mail = await fixture.run_until(lambda mail: mail.tries == 2)
    assert (mail.due_at, mail.problem) == (None, notify_module.NO_RECIPIENT_LEFT_MESSAGE)
    assert fixture.transport.sent == []


async def test_a_refused_mail_is_given_up_with_its_reason(fixture: NotifyFixture) -> None:
    fixture.transport.script = [RowRefused("550 no such user")]
    mail = await fixture.run_until(lambda mail: mail.tries == 1)
    assert (mail.due_at, mail.sent_at, mail.problem) == (None, None, "550 no such user")
    assert fixture.telemetry.logged_count("mail_given_up") == 1


async def test_a_broken_mail_is_tried_again_later(fixture: NotifyFixture) -> None:
    fixture.transport.script = [ValueError("header with a line break")]
    mail = await fixture.run_until(lambda mail: fixture.telemetry.logged_count("work_postponed") > 0)
    assert (mail.tries, mail.status) == (0, MailStatus.PENDING)
    mail = await fixture.run_until(lambda mail: mail.sent_at is not None)
    assert mail.status is MailStatus.SENT


async def test_with_wrong_keys_a_sign_in_mail_waits(fixture: NotifyFixture) -> None:
    await ask(fixture)
    fixture.encryption = WrongEncryption()
    await fixture.run_until(lambda mail: fixture.telemetry.logged_count("encryption_keys_wrong") > 0)
    fixture.encryption = FakeEncryption()
    fixture.store.clock.advance(30)
    await fixture.run_until(lambda mail: len(fixture.transport.sent) == 2)
    assert fixture.telemetry.logged_count("mail_given_up") == 0


async def test_without_a_mail_server_no_mail_counts_as_sent(fixture: NotifyFixture) -> None:
    fixture.has_mail_server = False
    mail = await fixture.run_until(lambda mail: mail.due_at is None)
    assert (mail.status, mail.sent_at, mail.problem) == (
        MailStatus.NOT_SENT,
        None,
        notify_module.NO_MAIL_SERVER_MESSAGE,
    )
    assert mail.tries == 0
    assert (fixture.telemetry.logged_count("mail_not_sent"), fixture.telemetry.logged_count("mail_sent")) == (1, 0)
    assert fixture.telemetry.logged_count("smtp_url_not_set") == 1


async def test_without_a_public_url_the_start_warns(fixture: NotifyFixture) -> None:
    fixture.public_url = None
    await fixture.run_until(lambda mail: mail.status is MailStatus.SENT)
    assert fixture.telemetry.logged_count("public_url_not_set") == 1
    [(_, _, mail_text)] = fixture.transport.sent
    assert "http" not in mail_text.text.replace("https://crm.example.com", "")


async def test_with_both_settings_the_start_logs_no_warning(fixture: NotifyFixture) -> None:
    await fixture.run_until(lambda mail: mail.status is MailStatus.SENT)
    assert (
        fixture.telemetry.logged_count("smtp_url_not_set"),
        fixture.telemetry.logged_count("public_url_not_set"),
    ) == (0, 0)


async def test_a_crash_after_sending_repeats_the_mail(fixture: NotifyFixture) -> None:
    stage = asyncio.create_task(fixture.stage().run())
    # The server has the mail, and the process dies now.
    fixture.transport.on_send = stage.cancel
    await asyncio.wait_for(asyncio.gather(stage, return_exceptions=True), 5)
    assert (await fixture.mail()).sent_at is None
    fixture.transport.on_send = lambda: None
    await fixture.run_until(lambda mail: mail.sent_at is not None)
    assert [message_id for message_id, _, _ in fixture.transport.sent] == [(await fixture.mail()).id] * 2


async def test_only_the_holder_of_the_lease_sends(fixture: NotifyFixture) -> None:
    rival = fixture.lease.rival()
    assert await rival.renew()
    await fixture.run_until(lambda mail: True)
    assert fixture.transport.sent == []
    await rival.release()
    await fixture.run_until(lambda mail: mail.sent_at is not None)


async def test_who_loses_the_lease_sends_no_further_mail(
    fixture: NotifyFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    await ask(fixture)
    refusals, renew = list[bool](), fixture.lease.renew

    async def noted() -> bool:
        if not (renewed := await renew()):
            refusals.append(renewed)
        return renewed

    monkeypatch.setattr(fixture.lease, "renew", noted)
    rival_until = fixture.store.clock.now() + timedelta(hours=1)

    def lose_the_lease() -> None:
        fixture.lease.ends.clear()
        fixture.lease.ends["rival"] = rival_until

    fixture.transport.on_send = lose_the_lease
    running = asyncio.create_task(fixture.stage().run())
    async with asyncio.timeout(5):
        while len(refusals) < 3:
            await asyncio.sleep(0.005)
    assert len(fixture.transport.sent) == 1
    running.cancel()


async def test_a_slow_mail_server_does_not_cost_the_lease(fixture: NotifyFixture) -> None:
    fixture.times = NotifyTimes(poll_interval=0.005, renew_interval=0.005)
    fixture.transport.answers = asyncio.Event()
    running = asyncio.create_task(fixture.stage().run())
    async with asyncio.timeout(5):
        await fixture.transport.asked.wait()
        fixture.store.clock.advance(10)
        while fixture.lease.ends["publisher"] < fixture.store.clock.now() + timedelta(seconds=15):
            await asyncio.sleep(0.005)
    running.cancel()


async def test_reminders_are_looked_for_regularly(fixture: NotifyFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    fixture.times = NotifyTimes(poll_interval=0.005, reminder_interval=0)
    looks, owe_reminders = list[datetime](), fixture.mails.enqueue_reminders

    async def noted(now: datetime, failed_rows: FailedRows) -> None:
        looks.append(now)
        await owe_reminders(now, failed_rows)

    monkeypatch.setattr(fixture.mails, "enqueue_reminders", noted)
    await fixture.run_until(lambda _: len(looks) > 2)


async def test_a_drain_ends_after_one_mail_and_releases_the_lease(fixture: NotifyFixture) -> None:
    stage = fixture.stage()
    running = asyncio.create_task(stage.run())
    async with asyncio.timeout(5):
        while not fixture.transport.sent:
            await asyncio.sleep(0.005)
    await stage.drain(5)
    assert not fixture.lease.held
    ended, _ = await asyncio.wait({running}, timeout=5 * fixture.times.poll_interval)
    assert not ended, "a stage that ends by itself closes its database during the drain"
    running.cancel()


async def test_a_drain_that_is_cut_keeps_the_lease(fixture: NotifyFixture) -> None:
    fixture.transport.answers = asyncio.Event()
    stage = fixture.stage()
    running = asyncio.create_task(stage.run())
    async with asyncio.timeout(5):
        await fixture.transport.asked.wait()
    with pytest.raises(TimeoutError):
        await stage.drain(0.01)
    assert fixture.lease.held, "the mail may still leave"
    running.cancel()


# -- turns ---------------------------------------------------------------------------------------------------------


NUMBERS = itertools.count()


async def owe(
    fixture: NotifyFixture, count: int, kind: MailKind, account_id: str | None = None, wait: timedelta = timedelta()
) -> None:
    """Owe mails about webhooks, due after `wait`: each to an account of its own, or all to this one."""
    now = fixture.store.clock.now()
    names = [account_id or f"account_{number:04}" for number in range(count)]
    details = {"reason": "failures", "url": "https://crm.example.com/?key=1", "failures": 5, "count": 1}
    rows = [
        asdict(Mail(f"mail_{n:06}", f"{kind}/{n}", name, f"wh_{n}", kind, details, now, due_at=now + wait))
        for n, name in zip(NUMBERS, names, strict=False)
    ]
    opened = [
        {"id": name, "name": name, "emails": [f"ops@{name}.example"], "created_at": now, "weekly_digest": True}
        for name in dict.fromkeys(names)
    ]
    async with fixture.store.database.transaction() as connection:
        await connection.execute(sqlite_insert(accounts).on_conflict_do_nothing(), opened)
        await connection.execute(insert(mails), rows)


async def sent_within(fixture: NotifyFixture, count: int) -> Sequence[tuple[str, ...]]:
    """The recipients of the first mails, in their order."""
    running = asyncio.create_task(fixture.stage().run())
    async with asyncio.timeout(20):
        while len(fixture.transport.sent) < count:
            await asyncio.sleep(0.005)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    return [emails for _, emails, _ in fixture.transport.sent[:count]]


@pytest.mark.parametrize("kind", [MailKind.PAUSED, MailKind.DEAD_LETTERS])
async def test_a_sign_in_overtakes_a_thousand_mails(fixture: NotifyFixture, kind: MailKind) -> None:
    await owe(fixture, 1000, kind)
    await owe(fixture, 1000, MailKind.DEAD_LETTERS, "acme")

    def ask_once() -> object:
        fixture.transport.on_send = lambda: None
        return ask(fixture)

    # While the first mail is sent, Ada asks for hers: at a second for each mail it leaves within three.
    fixture.transport.on_send = ask_once
    assert ("ada@acme.example",) in await sent_within(fixture, 3)


async def test_a_thousand_mails_of_an_account_delay_no_other(fixture: NotifyFixture) -> None:
    await owe(fixture, 1000, MailKind.DEAD_LETTERS, "acme")
    await owe(fixture, 1, MailKind.DEAD_LETTERS, "zeta")
    assert ("ops@zeta.example",) in await sent_within(fixture, 3)


async def test_mails_that_cannot_be_read_delay_no_other_kind(
    fixture: NotifyFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    next_due, numbers = fixture.mails.next_due, itertools.count()

    async def invalid_mails(kind: MailKind, *arguments: Any) -> DueMails | None:
        if kind is MailKind.SIGN_IN:
            return await next_due(kind, *arguments)
        arguments[-1].append(FailedRow(f"mail_{next(numbers)}", "acme", "of a newer release"))
        return None

    monkeypatch.setattr(fixture.mails, "next_due", invalid_mails)
    stage = asyncio.create_task(fixture.stage().run())
    async with asyncio.timeout(5):
        while next(numbers) < 3 * notify_module.MAX_INVALID_PER_TURN:
            await asyncio.sleep(0)
        await ask(fixture)
        while ("ada@acme.example",) not in [emails for _, emails, _ in fixture.transport.sent]:
            await asyncio.sleep(0.005)
    stage.cancel()


async def test_pauses_of_an_account_are_one_mail(fixture: NotifyFixture) -> None:
    await owe(fixture, 60, MailKind.PAUSED, "zeta")
    await fixture.run_until(lambda _: len(fixture.transport.sent) == 2)
    _, emails, mail_text = fixture.transport.sent[1]
    assert emails == ("ops@zeta.example",)
    assert mail_text.subject == "60 webhooks paused: https://crm.example.com/?… and 59 more"
    for text in (mail_text.text, mail_text.html):
        assert text.count("https://crm.example.com/") == 20
        assert "and 40 more" in text
        assert "https://hooks.example.com/webhooks" in text
        assert "key=1" not in text
    rows = (await fixture.mails.list("zeta", None, 100)).rows
    assert {row.status for row in rows} == {MailStatus.SENT}
    [first] = [row for row in rows if row.sent_with is None]
    assert compose(first, fixture.public_url) == mail_text
    assert {row.sent_with for row in rows if row != first} == {first.id}
    assert first.id in compose(rows[0] if rows[0] != first else rows[1], fixture.public_url).text


async def test_a_pause_waits_a_minute_for_others(fixture: NotifyFixture) -> None:
    await owe(fixture, 1, MailKind.PAUSED, "zeta", wait=PAUSE_GROUPING_WINDOW)
    fixture.store.clock.advance(59)
    await owe(fixture, 1, MailKind.PAUSED, "zeta", wait=PAUSE_GROUPING_WINDOW)
    await fixture.run_until(lambda mail: mail.sent_at is not None)
    assert len(fixture.transport.sent) == 1
    fixture.store.clock.advance(1)
    assert await sent_within(fixture, 2) == [("ops@acme.example",), ("ops@zeta.example",)]
    assert fixture.transport.sent[1][2].subject[:18] == "2 webhooks paused:"


async def test_pauses_with_other_recipients_left_are_apart(fixture: NotifyFixture) -> None:
    await owe(fixture, 1, MailKind.PAUSED, "zeta")
    fixture.transport.script = [PartiallySent("450 greylisted", ["ops@zeta.example"])] * 2
    await fixture.run_until(lambda _: not fixture.transport.script)
    fixture.store.clock.advance(30)
    await owe(fixture, 1, MailKind.PAUSED, "zeta")
    await sent_within(fixture, 2)
    assert {mail_text.subject[:15] for _, _, mail_text in fixture.transport.sent} == {"Webhook paused:"}


async def test_a_mail_that_another_pause_joined_has_another_id(fixture: NotifyFixture) -> None:
    fixture.transport.script = [Unavailable("it may have the mail")]
    await fixture.run_until(lambda mail: mail.tries == 1)
    await owe(fixture, 1, MailKind.PAUSED, "acme")
    fixture.store.clock.advance(30)
    await sent_within(fixture, 1)
    [(message_id, _, mail_text)] = fixture.transport.sent
    assert mail_text.subject[:18] == "2 webhooks paused:"
    assert message_id != (await fixture.mails.list("acme", None, 10)).rows[-1].id


# -- signing in --------------------------------------------------------------------------------------------------


async def ask(fixture: NotifyFixture) -> None:
    """Owe ada a mail with her code, as the API does."""
    secret = json.dumps({"token": "tok", "code": "1234 5678"})
    details = {"email": "ada@acme.example", "ciphertext": FakeEncryption().encrypt(secret)}
    now = fixture.store.clock.now()
    mail = Mail("mail_sign_in", "sign_in/1", "acme", "", MailKind.SIGN_IN, details, now, due_at=now)
    sign_in = SignIn("hash", "email:ada", now, now + LINK_LIFETIME, email="ada@acme.example")
    await SqlSignIns(fixture.store.database).add(sign_in, mail=mail)


async def problem_of(fixture: NotifyFixture) -> str | None:
    query = select(mails.c.problem).where(mails.c.id == "mail_sign_in")
    async with fixture.store.database.read_transaction() as connection:
        found: str | None = (await connection.execute(query)).scalar_one()
        return found


@pytest.mark.parametrize("public_url", ["https://hooks.example.com", None])
async def test_a_sign_in_mail_goes_to_the_person_with_code_and_link(
    fixture: NotifyFixture, public_url: str | None
) -> None:
    fixture.public_url = public_url
    await fixture.run_until(lambda mail: mail.sent_at is not None)
    await ask(fixture)
    await fixture.run_until(lambda mail: len(fixture.transport.sent) == 2)
    _, emails, mail_text = fixture.transport.sent[1]
    assert emails == ("ada@acme.example",)
    assert mail_text.subject == "Sign-in code 1234 5678"
    assert ("https://hooks.example.com/sign-in/tok" in mail_text.text) is (public_url is not None)
    assert "1234 5678" in mail_text.html


async def test_a_sign_in_mail_is_not_sent_after_its_code_expired(fixture: NotifyFixture) -> None:
    await fixture.run_until(lambda mail: mail.sent_at is not None)
    await ask(fixture)
    fixture.store.clock.advance(LINK_LIFETIME.total_seconds())
    running = asyncio.create_task(fixture.stage().run())
    async with asyncio.timeout(5):
        while await problem_of(fixture) != notify_module.CODE_EXPIRED_MESSAGE:
            await asyncio.sleep(0.005)
    running.cancel()
    assert len(fixture.transport.sent) == 1
