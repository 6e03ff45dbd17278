"""Restore the database from a dump, and catch up with the topics."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import typer

from scorm_webhooks_cli.output import progress_bar, require_terminal_or_yes, show
from scorm_webhooks_cli.text import hint, say
from streams.cli.deployment import import_without_gc
from streams.cli.stage_commands import confirm_deletion
from streams.core.errors import FieldError, Invalid
from streams.core.restore import RestoreScope, RestoreStep, remaining_steps
from streams.core.times import TIME_DESCRIPTION, parse_time
from streams.core.webhooks.webhook import Webhook
from streams.log_lines import configure_logging

with import_without_gc():
    from streams.adapters.dumps.dump_file import OnProgress
    from streams.runtime.restore import Restore

_RESULTS: Mapping[str, str] = {
    "records": "records of deliveries and attempts that `record` has read again",
    "events": "events that `meter` reads again",
    "deliveries_for_readers": "deliveries for readers of pull webhooks, acknowledged ones again",
    "webhooks_deleted": "webhooks made after the dump, deleted from the topic",
    "webhooks_deleted_again": "webhooks deleted after the dump, and still deleted",
    "learners_erased": "learners erased since then, and still erased",
}


def run_restore(dump: Path | None, since: str, *, is_plan: bool, is_confirmed: bool) -> None:
    """Show the plan, ask, and do each step that an earlier run has not done; with `is_plan` only list them."""
    # No duration: a restore that is resumed after being killed is identified by this time.
    if (moment := parse_time(since)) is None:
        raise Invalid(FieldError("--since", TIME_DESCRIPTION))
    if not is_plan:
        require_terminal_or_yes(is_confirmed)
    configure_logging("console", "warning", "restore")
    logging.getLogger("librdkafka").setLevel(logging.CRITICAL)
    restore = Restore(dump, moment)
    with _progress("checking") as on_progress:
        checked = restore.check(on_progress, lambda reason: hint(f"waiting: {reason}"))
    remaining = remaining_steps(checked.progress)
    _show_plan(checked.scope, remaining)
    if checked.note:
        say(f"note: {checked.note}")
    if is_plan:
        return
    if remaining and not is_confirmed:
        typer.confirm("Restore?", abort=True, err=True)

    def may_delete(unknown_webhooks: Sequence[Webhook]) -> bool:
        return confirm_deletion(unknown_webhooks, is_confirmed=is_confirmed)

    for step in remaining:
        # Reconciliation may ask.
        with _progress(step, is_disabled=step is RestoreStep.RECONCILE) as on_progress:
            restore.perform(step, on_progress, may_delete)
        say(f"{step}: done")
    _show_results(restore.count_results())
    hint("Start the stages again." if remaining else "This restore was done before. Another --since makes a new one.")


def _show_plan(scope: RestoreScope, remaining: Sequence[RestoreStep]) -> None:
    rows = [
        {"step": step, "state": "to do" if step in remaining else "done", "what": scope.describe(step)}
        for step in RestoreStep
    ]
    show(rows, as_json=False)


def _show_results(results: Mapping[str, int]) -> None:
    show([{"result": what, "count": results.get(name, 0)} for name, what in _RESULTS.items()], as_json=False)


@contextmanager
def _progress(name: str, *, is_disabled: bool = False) -> Iterator[OnProgress]:
    with progress_bar(is_disabled=is_disabled) as bar:
        task_id = bar.add_task(name, total=None)
        yield lambda done, total: bar.update(task_id, completed=done, total=total)
