"""Untrusted text cannot control a terminal, and escaped JSON is equal JSON."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.core.text import escape_controls, escape_json

UNSAFE = [*"\0\a\b\t\n\r\x1b\x7f\x85\x9b\xad\u2028\u202e\u2066\ufeff\udc9b"]
TEXT = st.text(st.characters(codec=None))


@pytest.mark.parametrize("character", UNSAFE)
def test_no_unsafe_character_is_shown_raw(character: str) -> None:
    shown = escape_controls(f"a{character}b")
    assert shown.startswith("a\\")
    assert shown.isascii()


def test_ordinary_text_is_unchanged() -> None:
    text = "Größe – 日本語 “quoted” 👩\u200d💻 می\u200cخواهم c:\\new"
    assert escape_controls(text) == text


def test_kept_characters_are_unchanged() -> None:
    assert escape_controls("one\ntwo\x1b", allowed="\n") == "one\ntwo\\x1b"


@given(st.recursive(TEXT, lambda inner: st.lists(inner) | st.dictionaries(TEXT, inner)))
def test_escaped_json_is_equal_and_safe(value: object) -> None:
    escaped = escape_json(json.dumps(value, ensure_ascii=False))
    assert json.loads(escaped) == value
    assert escape_controls(escaped) == escaped


@pytest.mark.parametrize("character", UNSAFE)
def test_a_json_string_holds_no_unsafe_character(character: str) -> None:
    assert escape_json(json.dumps(character, ensure_ascii=False)).isascii()
