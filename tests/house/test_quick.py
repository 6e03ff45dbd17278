"""`make quick` finds the tests of what has changed."""

import pytest

from quick import belonging

TESTS = [
    ("tests/core/test_url.py", "from streams.core.webhooks.url import host_of"),
    ("tests/core/test_text.py", "from streams.core import text as words\n"),
    ("tests/stages/test_flow.py", "def test_nothing() -> None: pass  # streams.core.webhooks.url"),
    ("tests/stages/test_fakes.py", "from fakes.kafka import FakeKafka"),
    ("tests/core/test_urls.py", "from streams.core.urls import host_of"),
    ("tests/house/test_field_limits.py", ""),
    ("tests/rest/test_webhooks.py", ""),
    ("tests/dashboard/test_webhook_pages.py", ""),
    ("tests/features/webhooks/test_verdict.py", ""),
    ("tests/cli/test_learners.py", ""),
]
HOUSE = ["tests/house/test_field_limits.py"]
WEBHOOKS = [
    "tests/rest/test_webhooks.py",
    "tests/dashboard/test_webhook_pages.py",
    "tests/features/webhooks/test_verdict.py",
]


@pytest.mark.parametrize(
    ("changed", "found"),
    [
        ("streams/core/webhooks/url.py", ["tests/core/test_url.py"]),
        ("streams/core/text.py", ["tests/core/test_text.py"]),
        ("tests/fakes/kafka.py", ["tests/stages/test_fakes.py"]),
        ("tests/stages/test_flow.py", ["tests/stages/test_flow.py"]),
        ("docs/api.md", []),
        ("api/webhooks/models.py", WEBHOOKS),
        ("streams/features/webhooks/input.py", WEBHOOKS),
        ("client/scorm_webhooks_cli/learners.py", ["tests/cli/test_learners.py"]),
        ("api/app.py", []),
    ],
)
def test_the_belonging_a_changed_file_are_found(changed: str, found: list[str]) -> None:
    assert sorted(belonging([changed], TESTS)) == sorted([*found, *HOUSE])
