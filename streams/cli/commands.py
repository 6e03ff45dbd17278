"""The commands by name. Only the named commands are imported; `--help` imports none."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from scorm_webhooks_cli.output import YesOption
from scorm_webhooks_cli.root import (
    CLIENT_GROUPS,
    Groups,
    ProfileOption,
    QuietOption,
    VersionOption,
    configure,
    create_program,
    with_whole_paragraphs,
)
from streams.cli.stage_commands import silence_libraries, stages
from streams.runtime.background import BACKGROUND_STAGES

APP_HELP = """
Signed webhooks for SCORM events.

Try it: `scorm-webhooks demo`. On one machine: `scorm-webhooks up`. On a cluster: set KAFKA_BOOTSTRAP_SERVERS and
DATABASE_URL, run `topics apply` and `db upgrade` once, then one process or more of each stage.

With a receiver and a key: `scorm-webhooks login URL`, then `scorm-webhooks listen`.

Every setting is in docs/settings.md.
"""
SERVER_GROUPS: Groups = {
    "operators": ("streams.cli.operators", "Operators of the platform, who see every account."),
    "invalid": ("streams.cli.invalid", "Records that could not be handled, in session-events.invalid."),
    "topics": ("streams.cli.maintenance", "Compare and create topics, and move the stages that read them."),
    "db": ("streams.cli.maintenance", "The database's schema."),
    "keys": ("streams.cli.maintenance", "Keys that encrypt webhooks' secrets."),
    "secrets": ("streams.cli.maintenance", "Stored secrets."),
}
GROUPS: Groups = {**CLIENT_GROUPS, "events": ("streams.cli.events", CLIENT_GROUPS["events"][1]), **SERVER_GROUPS}


def create_app(words: Sequence[str]) -> typer.Typer:
    """The commands that a command line names; the other groups have only a name and a help."""
    app = create_program(words, GROUPS, _configure, APP_HELP, (up, demo, restore))
    app.add_typer(stages)
    return with_whole_paragraphs(app)


def _configure(version: VersionOption = False, profile: ProfileOption = None, quiet: QuietOption = False) -> None:
    silence_libraries()
    configure(version, profile, quiet)


def up(
    small: Annotated[
        bool, typer.Option("--small", help=f"Run {', '.join(BACKGROUND_STAGES)} in one process: less memory.")
    ] = False,
) -> None:
    """Run every stage on this machine, each in a process that is restarted when it ends.

    Without KAFKA_BOOTSTRAP_SERVERS and DATABASE_URL it uses an embedded broker, which forgets everything at its end,
    and SQLite.
    """
    from streams.cli.stages import run_up

    run_up(is_small=small)


def restore(
    since: Annotated[
        str, typer.Option(help="A time before the dump was made, such as 2026-11-27T02:00:00Z: `record` reads since.")
    ],
    dump: Annotated[
        Path | None,
        typer.Option(
            help="The file of `pg_dump --format custom`, or a copy of SQLite's. Without it the database is restored "
            "already, such as from a snapshot."
        ),
    ] = None,
    plan: Annotated[bool, typer.Option("--plan", help="Check, show the steps, and change nothing.")] = False,
    yes: YesOption = False,
) -> None:
    """Restore the database from a dump, and let it catch up with the topics. Stop the stages that use it first.

    `fan-out` and `deliver` may run. A restore that was interrupted goes on when you run the same command again.
    """
    from streams.cli.restore import run_restore

    run_restore(dump, since, is_plan=plan, is_confirmed=yes)


def demo(
    events: Annotated[int | None, typer.Option(min=1, help="Publish this many events.")] = None,
    leave: Annotated[
        bool, typer.Option("--exit", help="End when every event is accounted for; fail otherwise.")
    ] = False,
    seed: Annotated[int, typer.Option(help="Of the learners' dice.")] = 1,
    receivers: Annotated[
        Path | None, typer.Option(help="A JSON file of customers that run elsewhere: see examples/run.py.")
    ] = None,
) -> None:
    """Show a whole system: four customers' servers, a course with learners, every stage. Keeps nothing."""
    if leave and events is None:
        raise typer.BadParameter("--exit needs --events: without it the course has no end")
    from streams.cli.stages import start_demo

    start_demo(events, leave, seed, receivers)
