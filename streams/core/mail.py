"""Mails to accounts: their reasons, their schedule of attempts, and their text."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import StrEnum
from html import escape
from typing import Any

from streams.core.text import escape_controls
from streams.core.url import without_query

# The waits after the first attempts; then every hour, for about three days.
WAITS = (timedelta(seconds=30), timedelta(minutes=2), timedelta(minutes=10))
LONGEST_WAIT = timedelta(hours=1)
MOST_TRIES = 75


class MailKind(StrEnum):
    """What a mail is about."""

    PAUSED = "paused"
    DEAD_LETTERS = "dead_letters"
    SIGN_IN = "sign_in"


class MailStatus(StrEnum):
    """Whether a mail reached the mail server."""

    PENDING = "pending"
    SENT = "sent"
    NOT_SENT = "not_sent"


@dataclass(frozen=True, slots=True)
class Mail:
    """One mail. `key` identifies its reason, so that it is owed once. `due_at` is None when nothing is left to do.

    `unreached` are the recipients that still wait for this mail while others have it; empty when all or none have it.

    `details` of a sign-in: email, and as ciphertext the token of its link and its code; of a pause: reason, url,
    description, failures, since, lastAt, lastStatus, lastMessage; of dead letters: url, description, count, since,
    reminder. Absent values are left out; times are strings.
    """

    id: str
    key: str
    account_id: str
    webhook_id: str
    kind: MailKind
    details: Mapping[str, Any]
    created_at: datetime
    tries: int = 0
    due_at: datetime | None = None
    sent_at: datetime | None = None
    problem: str | None = None
    unreached: tuple[str, ...] = ()

    @property
    def status(self) -> MailStatus:
        """`not_sent` is final: nobody tries again."""
        if self.sent_at is not None:
            return MailStatus.SENT
        return MailStatus.PENDING if self.due_at is not None else MailStatus.NOT_SENT


@dataclass(frozen=True, slots=True)
class RenderedMail:
    """The text of a mail; `text` and `html` say the same."""

    subject: str
    text: str = field(repr=False)
    html: str = field(repr=False)


def due_again(tries: int, now: datetime) -> datetime | None:
    """When to try again after this many attempts; None to give up."""
    if tries >= MOST_TRIES:
        return None
    return now + (WAITS[tries - 1] if tries <= len(WAITS) else LONGEST_WAIT)


def compose_sign_in(token: str, code: str, public_url: str | None) -> RenderedMail:
    """Render the mail with which a person signs in. Without a public URL it has the code alone."""
    base = (public_url or "").rstrip("/")
    link = f"{base}/sign-in/{token}" if base else None
    paragraphs = [
        f"Your sign-in code is {code}. Type it in the browser in which you asked for it.",
        "It is valid for 15 minutes, and once. If you did not ask for it, ignore this mail: nobody gets in without it.",
    ]
    if link:
        paragraphs.insert(1, f"In another browser, open this link instead: {link}")
    html = "".join(f"<p>{escape(paragraph)}</p>" for paragraph in paragraphs)
    return RenderedMail(
        f"Sign-in code {code}",
        "\n\n".join(paragraphs) + "\n",
        f"<!doctype html><html><body>{html}</body></html>\n",
    )


def compose(mail: Mail, public_url: str | None) -> RenderedMail:
    """Render a mail, with a link to the webhook's help page and the API call that repairs the webhook.

    Without a public URL no link works for the reader: the mail names the call and the command instead.
    """
    mail = replace(mail, details={name: _shown(name, entry) for name, entry in mail.details.items()})
    name = mail.details.get("description") or mail.details.get("url") or mail.webhook_id
    base = (public_url or "").rstrip("/")
    link = f"{base}/webhooks/{mail.webhook_id}" if base else None
    if mail.kind is MailKind.PAUSED:
        subject, paragraphs, table = _paused(mail, name)
        call = f"POST {base}/v1/webhooks/{mail.webhook_id}/enable"
    else:
        subject, paragraphs, table = _dead_letters(mail, name)
        call = f"POST {base}/v1/dead-letters/retry"
    paragraphs.append(f"By the API: {call}")
    if link is None:
        paragraphs.append(
            f"To see the webhook: GET /v1/webhooks/{mail.webhook_id}/health in the API, or the command "
            f"`scorm-webhooks webhooks show {mail.webhook_id}`."
        )
    return RenderedMail(_one_line(subject), _text(paragraphs, table, link), _html(paragraphs, table, link))


def _shown(name: str, entry: Any) -> Any:
    """A fact as a mail shows it: a text is one line that steers no mail program, and a URL has no secret."""
    if not isinstance(entry, str):
        return entry
    return escape_controls(" ".join((without_query(entry) if name == "url" else entry).split()))


def _one_line(subject: str) -> str:
    # An encoded word (RFC 2047) would be decoded when the mail is built, with its line breaks.
    return " ".join(subject.replace("=?", "= ?").split())


_Parts = tuple[str, list[str], dict[str, str]]


def _paused(mail: Mail, name: str) -> _Parts:
    details = mail.details
    if details.get("reason") == "gone":
        why = "Its endpoint responded with 410 Gone, which asks for no more events, so we stopped at once."
        advice = "If that was not meant: let it respond with 2xx again, send a test event, enable the webhook."
    else:
        why = f"{details.get('failures', 5)} attempts in a row failed, so we stopped sending."
        advice = (
            "To avoid the next pause: respond with a 2xx status within 10 seconds and do the work afterwards; "
            "respond with 429 or 503 and Retry-After while the endpoint is busy, which does not count as a failure."
        )
    nothing_lost = (
        "Nothing is lost: what happens meanwhile is held. When you enable the webhook you decide whether it is sent, "
        "kept as dead letters, or discarded."
    )
    table = {
        "Endpoint": details.get("url"),
        "Failing since": details.get("since"),
        "Last attempt": details.get("lastAt"),
        "Last status": details.get("lastStatus"),
        "What happened": details.get("lastMessage"),
    }
    return f"Webhook paused: {name}", [f"The webhook “{name}” is paused. {why}", nothing_lost, advice], _present(table)


def _dead_letters(mail: Mail, name: str) -> _Parts:
    details = mail.details
    count = details.get("count", 1)
    events = f"{count} events" if count != 1 else "1 event"
    subject = f"{'Still undelivered' if details.get('reminder') else 'Undelivered'}: {events} for {name}"
    paragraphs = [
        f"{events} could not be delivered to the webhook “{name}”: every attempt failed. Dead letters, we call them.",
        "They are kept. Repair the endpoint and send them again, one, some or all of them, or discard them.",
    ]
    return subject, paragraphs, _present({"Endpoint": details.get("url"), "Oldest since": details.get("since")})


def _present(table: Mapping[str, Any]) -> dict[str, str]:
    return {name: str(value) for name, value in table.items() if value is not None}


def _text(paragraphs: list[str], table: Mapping[str, str], link: str | None) -> str:
    rows = "\n".join(f"  {name + ':':<15} {value}" for name, value in table.items())
    last = [f"See it and act: {link}"] if link else []
    return "\n\n".join([paragraphs[0], rows, *paragraphs[1:], *last]) + "\n"


def _html(paragraphs: list[str], table: Mapping[str, str], link: str | None) -> str:
    rows = "".join(
        f'<tr><td style="padding-right:1em;color:#555">{escape(name)}</td><td>{escape(value)}</td></tr>'
        for name, value in table.items()
    )
    first, *others = (f"<p>{escape(message)}</p>" for message in paragraphs)
    button = f'<p><a href="{escape(link, quote=True)}">See it and act</a></p>' if link else ""
    return f"<!doctype html><html><body>{first}<table>{rows}</table>{''.join(others)}{button}</body></html>\n"
