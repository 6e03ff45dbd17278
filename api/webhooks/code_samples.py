"""Code that verifies a signature, in seven languages, and requests as curl commands."""

import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from itertools import groupby

from streams.core.text import escape_controls

# The names that people look for; the files are in `samples/`.
_FILES = {
    "Node": "verify.js",
    "Python": "verify.py",
    "Go": "verify.go",
    "Java": "Signatures.java",
    "PHP": "verify.php",
    "Ruby": "verify.rb",
    "C#": "Signatures.cs",
}
_DEFAULT = "X-AllureConnect-Signature"
# A longer body is downloaded and named: it is too long to paste.
MAX_BODY_CHARACTERS = 4096
# Headers that curl sets by itself.
_CURLS_OWN = {"host", "content-length", "accept-encoding"}


@dataclass(frozen=True, slots=True)
class Sample:
    """The code of one language."""

    language: str
    code: str


def samples(header: str) -> list[Sample]:
    """The code samples for a deployment whose signature has this header."""
    folder = files("api.webhooks") / "samples"
    return [Sample(language, _with_header(header, (folder / name).read_text())) for language, name in _FILES.items()]


def _with_header(header: str, code: str) -> str:
    # Node has header names in lower case, PHP in upper case with underscores.
    as_php = "HTTP_" + header.upper().replace("-", "_")
    default_php = "HTTP_" + _DEFAULT.upper().replace("-", "_")
    return code.replace(default_php, as_php).replace(_DEFAULT.lower(), header.lower()).replace(_DEFAULT, header).strip()


def curl(url: str, headers: Mapping[str, str], body: bytes | None) -> str:
    """A curl command that sends this request."""
    header_lines = [f"{name}: {value}" for name, value in headers.items() if name.lower() not in _CURLS_OWN]
    options = [f"-H {_quoted(line)}" for line in header_lines]
    data = "@event.json"
    # An argument of a program cannot contain NUL.
    if body is not None and len(body) <= MAX_BODY_CHARACTERS and b"\0" not in body:
        data = _quoted(body.decode(errors="surrogateescape"))
    return " \\\n  ".join([f"curl -i -X POST {_quoted(url)}", *options, f"--data-binary {data}"])


def _quoted(text: str) -> str:
    """A shell word; characters that would hide or reorder the text are written as the bytes of `$'…'`."""
    parts = ["".join(run) for _, run in groupby(text, lambda character: escape_controls(character) != character)]
    return "".join(shlex.quote(part) if escape_controls(part) == part else _as_bytes(part) for part in parts) or "''"


def _as_bytes(text: str) -> str:
    # Not \u202e: bash would write other bytes if the locale is not UTF-8.
    return "$'" + "".join(f"\\x{byte:02x}" for byte in text.encode(errors="surrogateescape")) + "'"
