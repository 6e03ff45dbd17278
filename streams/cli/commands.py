"""The commands by name. Only what a command line names is imported: `--help` needs none of it."""

from collections.abc import Collection
from importlib import import_module
from pathlib import Path
from typing import Annotated

import typer

from streams.cli.stage_commands import configure_every_command, stages
from streams.runtime.background import BACKGROUND_STAGES

APP_HELP = """
Signed webhooks for SCORM events.

Try it: `scorm-webhooks demo`. On one machine: `scorm-webhooks up`. On a cluster: set KAFKA_BOOTSTRAP_SERVERS and
DATABASE_URL, run `topics apply` and `db upgrade` once, then one process or more of each stage.
Every setting is in docs/settings.md.
"""
# The groups of commands: a module that has all commands of the group, and its help.
GROUPS = {
    "accounts": ("access", "Customers of the platform."),
    "api-keys": ("access", "API keys of an account."),
    "users": ("access", "Users, who may sign in to an account's dashboard."),
    "operators": ("access", "Operators of the platform, who see every account."),
    "usage": ("usage", "Launches of an account by calendar month, in UTC."),
    "webhooks": ("replays", "Where events are sent."),
    "events": ("events", "What happened at the platform."),
    "deliveries": ("replays", "Deliveries: each is one event owed to one webhook."),
    "dead-letters": ("deliveries", "Dead letters: deliveries that were given up."),
    "jobs": ("jobs", "Actions on many deliveries, which `maintain` does."),
    "learners": ("learners", "Learners, whose data can be erased."),
    "invalid": ("invalid", "Records that could not be handled, in session-events.invalid."),
    "audit": ("access", "Who did what."),
    "topics": ("maintenance", "Compare and create topics, and move the stages that read them."),
    "db": ("maintenance", "The database's schema."),
    "keys": ("maintenance", "Keys that encrypt webhooks' secrets."),
    "secrets": ("maintenance", "Stored secrets."),
}


def create_app(names: Collection[str]) -> typer.Typer:
    """The commands, with those of the groups in `names`; of the others only their names and help."""
    app = typer.Typer(
        name="scorm-webhooks",
        callback=configure_every_command,
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        help=APP_HELP,
    )
    for name, (module, group_help) in GROUPS.items():
        if name in names:
            group = getattr(import_module(f"streams.cli.{module}"), name.replace("-", "_"))
        else:
            group = typer.Typer(callback=_group_callback)
        app.add_typer(group, name=name, help=group_help)
    app.add_typer(stages)
    app.command()(up)
    app.command()(demo)
    app.command()(reconcile)
    app.command()(exam)
    return app


def _group_callback() -> None:
    """A group needs a command or a callback."""


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


def reconcile(
    webhook: Annotated[str, typer.Option(help="The webhook's id.")],
    since: Annotated[str | None, typer.Option(help="Only events first seen then or later.")] = None,
    until: Annotated[str | None, typer.Option(help="Only events first seen before.")] = None,
    retry: Annotated[bool, typer.Option("--retry", help="Send the missing events again, with the same ids.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="With --retry: also if every delivered event is missing.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")] = False,
) -> None:
    """Print the events that were delivered and that your receiver does not have.

    Standard input has the ids of the receiver's events, one a line, or the first column of a CSV file:
    `scorm-webhooks reconcile --webhook wh_1 < ids.txt`. Exit code 1 if some are missing and are not sent again.
    """
    from streams.cli.reconcile import run_reconcile

    run_reconcile(webhook, since, until, is_retry=retry, is_confirmed=yes, as_json=as_json)


def exam(
    url: Annotated[str, typer.Argument(metavar="URL", help="Your receiver, such as http://localhost:3000/hook.")],
    secret: Annotated[
        str, typer.Option(envvar="WEBHOOK_SECRET", show_envvar=True, help="The signing secret that it verifies with.")
    ],
    header: Annotated[str, typer.Option(help="The platform's own header of signatures.")] = "X-AllureConnect-Signature",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")] = False,
) -> None:
    """Send a receiver what the world will: duplicates, wrong signatures, old and late requests, large and slow ones.

    Use a copy of your receiver: it gets events of a session that does not exist. They come from this machine alone.
    Exit code 1 if the receiver fails, and 3 if it cannot be reached.
    """
    from streams.cli.exam import run_exam

    run_exam(url, secret, header, as_json=as_json)
