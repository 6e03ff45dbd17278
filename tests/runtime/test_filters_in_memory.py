"""The stages know the filters of webhooks."""

from builders import NOON, event, webhook
from fakes import FakeTelemetry
from streams.core.events.event_filter import parse_filter
from streams.core.webhooks.webhook import wants
from streams.runtime.deployment import Deployment


def test_the_table_keeps_the_filter_of_a_webhook() -> None:
    environ = {"KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:1"}
    table = Deployment.from_environment(environ).subscriptions_reader(FakeTelemetry()).table
    table.apply_webhook(0, webhook(filter=parse_filter({"successStatus": "failed"})), NOON)
    [known] = table.of_account("acme")
    assert not wants(known, event())
