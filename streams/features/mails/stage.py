"""notify: send the mails that are owed, each until the mail server accepts it or for three days."""

import asyncio
import json
from collections.abc import Coroutine, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

from streams.core.errors import PartiallySent, RowRefused, Unavailable
from streams.core.mail import Mail, MailKind, RenderedMail, next_due_at
from streams.core.session import LINK_LIFETIME
from streams.features.mails.storage import SqlMails
from streams.features.mails.text import compose, compose_sign_in, group_pauses
from streams.outage import DATABASE, MAIL_SERVER, Outages
from streams.ports import Clock, DueMails, Encryption, Lease, MailTransport, Telemetry

POLL_INTERVAL_SECONDS = 1.0
REMINDER_INTERVAL_SECONDS = 600.0
RENEW_INTERVAL_SECONDS = 3.0
# A sign-in waits for one other mail at most, beside the one that is being sent.
KIND_TURNS = (MailKind.SIGN_IN, MailKind.PAUSED, MailKind.SIGN_IN, MailKind.DEAD_LETTERS)

NO_RECIPIENT_MESSAGE = "The account has no e-mail address."
NO_RECIPIENT_LEFT_MESSAGE = "The recipients that still waited for this mail were removed from the account."
CODE_EXPIRED_MESSAGE = "The mail server did not take it before its code expired."
NO_MAIL_SERVER_MESSAGE = "No mail server is configured: SMTP_URL is not set."


