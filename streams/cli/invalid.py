"""Commands for invalid records: list, show and replay."""

import asyncio
import sys
from collections.abc import Iterator, Mapping
from typing import Annotated, Any

import typer

from scorm_webhooks_cli.output import JsonOption, progress_bar, show, without_none
from scorm_webhooks_cli.text import say
from streams.adapters.kafka.invalid_records import KafkaInvalidRecords
from streams.cli.deployment import current_actor, require_kafka, run_in_deployment
from streams.core.errors import FieldError, Invalid, NotFound
from streams.core.records.invalid_record import StoredRecord
from streams.core.times import format_time
from streams.features.invalid_records.service import ReplayResult
from streams.runtime.bootstrap import SqlDeployment
from streams.telemetry import PrometheusTelemetry

# `--raw` writes the whole value.
MAX_SHOWN_BYTES = 256

invalid = typer.Typer(no_args_is_help=True)

TopicOption = Annotated[
    str | None, typer.Option("--topic", help="Only those that came from this topic, such as session-events.")
]
RecordArgument = Annotated[str, typer.Argument(metavar="RECORD", help="An id that `invalid list` shows.")]


@invalid.command("list")
def invalid_list(
    topic: TopicOption = None,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="At most this many.")] = 50,
    as_json: JsonOption = False,
) -> None:
    """List invalid records with their errors, newest first."""
    records = _stored_invalid_records().list_newest(limit, topic)
    columns = {"at": "storedAt", "topic": "topic", "error": "error", "id": "id"}
    show([_to_row(record) for record in records], as_json, columns)


@invalid.command("show")
def invalid_show(
    record_id: RecordArgument,
    raw: Annotated[bool, typer.Option("--raw", help="Write the bytes of the value, and nothing else.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Show an invalid record: where it came from, its error, its key, its headers, the start of its value in hex."""
    record = _stored_invalid_records().find(record_id)
    if raw:
        sys.stdout.buffer.write(record.value or b"")
        return
    headers = {name: value.decode(errors="backslashreplace") for name, value in record.headers}
    show(
        {
            **_to_row(record),
            **({"headers": headers} if headers else {}),
            "valueStart": (record.value or b"")[:MAX_SHOWN_BYTES].hex(),
        },
        as_json,
    )


@invalid.command("replay")
def invalid_replay(
    ids: Annotated[list[str] | None, typer.Argument(metavar="RECORD...", help="Ids that `invalid list` shows.")] = None,
    every: Annotated[
        bool, typer.Option("--all", help="All that were not replayed yet, or with --topic those that came from it.")
    ] = False,
    topic: TopicOption = None,
    as_json: JsonOption = False,
) -> None:
    """Produce invalid records again to their topics, after their cause is corrected.

    They stay in session-events.invalid until retention. One that is still invalid is stored again, as a new record.
    Exit code 1 if some were not produced.
    """
    if bool(ids) == every:
        raise Invalid(FieldError("RECORD", "give ids of records, or --all (with --topic if you like)"))

    async def replay_records(deployment: SqlDeployment) -> ReplayResult:
        await asyncio.to_thread(require_kafka, deployment)
        producer = deployment.producer(PrometheusTelemetry("invalid"))
        try:
            with progress_bar(is_disabled=as_json) as progress:
                task_id = progress.add_task("replaying", total=len(ids) if ids else None)
                service = deployment.invalid_records(producer)
                unknown_ids: dict[str, str] = {}
                records = _select_records(deployment.stored_invalid_records(), ids, topic, unknown_ids)
                result = await service.replay(
                    records,
                    lambda count: progress.update(task_id, completed=count),
                    actor=current_actor(),
                    is_repeated=bool(ids),
                )
                result.failures |= unknown_ids
                return result
        finally:
            await producer.close()

    result = run_in_deployment(replay_records)
    if as_json:
        show({"replayed": result.count, "skipped": result.skipped, "left": result.failures}, as_json)
    else:
        skipped_note = f", {result.skipped} skipped that were replayed before" if result.skipped else ""
        say(f"{result.count} replayed{skipped_note}")
        for record_id, reason in result.failures.items():
            say(f"{record_id}: {reason}", err=True)
    if result.failures:
        raise typer.Exit(1)


def _select_records(
    invalid_records: KafkaInvalidRecords, ids: list[str] | None, topic: str | None, unknown_ids: dict[str, str]
) -> Iterator[StoredRecord]:
    """The records to replay. An id without a record goes to `unknown_ids`, with the reason, and does not stop the
    others.
    """
    if not ids:
        yield from invalid_records.iterate_all(topic)
        return
    for record_id in ids:
        try:
            yield invalid_records.find(record_id)
        except (Invalid, NotFound) as error:
            unknown_ids[record_id] = str(error)


def _stored_invalid_records() -> KafkaInvalidRecords:
    deployment = SqlDeployment.from_environment()
    require_kafka(deployment)
    return deployment.stored_invalid_records()


def _to_row(record: StoredRecord) -> Mapping[str, Any]:
    return without_none(
        id=record.id,
        storedAt=format_time(record.stored_at),
        topic=record.topic,
        partition=record.partition,
        offset=record.offset,
        error=record.error,
        key=record.key.decode(errors="backslashreplace") if record.key is not None else None,
        valueBytes=record.value_bytes,
        storedBytes=None if record.is_whole else len(record.value or b""),
    )
