"""notify: send the waiting mails, each until the mail server accepts it or three days have passed."""

import asyncio
import json
from collections.abc import Coroutine, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

from streams.core.accounts.mail import NOTICE_KINDS, Mail, MailKind, RenderedMail, next_due_at
from streams.core.accounts.session import LINK_LIFETIME
from streams.core.encryption import WrongKeys
from streams.core.errors import ROW_ERRORS, InvalidRecord, PartiallySent, RowRefused, Unavailable
from streams.core.failed_work import FailedRow, WorkKind
from streams.features.mails.storage import SqlMails
from streams.features.mails.text import compose, compose_sign_in, group_mails
from streams.outage import DATABASE, ENCRYPTION_KEYS, MAIL_SERVER, Outages
from streams.ports.delivery import Encryption, MailTransport
from streams.ports.runtime import Clock, ProcessLease, Telemetry
from streams.ports.storage import DueMails
from streams.stages.postponed_work import PostponedWork

MAX_INVALID_PER_TURN = 10
# A sign-in waits for at most one other mail besides the one that is being sent.
KIND_TURNS = tuple(turn for kind in NOTICE_KINDS for turn in (MailKind.SIGN_IN, kind))
# Events of notices that are stored in one turn.
MAX_EVENTS_PER_TURN = 100

NO_RECIPIENT_MESSAGE = "The account has no e-mail address."
NO_RECIPIENT_LEFT_MESSAGE = "The recipients that still waited for this mail were removed from the account."
CODE_EXPIRED_MESSAGE = "The mail server did not take it before its code expired."
WRONG_KEYS_PROBLEM = "Its code cannot be decrypted: an operator must correct the encryption keys."
NO_MAIL_SERVER_MESSAGE = "No mail server is configured: SMTP_URL is not set."


@dataclass(frozen=True, slots=True, kw_only=True)
class NotifyTimes:
    """How often mails and reminders are looked for and the lease is renewed, in seconds."""

    poll_interval: float = 1.0
    notice_interval: float = 30.0
    reminder_interval: float = 600.0
    renew_interval: float = 3.0


