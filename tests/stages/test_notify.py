"""Mails that are owed, sent once each whatever the mail server does."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import pytest_asyncio
from sqlalchemy import update

from contract.stores import SqlStore, failed, sql_store
from fakes import FakeLease, FakeTelemetry
from streams.adapters.sql.account_tables import accounts
from streams.adapters.sql.database import database_url
from streams.adapters.sql.mails import SqlMails
from streams.core.delivery_state import fold
from streams.core.errors import PartiallySent, Refused, Unavailable
from streams.core.mail import Mail, MailStatus, RenderedMail
from streams.stages import notify as notify_module
from streams.stages.notify import Notify


@dataclass
class FakeMailTransport:
    """A `AttemptSender` whose server is in turn as the script says, and well after that."""

    script: list[Exception] = field(default_factory=list)
    sent: list[tuple[str, tuple[str, ...], RenderedMail]] = field(default_factory=list)
    told: Callable[[], object] = lambda: None

    async def send(self, message_id: str, emails: Sequence[str], mail_text: RenderedMail) -> str | None:
        await asyncio.sleep(0)
        if self.script:
            raise self.script.pop(0)
        self.sent.append((message_id, tuple(emails), mail_text))
        self.told()
        return None


@dataclass
class NotifyFixture:
    """A stage with a database that owes one mail."""

    store: SqlStore
    mails: SqlMails
    transport: FakeMailTransport
    lease: FakeLease
    telemetry: FakeTelemetry
    has_mail_server: bool = True
    public_url: str | None = "https://hooks.example.com"

    def stage(self) -> Notify:
        transport = self.transport if self.has_mail_server else None
        return Notify(self.mails, transport, self.lease, self.store.clock, self.telemetry, self.public_url)

    async def mail(self) -> Mail:
        [mail] = (await self.mails.list("acme", None, 10)).rows
        return mail

    async def runs_until(self, condition: Callable[[Mail], bool]) -> Mail:
        running = asyncio.create_task(self.stage().run())
        try:
            async with asyncio.timeout(5):
                while not condition(mail := await self.mail()):
                    await asyncio.sleep(0.005)
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
        return mail


@pytest_asyncio.fixture
async def notifying(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[NotifyFixture]:
    monkeypatch.setattr(notify_module, "LOOK_EVERY_SECONDS", 0.005)
    async with sql_store(database_url(f"sqlite:///{tmp_path}/db.sqlite")) as store:
        for number in range(5):
            await store.recorder.record(fold([failed(number)]))
        mails = SqlMails(store.database, lambda prefix: f"{prefix}_new")
        yield NotifyFixture(store, mails, FakeMailTransport(), FakeLease(clock=store.clock), FakeTelemetry())


async def test_a_pause_is_told_once_to_the_accounts_addresses(notifying: NotifyFixture) -> None:
    mail = await notifying.runs_until(lambda mail: mail.sent_at is not None)
    assert (mail.tries, mail.due_at, mail.problem) == (1, None, None)
    [(message_id, emails, mail_text)] = notifying.transport.sent
    assert (message_id, emails) == (mail.id, ("ops@acme.example",))
    assert "5 attempts in a row failed" in mail_text.text
    notifying.store.clock.advance(7 * 86_400)
    await notifying.runs_until(lambda mail: True)
    assert len(notifying.transport.sent) == 1


async def test_a_mail_is_tried_again_later_and_later(notifying: NotifyFixture) -> None:
    notifying.transport.script = [Unavailable("connection refused")] * 3
    mail = await notifying.runs_until(lambda mail: mail.tries == 1)
    assert (mail.problem, mail.sent_at) == ("connection refused", None)
    for tries, seconds in ((2, 30), (3, 120)):
        notifying.store.clock.advance(seconds - 1)
        assert (await notifying.runs_until(lambda mail: True)).tries == tries - 1
        notifying.store.clock.advance(1)
        await notifying.runs_until(lambda mail, tries=tries: mail.tries == tries)  # type: ignore[misc]
    notifying.store.clock.advance(600)
    mail = await notifying.runs_until(lambda mail: mail.sent_at is not None)
    assert (mail.tries, mail.problem) == (4, None)


async def test_an_outage_of_the_mail_server_is_logged_once(notifying: NotifyFixture) -> None:
    notifying.transport.script = [Unavailable("connection refused")] * 2
    running = asyncio.create_task(notifying.stage().run())
    async with asyncio.timeout(5):
        while (mail := await notifying.mail()).sent_at is None:
            if mail.due_at:
                notifying.store.clock.advance(max(0.0, (mail.due_at - notifying.store.clock.now()).total_seconds()))
            await asyncio.sleep(0.005)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    logged = [event for event, _ in notifying.telemetry.logged if event != "mail_postponed"]
    assert logged == ["mail_server_unreachable", "mail_server_reachable", "mail_sent"]


async def test_only_unreached_recipients_get_a_mail_again(notifying: NotifyFixture) -> None:
    async with notifying.store.database.transaction() as connection:
        await connection.execute(update(accounts).values(emails=["ops@acme.example", "cto@acme.example"]))
    notifying.transport.script = [
        PartiallySent("450 greylisted", ["cto@acme.example"]),
        Unavailable("connection refused"),
    ]
    mail = await notifying.runs_until(lambda mail: mail.tries == 1)
    assert (mail.problem, mail.sent_at, mail.unreached) == ("450 greylisted", None, ("cto@acme.example",))
    for seconds in (30, 120):
        notifying.store.clock.advance(seconds)
        mail = await notifying.runs_until(lambda mail, tries=mail.tries + 1: mail.tries == tries)  # type: ignore[misc]
    assert (mail.problem, mail.unreached, mail.sent_at is not None) == (None, (), True)
    assert [emails for _, emails, _ in notifying.transport.sent] == [("cto@acme.example",)]


async def test_who_was_yet_to_get_a_mail_may_leave_the_account(notifying: NotifyFixture) -> None:
    notifying.transport.script = [PartiallySent("450 greylisted", ["former@acme.example"])]
    await notifying.runs_until(lambda mail: mail.tries == 1)
    notifying.store.clock.advance(30)
    mail = await notifying.runs_until(lambda mail: mail.tries == 2)
    assert (mail.due_at, mail.problem) == (None, notify_module.NO_RECIPIENT_LEFT)
    assert notifying.transport.sent == []


async def test_a_refused_mail_is_given_up_with_its_reason(notifying: NotifyFixture) -> None:
    notifying.transport.script = [Refused("550 no such user")]
    mail = await notifying.runs_until(lambda mail: mail.tries == 1)
    assert (mail.due_at, mail.sent_at, mail.problem) == (None, None, "550 no such user")
    assert notifying.telemetry.told("mail_given_up") == 1


async def test_a_broken_mail_does_not_stop_others(notifying: NotifyFixture) -> None:
    notifying.transport.script = [ValueError("header with a line break")]
    mail = await notifying.runs_until(lambda mail: mail.tries == 1)
    assert (mail.due_at, mail.sent_at, mail.problem) == (None, None, "our own code failed: ValueError")


async def test_without_a_mail_server_no_mail_counts_as_sent(notifying: NotifyFixture) -> None:
    notifying.has_mail_server = False
    mail = await notifying.runs_until(lambda mail: mail.due_at is None)
    assert (mail.status, mail.sent_at, mail.problem) == (MailStatus.NOT_SENT, None, notify_module.NO_MAIL_SERVER)
    assert mail.tries == 0
    assert (notifying.telemetry.told("mail_not_sent"), notifying.telemetry.told("mail_sent")) == (1, 0)
    assert notifying.telemetry.told("smtp_url_not_set") == 1


async def test_without_a_public_url_the_start_warns(notifying: NotifyFixture) -> None:
    notifying.public_url = None
    await notifying.runs_until(lambda mail: mail.status is MailStatus.SENT)
    assert notifying.telemetry.told("public_url_not_set") == 1
    [(_, _, mail_text)] = notifying.transport.sent
    assert "http" not in mail_text.text.replace("https://crm.example.com", "")


async def test_with_both_settings_the_start_warns_of_nothing(notifying: NotifyFixture) -> None:
    await notifying.runs_until(lambda mail: mail.status is MailStatus.SENT)
    assert (notifying.telemetry.told("smtp_url_not_set"), notifying.telemetry.told("public_url_not_set")) == (0, 0)


async def test_a_crash_after_sending_repeats_the_mail(notifying: NotifyFixture) -> None:
    stage = asyncio.create_task(notifying.stage().run())
    # The server has it, and this is the last thing that the process did.
    notifying.transport.told = stage.cancel
    await asyncio.wait_for(asyncio.gather(stage, return_exceptions=True), 5)
    assert (await notifying.mail()).sent_at is None
    notifying.transport.told = lambda: None
    await notifying.runs_until(lambda mail: mail.sent_at is not None)
    assert [message_id for message_id, _, _ in notifying.transport.sent] == [(await notifying.mail()).id] * 2


async def test_only_the_holder_of_the_lease_sends(notifying: NotifyFixture) -> None:
    rival = notifying.lease.rival()
    assert await rival.renew()
    await notifying.runs_until(lambda mail: True)
    assert notifying.transport.sent == []
    await rival.release()
    await notifying.runs_until(lambda mail: mail.sent_at is not None)


async def test_a_drain_ends_between_two_mails_and_gives_the_lease_back(notifying: NotifyFixture) -> None:
    stage = notifying.stage()
    running = asyncio.create_task(stage.run())
    async with asyncio.timeout(5):
        while not notifying.transport.sent:
            await asyncio.sleep(0.005)
    await stage.drain(5)
    await running
    assert not notifying.lease.held
