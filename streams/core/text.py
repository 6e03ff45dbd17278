"""Escape and shorten text from outside, so that it is safe in a terminal, a mail or a response."""

import re

# Characters that move a cursor, end a line, hide text or change its direction: C0 and C1 controls, DEL, line
# separators, bidirectional and other invisible format characters, lone surrogates. Joiners stay: scripts need them.
_UNSAFE = re.compile(
    "[\x00-\x1f\x7f-\x9f\xad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"
    "\ud800-\udfff\U000e0000-\U000e007f]"
)


def escape_controls(text: str, allowed: str = "") -> str:
    r"""`text` with each unsafe character written as an escape such as `\x1b`; those in `allowed` stay."""
    return _UNSAFE.sub(lambda match: match[0] if match[0] in allowed else _escape(match[0]), text)


def escape_json(text: str) -> str:
    r"""JSON with each unsafe character within its strings written as `\uXXXX`."""
    return _UNSAFE.sub(lambda match: "".join(f"\\u{unit:04x}" for unit in _utf16(match[0])), text)


def shorten(text: str, characters: int) -> str:
    """The text, cut to at most `characters`; unpaired surrogates become question marks."""
    short_text = text if len(text) <= characters else text[: characters - 1] + "…"
    return short_text.encode(errors="replace").decode()


def _escape(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")


def _utf16(character: str) -> list[int]:
    encoded = character.encode("utf-16-be", errors="surrogatepass")
    return [int.from_bytes(encoded[index : index + 2], "big") for index in range(0, len(encoded), 2)]