class Notify:
    """Sends mails, one process at a time by lease: send → store that it was sent.

    Kinds of mails take turns, and so do the accounts in each kind. The notices of one kind to an account within a
    minute are one mail. A crash between the two sends one mail twice, with the same Message-ID, by which mailboxes
    detect duplicates. Without a mail server (`transport` is None) no mail is sent, and none is tried again.
    """

    def __init__(
        self,
        mails: SqlMails,
        transport: MailTransport | None,
        lease: ProcessLease,
        encryption: Encryption,
        clock: Clock,
        telemetry: Telemetry,
        outages: Outages,
        postponed_work: PostponedWork,
        public_url: str | None,
        times: NotifyTimes = NotifyTimes(),
    ) -> None:
        self._mails = mails
        self._encryption = encryption
        self._transport = transport
        self._lease = lease
        self._clock = clock
        self._telemetry = telemetry
        self._database, self._mail_server = outages[DATABASE], outages[MAIL_SERVER]
        self._keys = outages[ENCRYPTION_KEYS]
        self._postponed_work = postponed_work
        self._public_url = public_url
        self._times = times
        self._log_of = {
            "sent": ("mail_sent", telemetry.info),
            "again": ("mail_postponed", telemetry.debug),
            "given_up": ("mail_given_up", telemetry.warning),
            "not_sent": ("mail_not_sent", telemetry.debug),
        }
        # For each kind, the account that had the last turn.
        self._last_account = dict.fromkeys(KIND_TURNS, "")
        self._noticed_at: float | None = None
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
                    await self._look_for_notices()
                    await self._remind()
                    await self._store_events()
                    sent_count = await self._send_due()
            except Unavailable as error:
                self._database.begin(self, str(error))
            else:
                self._database.end(self)
            self._idle.set()
            await asyncio.sleep(0 if sent_count else self._times.poll_interval)
        # If `run` ended here, the process would close the database while `drain` releases the lease.
        await asyncio.Event().wait()

    async def drain(self, seconds: float) -> None:
        """Start no further mails, wait for the mail in progress, and release the lease.

        Raises `TimeoutError` if the mail server takes longer: the next process sends this mail again.
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

    async def _look_for_notices(self) -> None:
        now = asyncio.get_running_loop().time()
        if self._noticed_at is None or now - self._noticed_at >= self._times.notice_interval:
            failed_rows: list[FailedRow] = []
            await self._mails.enqueue_notices(self._clock.now(), failed_rows)
            await self._postponed_work.postpone_rows(WorkKind.REMINDER, failed_rows)
            self._noticed_at = now

    async def _store_events(self) -> None:
        failed_rows: list[FailedRow] = []
        excluded = self._postponed_work.postponed_ids(WorkKind.MAIL)
        await self._mails.store_events(MAX_EVENTS_PER_TURN, excluded, failed_rows)
        await self._postponed_work.postpone_rows(WorkKind.MAIL, failed_rows)

    async def _remind(self) -> None:
        now = asyncio.get_running_loop().time()
        if self._reminded_at is None or now - self._reminded_at >= self._times.reminder_interval:
            failed_rows: list[FailedRow] = []
            await self._mails.enqueue_reminders(self._clock.now(), failed_rows)
            await self._postponed_work.postpone_rows(WorkKind.REMINDER, failed_rows)
            self._reminded_at = now

    async def _send_due(self) -> int:
        """Send one mail for each turn. Returns the number tried."""
        attempt_count = 0
        for kind in KIND_TURNS:
            mail = await self._next_due(kind)
            if mail is None:
                continue
            if self._is_stopping or not await self._lease.renew():
                break
            attempt_count += 1
            self._last_account[kind] = mail.mails[0].account_id
            await self._send_together(kind, mail)
        return attempt_count

    async def _next_due(self, kind: MailKind) -> DueMails | None:
        """The next due mail. An invalid mail is put aside; many of them do not use up the turn."""
        for _ in range(MAX_INVALID_PER_TURN):
            excluded, failed_rows = self._postponed_work.postponed_ids(WorkKind.MAIL), list[FailedRow]()
            last_account, now = self._last_account[kind], self._clock.now()
            mail = await self._mails.next_due(kind, last_account, now, excluded, failed_rows)
            if not failed_rows:
                return mail
            await self._postponed_work.postpone_rows(WorkKind.MAIL, failed_rows)
        return None

    async def _send_together(self, kind: MailKind, due_mails: DueMails) -> None:
        """Send the mails as one; if one of them is invalid, send each separately."""
        if len(due_mails.mails) > 1:
            with suppress(*ROW_ERRORS):
                await self._send(kind, due_mails)
                return
        for mail in due_mails.mails:
            async with self._postponed_work.unit(WorkKind.MAIL, mail.id, mail.account_id):
                await self._send(kind, DueMails([mail], due_mails.emails))

    async def _send(self, kind: MailKind, due_mails: DueMails) -> None:
        mails = await self._with_lease(self._send_one(due_mails))
        await self._mails.settle(mails)
        outcome = self._outcome(mails[0])
        self._telemetry.count("mails_total", outcome=outcome)
        event, log_event = self._log_of[outcome]
        log_event(event, mail_id=mails[0].id, kind=str(kind), why=mails[0].problem)

    def _outcome(self, mail: Mail) -> str:
        if self._transport is None:
            return "not_sent"
        return "sent" if mail.sent_at else "again" if mail.due_at else "given_up"

    async def _with_lease(self, sending: Coroutine[Any, Any, Sequence[Mail]]) -> Sequence[Mail]:
        """Send while renewing the lease, because a mail server may be slow."""
        task = asyncio.create_task(sending)
        while not task.done():
            await asyncio.wait({task}, timeout=self._times.renew_interval)
            with suppress(Unavailable):
                await self._lease.renew()
        return task.result()

    async def _send_one(self, due_mails: DueMails) -> Sequence[Mail]:
        """Send one mail. Returns the mails that it combines, with the result."""
        if self._transport is None:
            return [replace(mail, due_at=None, problem=NO_MAIL_SERVER_MESSAGE) for mail in due_mails.mails]
        mails = [replace(mail, tries=mail.tries + 1) for mail in group_mails(due_mails.mails)]
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
            # The newest mail's id: mailboxes drop a second mail with the same id, and the mail may have gained a pause.
            problem = await self._transport.send(mails[-1].id, emails, self._compose(first_mail))
        except PartiallySent as error:
            self._mail_server.end(self)
            return self._postpone(mails, str(error), error.unreached)
        except WrongKeys as error:
            self._keys.begin(self, str(error))
            return self._postpone(mails, WRONG_KEYS_PROBLEM, first_mail.unreached)
        except Unavailable as error:
            self._mail_server.begin(self, str(error))
            return self._postpone(mails, str(error), first_mail.unreached)
        except RowRefused as error:
            self._mail_server.end(self)
            return _give_up(mails, str(error))
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
        try:
            secret = json.loads(self._encryption.decrypt(mail.details["ciphertext"]))
        except InvalidRecord:
            raise WrongKeys from None
        self._keys.end(self)
        return compose_sign_in(secret["token"], secret["code"], self._public_url)


def _give_up(mails: Sequence[Mail], problem: str) -> Sequence[Mail]:
    return [replace(mail, due_at=None, problem=problem) for mail in mails]
