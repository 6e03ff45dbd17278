"""The AsyncAPI document of the Kafka topics, from their declarations and the Avro schemas."""

import json
from pathlib import Path
from typing import Any

import yaml

from streams.acls import ACCESS
from streams.build import build_version
from streams.settings import load_settings
from streams.topics import (
    ATTEMPTS,
    DEAD_LETTERS,
    ERASURES,
    INVALID,
    RETRY_PREFIX,
    SESSION_EVENTS,
    SUBSCRIPTIONS,
    Topic,
    declare,
)

SCHEMAS = Path(__file__).parents[1] / "schemas"
_AVRO = "application/vnd.apache.avro+json;version=1.9.0"
# The schema of a topic's records. What is not here are deliveries.
_SCHEMA_OF = {
    SESSION_EVENTS: "session_event",
    SUBSCRIPTIONS: "webhook",
    DEAD_LETTERS: "dead_letter",
    ATTEMPTS: "attempt",
}
# Records that no schema describes.
_WITHOUT_SCHEMA = {
    INVALID: "A record that could not be used, byte for byte, with its origin and the error in its headers.",
    ERASURES: "An erased learner: a keyed hash, and the time until which events are erased.",
}


def asyncapi_text() -> str:
    """The document, as YAML."""
    text: str = yaml.safe_dump(asyncapi(), sort_keys=False, allow_unicode=True, width=1000)
    return text


def asyncapi() -> dict[str, Any]:
    """The document: a channel for each topic, and who sends to it and receives from it."""
    defaults = load_settings({"KAFKA_BOOTSTRAP_SERVERS": "kafka:9092"})
    topics = declare(defaults.retry_schedule, defaults.event_partitions, defaults.delivery_partitions)
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "scorm-webhooks",
            "version": build_version().partition("+")[0],
            "description": (
                "The topics of a deployment with the default retry schedule. A platform writes to `session-events`; "
                "all other topics are the system's own, and may be read. Values are Avro as single-object encoding "
                "(two bytes, the fingerprint of the schema, the record), or in the framing of a schema registry."
            ),
            "license": {"name": "Apache-2.0"},
        },
        "defaultContentType": "avro/binary",
        "channels": {channel_id(topic): channel(topic) for topic in topics},
        "operations": operations(topics),
        "components": {"messages": messages()},
    }


def channel_id(topic: Topic) -> str:
    return topic.name.replace(".", "_")


def message_id(topic: Topic) -> str:
    """The message of a topic's records."""
    if topic.name in _WITHOUT_SCHEMA:
        return channel_id(topic)
    return _SCHEMA_OF.get(topic.name, "delivery")


def channel(topic: Topic) -> dict[str, Any]:
    """A topic with its policy."""
    config = dict(topic.config)
    name = message_id(topic)
    return {
        "address": topic.name,
        "description": "Keys are those of the original records." if topic.name == INVALID else f"Keyed by {topic.key}.",
        "messages": {name: {"$ref": f"#/components/messages/{name}"}},
        "bindings": {
            "kafka": {
                "topic": topic.name,
                "partitions": topic.partitions,
                "topicConfiguration": {
                    "cleanup.policy": [config["cleanup.policy"]],
                    **{
                        key: int(config[key])
                        for key in ("retention.ms", "retention.bytes", "delete.retention.ms", "max.message.bytes")
                        if key in config
                    },
                },
                "bindingVersion": "0.5.0",
            }
        },
    }


def operations(topics: list[Topic]) -> dict[str, Any]:
    """Who writes and reads each topic, from the rules of access that the system asks Kafka for."""
    found: dict[str, Any] = {}
    for topic in topics:
        for stage, access in ACCESS.items():
            for action, names in (("send", access.writes), ("receive", access.reads)):
                if is_among(topic.name, names):
                    identifier = f"{stage.replace('-', '_')}_{action}s_{channel_id(topic)}"
                    found[identifier] = {
                        "action": action,
                        "channel": {"$ref": f"#/channels/{channel_id(topic)}"},
                        "summary": f"`{stage}` {'writes to' if action == 'send' else 'reads'} `{topic.name}`.",
                    }
    return found


def is_among(name: str, topics: Any) -> bool:
    return any(name == topic or (topic == RETRY_PREFIX and name.startswith(topic)) for topic in topics)


def messages() -> dict[str, Any]:
    """The kinds of records."""
    found: dict[str, Any] = {}
    for name in ("session_event", "webhook", "delivery", "dead_letter", "attempt"):
        schema = json.loads((SCHEMAS / f"{name}.avsc").read_text(encoding="utf-8"))
        found[name] = {
            "name": schema["name"],
            "title": schema["name"],
            "summary": schema["doc"],
            "contentType": "avro/binary",
            "payload": {"schemaFormat": _AVRO, "schema": schema},
            "bindings": {"kafka": {"key": {"type": "string"}, "bindingVersion": "0.5.0"}},
        }
    for topic, summary in _WITHOUT_SCHEMA.items():
        name = topic.replace(".", "_")
        found[name] = {"name": name, "title": topic, "summary": summary, "contentType": "application/octet-stream"}
    return found
