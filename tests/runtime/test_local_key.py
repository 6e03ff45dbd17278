"""The file by which commands beside a running `api` are its operator."""

import json
import os
import stat
from pathlib import Path

import pytest

from scorm_webhooks_cli.local_key import is_local_key, make_local_key, read_local_key, remove_local_key, write_local_key
from streams.core.accounts.access import parse_operator_keys
from streams.core.errors import Misconfigured

URL = "http://127.0.0.1:8080"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "data" / "api.json"


def test_only_its_owner_may_read_the_file(file: Path) -> None:
    local_key = make_local_key(URL)
    write_local_key(file, local_key)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700
    assert read_local_key(file) == local_key
    assert local_key.key not in repr(local_key)


def test_every_api_with_the_file_knows_its_key(file: Path) -> None:
    first, second = make_local_key(URL), make_local_key(URL)
    write_local_key(file, first)
    assert is_local_key(file, first.key)
    # Of a second process, or after a kill.
    write_local_key(file, second)
    assert (is_local_key(file, first.key), is_local_key(file, second.key)) == (False, True)
    assert [path.name for path in file.parent.iterdir()] == ["api.json"]


def test_a_stop_leaves_the_file_of_another_api(file: Path) -> None:
    first, second = make_local_key(URL), make_local_key(URL)
    write_local_key(file, first)
    write_local_key(file, second)
    remove_local_key(file, first)
    assert read_local_key(file) == second
    remove_local_key(file, second)
    remove_local_key(file, second)
    assert read_local_key(file) is None


@pytest.mark.parametrize("content", ["", "[]", "{}", "[" * 100_000, '{"url": 1}', "\udcff"])
def test_a_broken_file_says_what_to_do(file: Path, content: str) -> None:
    file.parent.mkdir()
    file.write_bytes(content.encode(errors="surrogateescape"))
    file.chmod(0o600)
    with pytest.raises(Misconfigured, match="delete it, and start `api` again"):
        read_local_key(file)
    assert not is_local_key(file, "local_x")


def test_a_file_that_others_may_read_is_refused(file: Path) -> None:
    local_key = make_local_key(URL)
    write_local_key(file, local_key)
    file.chmod(0o640)
    with pytest.raises(Misconfigured, match="chmod 600"):
        read_local_key(file)
    assert not is_local_key(file, local_key.key)


def test_a_file_of_another_user_is_refused(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_local_key(file, make_local_key(URL))
    monkeypatch.setattr(os, "getuid", lambda: 12345)
    with pytest.raises(Misconfigured, match="belongs to another user"):
        read_local_key(file)


@pytest.mark.parametrize("token", ["", "local_", "sk_1", "local_\u00e9"])
def test_nothing_else_is_the_local_key(file: Path, token: str) -> None:
    assert not is_local_key(file, token)
    file.parent.mkdir()
    file.write_text(json.dumps({"url": URL, "key": "sk_1"}))
    file.chmod(0o600)
    assert not is_local_key(file, token)


def test_no_operator_of_the_setting_has_the_name_local() -> None:
    with pytest.raises(ValueError, match="the name local"):
        parse_operator_keys(["local=" + "k" * 24])
