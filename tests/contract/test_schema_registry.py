"""Confluent's framing with a real schema registry, by Confluent's own client and serializer."""

import json
from typing import Any
from uuid import uuid4

import pytest
from confluent_kafka.schema_registry import Schema as RegistrySchema
from confluent_kafka.schema_registry import record_subject_name_strategy, topic_subject_name_strategy

import schemas
from builders import event
from e2e.learning_platform import launched_fields
from real.registry import SchemaRegistry
from schemas import Schema
from streams.adapters.avro.codec import AvroCodec
from streams.adapters.avro.confluent import ConfluentCodec, ConfluentRegistry
from streams.core.errors import InvalidRecord, Misconfigured, Unavailable
from streams.core.events.event import Event
from streams.producer import confluent_codec

RECORD_NAME = "scormwebhooks.v1.SessionEvent"


def ours(server: SchemaRegistry, user: str = "writer", password: str = "secret") -> ConfluentRegistry:
    return ConfluentRegistry(server.url, {"basic.auth.user.info": f"{user}:{password}"})


def writing(server: SchemaRegistry, subject: str, user: str = "writer") -> ConfluentCodec:
    return ConfluentCodec(AvroCodec(), ours(server, user), subject)


def reading(server: SchemaRegistry) -> ConfluentCodec:
    return ConfluentCodec(AvroCodec(), ours(server, "reader"))


def new_topic() -> str:
    return f"{uuid4().hex}-session-events"


def newest() -> Schema:
    copy: Schema = json.loads(json.dumps(schemas.current("session_event")))
    return copy


def with_field(**field: Any) -> Schema:
    schema = newest()
    schema["fields"].append(field)
    return schema


def id_of(value: bytes) -> int:
    assert value[:1] == b"\0"
    return int.from_bytes(value[1:5], "big")


def decoded(codec: ConfluentCodec, value: bytes) -> Event:
    found = codec.decode(value)
    assert isinstance(found, Event)
    return found


def test_our_schema_is_registered_under_its_subject(schema_registry: SchemaRegistry) -> None:
    topic, client = new_topic(), schema_registry.client()
    by_topic = writing(schema_registry, f"{topic}-value").encode(event())
    by_record = writing(schema_registry, RECORD_NAME).encode(event())
    assert {f"{topic}-value", RECORD_NAME} <= set(client.get_subjects())
    assert client.get_versions(f"{topic}-value") == client.get_versions(RECORD_NAME) == [1]
    assert id_of(by_topic) == id_of(by_record), "one schema has one id"
    assert json.loads(client.get_schema(id_of(by_topic)).schema_str) == newest()


def test_another_process_finds_the_registered_schema(schema_registry: SchemaRegistry) -> None:
    subject = f"{new_topic()}-value"
    first, second = (writing(schema_registry, subject).encode(event()) for _ in range(2))
    assert first == second
    assert schema_registry.client().get_versions(subject) == [1]


def test_a_reader_may_write_what_is_registered(schema_registry: SchemaRegistry) -> None:
    subject = f"{new_topic()}-value"
    with pytest.raises(Misconfigured, match=rf"{subject}.*403"):
        writing(schema_registry, subject, "reader").encode(event())
    registered = writing(schema_registry, subject).encode(event())
    assert writing(schema_registry, subject, "reader").encode(event()) == registered


def test_a_producer_team_chooses_the_subject(schema_registry: SchemaRegistry) -> None:
    topic, login = new_topic(), "writer:secret"
    confluent_codec(schema_registry.url, topic, basic_auth_user_info=login).encode(event())
    confluent_codec(schema_registry.url, topic, subject=f"{topic}-{RECORD_NAME}", basic_auth_user_info=login).encode(
        event()
    )
    subjects = schema_registry.client().get_subjects()
    assert sorted(one for one in subjects if one.startswith(topic)) == [f"{topic}-{RECORD_NAME}", f"{topic}-value"]


@pytest.mark.parametrize("strategy", [topic_subject_name_strategy, record_subject_name_strategy])
def test_what_confluents_serializer_writes_is_read(schema_registry: SchemaRegistry, strategy: Any) -> None:
    fields = launched_fields("evt_1", "acc_1")
    value = schema_registry.serialized(newest(), new_topic(), fields, **{"subject.name.strategy": strategy})
    assert decoded(reading(schema_registry), value).id == "evt_1"


def test_a_compatibly_evolved_schema_is_read(schema_registry: SchemaRegistry) -> None:
    topic, client = new_topic(), schema_registry.client()
    writing(schema_registry, f"{topic}-value").encode(event())
    client.set_compatibility(f"{topic}-value", "BACKWARD")
    evolved = with_field(name="shard", type="int", default=0)
    value = schema_registry.serialized(evolved, topic, {**launched_fields("evt_1", "acc_1"), "shard": 7})
    assert client.get_versions(f"{topic}-value") == [1, 2]
    assert decoded(reading(schema_registry), value).id == "evt_1"


def test_an_incompatible_schema_is_refused_in_words(schema_registry: SchemaRegistry) -> None:
    subject, client = f"{new_topic()}-value", schema_registry.client()
    theirs = with_field(name="shard", type="int")
    theirs["fields"] = [field for field in theirs["fields"] if field["name"] != "accountId"]
    client.register_schema(subject, RegistrySchema(json.dumps(theirs), "AVRO"))
    client.set_compatibility(subject, "FULL")
    with pytest.raises(Misconfigured, match=rf"{subject}.*409.*[Ii]ncompatible"):
        writing(schema_registry, subject).encode(event())
    assert client.get_versions(subject) == [1]


def test_a_schema_is_asked_for_once(schema_registry: SchemaRegistry) -> None:
    writer, reader = writing(schema_registry, f"{new_topic()}-value"), reading(schema_registry)
    value = writer.encode(event())
    assert decoded(reader, value) == event()
    with schema_registry.frozen():
        assert decoded(reader, value) == event()
        assert writer.encode(event()) == value


def test_an_unknown_id_is_an_invalid_record(schema_registry: SchemaRegistry) -> None:
    with pytest.raises(InvalidRecord, match="no schema of id 987654"):
        reading(schema_registry).decode(b"\0" + (987654).to_bytes(4, "big") + b"junk")


@pytest.mark.parametrize(
    ("schema", "kind"), [('syntax = "proto3"; message A { string b = 1; }', "PROTOBUF"), ('"string"', "AVRO")]
)
def test_a_value_of_another_schema_is_an_invalid_record(
    schema_registry: SchemaRegistry, schema: str, kind: str
) -> None:
    schema_id = schema_registry.client().register_schema(f"{new_topic()}-value", RegistrySchema(schema, kind))
    with pytest.raises(InvalidRecord, match=f"schema {schema_id}|session_event"):
        reading(schema_registry).decode(b"\0" + schema_id.to_bytes(4, "big") + b"\x02a")


def test_a_wrong_password_is_said_in_words(schema_registry: SchemaRegistry) -> None:
    with pytest.raises(Misconfigured, match=r"rejects .*401") as refused:
        ours(schema_registry, "writer", "wrong").schema(1)
    assert "wrong" not in str(refused.value)


def test_a_registry_that_hangs_is_an_outage(schema_registry: SchemaRegistry) -> None:
    """The client alone would wait forever, and with it the event loop of a stage."""
    value = writing(schema_registry, f"{new_topic()}-value").encode(event())
    reader = reading(schema_registry)
    with schema_registry.frozen(), pytest.raises(Unavailable, match="does not answer"):
        reader.decode(value)
    assert decoded(reader, value) == event()
