"""What commands share: options, questions, text for people, the API's JSON for programs.

Customers write much of the text that is shown: `say` and `show` escape control characters.
"""

import json
import re
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Any

import typer

from scorm_webhooks_cli.text import is_quiet, say, text_of
from streams.core.errors import FieldError, Invalid
from streams.core.text import escape_json
from streams.core.times import format_time, parse_time

if TYPE_CHECKING:
    from rich.progress import Progress

    from scorm_webhooks_cli.tables import Columns

_DURATION = re.compile(r"([1-9][0-9]{0,5})([smhd])", re.ASCII)
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}
# An object of JSON, of the API or of a command.
Shown = Mapping[str, Any]

LimitOption = Annotated[int, typer.Option(min=1, max=10_000, help="At most so many.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]
AccountOption = Annotated[
    str | None, typer.Option("--account", help="The account to act for. An account's API key has its own.")
]
OnlyAccountOption = Annotated[str | None, typer.Option("--account", help="Only this account's.")]
YesOption = Annotated[bool, typer.Option("--yes", help="Do not ask.")]


def require_terminal_or_yes(is_confirmed: bool, as_json: bool = False) -> None:
    """Raises `Invalid` if a command must ask but has no terminal. Call it before anything is looked up."""
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


def without_none(**values: object) -> dict[str, object]:
    """The values that are not None."""
    return {name: value for name, value in values.items() if value is not None}


def show(values: Shown | Sequence[Shown], as_json: bool, columns: "Columns | None" = None) -> None:
    """Print one object or a list of them: the API's JSON for programs, text for people.

    `columns` has the columns of a list's table by heading; by default each field is a column.
    """
    if as_json:
        typer.echo(escape_json(json.dumps(values, ensure_ascii=False)))
    elif isinstance(values, Sequence):
        from scorm_webhooks_cli.tables import print_table

        print_table([_with_local_times(row) for row in values], columns)
    else:
        _print_fields(_present_fields(_with_local_times(values)))


def local_time(moment: datetime, form: str = "%Y-%m-%d %H:%M:%S %Z") -> str:
    """A time in the zone of this machine, for people."""
    return moment.astimezone().strftime(form)


# Texts from customers, and sent bodies, are shown unchanged.
_UNCHANGED_FIELDS = frozenset({"payload", "body", "data", "details", "example", "filter"})
_TIME_FIELD = re.compile(r"at|.*(At|Until)|since|until", re.ASCII)


def _with_local_times(values: Any) -> Any:
    """An object of the API with its times in the zone of this machine."""
    if isinstance(values, list):
        return [_with_local_times(item) for item in values]
    if not isinstance(values, Mapping):
        return values
    shown = {}
    for name, value in values.items():
        moment = parse_time(value) if _TIME_FIELD.fullmatch(name) else None
        if moment is not None:
            shown[name] = local_time(moment)
        else:
            shown[name] = value if name in _UNCHANGED_FIELDS else _with_local_times(value)
    return shown


def progress_bar(*, is_disabled: bool = False) -> "Progress":
    """A progress bar on standard error, so that standard output has only the result."""
    from rich.console import Console
    from rich.progress import Progress

    is_terminal = sys.stderr is not None and sys.stderr.isatty()
    return Progress(console=Console(stderr=True), disable=is_disabled or is_quiet() or not is_terminal, transient=True)


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


def parse_time_option(option: str, text: str, now: datetime | None = None) -> datetime:
    """The time of `10m`, `2h`, `3d` ago, or of an RFC 3339 time. Raises `Invalid`."""
    if match := _DURATION.fullmatch(text):
        with suppress(OverflowError):
            return (now or datetime.now(UTC)) - timedelta(**{_UNITS[match[2]]: int(match[1])})
    if (moment := parse_time(text)) is None:
        message = "must be a duration such as 10m, 2h or 3d, or a time with a zone such as 2026-04-10T14:32:00Z"
        raise Invalid(FieldError(option, message))
    return moment


def parse_period(since: str | None, until: str | None) -> dict[str, str]:
    """`since` and `until` as the API takes them. Raises `Invalid`."""
    texts = {"since": since, "until": until}
    return {name: format_time(parse_time_option(f"--{name}", text)) for name, text in texts.items() if text}
