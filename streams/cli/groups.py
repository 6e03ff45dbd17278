"""Commands for consumer groups: show their lag, and skip a record."""

import asyncio
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from scorm_webhooks_cli.output import JsonOption, YesOption, require_terminal_or_yes, show
from scorm_webhooks_cli.text import say
from streams.core.errors import FieldError, Invalid
from streams.topics import DELIVER_GROUP, RECORD_GROUP, STAGE_TOPICS, tier_of

if TYPE_CHECKING:
    from streams.adapters.kafka.admin.groups_admin import GroupsAdmin


def skip(
    stage: Annotated[Literal["deliver", "record"], typer.Argument(help="The stage that waits at the record.")],
    topic: Annotated[str, typer.Argument(help="The topic, without the prefix of your topics.")],
    partition: Annotated[int, typer.Argument(help="The partition's number.")],
    offset: Annotated[int, typer.Argument(help="The offset of the record.")],
    yes: YesOption = False,
) -> None:
    """Move a stage past a record that no release wrote, at which a partition waits. Stop its processes first.

    The record is lost for this stage: look at it first.
    """
    from streams.ports.kafka import Partition

    group = DELIVER_GROUP if stage == "deliver" else RECORD_GROUP
    if topic not in STAGE_TOPICS[group] and not (stage == "deliver" and tier_of(topic)):
        raise Invalid(FieldError("topic", f"{stage} does not read {topic}"))
    require_terminal_or_yes(yes)
    if not yes:
        typer.confirm(
            f"Let {stage} never handle record {offset} of {topic}, partition {partition}?", abort=True, err=True
        )
    _groups_admin().skip(group, Partition(topic, partition), offset)
    say(f"{stage} goes on behind record {offset} of {topic}, partition {partition}")


def lag(as_json: JsonOption = False) -> None:
    """Show how many records each stage has not handled, by topic. Records that wait in a retry tier are not counted."""
    from streams.features.platform.service import stage_lags
    from streams.runtime.bootstrap import SqlDeployment

    offsets = asyncio.run(SqlDeployment.from_environment().group_lags().offsets())
    rows = [
        {"stage": lag.stage, "topic": topic, "records": count}
        for lag in stage_lags(offsets)
        for topic, count in lag.topics.items()
    ]
    show(rows, as_json)


def _groups_admin() -> "GroupsAdmin":
    from streams.adapters.kafka.admin.groups_admin import GroupsAdmin
    from streams.runtime.bootstrap import SqlDeployment

    deployment = SqlDeployment.from_environment()
    return GroupsAdmin(deployment.kafka, deployment.settings.topic_prefix)
