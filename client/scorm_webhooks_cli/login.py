"""Store the URL and the key of an API, so that later commands use it."""

import os
import sys
from ipaddress import ip_address
from typing import Annotated
from urllib.parse import urlsplit

import typer

from scorm_webhooks_cli.api_variables import PROFILE_VARIABLE
from scorm_webhooks_cli.client import ApiClient, open_api
from scorm_webhooks_cli.output import can_be_asked
from scorm_webhooks_cli.profiles import (
    DEFAULT_PROFILE,
    ApiTarget,
    check_key,
    check_name,
    profiles_path,
    read_profiles,
    to_base_url,
    write_profiles,
)
from scorm_webhooks_cli.text import say
from streams.core.errors import FieldError, Invalid, NotFound, Unavailable

MAX_KEY_CHARACTERS = 1000


def login(
    typed_url: Annotated[str, typer.Argument(metavar="URL", help="The API, such as https://webhooks.example.com.")],
) -> None:
    """Store an API and its key, so that later commands use it.

    Asks for the key, or reads it from standard input, and tries it. `--profile NAME` before `login` keeps several.

    Example: `scorm-webhooks login https://webhooks.example.com`
    """
    name = os.environ.get(PROFILE_VARIABLE) or DEFAULT_PROFILE
    check_name(name)
    url = to_base_url(typed_url, "URL")
    if urlsplit(url).scheme == "http" and not _is_this_machine(urlsplit(url).hostname or ""):
        raise Invalid(FieldError("URL", "must begin with https://: the key would be readable on its way"))
    key = _ask_for_key()
    check_key(key)
    with open_api(target=ApiTarget(url, key, "URL", "API key")) as api:
        owner = _owner_text(api, url)
    write_profiles({**read_profiles(), name: {"url": url, "key": key}})
    usage = "" if name == DEFAULT_PROFILE else f"; use it with --profile {name}"
    say(f"Signed in to {url} as {owner}. Stored in {profiles_path()}{usage}")


def _owner_text(api: ApiClient, url: str) -> str:
    """The owner of the key, from the API's response. Raises `Unavailable` for a response that is not the API's."""
    if api.is_for_all:
        api.rows("accounts", limit=1)
        return "an operator"
    try:
        account = api.get("account")
    except NotFound:
        account = None
    if not isinstance(account, dict) or not {"id", "name"} <= account.keys():
        raise Unavailable(f"{url} sent no account: is it the URL of the API?")
    return f"account {account['name']} ({account['id']})"


def logout() -> None:
    """Forget the stored API, or the one of `--profile NAME`. The key itself stays valid."""
    name = os.environ.get(PROFILE_VARIABLE) or DEFAULT_PROFILE
    profiles = read_profiles()
    if profiles.pop(name, None) is None:
        raise NotFound(f"there is no profile {name!r}")
    write_profiles(profiles)
    say(f"Profile {name} is forgotten. Its key stays valid until it expires or an owner revokes it.")


def _is_this_machine(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


def _ask_for_key() -> str:
    if can_be_asked():
        return str(typer.prompt("API key", hide_input=True, err=True)).strip()
    if sys.stdin is None:
        raise Invalid(FieldError("standard input", "must have the API key"))
    return sys.stdin.readline(MAX_KEY_CHARACTERS).strip()
