"""The audit log shows values in words."""

from zoneinfo import ZoneInfo

import pytest
from jinja2 import Environment

from api.shell.rendering import format_detail


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ({"events": 3, "mails": 0}, "events 3, mails 0"),
        (["session.scored", "session.completed"], "session.scored, session.completed"),
        ([], "none"),
        (True, "yes"),
        (None, "none"),
        (0, "0"),
        ("2026-04-10T12:00:00Z", "10 Apr 2026, 21:00:00 JST"),
        ({"scopes": ["a", "b"], "all": False}, "scopes a, b, all no"),
    ],
)
def test_a_value_is_in_words(value: object, text: str) -> None:
    template = Environment().from_string("")
    context = template.new_context({"zone": ZoneInfo("Asia/Tokyo")})
    assert format_detail(context, value) == text
