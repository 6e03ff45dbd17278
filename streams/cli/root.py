"""The program `scorm-webhooks`: its groups of commands, and the options that come before a command."""

import inspect
import os
from collections.abc import Callable, Collection, Mapping
from importlib import import_module
from typing import Annotated

import typer

from streams.api_variables import KEY_VARIABLE, PROFILE_VARIABLE, URL_VARIABLE
from streams.build import build_version
from streams.cli.completion import is_asked
from streams.cli.text import be_quiet, say

Groups = Mapping[str, tuple[str, str]]

# The groups of commands that are clients of the API: a module that has all commands of the group, and its help.
CLIENT_GROUPS: Groups = {
    "accounts": ("access", "Customers of the platform."),
    "api-keys": ("access", "API keys of an account."),
    "users": ("access", "Users, who may sign in to an account's dashboard."),
    "usage": ("usage", "Launches of an account by calendar month, in UTC."),
    "webhooks": ("replays", "Where events are sent."),
    "events": ("events", "What happened at the platform."),
    "deliveries": ("replays", "Deliveries: each is one event owed to one webhook."),
    "dead-letters": ("deliveries", "Dead letters: deliveries that were given up."),
    "jobs": ("jobs", "Actions on many deliveries, which `maintain` does."),
    "learners": ("learners", "Learners, whose data can be erased."),
    "audit": ("access", "Who did what."),
}


def _print_version(is_wanted: bool) -> None:
    if is_wanted:
        say(build_version())
        raise typer.Exit


VersionOption = Annotated[
    bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and end.")
]
ProfileOption = Annotated[
    str | None,
    typer.Option(metavar="NAME", help=f"The API that `login` stored under this name. Or set {PROFILE_VARIABLE}."),
]
QuietOption = Annotated[
    bool, typer.Option("--quiet", "-q", help="No progress bars and no hints: only results and errors.")
]


def configure(_: VersionOption = False, profile: ProfileOption = None, quiet: QuietOption = False) -> None:
    if profile:
        # What a person types is before what the shell has.
        os.environ[PROFILE_VARIABLE] = profile
        for name in (URL_VARIABLE, KEY_VARIABLE):
            os.environ.pop(name, None)
    if quiet:
        be_quiet()


def create_program(
    names: Collection[str], groups: Groups, callback: Callable[..., None], program_help: str
) -> typer.Typer:
    """A program with the commands of the groups in `names`; of the others only their names and help."""
    program = typer.Typer(
        name="scorm-webhooks",
        callback=callback,
        no_args_is_help=True,
        add_completion=is_asked(),
        pretty_exceptions_enable=False,
        help=_joined(program_help),
    )
    for name, (module, group_help) in groups.items():
        if name in names:
            group = getattr(import_module(f"{__package__}.{module}"), name.replace("-", "_"))
        else:
            group = typer.Typer(callback=_group_callback)
        program.add_typer(group, name=name, help=group_help)
    return program


def with_whole_paragraphs(program: typer.Typer) -> typer.Typer:
    """The program with the lines of each paragraph of its help joined, so that they fill the terminal."""
    for command in program.registered_commands:
        command.help = _joined(command.help or inspect.getdoc(command.callback) or "")
    for group in program.registered_groups:
        if group.typer_instance is not None:
            with_whole_paragraphs(group.typer_instance)
    return program


def _joined(text: str) -> str:
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in inspect.cleandoc(text).split("\n\n"))


def _group_callback() -> None:
    """A group needs a command or a callback."""
