"""Commands that erase learners."""

from typing import Annotated, Any

import typer

from scorm_webhooks_cli.client import ApiClient, open_api
from scorm_webhooks_cli.jobs import poll, warn_if_stalled
from scorm_webhooks_cli.output import JsonOption, YesOption, progress_bar, require_terminal_or_yes, show
from scorm_webhooks_cli.text import say
from streams.core.errors import Unavailable

learners = typer.Typer(no_args_is_help=True)


@learners.command("erase")
def learners_erase(
    account: Annotated[str, typer.Argument(metavar="ACCOUNT", help="The account's id.")],
    learner: Annotated[str, typer.Argument(metavar="LEARNER", help="The `learnerId` of the learner's events.")],
    yes: YesOption = False,
    as_json: JsonOption = False,
) -> None:
    """Erase a learner permanently: payloads, responses and pending deliveries. Shows the number, and asks, first.

    `maintain` finishes a long one, also after Ctrl-C. Topics keep their records until their retention: the output says
    how long.
    """
    require_terminal_or_yes(yes, as_json)
    body = {"accountId": account, "learnerId": learner}
    with open_api() as api:
        if not yes:
            count = api.post("learners", "erase", body={**body, "countOnly": True})["deliveries"]
            say(f"{count} {'delivery' if count == 1 else 'deliveries'} of this learner's events")
            typer.confirm("Erase the learner? This cannot be undone.", abort=True, err=True)
        erasure = _erase(api, body, is_quiet=as_json)
    show(erasure, as_json)
    if not erasure["propagated"]:
        say("erased, but not on the topic yet: is `publish` running?", err=True)


@learners.command("show")
def learners_show(
    erasure: Annotated[str, typer.Argument(metavar="ERASURE", help="The erasure's id.")], as_json: JsonOption = False
) -> None:
    """Show whether an erasure is finished, and what it erased."""
    with open_api() as api:
        show(api.get("learners", "erasures", erasure), as_json)


def _erase(api: ApiClient, body: dict[str, str], *, is_quiet: bool) -> dict[str, Any]:
    hint = "the erasure may have begun: `audit list --action learner.erased` shows its id"
    try:
        with progress_bar(is_disabled=is_quiet) as progress, warn_if_stalled(has_work=True) as on_progress:
            task_id = progress.add_task("erasing", total=None)
            erasure: dict[str, Any] = api.post("learners", "erase", body=body)
            erasure_id = erasure["id"]
            hint = f"the erasure goes on: `learners show {erasure_id}` shows it"
            begun_count = sum(erasure["erased"].values())
            if erasure["status"] == "running":
                for erasure in poll(api, "learners", "erasures", erasure_id):
                    progress.update(task_id, completed=erasure["erased"]["deliveries"])
                    on_progress(sum(erasure["erased"].values()) - begun_count)
    except (KeyboardInterrupt, Unavailable):
        say(hint, err=True)
        raise
    return erasure
