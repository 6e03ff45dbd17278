"""The commands of an integrator, who has a receiver on this machine and a key of an account."""

import re
from typing import Annotated

import typer

from streams.cli.output import JsonOption
from streams.core.deliveries.request import USER_AGENT

PANEL = "For integrators"
DEFAULT_PLATFORM_HEADER = "X-AllureConnect-Signature"


def _header_name(text: str) -> str:
    """A name of a header (RFC 9110 §5.1)."""
    if not re.fullmatch(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,64}", text, re.ASCII):
        raise typer.BadParameter(f"{text!r} is not the name of a header.")
    return text


HeaderOption = Annotated[
    str, typer.Option("--header", parser=_header_name, metavar="NAME", help="The platform's own header of signatures.")
]
AgentOption = Annotated[
    str,
    typer.Option("--user-agent", metavar="TEXT", help="The platform's `User-Agent`: see `webhooks source-addresses`."),
]
SecretOption = Annotated[
    str, typer.Option(envvar="WEBHOOK_SECRET", show_envvar=True, help="The signing secret that it verifies with.")
]
UrlArgument = Annotated[str, typer.Argument(metavar="URL", help="Your receiver, such as http://localhost:3000/hook.")]


def login(
    url: Annotated[str, typer.Argument(metavar="URL", help="The API, such as https://webhooks.example.com.")],
) -> None:
    """Store an API and its key, so that later commands use it.

    Asks for the key, or reads it from standard input, and tries it. `--profile NAME` before `login` keeps several.

    Example: `scorm-webhooks login https://webhooks.example.com`
    """
    from streams.cli.login import run_login

    run_login(url)


def logout() -> None:
    """Forget the API of `login`, or that of `--profile NAME`. The key itself stays valid."""
    from streams.cli.login import run_logout

    run_logout()