class Notify:
    """Sends mails, one process at a time by lease: send → store that it was sent.

    Kinds of mails take turns, and in each kind the accounts. The pauses of an account within a minute are one mail.
    A crash between the two sends one mail twice, with the same Message-ID, by which mailboxes recognise a duplicate.
    Without a mail server (`transport` is None) no mail is sent, and none is tried again.
    """

    def __init__(
        self,
        mails: SqlMails,
        transport: MailTransport | None,
        lease: Lease,
        encryption: Encryption,
        clock: Clock,
        telemetry: Telemetry,
        outages: Outages,
        public_url: str | None,
    ) -> None:
        self._mails = mails
        self._encryption = encryption
        self._transport = transport
        self._lease = lease
        self._clock = clock
        self._telemetry = telemetry
        self._database, self._mail_server = outages[DATABASE], outages[MAIL_SERVER]
        self._public_url = public_url
        self._log_of = {
            "sent": ("mail_sent", telemetry.info),
            "again": ("mail_postponed", telemetry.debug),
            "given_up": ("mail_given_up", telemetry.warning),
            "not_sent": ("mail_not_sent", telemetry.debug),
        }
        # The account of each kind that had the last turn.
        self._last_account = dict.fromkeys(KIND_TURNS, "")
        self._reminded_at: float | None = None
        self._is_stopping = False
        self._idle = asyncio.Event()

    async def run(self) -> None:
        """Serve until cancelled, through outages of the database and the mail server."""
        self._warn_of_missing_settings()
        while not self._is_stopping:
            self._idle.clear()
            sent_count = 0
            try:
                if await self._lease.renew():
                    await self._remind()
                    sent_count = await self._send_due()
            except Unavailable as error:
                self._database.begin(self, str(error))
            else:
                self._database.end(self)
            self._idle.set()
            await asyncio.sleep(0 if sent_count else POLL_INTERVAL_SECONDS)
        # If it ended here, the process would close the database while `drain` releases the lease.
        await asyncio.Event().wait()

    async def drain(self, seconds: float) -> None:
        """Start no further mail, wait for the one in progress, and release the lease.

        Raises `TimeoutError` when the mail server takes longer: the next process sends this mail again.
        """
        self._is_stopping = True
        await asyncio.wait_for(self._idle.wait(), seconds)
        with suppress(Unavailable):
            await self._lease.release()

    def _warn_of_missing_settings(self) -> None:
        if self._transport is None:
            self._telemetry.warning("smtp_url_not_set", effect="no mail is sent; GET /v1/notifications lists them")
        if self._public_url is None:
            self._telemetry.warning(
                "public_url_not_set", effect="mails have no link", setting="SCORM_WEBHOOKS_PUBLIC_URL"
            )

    async def _remind(self) -> None:
        now = asyncio.get_running_loop().time()
        if self._reminded_at is None or now - self._reminded_at >= REMINDER_INTERVAL_SECONDS:
            await self._mails.enqueue_reminders(self._clock.now())
            self._reminded_at = now

    async def _send_due(self) -> int:
        """Send one mail for each turn. Returns how many were tried."""
        attempt_count = 0
        for kind in KIND_TURNS:
            mail = await self._mails.next_due(kind, self._last_account[kind], self._clock.now())
            if mail is None:
                continue
            if self._is_stopping or not await self._lease.renew():
                break
            mails = await self._with_lease(self._send_one(mail))
            await self._mails.settle(mails)
            self._last_account[kind] = mails[0].account_id
            attempt_count += 1
            outcome = self._outcome(mails[0])
            self._telemetry.count("mails_total", outcome=outcome)
            event, log_event = self._log_of[outcome]
            log_event(event, mail_id=mails[0].id, kind=str(kind), why=mails[0].problem)
        return attempt_count

    def _outcome(self, mail: Mail) -> str:
        if self._transport is None:
            return "not_sent"
        return "sent" if mail.sent_at else "again" if mail.due_at else "given_up"

    async def _with_lease(self, sending: Coroutine[Any, Any, Sequence[Mail]]) -> Sequence[Mail]:
        """Renew the lease while a slow mail server takes its time."""
        task = asyncio.create_task(sending)
        while not task.done():
            await asyncio.wait({task}, timeout=RENEW_INTERVAL_SECONDS)
            with suppress(Unavailable):
                await self._lease.renew()
        return task.result()

    async def _send_one(self, due_mails: DueMails) -> Sequence[Mail]:
        """Send one mail. Returns the mails that it consists of with the result."""
        if self._transport is None:
            return [replace(mail, due_at=None, problem=NO_MAIL_SERVER_MESSAGE) for mail in due_mails.mails]
        mails = [replace(mail, tries=mail.tries + 1) for mail in group_pauses(due_mails.mails)]
        first_mail, now = mails[0], self._clock.now()
        if first_mail.kind is MailKind.SIGN_IN and now >= first_mail.created_at + LINK_LIFETIME:
            return _give_up(mails, CODE_EXPIRED_MESSAGE)
        emails = (
            [email for email in due_mails.emails if email in first_mail.unreached]
            if first_mail.unreached
            else due_mails.emails
        )
        if not emails:
            return _give_up(mails, NO_RECIPIENT_LEFT_MESSAGE if first_mail.unreached else NO_RECIPIENT_MESSAGE)
        try:
            # The newest one's id: mailboxes drop a second mail with the same id, and a pause may have joined the mail.
            problem = await self._transport.send(mails[-1].id, emails, self._compose(first_mail))
        except PartiallySent as error:
            self._mail_server.end(self)
            return self._postpone(mails, str(error), error.unreached)
        except Unavailable as error:
            self._mail_server.begin(self, str(error))
            return self._postpone(mails, str(error), first_mail.unreached)
        except RowRefused as error:
            self._mail_server.end(self)
            return _give_up(mails, str(error))
        except Exception as error:
            # A mail that cannot be built must not stop the others.
            return _give_up(mails, f"our own code failed: {type(error).__name__}")
        self._mail_server.end(self)
        sent_at = self._clock.now()
        return [replace(mail, due_at=None, sent_at=sent_at, problem=problem, unreached=()) for mail in mails]

    def _postpone(self, mails: Sequence[Mail], problem: str, unreached_emails: tuple[str, ...]) -> Sequence[Mail]:
        now = self._clock.now()
        due_times = (next_due_at(mail.tries, now) for mail in mails)
        return [
            replace(mail, due_at=at, problem=problem, unreached=unreached_emails)
            for mail, at in zip(mails, due_times, strict=True)
        ]

    def _compose(self, mail: Mail) -> RenderedMail:
        if mail.kind is not MailKind.SIGN_IN:
            return compose(mail, self._public_url)
        secret = json.loads(self._encryption.decrypt(mail.details["ciphertext"]))
        return compose_sign_in(secret["token"], secret["code"], self._public_url)


def _give_up(mails: Sequence[Mail], problem: str) -> Sequence[Mail]:
    return [replace(mail, due_at=None, problem=problem) for mail in mails]
