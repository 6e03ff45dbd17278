"""The program `scorm-webhooks`: its groups of commands, and the options that come before a command."""

import inspect
import os
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from typing import Annotated

import typer

from scorm_webhooks_cli.api_variables import KEY_VARIABLE, PROFILE_VARIABLE, URL_VARIABLE
from scorm_webhooks_cli.completion import is_asked
from scorm_webhooks_cli.text import be_quiet, say
from streams.build import build_version

# Groups of commands, each with the module that has all its commands, and its help.
Groups = Mapping[str, tuple[str, str]]

CLIENT_GROUPS: Groups = {
    "accounts": ("scorm_webhooks_cli.access", "Customers of the platform."),
    "api-keys": ("scorm_webhooks_cli.access", "API keys of an account."),
    "users": ("scorm_webhooks_cli.access", "Users, who may sign in to an account's dashboard."),
    "usage": ("scorm_webhooks_cli.usage", "Launches of an account by calendar month, in UTC."),
    "webhooks": ("scorm_webhooks_cli.replays", "Where events are sent."),
    "events": ("scorm_webhooks_cli.events", "What happened at the platform."),
    "deliveries": ("scorm_webhooks_cli.replays", "Deliveries: each is one event owed to one webhook."),
    "dead-letters": ("scorm_webhooks_cli.deliveries", "Dead letters: deliveries that were given up."),
    "jobs": ("scorm_webhooks_cli.jobs", "Actions on many deliveries, which `maintain` does."),
    "learners": ("scorm_webhooks_cli.learners", "Learners, whose data can be erased."),
    "audit": ("scorm_webhooks_cli.access", "Who did what."),
}
# The commands of an integrator, who has a receiver and a key, each with its module.
COMMANDS = {
    "listen": "listen",
    "trigger": "trigger",
    "tail": "tail",
    "verify": "verify",
    "doctor": "doctor",
    "exam": "exam",
    "apply": "apply",
    "reconcile": "reconcile",
    "login": "login",
    "logout": "login",
    "completion": "completion",
}
COMMANDS_PANEL = "For integrators"


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
        # Options take precedence over the environment.
        os.environ[PROFILE_VARIABLE] = profile
        for name in (URL_VARIABLE, KEY_VARIABLE):
            os.environ.pop(name, None)
    if quiet:
        be_quiet()


def create_program(
    words: Sequence[str],
    groups: Groups,
    callback: Callable[..., None],
    program_help: str,
    commands: Sequence[Callable[..., None]] = (),
) -> typer.Typer:
    """A program with these groups and commands, and the integrator's; `words` is the command line.

    Only what `words` names is imported: the other groups have only a name and a help.
    """
    program = typer.Typer(
        name="scorm-webhooks",
        callback=callback,
        no_args_is_help=True,
        add_completion=is_asked(),
        pretty_exceptions_enable=False,
        help=_joined(program_help),
    )
    for name, (module, group_help) in groups.items():
        if name in words:
            group = getattr(import_module(module), name.replace("-", "_"))
        else:
            group = typer.Typer(callback=_group_callback)
        program.add_typer(group, name=name, help=group_help)
    for command in commands:
        program.command()(command)
    # Help, and a hint after a wrong name, need all names. After an option, a word may be the option's value.
    is_known = bool(words) and words[0] in {*groups, *(command.__name__ for command in commands), *COMMANDS}
    for name, module in COMMANDS.items():
        if name in words or not is_known:
            function = getattr(import_module(f"{__package__}.{module}"), name)
            program.command(name, rich_help_panel=COMMANDS_PANEL)(function)
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
