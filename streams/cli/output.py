"""What commands share: a deployment, text for people, the API's JSON for programs.

Customers write much of the text that is shown: `say` and `show` escape control characters.
"""

import asyncio
import getpass
import json
import os
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from streams.cli.text import say, text_of
from streams.core.errors import FieldError, Invalid, Unavailable
from streams.core.page import MAX_PAGE_ROWS, Cursor, Page
from streams.core.text import escape_json
from streams.core.times import format_time, parse_time

if TYPE_CHECKING:
    from rich.progress import Progress

    from api.shared_models import Model
    from streams.cli.tables import Columns
    from streams.runtime.bootstrap import SqlDeployment

    Shown = Model | Mapping[str, Any]

Result = TypeVar("Result")
Row = TypeVar("Row")

KAFKA_TIMEOUT_SECONDS = 10.0


def current_actor() -> str:
    """The actor for the audit log."""
    try:
        return f"cli:{getpass.getuser()}"
    except (KeyError, OSError):  # A container may run with a user id that has no name.
        return f"cli:uid-{os.getuid()}"


LimitOption = Annotated[int, typer.Option(min=1, max=10_000, help="At most so many.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]
YesOption = Annotated[bool, typer.Option("--yes", help="Do not ask.")]


def require_answer(is_confirmed: bool, as_json: bool = False) -> None:
    """Raises `Invalid` where a command asks, and nobody can answer. Call it before anything is looked up."""
    if is_confirmed:
        return
    if as_json:
        raise Invalid(FieldError("--json", "needs --yes: a program cannot answer the question"))
    if not can_be_asked():
        raise Invalid(FieldError("--yes", "is required without a terminal: nobody can answer the question"))


def can_be_asked() -> bool:
    """Whether a person is at the terminal that this command reads from."""
    return sys.stdin is not None and sys.stdin.isatty()


def choice_option(values: Sequence[str]) -> dict[str, Any]:
    """The parameters of an option that takes one of some values of an enum."""

    def parse(text: str) -> str:
        if text not in [str(value) for value in values]:
            raise typer.BadParameter(f"{text!r} is not one of {', '.join(map(repr, map(str, values)))}.")
        return text

    return {"parser": parse, "metavar": f"<{'|'.join(values)}>"}


async def read_rows(read_page: Callable[[Cursor | None, int], Awaitable[Page[Row]]], limit: int) -> Sequence[Row]:
    """The first rows of a list, read page by page."""
    rows_page = await read_page(None, min(limit, MAX_PAGE_ROWS))
    rows = list(rows_page.rows)
    while rows_page.next_cursor is not None and len(rows) < limit:
        rows_page = await read_page(rows_page.next_cursor, min(limit - len(rows), MAX_PAGE_ROWS))
        rows += rows_page.rows
    return rows


def run_in_deployment(work: Callable[["SqlDeployment"], Awaitable[Result]]) -> Result:
    """Run `work` on this environment's deployment, and close the database.

    Raises `Misconfigured` when there is no system, or the database does not have this version's schema.
    """
    from streams.runtime.bootstrap import (
        SqlDeployment,  # Imported here: stages start by these commands too, and not all of them need it.
    )

    async def run() -> Result:
        deployment = SqlDeployment.from_environment()
        deployment.require_system()
        try:
            return await work(deployment)
        except Unavailable:
            from streams.adapters.sql.engine.schema_check import require_schema

            # The database's own error of a missing table does not say what to do.
            await asyncio.to_thread(require_schema, deployment.database_url)
            raise
        finally:
            await deployment.database.close()

    return asyncio.run(run())


def require_kafka(deployment: "SqlDeployment") -> None:
    """Raises `Unavailable`, with the servers and the reason, when no broker answers."""
    deployment.topics_admin().partition_counts(KAFKA_TIMEOUT_SECONDS)


def show(values: "Shown | Sequence[Shown]", as_json: bool, columns: "Columns | None" = None) -> None:
    """Print one object or a list of them: the API's JSON for programs, text for people.

    `columns` are those of a list's table, by heading; without them a table has a column for each field.
    """
    if as_json:
        typer.echo(escape_json(json.dumps(_to_plain(values), ensure_ascii=False)))
    elif isinstance(values, Sequence):
        from streams.cli.tables import print_table

        print_table([fields_of(row) for row in values], columns)
    else:
        _print_fields(_present_fields(fields_of(values)))


def fields_of(item: "Shown") -> dict[str, Any]:
    """The fields of an object as in the API's JSON: camelCase, without absent ones."""
    if isinstance(item, Mapping):
        return {name: _to_plain(value) for name, value in item.items() if value is not None}
    return item.model_dump(mode="json", by_alias=True, exclude_none=True)


def _to_plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return format_time(value)
    if isinstance(value, Mapping) or hasattr(value, "model_dump"):
        return fields_of(value)
    return [_to_plain(item) for item in value] if isinstance(value, list | tuple) else value


def progress_bar(*, is_quiet: bool = False) -> "Progress":
    """A progress bar on standard error, so that standard output has only the result."""
    from rich.console import Console
    from rich.progress import Progress

    is_terminal = sys.stderr is not None and sys.stderr.isatty()
    return Progress(console=Console(stderr=True), disable=is_quiet or not is_terminal, transient=True)


def _present_fields(fields: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of an object that have a value."""
    return {
        name: _present_fields(value) if isinstance(value, Mapping) else value
        for name, value in fields.items()
        if value not in (None, "", [], {})
    }


def _print_fields(fields: Mapping[str, Any], indent: str = "") -> None:
    width = max((len(name) for name in fields), default=0)
    for name, value in fields.items():
        if isinstance(value, list) and value and isinstance(value[0], Mapping):
            say(f"{indent}{name}")
            for item in value:
                _print_fields(_present_fields(item), indent + "  ")
                say("")
        else:
            say(f"{indent}{name:<{width}}  {text_of(value)}")


def parse_time_option(option: str, text: str) -> datetime:
    """The time that an option has. Raises `Invalid`."""
    if (moment := parse_time(text)) is None:
        raise Invalid(FieldError(option, "must be a time with a zone such as 2026-04-10T14:32:00Z"))
    return moment
