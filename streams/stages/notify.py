"""notify: send the mails that are owed, each until the mail server accepts it or for three days."""

import asyncio
import json
from collections.abc import Coroutine
from contextlib import suppress
from dataclasses import replace
from typing import Any

from streams.core.errors import PartiallySent, Refused, Unavailable
from streams.core.mail import Mail, MailKind, RenderedMail, compose, compose_sign_in, due_again
from streams.core.session import LINK_LASTS
from streams.outage import DATABASE, MAIL_SERVER, Outages
from streams.ports import Clock, Encryption, Lease, Mails, MailTransport, OwedMail, Telemetry

LOOK_EVERY_SECONDS = 0.5
REMIND_EVERY_SECONDS = 600.0
RENEW_EVERY_SECONDS = 3.0
BATCH_MAILS = 50

NO_RECIPIENT = "The account has no e-mail address."
NO_RECIPIENT_LEFT = "The recipients that still waited for this mail were removed from the account."
TOO_LATE = "The mail server did not take it before its code expired."
NO_MAIL_SERVER = "No mail server is configured: SMTP_URL is not set."


class Notify:
    """Sends mails, one process at a time by lease: send → store that it was sent.

    A crash between the two sends one mail twice, with the same Message-ID, by which mailboxes recognise a duplicate.
    Without a mail server (`transport` is None) no mail is sent, and none is tried again.
    """

    def __init__(
        self,
        mails: Mails,
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
        self._reminded_at: float | None = None
        self._stopping = False
        self._at_rest = asyncio.Event()

    async def run(self) -> None:
        """Serve until cancelled, through outages of the database and the mail server."""
        self._warn_of_missing_settings()
        while not self._stopping:
            self._at_rest.clear()
            try:
                if await self._lease.renew():
                    await self._remind()
                    await self._send_due()
            except Unavailable as away:
                self._database.begin(self, str(away))
            else:
                self._database.end(self)
            self._at_rest.set()
            await asyncio.sleep(LOOK_EVERY_SECONDS)
        # If it ended here, the process would close the database while `drain` releases the lease.
        await asyncio.Event().wait()

    async def drain(self, seconds: float) -> None:
        """Start no further mail, wait for the one in progress, and release the lease.

        Raises `TimeoutError` when the mail server takes longer: the next process sends this mail again.
        """
        self._stopping = True
        await asyncio.wait_for(self._at_rest.wait(), seconds)
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
        if self._reminded_at is None or now - self._reminded_at >= REMIND_EVERY_SECONDS:
            await self._mails.owe_reminders(self._clock.now())
            self._reminded_at = now

    async def _send_due(self) -> None:
        for owed in await self._mails.due(self._clock.now(), BATCH_MAILS):
            if self._stopping or not await self._lease.renew():
                return
            mail = await self._holding(self._try(owed))
            await self._mails.settle(mail)
            outcome = self._outcome(mail)
            self._telemetry.count("mails_total", outcome=outcome)
            event, log = self._log_of[outcome]
            log(event, mail_id=mail.id, kind=str(mail.kind), why=mail.problem)

    def _outcome(self, mail: Mail) -> str:
        if self._transport is None:
            return "not_sent"
        return "sent" if mail.sent_at else "again" if mail.due_at else "given_up"

    async def _holding(self, trying: Coroutine[Any, Any, Mail]) -> Mail:
        """Renew the lease while a slow mail server takes its time."""
        task = asyncio.create_task(trying)
        while not task.done():
            await asyncio.wait({task}, timeout=RENEW_EVERY_SECONDS)
            with suppress(Unavailable):
                await self._lease.renew()
        return task.result()

    async def _try(self, owed: OwedMail) -> Mail:
        if self._transport is None:
            return replace(owed.mail, due_at=None, problem=NO_MAIL_SERVER)
        mail = replace(owed.mail, tries=owed.mail.tries + 1)
        if mail.kind is MailKind.SIGN_IN and self._clock.now() >= mail.created_at + LINK_LASTS:
            return replace(mail, due_at=None, problem=TOO_LATE)
        emails = [email for email in owed.emails if email in mail.unreached] if mail.unreached else owed.emails
        if not emails:
            return replace(mail, due_at=None, problem=NO_RECIPIENT_LEFT if mail.unreached else NO_RECIPIENT)
        try:
            note = await self._transport.send(mail.id, emails, self._compose(mail))
        except PartiallySent as problem:
            self._mail_server.end(self)
            again = due_again(mail.tries, self._clock.now())
            return replace(mail, due_at=again, problem=str(problem), unreached=problem.unreached)
        except Unavailable as problem:
            self._mail_server.begin(self, str(problem))
            return replace(mail, due_at=due_again(mail.tries, self._clock.now()), problem=str(problem))
        except Refused as refusal:
            self._mail_server.end(self)
            return replace(mail, due_at=None, problem=str(refusal))
        except Exception as defect:
            # A mail that cannot be built must not stop the others.
            return replace(mail, due_at=None, problem=f"our own code failed: {type(defect).__name__}")
        self._mail_server.end(self)
        return replace(mail, due_at=None, sent_at=self._clock.now(), problem=note, unreached=())

    def _compose(self, mail: Mail) -> RenderedMail:
        if mail.kind is not MailKind.SIGN_IN:
            return compose(mail, self._public_url)
        secret = json.loads(self._encryption.decrypt(mail.details["ciphertext"]))
        return compose_sign_in(secret["token"], secret["code"], self._public_url)
