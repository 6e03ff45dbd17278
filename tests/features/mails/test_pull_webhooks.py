"""Notices about a pull webhook, which has no URL, are about its readers."""

import pytest

from builders import NOON
from streams.core.accounts.mail import Mail, MailKind
from streams.core.accounts.notice_event import notice_event
from streams.core.events.event import check_event
from streams.features.mails.text import compose


def mail(kind: MailKind, **details: object) -> Mail:
    return Mail("mail_1", f"{kind}/wh_1", "acme", "wh_1", kind, details, NOON)


@pytest.mark.parametrize(
    ("details", "subject"),
    [({}, "Undelivered: 3 events for wh_1"), ({"description": "Lake"}, "Undelivered: 3 events for Lake")],
)
def test_dead_letters_are_those_of_its_readers(details: dict[str, str], subject: str) -> None:
    rendered = compose(mail(MailKind.DEAD_LETTERS, count=3, since="2026-04-10T12:00:00Z", **details), None)
    assert rendered.subject == subject
    assert "acknowledged 3 events in time" in rendered.text
    assert "Repair the reader" in rendered.text
    assert "ndpoint" not in rendered.text


@pytest.mark.parametrize(
    ("kind", "details"),
    [
        (MailKind.DEAD_LETTERS, {"count": 3, "since": "2026-04-10T12:00:00Z"}),
        (MailKind.SECRET_ENDING, {"until": "2026-04-10T12:00:00Z"}),
    ],
)
def test_its_events_are_valid_without_a_url(kind: MailKind, details: dict[str, object]) -> None:
    event = notice_event(mail(kind, **details))
    assert event is not None
    assert check_event(event, NOON).data == {"webhookId": "wh_1", **details}
