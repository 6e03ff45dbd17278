"""The ports of the stages, in memory; `tests/contract` runs one suite against these fakes and the real products."""

from fakes.clock import FakeClock, cancel_others, no_wait, quiet, stop_others, until
from fakes.delivery import FakeEncryption, FakeEncryptionCheck, FakeErasedLearners, FakeSender, FakeTelemetry
from fakes.event_consumer import EventConsumer
from fakes.failed_work import FakeFailedWork, postponed_work
from fakes.held import FakeHeld, FakeJobs, FakeReplays
from fakes.history import FakeEventHistory
from fakes.identity_provider import FakeIdentityProvider
from fakes.kafka import FakeHandler, FakeKafka, FakeRecordConsumer
from fakes.newer_release import NEWER_CODEC, newer_schemas
from fakes.records import FakeDeliveryStore, FakeRecorder
from fakes.subscriptions import FakeSubscriptions
from fakes.webhooks import FakeLease, FakeOutbox

__all__ = [
    "NEWER_CODEC",
    "EventConsumer",
    "FakeClock",
    "FakeDeliveryStore",
    "FakeEncryption",
    "FakeEncryptionCheck",
    "FakeErasedLearners",
    "FakeEventHistory",
    "FakeFailedWork",
    "FakeHandler",
    "FakeHeld",
    "FakeIdentityProvider",
    "FakeJobs",
    "FakeKafka",
    "FakeLease",
    "FakeOutbox",
    "FakeRecordConsumer",
    "FakeRecorder",
    "FakeReplays",
    "FakeSender",
    "FakeSubscriptions",
    "FakeTelemetry",
    "cancel_others",
    "newer_schemas",
    "no_wait",
    "postponed_work",
    "quiet",
    "stop_others",
    "until",
]
