"""Mail by SMTP; without a server, a line in the log."""

import smtplib
import ssl
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from email.message import EmailMessage
from email.utils import formatdate, parseaddr
from urllib.parse import parse_qs, unquote, urlsplit

from streams.adapters.threads import in_worker_thread
from streams.core.errors import Misconfigured, PartiallySent, Refused, Unavailable
from streams.core.mail import RenderedMail
from streams.ports import Telemetry

# For each step of the conversation.
TIMEOUT_SECONDS = 10.0
_PORTS = {"smtp": 587, "smtps": 465}


@dataclass(frozen=True, slots=True)
class SmtpServer:
    """Where mails are handed over; `tls` is `tls` (from the start), `starttls` (required) or `none`."""

    host: str
    port: int
    tls: str
    user: str = ""
    password: str = ""

    def __repr__(self) -> str:
        return f"SmtpServer({self.host}:{self.port})"


def smtp_server(url: str) -> SmtpServer:
    """`smtp://user:password@host:587` with STARTTLS, `smtps://…` with TLS; `?tls=none` sends in the clear."""
    parts = urlsplit(url)
    try:
        port = parts.port or _PORTS[parts.scheme]
        options = parse_qs(parts.query)
        tls = options.pop("tls", ["starttls" if parts.scheme == "smtp" else "tls"])[0]
    except (KeyError, ValueError):
        tls = ""
    if not parts.hostname or tls not in ("tls", "starttls", "none") or options:
        raise Misconfigured("SMTP_URL: must be smtp://user:password@host:587, smtps://… or smtp://host:25?tls=none")
    return SmtpServer(parts.hostname, port, tls, unquote(parts.username or ""), unquote(parts.password or ""))


class SmtpTransport:
    """A `MailTransport` that hands each mail to one server; the standard library's client, in a thread."""

    def __init__(self, server: SmtpServer, sender: str, tls: ssl.SSLContext) -> None:
        self._server = server
        self._sender = sender
        self._tls = tls

    async def send(self, message_id: str, emails: Sequence[str], mail_text: RenderedMail) -> str | None:
        message = _message(message_id, self._sender, emails, mail_text)
        try:
            refused = await in_worker_thread(lambda: self._hand_over(message, emails))
        except smtplib.SMTPRecipientsRefused as refusal:
            raise _verdict(min(code for code, _ in refusal.recipients.values()), _words(refusal.recipients)) from None
        except smtplib.SMTPDataError as response:
            raise _verdict(response.smtp_code, f"{response.smtp_code} {_text(response.smtp_error)}") from None
        except smtplib.SMTPResponseException as response:
            # Who may send at all, and as whom, is an operator's to mend: the mail waits for that.
            raise Unavailable(f"the mail server: {response.smtp_code} {_text(response.smtp_error)}") from None
        except (smtplib.SMTPException, OSError) as problem:
            raise Unavailable(f"the mail server: {type(problem).__name__}: {problem}") from None
        if unreached := [email for email, (code, _) in refused.items() if not _is_for_good(code)]:
            raise PartiallySent(f"the mail server refused some for now: {_words(refused)}", unreached)
        return f"some were refused: {_words(refused)}" if refused else None

    def _hand_over(self, message: EmailMessage, emails: Sequence[str]) -> dict[str, tuple[int, bytes]]:
        server = self._server
        client: smtplib.SMTP
        if server.tls == "tls":
            client = smtplib.SMTP_SSL(server.host, server.port, timeout=TIMEOUT_SECONDS, context=self._tls)
        else:
            client = smtplib.SMTP(server.host, server.port, timeout=TIMEOUT_SECONDS)
        try:
            if server.tls == "starttls":
                client.starttls(context=self._tls)
            if server.user:
                client.login(server.user, server.password)
            refused = client.send_message(message, parseaddr(self._sender)[1], list(emails))
            # It has the mail; how it takes leave does not matter.
            with suppress(smtplib.SMTPException, OSError):
                client.quit()
            return refused
        finally:
            client.close()


class LoggingTransport:
    """A `MailTransport` where no server is configured: a line in the log, and the mail is in the API."""

    def __init__(self, telemetry: Telemetry) -> None:
        self._telemetry = telemetry

    async def send(self, message_id: str, emails: Sequence[str], mail_text: RenderedMail) -> str | None:
        self._telemetry.info("SMTP_URL is not set; mail not sent", mail_id=message_id, subject=mail_text.subject)
        return "SMTP_URL is not set: it was logged, and is shown here"


def _message(message_id: str, sender: str, emails: Sequence[str], mail_text: RenderedMail) -> EmailMessage:
    message = EmailMessage()
    message["Subject"] = mail_text.subject
    message["From"] = sender
    message["To"] = ", ".join(emails)
    message["Date"] = formatdate()
    # The same at each try: whoever gets it twice sees it once.
    message["Message-ID"] = f"<{message_id}@{parseaddr(sender)[1].rpartition('@')[2] or 'localhost'}>"
    message["Auto-Submitted"] = "auto-generated"
    message.set_content(mail_text.text)
    message.add_alternative(mail_text.html, subtype="html")
    return message


def _verdict(code: int, message: str) -> Refused | Unavailable:
    if _is_for_good(code):
        return Refused(f"the mail server refused it: {message}")
    return Unavailable(f"the mail server: {message}")


def _is_for_good(code: int) -> bool:
    """5yz is, 4yz is for now (RFC 5321 §4.2.1)."""
    return 500 <= code < 600


def _words(recipients: dict[str, tuple[int, bytes]]) -> str:
    return "; ".join(f"{code} {_text(message)}" for code, message in sorted(recipients.values()))


def _text(message: bytes | str) -> str:
    text = message.decode(errors="replace") if isinstance(message, bytes) else message
    return "".join(character if character.isprintable() else " " for character in text)
