"""Commands that erase learners."""

from typing import Annotated

import typer

from api.learners.models import ErasureDetails, erasure_of
from streams.cli.output import (
    JsonOption,
    YesOption,
    current_actor,
    progress_bar,
    require_answer,
    run_in_deployment,
    show,
)
from streams.cli.text import say
from streams.core.accounts.account import DeliveryFilter
from streams.core.erasures.erasure import ErasedKind, Erasure
from streams.features.learners.service import ErasureResult
from streams.runtime.bootstrap import SqlDeployment

learners = typer.Typer(no_args_is_help=True)


@learners.command("erase")
def learners_erase(
    account: Annotated[str, typer.Argument(metavar="ACCOUNT", help="The account's id.")],
    learner: Annotated[str, typer.Argument(metavar="LEARNER", help="The `learnerId` of the learner's events.")],
    yes: YesOption = False,
    as_json: JsonOption = False,
) -> None:
    """Erase a learner permanently: payloads, responses, and what is owed. Shows the number, and asks, first.

    `maintain` finishes it after Ctrl-C. Topics keep their records until their retention: the output says how long.
    """
    require_answer(yes, as_json)
    if not yes:
        _confirm_erasure(account, learner)
    erasure = _erase_learner(account, learner, is_quiet=as_json)
    show(erasure, as_json)
    if not erasure.propagated:
        say("erased here, but not on the topic yet: is `publish` running?", err=True)


@learners.command("show")
def learners_show(
    erasure: Annotated[str, typer.Argument(metavar="ERASURE", help="The erasure's id.")], as_json: JsonOption = False
) -> None:
    """Show whether an erasure is finished, and what it erased."""

    async def find(deployment: SqlDeployment) -> ErasureDetails:
        return _to_details(deployment, await deployment.learners().find(erasure))

    show(run_in_deployment(find), as_json)


def _confirm_erasure(account: str, learner: str) -> None:
    delivery_filter = DeliveryFilter(account, learner_id=learner)
    summary = run_in_deployment(lambda deployment: deployment.deliveries().summary(delivery_filter))
    say(f"{summary.count} {'delivery' if summary.count == 1 else 'deliveries'} of this learner's events")
    typer.confirm("Erase the learner? This cannot be undone.", abort=True, err=True)


def _erase_learner(account: str, learner: str, *, is_quiet: bool) -> ErasureDetails:
    """Erase portion by portion, to the end."""
    erasures: list[Erasure] = []
    try:
        with progress_bar(is_quiet=is_quiet) as progress:
            task_id = progress.add_task("erasing", total=None)

            def show_progress(erasure: Erasure) -> None:
                progress.update(task_id, completed=erasure.erased[ErasedKind.DELIVERIES])

            async def erase(deployment: SqlDeployment) -> ErasureDetails:
                service = deployment.learners()
                erasure = await service.start(account, learner, actor=current_actor())
                erasures.append(erasure)
                finished_erasure = await service.finish(erasure, on_progress=show_progress)
                return _to_details(deployment, await service.wait_until_published(finished_erasure))

            return run_in_deployment(erase)
    except KeyboardInterrupt:
        for erasure in erasures:
            say(f"the erasure goes on: `learners show {erasure.id}` shows it", err=True)
        raise


def _to_details(deployment: SqlDeployment, result: ErasureResult) -> ErasureDetails:
    return erasure_of(result, deployment.learners().topics)
