"""`events publish` checks all lines first, and counts the events that Kafka acknowledged."""

import json
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest

from scorm_webhooks_cli import input_file, input_lines
from scorm_webhooks_cli.input_lines import InputLine, parse_lines
from streams.cli import kafka_events
from streams.cli.events import events_publish as publish
from streams.cli.kafka_events import publish_all
from streams.core.errors import Invalid, Misconfigured, Unavailable
from streams.producer import Ack

DATA = {"packageId": "pkg_1", "version": "2"}
EVENT = {
    "type": "package.updated",
    "accountId": "acc_1",
    "createdAt": "2026-04-10T14:32:00Z",
    "data": DATA,
}


def line(**changes: Any) -> str:
    return json.dumps({**EVENT, **changes}, ensure_ascii=False)


def messages(text: str) -> list[str]:
    with pytest.raises(Invalid) as refused:
        parse_lines(text)
    return [str(error) for error in refused.value.errors]


def test_a_line_separator_in_a_text_does_not_split_a_line() -> None:
    title = "one\u2028two\u2029three\x85four"
    found = parse_lines(line(data={**EVENT["data"], "title": title}) + "\r\n\n" + line())  # type: ignore[dict-item]
    assert [one.number for one in found] == [1, 3]
    assert found[0].event.data["title"] == title


def test_every_invalid_line_is_named_and_none_is_published() -> None:
    errors = messages("\n".join([line(), line(type="no.such"), line(), "{", "[" * 100_000]))
    assert [message.split(":")[0] for message in errors] == ["line 2", "line 4", "line 5", "events"]
    assert errors[2] == "line 5: is nested too deeply"
    assert errors[-1] == "events: 3 of 5 lines are wrong: nothing is published"


def test_an_event_over_several_lines_says_what_to_do() -> None:
    first = messages(json.dumps(EVENT, indent=2))[0]
    assert first.startswith("line 1: is not JSON: Expecting property name enclosed in double quotes at character 1;")
    assert first.endswith("write each event on one line")


def test_a_file_that_is_not_there_is_named_once() -> None:
    with pytest.raises(Invalid, match=r"^nowhere\.jsonl: No such file or directory$"):
        input_file.read_text("nowhere.jsonl")


def test_only_the_first_of_many_invalid_lines_are_named() -> None:
    errors = messages("{\n" * 1000)
    assert len(errors) == input_lines.MAX_SHOWN_ERRORS + 1
    assert errors[-1] == "events: 1000 of 1000 lines are wrong: nothing is published"


class FakeProducer:
    """Acknowledges events except `refused`; its queue is full after `room` events."""

    def __init__(self, refused: set[str], room: int = 1000) -> None:
        self.refused, self.room = refused, room
        self.published: list[str] = []

    def publish(self, event: Any) -> "Future[Ack]":
        if len(self.published) >= self.room:
            raise Unavailable("the local queue is full")
        self.published.append(event.id)
        future: Future[Ack] = Future()
        if event.id in self.refused:
            future.set_exception(Unavailable("Kafka did not take the event"))
        else:
            future.set_result(Ack(event.id, "session-events", 0, 0))
        return future

    def __enter__(self) -> "FakeProducer":
        return self

    def __exit__(self, *_: object) -> None:
        pass


def test_a_failure_names_its_line_and_counts_the_published(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    producer = FakeProducer({"evt_3", "evt_4"})
    monkeypatch.setattr(kafka_events, "EventProducer", lambda *_, **__: producer)
    monkeypatch.setattr(kafka_events, "require_kafka", lambda deployment: None)
    monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", "kafka:9092")
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "events"
    file.write_text("\n".join(line(id=f"evt_{number}") for number in range(1, 6)))
    with pytest.raises(Unavailable, match=r"line 3: .*; at least 3 of 5 events are published"):
        publish(str(file), as_json=True)
    shown = json.loads(capsys.readouterr().out)
    assert shown == {"ids": ["evt_1", "evt_2", "evt_5"], "events": [{"id": f"evt_{n}"} for n in (1, 2, 5)]}


def test_kafkas_address_is_enough_to_publish(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(kafka_events, "EventProducer", lambda *_, **__: FakeProducer(set()))
    monkeypatch.setattr(kafka_events, "require_kafka", lambda deployment: None)
    monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", "kafka:9092")
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "events"
    file.write_text(line(id="evt_1"))
    publish(str(file))
    assert "1 event published; no database answers" in capsys.readouterr().out
    assert [path.name for path in tmp_path.iterdir()] == ["events"]


def test_without_any_address_nothing_is_published(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "events"
    file.write_text(line(id="evt_1"))
    with pytest.raises(Misconfigured, match="SCORM_WEBHOOKS_API_URL: is required"):
        publish(str(file))
    assert [path.name for path in tmp_path.iterdir()] == ["events"]


def five_lines() -> list[InputLine]:
    return parse_lines("\n".join(line(id=f"evt_{number}") for number in range(1, 6)))


def failed(producer: FakeProducer) -> list[int]:
    sent = publish_all(producer, five_lines(), is_quiet=True)  # type: ignore[arg-type]
    return [one.number for one, future in sent if future.exception(timeout=0)]


def test_lines_that_kafka_refused_are_reported() -> None:
    assert failed(FakeProducer({"evt_3", "evt_4"})) == [3, 4]
    assert failed(FakeProducer(set(), room=4)) == [5]
    assert failed(FakeProducer(set())) == []


def test_nothing_is_sent_after_a_failed_portion(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kafka_events, "MAX_QUEUED_LINES", 2)
    producer = FakeProducer({"evt_3"})
    assert failed(producer) == [3]
    assert producer.published == ["evt_1", "evt_2", "evt_3", "evt_4"]
