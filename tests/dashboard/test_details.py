"""The audit log shows values in words."""

import pytest

from api.shell.rendering import detail


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ({"events": 3, "mails": 0}, "events 3, mails 0"),
        (["session.scored", "session.completed"], "session.scored, session.completed"),
        ([], "none"),
        (True, "yes"),
        (None, "none"),
        (0, "0"),
        ({"scopes": ["a", "b"], "all": False}, "scopes a, b, all no"),
    ],
)
def test_a_value_is_in_words(value: object, text: str) -> None:
    assert detail(value) == text
