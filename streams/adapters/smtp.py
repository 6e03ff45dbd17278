"""Send mail by SMTP."""

import smtplib
import ssl
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from email.message import EmailMessage
from email.utils import formatdate, parseaddr
from urllib.parse import parse_qs, unquote, urlsplit

from email_validator import EmailNotValidError, validate_email

from streams.adapters.threads import run_in_worker_thread
from streams.core.accounts.mail import RenderedMail
from streams.core.errors import Misconfigured, PartiallySent, RowRefused, Unavailable

# The timeout of each step of the SMTP dialogue.
TIMEOUT_SECONDS = 10.0
_PORTS = {"smtp": 587, "smtps": 465}
# RFC 6531 §3.5.
_NEEDS_SMTPUTF8 = (553, b"the server does not take addresses that are not ASCII (SMTPUTF8)")

Recipients = dict[str, tuple[int, bytes]]


@dataclass(frozen=True, slots=True)
class SmtpServer:
    """A mail server. `tls` is `tls` (from the start), `starttls` (required) or `none`."""

    host: str
    port: int
    tls: str
    user: str = ""
    password: str = ""

    def __repr__(self) -> str:
        return f"SmtpServer({self.host}:{self.port})"


def smtp_server(url: str) -> SmtpServer:
    """Parse SMTP_URL: `smtp://user:password@host:587` with STARTTLS, `smtps://…` with TLS, `?tls=none` without either.

    Raises `Misconfigured`.
    """
    try:
        parts = urlsplit(url)
        port = parts.port or _PORTS[parts.scheme]
        options = parse_qs(parts.query)
        tls = options.pop("tls", ["starttls" if parts.scheme == "smtp" else "tls"])[0]
        host = parts.hostname
    except (KeyError, ValueError):
        host = None
    if not host or tls not in ("tls", "starttls", "none") or options:
        raise Misconfigured("SMTP_URL: must be smtp://user:password@host:587, smtps://… or smtp://host:25?tls=none")
    return SmtpServer(host, port, tls, unquote(parts.username or ""), unquote(parts.password or ""))


class SmtpTransport:
    """A `MailTransport` by one server. It runs the standard library's client on a thread."""

    def __init__(self, server: SmtpServer, sender: str, tls: ssl.SSLContext) -> None:
        self._server = server
        self._sender = sender
        self._tls = tls

    async def send(self, message_id: str, emails: Sequence[str], mail_text: RenderedMail) -> str | None:
        try:
            refusals = await run_in_worker_thread(lambda: self._hand_over(message_id, emails, mail_text))
        except smtplib.SMTPRecipientsRefused as error:
            raise _to_error(
                min(code for code, _ in error.recipients.values()), _join_replies(error.recipients)
            ) from None
        except smtplib.SMTPDataError as error:
            raise _to_error(error.smtp_code, f"{error.smtp_code} {_to_printable(error.smtp_error)}") from None
        except smtplib.SMTPResponseException as error:
            # The server rejects the sender or the login. The mail waits until an operator corrects that.
            raise Unavailable(f"the mail server: {error.smtp_code} {_to_printable(error.smtp_error)}") from None
        except (smtplib.SMTPException, OSError) as error:
            raise Unavailable(f"the mail server: {type(error).__name__}: {error}") from None
        if unreached_emails := [email for email, (code, _) in refusals.items() if not _is_permanent(code)]:
            raise PartiallySent(
                f"the mail server refused some recipients for now: {_join_replies(refusals)}", unreached_emails
            )
        return f"the mail server refused some recipients: {_join_replies(refusals)}" if refusals else None

    def _hand_over(self, message_id: str, emails: Sequence[str], mail_text: RenderedMail) -> Recipients:
        """Send one mail. Returns the recipients that the server refuses, with its replies."""
        client = self._connect()
        try:
            client.ehlo_or_helo_if_needed()
            # An address that this server does not support must not keep the mail from the others.
            accepted_emails = (
                emails if client.has_extn("smtputf8") else [email for email in emails if _ascii_form(email)]
            )
            refusals: Recipients = {email: _NEEDS_SMTPUTF8 for email in emails if email not in accepted_emails}
            if not accepted_emails:
                raise smtplib.SMTPRecipientsRefused(refusals)
            email_by_address = {_ascii_form(email) or email: email for email in accepted_emails}
            message = _message(message_id, self._sender, list(email_by_address), mail_text)
            replies = client.send_message(message, parseaddr(self._sender)[1], list(email_by_address))
            # The server has the mail, so an error at the end of the dialogue does not matter.
            with suppress(smtplib.SMTPException, OSError):
                client.quit()
            return refusals | {email_by_address[address]: reply for address, reply in replies.items()}
        finally:
            client.close()

    def _connect(self) -> smtplib.SMTP:
        """A connection that is ready for mails: encrypted and signed in, as the settings require."""
        server = self._server
        if server.tls == "tls":
            return self._sign_in(smtplib.SMTP_SSL(server.host, server.port, timeout=TIMEOUT_SECONDS, context=self._tls))
        return self._sign_in(smtplib.SMTP(server.host, server.port, timeout=TIMEOUT_SECONDS))

    def _sign_in(self, client: smtplib.SMTP) -> smtplib.SMTP:
        try:
            if self._server.tls == "starttls":
                client.starttls(context=self._tls)
            if self._server.user:
                client.login(self._server.user, self._server.password)
        except BaseException:
            client.close()
            raise
        return client


def _ascii_form(email: str) -> str | None:
    """The address in the form that every mail server accepts; None if its name is not ASCII (RFC 6531)."""
    if email.isascii():
        return email
    try:
        return validate_email(email, check_deliverability=False).ascii_email
    except EmailNotValidError:
        return None


def _message(message_id: str, sender: str, emails: Sequence[str], mail_text: RenderedMail) -> EmailMessage:
    message = EmailMessage()
    message["Subject"] = mail_text.subject
    message["From"] = sender
    message["To"] = ", ".join(emails)
    message["Date"] = formatdate()
    # The same for each try, so that mailboxes show a repeated mail once.
    message["Message-ID"] = f"<{message_id}@{parseaddr(sender)[1].rpartition('@')[2] or 'localhost'}>"
    message["Auto-Submitted"] = "auto-generated"
    message.set_content(mail_text.text)
    message.add_alternative(mail_text.html, subtype="html")
    return message


def _to_error(code: int, message: str) -> RowRefused | Unavailable:
    if _is_permanent(code):
        return RowRefused(f"the mail server refused it: {message}")
    return Unavailable(f"the mail server: {message}")


def _is_permanent(code: int) -> bool:
    """Whether a reply is permanent: 5yz is, 4yz is transient (RFC 5321 §4.2.1)."""
    return 500 <= code < 600


def _join_replies(recipients: Recipients) -> str:
    return "; ".join(f"{code} {_to_printable(message)}" for code, message in sorted(recipients.values()))


def _to_printable(message: bytes | str) -> str:
    text = message.decode(errors="replace") if isinstance(message, bytes) else message
    return "".join(character if character.isprintable() else " " for character in text)
