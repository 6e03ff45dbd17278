"""Commands that run stages. They import no other command: a stage would need its memory."""

import logging
from collections.abc import Sequence
from typing import Annotated

import typer

from scorm_webhooks_cli.root import VersionOption
from scorm_webhooks_cli.text import say
from streams.core.webhooks.webhook import Webhook
from streams.runtime.background import BACKGROUND_STAGES

stages = typer.Typer()


def silence_libraries() -> None:
    """Let commands report a Kafka outage in one line: librdkafka itself would report it twenty times a second.

    Stages configure the logging, and then its lines are log lines.
    """
    logging.getLogger("librdkafka").addHandler(logging.NullHandler())


def _configure(_: VersionOption = False) -> None:
    silence_libraries()


app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, callback=_configure)
app.add_typer(stages)


STAGE_HELP = {
    "fan-out": "Join each event with the webhooks that want it; produce one delivery each.",
    "deliver": "Send deliveries as signed POSTs; retry, hold, or give up.",
    "record": "Store in SQL what happened; count health; pause webhooks.",
    "maintain": "Do jobs, erasures and retention; expose what waits in the whole deployment.",
    "meter": "Count launches by account and month; raise usage.threshold.",
    "notify": "Send the mails that are owed.",
}


def _add_stage_command(name: str, description: str) -> None:
    def run(
        health_fd: Annotated[int | None, typer.Option(hidden=True)] = None,
        sole_member: Annotated[bool, typer.Option(hidden=True)] = False,
    ) -> None:
        from streams.cli.stages import run_stage

        run_stage(name, health_fd, sole_member=sole_member)

    stages.command(name, help=description, rich_help_panel="Stages")(run)


for _name, _description in STAGE_HELP.items():
    _add_stage_command(_name, _description)


@stages.command("publish", rich_help_panel="Stages")
def publish(
    health_fd: Annotated[int | None, typer.Option(hidden=True)] = None,
    sole_member: Annotated[bool, typer.Option(hidden=True)] = False,
    reconcile: Annotated[
        bool,
        typer.Option(
            "--reconcile",
            help="Make `subscriptions` the same as SQL, let SQL learn from `erasures`, and end: after a restore.",
        ),
    ] = False,
    yes: Annotated[
        bool, typer.Option("--yes", help="With --reconcile: delete webhooks that SQL does not know, without asking.")
    ] = False,
) -> None:
    """Publish the webhooks and erasures of SQL to their topics; release held deliveries."""
    from streams.cli.stages import run_reconcile, run_stage

    if reconcile:
        from scorm_webhooks_cli.output import can_be_asked

        if not yes and not can_be_asked():
            raise typer.BadParameter("is required without a terminal: nobody can answer", param_hint="--yes")
        run_reconcile(lambda unknown_webhooks: confirm_deletion(unknown_webhooks, is_confirmed=yes))
    else:
        run_stage("publish", health_fd, sole_member=sole_member)


@stages.command("api", rich_help_panel="Stages")
def api(
    processes: Annotated[
        int, typer.Option(min=1, max=64, help="Processes on the one port, for a machine with several cores.")
    ] = 1,
    health_fd: Annotated[int | None, typer.Option(hidden=True)] = None,
    sole_member: Annotated[bool, typer.Option(hidden=True)] = False,
    shares_port: Annotated[bool, typer.Option(hidden=True)] = False,
) -> None:
    """Serve the admin API, with the documentation at /docs/.

    With several processes the health port is for all of them: `/readyz` is ready while one of them is, and each metric
    has the label `process`. Each has its own pool of database connections, and its own counts of the rate limits.
    """
    from streams.cli.stages import run_api_processes, run_stage

    if processes > 1:
        run_api_processes(processes)
    else:
        run_stage("api", health_fd, sole_member=sole_member, shares_api_port=shares_port)


@stages.command("run", rich_help_panel="Stages")
def run(
    stages: Annotated[
        str,
        typer.Option(metavar="STAGE,STAGE,…", help=f"The stages, from {', '.join(BACKGROUND_STAGES)}."),
    ] = ",".join(BACKGROUND_STAGES),
    health_fd: Annotated[int | None, typer.Option(hidden=True)] = None,
    sole_member: Annotated[bool, typer.Option(hidden=True)] = False,
) -> None:
    """Run several stages in one process: a third of the memory, for a small deployment.

    Example: `scorm-webhooks run --stages publish,meter,notify,maintain`. With `fan-out`, `deliver`, `record` and `api`,
    each a process of its own, this is a whole deployment (docs/stages.md#the-small-deployment).

    There is one health port: `/readyz` names the stage that is not ready, and each metric has the label `stage`. A
    stage that loses its lease starts again by itself. Any other error of a stage ends the process.
    """
    from streams.cli.stages import run_stages

    run_stages(stages, health_fd, sole_member=sole_member)


def confirm_deletion(unknown_webhooks: Sequence[Webhook], *, is_confirmed: bool) -> bool:
    """Show what would be deleted, and ask unless it is confirmed already."""
    say(f"{len(unknown_webhooks)} webhooks on the topic are not in the database:")
    for webhook in unknown_webhooks:
        say(f"{webhook.id}  account {webhook.account_id}  {webhook.url}")
    return is_confirmed or typer.confirm("Delete them from the topic?")
