"""Commands for operators of the platform."""

import typer

from scorm_webhooks_cli.access import show_link
from scorm_webhooks_cli.client import open_api
from scorm_webhooks_cli.output import JsonOption

operators = typer.Typer(no_args_is_help=True)


@operators.command("sign-in")
def operators_sign_in(as_json: JsonOption = False) -> None:
    """Print a link by which an operator signs in to the dashboard, once, within 15 minutes."""
    with open_api() as api:
        show_link(api.post("operators", "sign-in-links"), as_json)
