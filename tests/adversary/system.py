"""A whole system with two customers: the attacker must not affect the bystander."""

import itertools
import json
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.message import Message
from typing import Any

from confluent_kafka import Consumer, Producer, TopicPartition

from e2e.learning_platform import Platform, launched
from e2e.receiver import Receiver
from e2e.system import System, until

OPERATOR_KEY = "operator-key-canary-of-the-tests"
# The default of SCORM_WEBHOOKS_API_CONNECTIONS, and those that are accepted beyond it.
API_CONNECTIONS = 532
WEBHOOKS_PER_ACCOUNT = 10
# Isolation: whatever one customer does, an event of another arrives within this time.
# It waits for no attempt at a silent endpoint, which takes 10 s.
ISOLATION_SECONDS = 8.0


@dataclass
class Account:
    """A customer: its id and its API key."""

    id: str
    key: str


@dataclass
class Response:
    """A response of the API."""

    status: int
    body: bytes
    headers: "Message[str, str]"

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def wrong_fields(self) -> set[str]:
        """The fields that a problem response names."""
        return {error["field"] for error in self.json["errors"]}


@dataclass
class AdversarySystem:
    """A running system, with access as a customer and as an untrusted Kafka client."""

    system: System
    receiver: Receiver
    bootstrap: str
    prefix: str
    api_port: int
    health_port: int
    attacker: Account = field(init=False)
    bystander: Account = field(init=False)
    _numbers: Any = field(default_factory=itertools.count)
    _took: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.platform = Platform(self.bootstrap, f"{self.prefix}session-events")
        self.attacker, self.bystander = self.open_account("Attacker"), self.open_account("Bystander")
        self.bystander_webhook = self.register(self.bystander, self.receiver.url("/bystander"))
        self.register(self.attacker, self.receiver.url("/attacker"))

    # -- customers -----------------------------------------------------------------------------------------------

    def open_account(self, name: str) -> Account:
        made = self.call("POST", "/v1/accounts", {"name": name, "emails": []}, key=OPERATOR_KEY)
        assert made.status == 201, made.body
        return Account(made.json["id"], made.json["apiKey"])

    def register(self, account: Account, url: str, **more: Any) -> str:
        """Register a webhook that every stage knows; return its id."""
        made = self.call("POST", "/v1/webhooks", {"url": url, **more}, key=account.key)
        assert made.status == 201, made.body
        webhook_id = str(made.json["id"])
        # On a busy machine it takes longer than the two seconds that an answer waits.
        until(lambda: made.json["propagated"] or self._is_propagated(account, webhook_id), 30, str(made.body))
        return webhook_id

    def _is_propagated(self, account: Account, webhook_id: str) -> bool:
        """Ask by a change that changes nothing."""
        changed = self.call("PATCH", f"/v1/webhooks/{webhook_id}", {}, key=account.key)
        assert changed.status == 200, changed.body
        return bool(changed.json["propagated"])

    def call(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        key: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Response:
        """Call the API; `body` is JSON or raw bytes."""
        data = body if isinstance(body, bytes | None) else json.dumps(body).encode()
        authorization = {"Authorization": f"Bearer {key}"} if key else {}
        headers = {"Content-Type": "application/json", **authorization, **(headers or {})}
        url = f"http://127.0.0.1:{self.api_port}{path}"
        request = urllib.request.Request(url, data, headers, method=method)
        try:
            with urllib.request.urlopen(request, timeout=30) as response:
                return Response(response.status, response.read(), response.headers)
        except urllib.error.HTTPError as error:
            return Response(error.code, error.read(), error.headers)

    def is_api_alive(self) -> bool:
        """Whether the API responds to `/healthz` on a new connection."""
        try:
            return self.call("GET", "/healthz").status == 200
        except OSError:
            return False

    # -- events --------------------------------------------------------------------------------------------------

    def new_id(self, name: str) -> str:
        return f"{name}:{next(self._numbers)}"

    def publish(self, account: Account, name: str = "event") -> str:
        """Publish an event of the account to Kafka; return its id."""
        [event_id] = self.publish_many(account, 1, name)
        return event_id

    def publish_many(self, account: Account, count: int, name: str = "event") -> list[str]:
        """Publish several events; return their ids."""
        event_ids = [self.new_id(name) for _ in range(count)]
        for event_id in event_ids:
            self.platform.publish(event_id, launched(event_id, account.id))
        self.platform.flush()
        return event_ids

    def deliveries(self, account: Account, webhook_id: str) -> list[dict[str, Any]]:
        """The newest 500 deliveries of a webhook, as its owner sees them."""
        response = self.call("GET", f"/v1/deliveries?webhookId={webhook_id}&limit=500", key=account.key)
        assert response.status == 200, response.body
        rows: list[dict[str, Any]] = response.json["data"]
        return rows

    def delivery(self, account: Account, delivery_id: str) -> dict[str, Any]:
        """A delivery with its payload and its attempts."""
        response = self.call("GET", f"/v1/deliveries/{delivery_id}", key=account.key)
        assert response.status == 200, response.body
        found: dict[str, Any] = response.json
        return found

    def assert_other_account_is_served(self) -> None:
        """Assert that an event of the bystander arrives in time."""
        event_id = self.publish(self.bystander, "bystander")
        begun = time.monotonic()
        until(lambda: self.receiver.has_some("/bystander", event_id), 60, "the bystander's event", every=0.005)
        took = self.receiver.at("/bystander")[-1].at - begun
        self._took.append(took)
        assert took <= ISOLATION_SECONDS, f"the bystander's event took {took:.1f} s: {self._way_of(event_id)}"

    def _way_of(self, event_id: str) -> str:
        """When the bystander's event was seen and tried, and what became of each attempt."""
        arrived = datetime.now(UTC)

        def attempted() -> list[dict[str, Any]]:
            rows = self.deliveries(self.bystander, self.bystander_webhook)
            return [row for row in rows if row["eventId"] == event_id and row["attemptCount"]]

        until(attempted, 30, "its attempt is visible")
        delivery = self.delivery(self.bystander, attempted()[0]["id"])
        attempts = [(one["startedAt"], one["milliseconds"], one["message"]) for one in delivery["attempts"]]
        return f"arrived {arrived}, first seen {delivery['firstSeenAt']}, attempts {attempts}"

    def figures(self) -> str:
        """The latency of the bystander's events over all tests."""
        took = sorted(seconds * 1000 for seconds in self._took)
        if not took:
            return "no measurements"
        middle, late = took[len(took) // 2], took[len(took) * 99 // 100]
        return f"{len(took)} events: {middle:.0f} ms at p50, {late:.0f} at p99, {took[-1]:.0f} at most"

    # -- an untrusted Kafka client -------------------------------------------------------------------------------------

    def write(self, topic: str, value: bytes | None, key: bytes | None = b"untrusted", **more: Any) -> None:
        """Write a record to one of our topics; returns when it is acknowledged."""
        producer = Producer(
            {
                "bootstrap.servers": self.bootstrap,
                "message.max.bytes": 200_000_000,
                "compression.type": more.get("compression", "none"),
                "log_level": 2,
            }
        )
        refused: list[str] = []
        producer.produce(
            self.prefix + topic,
            value,
            key,
            headers=more.get("headers", []),
            on_delivery=lambda error, _: refused.append(error.str()) if error else None,
        )
        assert producer.flush(30) == 0
        assert refused == []

    def count_invalid(self) -> int:
        """Number of records that `session-events.invalid` ever had."""
        asker = Consumer({"bootstrap.servers": self.bootstrap, "group.id": "none", "log_level": 2})
        topic = f"{self.prefix}session-events.invalid"
        partitions = asker.list_topics(topic, timeout=10).topics[topic].partitions
        ends = [asker.get_watermark_offsets(TopicPartition(topic, number), timeout=10)[1] for number in partitions]
        asker.close()
        return sum(ends)
