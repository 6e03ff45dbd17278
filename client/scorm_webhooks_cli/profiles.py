"""The API that commands use: from the environment, or from a profile that `login` stored."""

import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from scorm_webhooks_cli.api_variables import KEY_VARIABLE, PROFILE_VARIABLE, URL_VARIABLE
from scorm_webhooks_cli.local_key import local_key_path, read_local_key
from scorm_webhooks_cli.private_file import read_private, write_private
from streams.core.accounts.access import KEY_PREFIX
from streams.core.errors import FieldError, Invalid, Misconfigured
from streams.core.limits import MAX_NAME_CHARACTERS

DEFAULT_PROFILE = "default"
_NAME = re.compile(r"[A-Za-z0-9._-]+", re.ASCII)
# Endings that people copy from the documentation or a request.
_BELOW_BASE = re.compile(r"/(?:docs|v1)(?:/.*)?\Z", re.ASCII | re.DOTALL)
# Anything else the HTTP client would refuse, in a message with the key.
_KEY = re.compile(r"[!-~]{1,256}", re.ASCII)


@dataclass(frozen=True, slots=True)
class ApiTarget:
    """An API. `url_name` and `key_name` are what a person changes: a variable, a profile, or the local key's file."""

    url: str
    key: str = field(repr=False)
    url_name: str
    key_name: str
    is_local: bool = False

    @property
    def is_operators(self) -> bool:
        """Whether the key is an operator's; accounts' keys have a prefix."""
        return not self.key.startswith(KEY_PREFIX)


def find_target() -> ApiTarget:
    """The API that commands use.

    In this order: the environment (`--profile` sets it), the profile in SCORM_WEBHOOKS_PROFILE, an API on this machine
    (by its local key), the default profile. Raises `Misconfigured`.
    """
    target = _target_of_environment() or _named_profile() or _local_target() or _default_profile()
    if target is None:
        raise Misconfigured(
            f"{URL_VARIABLE}: is required, and {KEY_VARIABLE}; or sign in with `scorm-webhooks login URL`; or, on the "
            f"system's own machine, start `scorm-webhooks up` or `scorm-webhooks api` ({local_key_path(os.environ)})"
        )
    return target


def _target_of_environment() -> ApiTarget | None:
    url, key = os.environ.get(URL_VARIABLE), os.environ.get(KEY_VARIABLE)
    if url:
        base_url = to_base_url(url, URL_VARIABLE)
        if not key or not _KEY.fullmatch(key):
            raise Misconfigured(f"{KEY_VARIABLE}: must be an API key (sk_…) for {URL_VARIABLE}")
        return ApiTarget(base_url, key, URL_VARIABLE, KEY_VARIABLE)
    if key:
        raise Misconfigured(f"{KEY_VARIABLE} is set without {URL_VARIABLE}: set the URL, or unset the key")
    return None


def _named_profile() -> ApiTarget | None:
    name = os.environ.get(PROFILE_VARIABLE)
    if not name:
        return None
    profiles = read_profiles()
    if name not in profiles:
        known = ", ".join(profiles) or "there is none"
        raise Misconfigured(f"{PROFILE_VARIABLE}: there is no profile {name!r}: {known}; `login` makes one")
    return _target(name, profiles[name])


def _local_target() -> ApiTarget | None:
    path = local_key_path(os.environ)
    local_key = read_local_key(path)
    return ApiTarget(local_key.url, local_key.key, str(path), str(path), is_local=True) if local_key else None


def _default_profile() -> ApiTarget | None:
    profile = read_profiles().get(DEFAULT_PROFILE)
    return None if profile is None else _target(DEFAULT_PROFILE, profile)


def _target(name: str, profile: Mapping[str, Any]) -> ApiTarget:
    source = f"profile {name}"
    url, key = profile.get("url"), profile.get("key")
    if not isinstance(url, str) or not isinstance(key, str) or not _KEY.fullmatch(key):
        raise Misconfigured(f"{profiles_path()}: {source} has no url and key: delete it, and sign in by `login`")
    return ApiTarget(to_base_url(url, source), key, source, source)


def to_base_url(url: str, name: str) -> str:
    """The base URL of an API, from any address below it, such as its documentation's.

    Raises `Misconfigured` for anything else; its message begins with `name`, which says where the URL is from.
    """
    try:
        parts = urlsplit(url)
        is_url = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        is_url = False
    if is_url and "@" not in parts.netloc:
        base_path = _BELOW_BASE.sub("", parts.path)
        if base_path != parts.path or not (parts.query or parts.fragment):
            return f"{parts.scheme}://{parts.netloc}{base_path.rstrip('/')}"
    raise Misconfigured(f"{name}: must be only a base URL, such as https://webhooks.example.com")


def check_key(key: str) -> None:
    """Raises `Invalid` for a text that cannot be an API key."""
    if not _KEY.fullmatch(key):
        raise Invalid(FieldError("key", "must be an API key (sk_…), without spaces"))


def check_name(name: str) -> None:
    """Raises `Invalid` for a text that cannot be a profile's name."""
    if not _NAME.fullmatch(name) or len(name) > MAX_NAME_CHARACTERS:
        raise Invalid(FieldError("--profile", "must be a name of letters, digits, dots, dashes and underscores"))


def profiles_path() -> Path:
    """The file of the profiles, by the XDG Base Directory Specification."""
    folder = os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config"
    return Path(folder) / "scorm-webhooks" / "profiles.json"


def read_profiles() -> dict[str, Mapping[str, Any]]:
    """The profiles by name; none without a file. Raises `Misconfigured` for a file that others may read."""
    path, remedy = profiles_path(), "delete it, and sign in by `login`"
    text = read_private(path, remedy)
    try:
        profiles = {} if text is None else json.loads(text)
    except (ValueError, RecursionError) as error:
        raise Misconfigured(f"{path}: cannot be read: {error}; {remedy}") from None
    if not isinstance(profiles, dict) or not all(isinstance(one, Mapping) for one in profiles.values()):
        raise Misconfigured(f"{path}: must have an object for each profile: {remedy}")
    return profiles


def write_profiles(profiles: Mapping[str, Mapping[str, Any]]) -> None:
    """Replace the file, which only its owner may read. Raises OSError."""
    write_private(profiles_path(), json.dumps(profiles, indent=2))
