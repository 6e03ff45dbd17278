"""Store the URL and the key of an API, so that later commands use it."""

import os
import sys
from ipaddress import ip_address
from urllib.parse import urlsplit

import typer

from streams.api_variables import KEY_VARIABLE, PROFILE_VARIABLE, URL_VARIABLE
from streams.cli.client import open_api
from streams.cli.output import can_be_asked
from streams.cli.profiles import (
    DEFAULT_PROFILE,
    check_key,
    check_name,
    check_url,
    profiles_path,
    read_profiles,
    write_profiles,
)
from streams.cli.text import say
from streams.core.errors import FieldError, Forbidden, Invalid, NotFound

MAX_KEY_CHARACTERS = 1000


def run_login(url: str) -> None:
    """Ask for a key, try it, and store both as the profile of `--profile`."""
    name = os.environ.get(PROFILE_VARIABLE) or DEFAULT_PROFILE
    check_name(name)
    check_url(url, "URL")
    if urlsplit(url).scheme == "http" and not _is_this_machine(urlsplit(url).hostname or ""):
        raise Invalid(FieldError("URL", "must begin with https://: the key would be readable on its way"))
    key = _ask_for_key()
    check_key(key)
    os.environ[URL_VARIABLE], os.environ[KEY_VARIABLE] = url, key
    with open_api() as api:
        try:
            owner = f"account {api.get('account')['name']}"
        except (Forbidden, NotFound):
            owner = "an operator"
    write_profiles({**read_profiles(), name: {"url": url, "key": key}})
    usage = "" if name == DEFAULT_PROFILE else f"; use it with --profile {name}"
    say(f"Signed in to {url} as {owner}. Stored in {profiles_path()}{usage}")


def run_logout() -> None:
    """Forget a profile. Its key stays valid until it expires or somebody revokes it."""
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
