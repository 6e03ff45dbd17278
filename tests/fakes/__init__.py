"""The ports that the stages need, in memory; `tests/contract` holds them to the same suites as the products."""

from fakes.clock import FakeClock, cancel_others, quiet, until
from fakes.held import FakeHeld, FakeJobs, FakeReplays
from fakes.kafka import FakeFeed, FakeLog
from fakes.records import FakeDeliveryLog, FakeRecorder
from fakes.view import FakeView
from fakes.webhooks import FakeLease, FakeOutbox
from fakes.world import FakeEncryptionCheck, FakeReport, FakeSealed, FakeSender

__all__ = [
    "FakeClock",
    "FakeDeliveryLog",
    "FakeEncryptionCheck",
    "FakeFeed",
    "FakeHeld",
    "FakeJobs",
    "FakeLease",
    "FakeLog",
    "FakeOutbox",
    "FakeRecorder",
    "FakeReplays",
    "FakeReport",
    "FakeSealed",
    "FakeSender",
    "FakeView",
    "cancel_others",
    "quiet",
    "until",
]
