"""The API that commands use: of the environment, or of a profile that `login` stored."""

import json
import os
import re
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from streams.api_variables import KEY_VARIABLE, PROFILE_VARIABLE, URL_VARIABLE
from streams.core.errors import FieldError, Invalid, Misconfigured
from streams.core.limits import MAX_NAME_CHARACTERS

DEFAULT_PROFILE = "default"
# As the settings of a system have it: an API nearby is used before a profile that nobody named.
DATA_DIR_VARIABLE, DEFAULT_DATA_DIR = "SCORM_WEBHOOKS_DATA_DIR", ".scorm-webhooks"
KEYS_VARIABLE = "SCORM_WEBHOOKS_ENCRYPTION_KEYS"
# The client's distribution does not have it.
LOCAL_MODULE = "local_app"
_NAME = re.compile(r"[A-Za-z0-9._-]+", re.ASCII)
# What a person copies from the documentation, or from a request.
_BELOW_BASE = re.compile(r"/(?:docs|v1)(?:/.*)?\Z", re.ASCII | re.DOTALL)
# Anything else the HTTP client would refuse, in a message with the key.
_KEY = re.compile(r"[!-~]{1,256}", re.ASCII)


@dataclass(frozen=True, slots=True)
class ApiTarget:
    """An API over HTTP. `url_name` and `key_name` are what a person changes: a variable, or a profile."""

    url: str
    key: str = field(repr=False)
    url_name: str
    key_name: str


def find_target() -> ApiTarget | None:
    """The API that commands use over HTTP; None for the API in this process.

    The environment is first (`--profile` sets it), then a profile that SCORM_WEBHOOKS_PROFILE names, then a system on
    this machine, then the default profile. Raises `Misconfigured`.
    """
    url, key = os.environ.get(URL_VARIABLE), os.environ.get(KEY_VARIABLE)
    if url:
        base_url = to_base_url(url, URL_VARIABLE)
        if not key or not _KEY.fullmatch(key):
            raise Misconfigured(f"{KEY_VARIABLE}: must be an API key (sk_…) for {URL_VARIABLE}")
        return ApiTarget(base_url, key, URL_VARIABLE, KEY_VARIABLE)
    if key:
        raise Misconfigured(f"{KEY_VARIABLE} is set without {URL_VARIABLE}: set the URL, or unset the key")
    if name := os.environ.get(PROFILE_VARIABLE):
        profiles = read_profiles()
        if name not in profiles:
            known = ", ".join(profiles) or "there is none"
            raise Misconfigured(f"{PROFILE_VARIABLE}: there is no profile {name!r}: {known}; `login` makes one")
        return _target(name, profiles[name])
    if _has_system_nearby():
        return None
    profile = read_profiles().get(DEFAULT_PROFILE)
    return None if profile is None else _target(DEFAULT_PROFILE, profile)


def _target(name: str, profile: Mapping[str, Any]) -> ApiTarget:
    source = f"profile {name}"
    url, key = profile.get("url"), profile.get("key")
    if not isinstance(url, str) or not isinstance(key, str) or not _KEY.fullmatch(key):
        raise Misconfigured(f"{profiles_path()}: {source} has no url and key: delete it, and sign in by `login`")
    return ApiTarget(to_base_url(url, source), key, source, source)


def _has_system_nearby() -> bool:
    """Whether the settings of a system are here. DATABASE_URL alone is in the shell of many developers."""
    if find_spec(f"{__package__}.{LOCAL_MODULE}") is None:
        return False
    has_settings = bool(os.environ.get("DATABASE_URL")) and any(name.startswith(KEYS_VARIABLE) for name in os.environ)
    return has_settings or Path(os.environ.get(DATA_DIR_VARIABLE) or DEFAULT_DATA_DIR).is_dir()


def to_base_url(url: str, name: str) -> str:
    """The base URL of an API, from it or from an address below it, such as that of its documentation.

    Raises `Misconfigured`, with this name of the setting, for anything else.
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
    """Raises `Invalid` for what cannot be an API key."""
    if not _KEY.fullmatch(key):
        raise Invalid(FieldError("key", "must be an API key (sk_…), without spaces"))


def check_name(name: str) -> None:
    """Raises `Invalid` for what cannot be the name of a profile."""
    if not _NAME.fullmatch(name) or len(name) > MAX_NAME_CHARACTERS:
        raise Invalid(FieldError("--profile", "must be a name of letters, digits, dots, dashes and underscores"))


def profiles_path() -> Path:
    """The file of the profiles: as the XDG Base Directory Specification has it."""
    folder = os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config"
    return Path(folder) / "scorm-webhooks" / "profiles.json"


def read_profiles() -> dict[str, Mapping[str, Any]]:
    """The profiles by name; none without a file. Raises `Misconfigured` for a file that others may read."""
    path = profiles_path()
    try:
        mode = path.stat().st_mode
        profiles = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, RecursionError) as error:
        raise Misconfigured(f"{path}: cannot be read: {error}; delete it, and sign in by `login`") from None
    if os.name == "posix" and mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise Misconfigured(f"{path}: others may read its keys: chmod 600 it")
    if not isinstance(profiles, dict) or not all(isinstance(one, Mapping) for one in profiles.values()):
        raise Misconfigured(f"{path}: must have an object for each profile: delete it, and sign in by `login`")
    return profiles


def write_profiles(profiles: Mapping[str, Mapping[str, Any]]) -> None:
    """Replace the file, which only its owner may read. Raises OSError."""
    path = profiles_path()
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    new_path = path.with_suffix(".new")
    new_path.unlink(missing_ok=True)
    descriptor = os.open(new_path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        json.dump(profiles, file, indent=2)
    os.replace(new_path, path)
