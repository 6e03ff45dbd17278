"""The ports that the stages need, in memory; `tests/contract` holds them to the same suites as the products."""

from fakes.clock import FakeClock, cancel_others, quiet, until
from fakes.delivery import FakeEncryptionCheck, FakeSealed, FakeSender, FakeTelemetry
from fakes.held import FakeHeld, FakeJobs, FakeReplays
from fakes.kafka import FakeRecordConsumer, FakeRecordProducer
from fakes.records import FakeDeliveryLog, FakeRecorder
from fakes.subscriptions import FakeSubscriptions
from fakes.webhooks import FakeLease, FakeOutbox

__all__ = [
    "FakeClock",
    "FakeDeliveryLog",
    "FakeEncryptionCheck",
    "FakeHeld",
    "FakeJobs",
    "FakeLease",
    "FakeOutbox",
    "FakeRecordConsumer",
    "FakeRecordProducer",
    "FakeRecorder",
    "FakeReplays",
    "FakeSealed",
    "FakeSender",
    "FakeSubscriptions",
    "FakeTelemetry",
    "cancel_others",
    "quiet",
    "until",
]
