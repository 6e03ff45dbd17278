"""Commands for operators of the platform."""

import typer

from streams.cli.access import show_link
from streams.cli.deployment import current_actor, run_in_deployment
from streams.cli.output import JsonOption
from streams.core.times import format_time

operators = typer.Typer(no_args_is_help=True)


@operators.command("sign-in")
def operators_sign_in(as_json: JsonOption = False) -> None:
    """Print a link by which an operator signs in to the dashboard, once, within 15 minutes.

    Only where a system's settings are: an operator's key does not open the data of accounts.
    """
    link = run_in_deployment(lambda deployment: deployment.sign_in().create_operator_link(actor=current_actor()))
    show_link({"url": link.url, "expiresAt": format_time(link.expires_at)}, as_json)
