"""A producer of a learning platform; it uses the published Avro schema alone."""

import io
import json
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import fastavro
from confluent_kafka import Producer
from fastavro.schema import fingerprint, to_parsing_canonical_form

SCHEMA = json.loads((Path(__file__).parents[2] / "schemas" / "session_event.avsc").read_text())
HEADER = b"\xc3\x01" + bytes.fromhex(fingerprint(to_parsing_canonical_form(SCHEMA), "CRC-64-AVRO"))
PARSED = fastavro.parse_schema(SCHEMA)


LAST_SPRING = datetime(2026, 4, 10, 14, 32, tzinfo=UTC)


def launched(event_id: str, account_id: str, session_id: str = "sess_1", at: datetime = LAST_SPRING) -> bytes:
    return encoded(event_id, "session.launched", account_id, _launched(session_id), at)


def launched_fields(event_id: str, account_id: str) -> dict[str, Any]:
    """For a serializer of the platform's own."""
    return event_fields(event_id, "session.launched", account_id, _launched("sess_1"))


def _launched(session_id: str) -> tuple[str, Mapping[str, Any]]:
    data = {"sessionId": session_id, "packageId": "pkg_1", "dispatchId": None, "learnerId": "learner-42"}
    return "scormwebhooks.v1.SessionLaunched", data


def completed(event_id: str, account_id: str, **more: Any) -> bytes:
    data = {
        "sessionId": "sess_1",
        "packageId": "pkg_1",
        "dispatchId": "dsp_1",
        "learnerId": "learner-42",
        "completionStatus": "completed",
        "successStatus": "passed",
        "scoreRaw": 92.0,
        "scoreMin": None,
        "scoreMax": 100.0,
        "scoreScaled": None,
        "totalTime": "PT12M34S",
        **more,
    }
    return encoded(event_id, "session.completed", account_id, ("scormwebhooks.v1.SessionCompleted", data))


def event_fields(
    event_id: str, event_type: str, account_id: str, data: tuple[str, Mapping[str, Any]], at: datetime = LAST_SPRING
) -> dict[str, Any]:
    return {
        "id": event_id,
        "type": event_type,
        "accountId": account_id,
        "occurredAt": at,
        "traceParent": None,
        "sequence": data[1].get("sequence"),
        "data": data,
    }


def encoded(
    event_id: str, event_type: str, account_id: str, data: tuple[str, Mapping[str, Any]], at: datetime = LAST_SPRING
) -> bytes:
    out = io.BytesIO()
    out.write(HEADER)
    fastavro.schemaless_writer(out, PARSED, event_fields(event_id, event_type, account_id, data, at))
    return out.getvalue()


class Platform:
    """Publishes events, and records the acknowledged ones."""

    def __init__(self, bootstrap: str, topic: str) -> None:
        self._producer = Producer(
            {
                "bootstrap.servers": bootstrap,
                "enable.idempotence": True,
                "linger.ms": 0,
                # The partitioner of Java clients.
                "partitioner": "murmur2_random",
            }
        )
        self._topic = topic
        self.acknowledged: list[str] = []

    def publish(self, event_id: str, value: bytes, key: str = "sess_1") -> None:
        self._producer.produce(
            self._topic,
            value,
            key,
            on_delivery=lambda error, _: None if error else self.acknowledged.append(event_id),
        )
        self._producer.poll(0)

    def flush(self) -> None:
        assert self._producer.flush(60) == 0
