"""Untrusted text cannot forge a row, control the terminal or break the JSON."""

import getpass
import json
import os

import pytest

from scorm_webhooks_cli.output import show
from streams.cli.deployment import current_actor

STEERING = "\x1b[2J\rfake\x9b1m\u202e\u2028\nnext"
RAW = "\x1b\r\x9b\u202e\u2028"


def test_output_shows_no_raw_control_characters(capsys: pytest.CaptureFixture[str]) -> None:
    show([{"id": "one", "description": STEERING}, {"id": "two"}], as_json=False)
    show({"id": "one", "headers": {STEERING: STEERING}, "tags": [STEERING], STEERING: 1}, as_json=False)
    said = capsys.readouterr().out
    assert not any(character in said for character in RAW)
    assert said.count("\n") == 3 + 4
    assert "\\x1b[2J\\rfake\\x9b1m\\u202e\\u2028\\nnext" in said


def test_json_is_equal_and_has_safe_characters_only(capsys: pytest.CaptureFixture[str]) -> None:
    show({"description": STEERING + "é"}, as_json=True)
    said = capsys.readouterr().out
    assert json.loads(said) == {"description": STEERING + "é"}
    assert not any(character in said for character in RAW)
    assert "é" in said


def test_a_user_without_a_name_is_shown_by_number(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_such_user() -> str:
        raise KeyError("getpwuid(): uid not found: 12345")

    monkeypatch.setattr(getpass, "getuser", no_such_user)
    assert current_actor() == f"cli:uid-{os.getuid()}"


REAL_IDS = {"id": "0d5a1c3e-6c0f-5d58-9e0a-6a7b4c0f4a11", "account": "acc_01HYX9K2M3N4P5Q6R7S8T9V0W1"}


@pytest.mark.parametrize("columns", [100, 40])
def test_a_narrow_table_wraps_texts_and_keeps_ids(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], columns: int
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    message = "The endpoint responded with 500: its server failed. " * 3
    show([{"state": "waiting 30s", "why": message, **REAL_IDS}], as_json=False)
    said = capsys.readouterr().out
    assert all(name in said for name in REAL_IDS.values())
    assert said.count("\n") > 2
    assert columns < 100 or max(map(len, said.splitlines())) <= 100
