"""What a caller may see of a value is decided by its fields."""

from dataclasses import replace

import pytest

from api.visibility import FIELDS, Visibility, visible
from builders import NOON
from streams.core.accounts.access import MANAGE_ACCOUNT, OPERATOR, PERMISSIONS, Role
from streams.core.accounts.account import AttemptDetails
from streams.core.accounts.audit import AuditEntry
from streams.core.page import Page
from streams.core.webhooks.url import without_query

URL = "HTTPS://crm.example.com/hooks?key=secret"
HIDDEN = "https://crm.example.com/hooks?…"
VIEWER = PERMISSIONS[Role.VIEWER]
ATTEMPT = AttemptDetails(
    generation=1,
    number=1,
    target="primary",
    url=URL,
    started_at=NOON,
    milliseconds=3.0,
    request_headers={"X-Key": "secret"},
    status=200,
    response_headers={"x-echo": "secret"},
    response_body=b"secret",
    outcome="delivered",
    message="The endpoint responded with 200.",
    next_step="done",
    tier=None,
    webhook_version=1,
    fields=None,
)


def test_a_viewer_sees_no_query_and_no_headers() -> None:
    [shown] = visible(Page([ATTEMPT]), VIEWER).rows
    assert shown == replace(ATTEMPT, url=HIDDEN, request_headers={}, response_headers={}, response_body=b"")


@pytest.mark.parametrize("role", [Role.MEMBER, Role.OWNER])
def test_others_see_the_value_itself(role: Role) -> None:
    page = Page([ATTEMPT])
    assert visible(page, PERMISSIONS[role]) is page


def test_urls_of_the_audit_log_are_known_by_their_fields() -> None:
    changes = {"url": {"from": URL, "to": URL}, "fallbackUrl": {"from": None, "to": URL}, "description": {"to": URL}}
    entry = AuditEntry("audit_1", "user:1", "webhook.changed", "wh_1", NOON, "acme", {"url": URL, "changes": changes})
    assert visible([entry], VIEWER)[0].details == {
        "url": HIDDEN,
        "changes": {
            "url": {"from": HIDDEN, "to": HIDDEN},
            "fallbackUrl": {"from": None, "to": HIDDEN},
            "description": {"to": URL},
        },
    }


def test_nobody_sees_more_with_fewer_permissions() -> None:
    order = [Visibility.NEVER, Visibility.WITHOUT_QUERY, Visibility.WHOLE]
    for name, rule in FIELDS.items():
        by_field = [
            rule.visibility(VIEWER),
            rule.visibility(PERMISSIONS[Role.MEMBER]),
            rule.visibility({MANAGE_ACCOUNT}),
            rule.visibility({OPERATOR}),
        ]
        assert by_field == sorted(by_field, key=order.index), name


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://crm.example.com", "https://crm.example.com"),
        ("https://user:secret@crm.example.com:8443/a?b=c#d", "https://crm.example.com:8443/a?…"),
        ("https://crm.example.com/?", "https://crm.example.com/"),
        ("https://[::1/secret", "…"),
    ],
)
def test_a_url_is_shown_without_what_may_be_secret(url: str, shown: str) -> None:
    assert without_query(url) == shown