def listen(
    forward_to: Annotated[
        str | None, typer.Option(metavar="URL", help="Send each event there: http://localhost:3000/hook.")
    ] = None,
    events: Annotated[str, typer.Option(help="Event types, comma-separated; or *: all.")] = "*",
    since: Annotated[
        str | None, typer.Option(help="Also events from then on: 10m, 2h, 3d, or 2026-04-10T14:32:00Z.")
    ] = None,
    event_filter: Annotated[
        str | None, typer.Option("--filter", help='Only events that match this JSON: {"successStatus": "passed"}.')
    ] = None,
    secret: Annotated[
        str | None,
        typer.Option(
            envvar="WEBHOOK_SECRET", show_envvar=True, help="Sign with this secret, which your receiver has already."
        ),
    ] = None,
    account: Annotated[str | None, typer.Option(help="The account's id; with an API key that of the key.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Show the events of an account as they happen, and send them to a receiver on this machine.

    Makes a temporary pull webhook; Ctrl-C deletes it. What your receiver refuses comes again, later and later. After
    an interruption it goes on where it was, for up to an hour.

    Example: `scorm-webhooks listen --forward-to http://localhost:3000/hook --since 10m`
    """
    from streams.cli.listen import run_listen

    run_listen(forward_to, events, since, event_filter, secret, account, as_json=as_json)


def trigger(
    event_type: Annotated[str, typer.Argument(metavar="TYPE", help="Such as session.completed.")],
    webhook: Annotated[str | None, typer.Option(help="The webhook's id. Default: the one of your `listen`.")] = None,
    passed: Annotated[
        bool | None, typer.Option("--passed/--failed", help="The learner's success, and a score that fits.")
    ] = None,
    data: Annotated[
        str | None, typer.Option(metavar="FILE", help="JSON with fields of `data` of your own; - for standard input.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Send a test event, marked `"test": true`, to your `listen` or to one webhook.

    Example: `scorm-webhooks trigger session.completed --failed`
    """
    from streams.cli.trigger import run_trigger

    run_trigger(event_type, webhook, passed, data, as_json=as_json)


def tail(
    webhook: Annotated[str | None, typer.Option(help="Only this webhook's.")] = None,
    state: Annotated[str | None, typer.Option(help="Only in this state, such as dead.")] = None,
    account: Annotated[str | None, typer.Option(help="Only this account's.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Print deliveries, and what becomes of them, until Ctrl-C.

    Example: `scorm-webhooks tail --webhook wh_1`
    """
    from streams.cli.tail import run_tail

    run_tail(webhook, state, account, as_json=as_json)


def verify(
    secret: SecretOption,
    header: HeaderOption = DEFAULT_PLATFORM_HEADER,
    any_time: Annotated[bool, typer.Option("--any-time", help="For a stored request: accept an old one.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Verify a request on standard input, and say which check fails: secret, header, clock, body or encoding.

    It has the request's headers, an empty line, and its body; or an item of `webhooks pull`. Exit code 1 if the
    request is not genuine.

    Example: `scorm-webhooks verify --secret whsec_… < request.txt`
    """
    from streams.cli.verify import run_verify

    run_verify(secret, header, any_time=any_time, as_json=as_json)


def doctor(
    url: UrlArgument,
    secret: Annotated[
        str | None,
        typer.Option(envvar="WEBHOOK_SECRET", show_envvar=True, help="Sign the test event with this secret."),
    ] = None,
    header: HeaderOption = DEFAULT_PLATFORM_HEADER,
    user_agent: AgentOption = USER_AGENT,
    as_json: JsonOption = False,
) -> None:
    """Check the way to an endpoint from this machine: its name, addresses, certificate, redirects, and a test event.

    Exit code 1 if something is wrong, and 3 if the endpoint cannot be reached.

    Example: `scorm-webhooks doctor https://crm.example.com/hooks`
    """
    from streams.cli.doctor import run_doctor

    run_doctor(url, secret, header, user_agent, as_json=as_json)


def exam(
    url: UrlArgument,
    secret: SecretOption,
    header: HeaderOption = DEFAULT_PLATFORM_HEADER,
    user_agent: AgentOption = USER_AGENT,
    as_json: JsonOption = False,
) -> None:
    """Send a receiver what the world will: duplicates, wrong signatures, old and late requests, large and slow ones.

    Use a copy of your receiver: it gets events of a session that does not exist. They come from this machine alone.
    Exit code 1 if the receiver fails, and 3 if it cannot be reached.

    Example: `scorm-webhooks exam http://localhost:3000/hook --secret whsec_…`
    """
    from streams.cli.exam import run_exam

    run_exam(url, secret, header, user_agent, as_json=as_json)


def apply(
    file: Annotated[str, typer.Option("--file", "-f", help="A YAML file with `webhooks`; - for standard input.")],
    plan: Annotated[
        bool, typer.Option("--plan", help="Only show what would change. Exit code 1 if something.")
    ] = False,
    prune: Annotated[bool, typer.Option("--prune", help="Delete webhooks that the file does not have.")] = False,
    secrets: Annotated[
        bool, typer.Option("--secrets", help="Send headers and credentials too, which cannot be compared.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    account: Annotated[str | None, typer.Option(help="The account's id; with an API key that of the key.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Make an account's webhooks the same as those of a file. A webhook is known by its description.

    Shows what changes, and asks, first. A second run changes nothing. Only fields that the file has are changed.
    `${NAME}` in a text is replaced by a variable of the environment.

    Example: `scorm-webhooks apply -f webhooks.yaml --plan`
    """
    from streams.cli.apply import run_apply

    run_apply(file, account, is_plan=plan, is_pruning=prune, sends_secrets=secrets, is_confirmed=yes, as_json=as_json)


def reconcile(
    webhook: Annotated[str, typer.Option(help="The webhook's id.")],
    since: Annotated[
        str | None, typer.Option(help="Only events first seen then or later: 2h, or 2026-04-10T14:32:00Z.")
    ] = None,
    until: Annotated[str | None, typer.Option(help="Only events first seen before.")] = None,
    retry: Annotated[bool, typer.Option("--retry", help="Send the missing events again, with the same ids.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="With --retry: also if every delivered event is missing.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Print the events that were delivered and that your receiver does not have.

    Standard input has the ids of the receiver's events, one a line, or the first column of a CSV file. Exit code 1 if
    some are missing and are not sent again.

    Example: `scorm-webhooks reconcile --webhook wh_1 < ids.txt`
    """
    from streams.cli.reconcile import run_reconcile

    run_reconcile(webhook, since, until, is_retry=retry, is_confirmed=yes, as_json=as_json)


def completion(
    shell: Annotated[str, typer.Argument(metavar="<bash|zsh|fish>", help="Your shell.")],
) -> None:
    """Print the script that completes commands in a shell.

    Example: `eval "$(scorm-webhooks completion bash)"`, in ~/.bashrc
    """
    from streams.cli.completion import print_script

    print_script(shell)


def add_commands(program: typer.Typer) -> None:
    """Add the commands of this module."""
    for command in (listen, trigger, tail, verify, doctor, exam, apply, reconcile, login, logout, completion):
        program.command(rich_help_panel=PANEL)(command)
