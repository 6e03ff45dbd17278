"""The events that tell webhooks of an account about another of its webhooks."""

from collections.abc import Mapping
from typing import Any

from streams.core.accounts.mail import Mail, MailKind
from streams.core.events.event import Event
from streams.core.ids import derived_id
from streams.core.limits import MAX_TEXT_CHARACTERS
from streams.core.text import shorten
from streams.core.webhooks.url import without_query

# The event type of each notice, and the values that only the event has.
_TYPES: Mapping[MailKind, tuple[str, Mapping[str, Any]]] = {
    MailKind.FAILING: ("webhook.failing", {}),
    MailKind.PAUSED: ("webhook.paused", {"pausedHours": 0}),
    MailKind.STILL_PAUSED: ("webhook.paused", {"pausedHours": 24}),
    MailKind.RECOVERED: ("webhook.recovered", {}),
    MailKind.DEAD_LETTERS: ("webhook.deadletters", {}),
    MailKind.SECRET_ENDING: ("webhook.secret.ending", {}),
    MailKind.CERTIFICATE_ENDING: ("webhook.certificate.ending", {}),
}
# The details that an event takes from its mail, with their names in the event. Not the endpoint's message, which may
# name a learner.
_FIELDS: Mapping[MailKind, Mapping[str, str]] = {
    MailKind.FAILING: {"failures": "failures", "since": "since", "lastStatus": "lastStatus"},
    MailKind.PAUSED: {
        "reason": "reason",
        "pausedAt": "pausedAt",
        "failures": "failures",
        "since": "failingSince",
        "lastStatus": "lastStatus",
    },
    MailKind.STILL_PAUSED: {"reason": "reason", "pausedAt": "pausedAt"},
    MailKind.RECOVERED: {"since": "since"},
    MailKind.DEAD_LETTERS: {"count": "count", "since": "since"},
    MailKind.SECRET_ENDING: {"until": "until"},
    MailKind.CERTIFICATE_ENDING: {"until": "until"},
}


def notice_event(mail: Mail) -> Event | None:
    """The event of a notice; None for a sign-in, and for a webhook that was deleted.

    Its id is computed, so every event of the same notice has the same id.
    """
    if mail.kind not in _TYPES or mail.details.get("deleted"):
        return None
    event_type, constants = _TYPES[mail.kind]
    details = {
        field: mail.details[name] for name, field in _FIELDS[mail.kind].items() if mail.details.get(name) is not None
    }
    # A pull webhook has none.
    url = mail.details.get("url")
    webhook_url = {"url": shorten(without_query(str(url)), MAX_TEXT_CHARACTERS)} if url else {}
    return Event(
        id=derived_id("evt", mail.account_id, mail.key),
        type=event_type,
        account_id=mail.account_id,
        occurred_at=mail.created_at,
        data={"webhookId": mail.webhook_id, **webhook_url, **constants, **details},
    )
