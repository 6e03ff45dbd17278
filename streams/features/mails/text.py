"""The text of mails to accounts."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from html import escape
from typing import Any, NamedTuple

from streams.core.accounts.mail import Mail, MailKind, OtherWebhooks, RenderedMail
from streams.core.text import escape_controls
from streams.core.webhooks.url import without_query

# The number of paused webhooks that one mail names.
MAX_LISTED_WEBHOOKS = 20
MAX_LISTED_NAME_CHARACTERS = 100


def group_mails(mails: Sequence[Mail]) -> Sequence[Mail]:
    """Combine these notices of one kind to one account, to be sent as one mail."""
    first, *others = mails
    if not others:
        return [replace(first, others=None, sent_with=None)]
    rows = [
        [_name(other_mail)[:MAX_LISTED_NAME_CHARACTERS], notice_line(other_mail)]
        for other_mail in others[: MAX_LISTED_WEBHOOKS - 1]
    ]
    return [
        replace(first, others=OtherWebhooks(rows, len(others) - len(rows)), sent_with=None),
        *(replace(other_mail, others=None, sent_with=first.id) for other_mail in others),
    ]


def compose_sign_in(token: str, code: str, public_url: str | None) -> RenderedMail:
    """Render the mail with which a person signs in. Without a public URL it has only the code."""
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
    """Render a mail with a link to the page where the webhook is repaired, and the API call that does it.

    Without a public URL no link works for the reader, so the mail names the call and the command instead.
    """
    base = (public_url or "").rstrip("/")
    if mail.others is not None:
        grouped = _grouped_pause_parts if mail.kind is MailKind.PAUSED else _grouped_parts
        return _render(grouped(mail, mail.others, base), f"{base}/webhooks" if base else None)
    if mail.kind is MailKind.QUOTA:
        return _render(_quota_parts(mail, base), f"{base}/usage" if base else None)
    is_deleted = bool(mail.details.get("deleted"))
    link = f"{base}/webhooks{'' if is_deleted else f'/{mail.webhook_id}'}" if base else None
    printable_mail = replace(mail, details={name: _to_printable(name, entry) for name, entry in mail.details.items()})
    parts = _PARTS[mail.kind](printable_mail, _name(mail))
    if call := _api_call(mail, base, is_deleted):
        parts.paragraphs.append(f"By the API: {call}")
    if link is None and not is_deleted:
        parts.paragraphs.append(
            f"To see the webhook: GET /v1/webhooks/{mail.webhook_id}/health in the API, or the command "
            f"`scorm-webhooks webhooks show {mail.webhook_id}`."
        )
    if mail.sent_with is not None:
        parts.paragraphs.append(f"Sent in one mail with others of the same minute: {mail.sent_with}.")
    return _render(parts, link)


def _api_call(mail: Mail, base: str, is_deleted: bool) -> str | None:
    """The API call that the reader of a notice may need."""
    match mail.kind:
        case MailKind.PAUSED | MailKind.STILL_PAUSED:
            return f"POST {base}/v1/webhooks" if is_deleted else f"POST {base}/v1/webhooks/{mail.webhook_id}/enable"
        case MailKind.DEAD_LETTERS:
            return f"POST {base}/v1/dead-letters/retry"
        case MailKind.SECRET_ENDING:
            return f"POST {base}/v1/webhooks/{mail.webhook_id}/secret"
        case MailKind.FAILING:
            return f"GET {base}/v1/webhooks/{mail.webhook_id}/health"
        case _:
            return None


def _name(mail: Mail) -> str:
    details = mail.details
    field_name = "description" if details.get("description") else "url"
    return str(_to_printable(field_name, details.get(field_name))) if details.get(field_name) else mail.webhook_id


def notice_line(mail: Mail) -> str:
    """The line for a notice in a mail about several webhooks."""
    details = mail.details
    match mail.kind:
        case MailKind.FAILING:
            return f"has failed since {details.get('since')}"
        case MailKind.STILL_PAUSED:
            return f"has been paused since {details.get('pausedAt')}"
        case MailKind.RECOVERED:
            return "delivers again"
        case MailKind.SECRET_ENDING:
            return f"its old secret ends at {details.get('until')}"
        case MailKind.CERTIFICATE_ENDING:
            return f"its certificate ends at {details.get('until')}"
        case _:
            return _pause_cause(mail)


def _pause_cause(mail: Mail) -> str:
    if mail.details.get("reason") == "gone":
        cause = "its endpoint responded with 410 Gone"
        return f"deleted: {cause}" if mail.details.get("deleted") else cause
    return f"{mail.details.get('failures', 5)} attempts in a row failed"


def _has_deletion(mail: Mail, others: OtherWebhooks) -> bool:
    return bool(mail.details.get("deleted")) or any(cause.startswith("deleted") for _, cause in others.listed)


def _to_printable(name: str, entry: Any) -> Any:
    """A value as a mail shows it: a text on one safe line, and a URL without secrets."""
    if not isinstance(entry, str):
        return entry
    return escape_controls(" ".join((without_query(entry) if name == "url" else entry).split()))


def _one_line(subject: str) -> str:
    # An encoded word (RFC 2047) would be decoded, line breaks included, when the mail is built.
    return " ".join(subject.replace("=?", "= ?").split())


class _Parts(NamedTuple):
    """The parts of a mail. Its table comes after the first paragraph."""

    subject: str
    paragraphs: list[str]
    table: Sequence[Sequence[str]]


_NOTHING_LOST_MESSAGE = (
    "Nothing is lost: what happens meanwhile is held. When you enable the webhook you decide whether it is sent, "
    "kept as dead letters, or discarded."
)
_DELETED_MESSAGE = "The events that it was still owed become dead letters. New events are not sent to it."
_PAUSE_ADVICE = (
    "To avoid the next pause: respond with a 2xx status in time and do the work afterwards; "
    "respond with 429 or 503 and Retry-After while the endpoint is busy, which does not count as a failure."
)


def _paused_parts(mail: Mail, name: str) -> _Parts:
    details = mail.details
    if details.get("deleted"):
        reason = "Its endpoint responded with 410 Gone, and its setting `onGone` is `delete`."
        advice = "If that was not meant: register the webhook again, and send it the events of the time that it missed."
    elif details.get("reason") == "gone":
        reason = "Its endpoint responded with 410 Gone, which asks for no more events, so we stopped at once."
        advice = "If that was not meant: let it respond with 2xx again, send a test event, enable the webhook."
    else:
        reason = f"{_pause_cause(mail)}, so we stopped sending."
        advice = _PAUSE_ADVICE
    table = {
        "Endpoint": details.get("url"),
        "Failing since": details.get("since"),
        "Last attempt": details.get("lastAt"),
        "Last status": details.get("lastStatus"),
        "What happened": details.get("lastMessage"),
    }
    state = "deleted" if details.get("deleted") else "paused"
    kept = _DELETED_MESSAGE if details.get("deleted") else _NOTHING_LOST_MESSAGE
    paragraphs = [f"The webhook “{name}” is {state}. {reason}", kept, advice]
    if probe_at := details.get("probeAt"):
        paragraphs.insert(
            2, f"One held event is tried at {probe_at}. If the endpoint takes it, the others are sent too."
        )
    return _Parts(f"Webhook {state}: {name}", paragraphs, _table_rows(table))


def _grouped_pause_parts(mail: Mail, others: OtherWebhooks, base: str) -> _Parts:
    count = 1 + len(others.listed) + others.more
    paragraphs = [f"We stopped sending to {count} webhooks.", _NOTHING_LOST_MESSAGE, _PAUSE_ADVICE]
    if _has_deletion(mail, others):
        paragraphs.insert(2, f"Deleted webhooks: {_DELETED_MESSAGE[:1].lower()}{_DELETED_MESSAGE[1:]}")
    if others.more:
        paragraphs.insert(1, f"… and {others.more} more.")
    paragraphs.append(
        f"By the API: GET {base}/v1/webhooks lists them, POST {base}/v1/webhooks/{{id}}/enable enables one"
    )
    if not base:
        paragraphs.append("By the command line: `scorm-webhooks webhooks list`.")
    state = "paused or deleted" if _has_deletion(mail, others) else "paused"
    subject = f"{count} webhooks {state}: {_name(mail)} and {count - 1} more"
    return _Parts(subject, paragraphs, [(_name(mail), _pause_cause(mail)), *others.listed])


_GROUPED_SUBJECTS = {
    MailKind.FAILING: "webhooks are failing",
    MailKind.STILL_PAUSED: "webhooks are still paused",
    MailKind.RECOVERED: "webhooks deliver again",
    MailKind.SECRET_ENDING: "old signing secrets end soon",
    MailKind.CERTIFICATE_ENDING: "certificates of endpoints end soon",
}


def _grouped_parts(mail: Mail, others: OtherWebhooks, base: str) -> _Parts:
    count = 1 + len(others.listed) + others.more
    subject = f"{count} {_GROUPED_SUBJECTS[mail.kind]}"
    paragraphs = [f"{subject}.", f"By the API: GET {base}/v1/webhooks lists all webhooks"]
    if others.more:
        paragraphs.insert(1, f"… and {others.more} more.")
    if not base:
        paragraphs.append("By the command line: `scorm-webhooks webhooks list`.")
    return _Parts(subject, paragraphs, [(_name(mail), notice_line(mail)), *others.listed])


def _failing_parts(mail: Mail, name: str) -> _Parts:
    details = mail.details
    failures = details.get("failures", 1)
    table = {
        "Endpoint": details.get("url"),
        "Failing since": details.get("since"),
        "Failures": failures,
        "Last attempt": details.get("lastAt"),
        "Last status": details.get("lastStatus"),
        "What happened": details.get("lastMessage"),
    }
    paragraphs = [
        f"The webhook “{name}” has failed for five minutes.",
        "Its events are sent again later, so nothing is lost. If it goes on, it is paused, and its events are held.",
    ]
    return _Parts(f"Webhook failing: {name}", paragraphs, _table_rows(table))


def _still_paused_parts(mail: Mail, name: str) -> _Parts:
    details = mail.details
    held = details.get("held", 0)
    events = "1 event is" if held == 1 else f"{held} events are"
    probe_at = details.get("probeAt")
    table = {"Endpoint": details.get("url"), "Paused since": details.get("pausedAt"), "Next try": probe_at}
    paragraphs = [
        f"The webhook “{name}” has been paused for a day. {events} held for it.",
        "Repair the endpoint, send a test event, and enable the webhook.",
    ]
    if probe_at:
        paragraphs.append("If the next try succeeds, the webhook is enabled, and the other events follow.")
    return _Parts(f"Webhook still paused: {name}", paragraphs, _table_rows(table))


def _recovered_parts(mail: Mail, name: str) -> _Parts:
    details = mail.details
    table = {"Endpoint": details.get("url"), "First notice": details.get("since")}
    paragraphs = [f"The webhook “{name}” delivers again.", "Events that were held are sent at the endpoint's pace."]
    return _Parts(f"Webhook recovered: {name}", paragraphs, _table_rows(table))


def _secret_ending_parts(mail: Mail, name: str) -> _Parts:
    details = mail.details
    table = {"Endpoint": details.get("url"), "Old secret ends": details.get("until")}
    paragraphs = [
        f"The signing secret of the webhook “{name}” was rotated, and the old one ends within six hours.",
        "A receiver that still verifies with the old secret alone will refuse every event. Give it the new one now.",
    ]
    return _Parts(f"Old signing secret ends: {name}", paragraphs, _table_rows(table))


def _certificate_ending_parts(mail: Mail, name: str) -> _Parts:
    details = mail.details
    table = {"Endpoint": details.get("url"), "Certificate ends": details.get("until")}
    paragraphs = [
        f"The TLS certificate of the endpoint of the webhook “{name}” ends within two weeks.",
        "After its end every attempt fails. Renew it. If that is done already, ignore this mail.",
    ]
    return _Parts(f"Certificate ends soon: {name}", paragraphs, _table_rows(table))


def _quota_parts(mail: Mail, base: str) -> _Parts:
    details = mail.details
    percent, month = details.get("percent"), details.get("month")
    table = {"Month": month, "Launches": details.get("launches"), "Limit of the plan": details.get("limit")}
    paragraphs = [
        f"{percent} percent of the plan's launches of {month} (UTC) are used.",
        "Events are delivered whatever the number of launches. The platform decides what follows.",
        f"By the API: GET {base}/v1/usage/{month}",
    ]
    return _Parts(f"{percent} percent of the launches of {month} are used", paragraphs, _table_rows(table))


def _dead_letter_parts(mail: Mail, name: str) -> _Parts:
    details = mail.details
    count = details.get("count", 1)
    events = f"{count} events" if count != 1 else "1 event"
    subject = f"{'Still undelivered' if details.get('reminder') else 'Undelivered'}: {events} for {name}"
    # A pull webhook has no URL.
    if details.get("url"):
        cause, repaired = f"{events} could not be delivered to the webhook “{name}”: every attempt failed", "endpoint"
    else:
        cause, repaired = f"No reader of the pull webhook “{name}” acknowledged {events} in time", "reader"
    paragraphs = [
        f"{cause}. Dead letters, we call them.",
        f"They are kept. Repair the {repaired} and send them again, one, some or all of them, or discard them.",
    ]
    table = {"Endpoint": details.get("url"), "Oldest since": details.get("since")}
    return _Parts(subject, paragraphs, _table_rows(table))


_PARTS: Mapping[MailKind, Callable[[Mail, str], _Parts]] = {
    MailKind.FAILING: _failing_parts,
    MailKind.PAUSED: _paused_parts,
    MailKind.STILL_PAUSED: _still_paused_parts,
    MailKind.RECOVERED: _recovered_parts,
    MailKind.DEAD_LETTERS: _dead_letter_parts,
    MailKind.SECRET_ENDING: _secret_ending_parts,
    MailKind.CERTIFICATE_ENDING: _certificate_ending_parts,
}


def _table_rows(table: Mapping[str, Any]) -> Sequence[Sequence[str]]:
    return [(name, str(value)) for name, value in table.items() if value is not None]


def _render(parts: _Parts, link: str | None) -> RenderedMail:
    return RenderedMail(_one_line(parts.subject), _text(parts, link), _html(parts, link))


def _text(parts: _Parts, link: str | None) -> str:
    rows = "\n".join(f"  {name + ':':<15} {value}" for name, value in parts.table)
    closing = [f"See it and act: {link}"] if link else []
    return "\n\n".join([parts.paragraphs[0], rows, *parts.paragraphs[1:], *closing]) + "\n"


def _html(parts: _Parts, link: str | None) -> str:
    rows = "".join(
        f'<tr><td style="padding-right:1em;color:#555">{escape(name)}</td><td>{escape(value)}</td></tr>'
        for name, value in parts.table
    )
    first, *others = (f"<p>{escape(message)}</p>" for message in parts.paragraphs)
    button = f'<p><a href="{escape(link, quote=True)}">See it and act</a></p>' if link else ""
    return f"<!doctype html><html><body>{first}<table>{rows}</table>{''.join(others)}{button}</body></html>\n"
