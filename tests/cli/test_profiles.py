"""A person signs in once, and later commands use that API; the environment is first."""

import json
import stat
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from cli.command import run, served
from starlette.responses import HTMLResponse, JSONResponse, Response

from rest.api_fixture import OPERATOR_KEY, ApiFixture, open_api
from scorm_webhooks_cli.local_key import make_local_key, write_local_key
from scorm_webhooks_cli.profiles import find_target, profiles_path
from streams.core.errors import Invalid, Misconfigured, Unavailable

pytestmark = pytest.mark.slow
SET = ("SCORM_WEBHOOKS_API_URL", "SCORM_WEBHOOKS_API_KEY", "SCORM_WEBHOOKS_PROFILE")


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A person's home directory, and a folder without a system. What `login` sets ends with the test."""
    for name in SET:
        monkeypatch.setenv(name, "")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    return tmp_path


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[ApiFixture]:
    async with open_api(f"sqlite:///{tmp_path}/db.sqlite") as api:
        yield api


def forget_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in SET:
        monkeypatch.setenv(name, "")


async def test_commands_use_what_login_stored(api: ApiFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    key = str(api.acme.key)
    async with served(api.app) as url:
        done = await run("login", url, answer=f"{key}\n")
        assert (done.exit_code, "Signed in" in done.stdout, key in done.output) == (0, True, False)
        forget_environment(monkeypatch)
        assert stat.S_IMODE(profiles_path().stat().st_mode) == 0o600
        assert (await run("webhooks", "list", "--json")).stdout == "[]\n"
        assert (await run("logout")).exit_code == 0
        with pytest.raises(Misconfigured, match="SCORM_WEBHOOKS_API_URL: is required"):
            find_target()


async def test_a_key_that_the_api_refuses_is_not_stored(api: ApiFixture) -> None:
    async with served(api.app) as url:
        refused = await run("login", url, answer="sk_wrong\n")
        assert isinstance(refused.exception, Misconfigured)
        assert not profiles_path().exists()


@pytest.mark.parametrize("path", ["", "/", "/v1/", "/v1/webhooks?limit=1", "/docs", "/docs/", "/docs/api/#/Account"])
async def test_login_finds_the_api_in_a_copied_address(api: ApiFixture, path: str) -> None:
    async with served(api.app) as url:
        done = await run("login", f"{url}{path}", answer=f"{api.acme.key}\n")
        assert f"Signed in to {url} as account " in done.stdout
        assert json.loads(profiles_path().read_text())["default"]["url"] == url


async def test_login_says_whose_key_it_is(api: ApiFixture) -> None:
    async with served(api.app) as url:
        done = await run("login", url, answer=f"{api.acme.key}\n")
        assert f"as account acme ({api.acme.account_id})." in done.stdout
        done = await run("login", url, answer=f"{OPERATOR_KEY}\n")
        assert "as an operator." in done.stdout


@pytest.mark.parametrize(
    "answer",
    [
        JSONResponse({"status": "UP"}),
        HTMLResponse("<h1>Welcome</h1>"),
        JSONResponse({"type": "/x", "title": "Not found", "status": 404, "detail": "no page"}, 404),
    ],
)
async def test_login_to_another_server_stores_nothing(answer: Response) -> None:
    async with served(answer) as url:
        refused = await run("login", url, answer="sk_1\n")
        assert isinstance(refused.exception, Unavailable)
        assert url in str(refused.exception)
        assert "the URL of the API?" in str(refused.exception)
        assert not profiles_path().exists()


async def test_several_profiles_have_names(api: ApiFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    async with served(api.app) as url:
        await run("--profile", "acme", "login", url, answer=f"{api.acme.key}\n")
        forget_environment(monkeypatch)
        with pytest.raises(Misconfigured, match="SCORM_WEBHOOKS_API_URL: is required"):
            find_target()
        listed = await run("--profile", "acme", "webhooks", "list", "--json")
        assert listed.stdout == "[]\n"
        forget_environment(monkeypatch)
        unknown = await run("--profile", "globex", "webhooks", "list")
        assert "there is no profile 'globex': acme" in str(unknown.exception)


def write(path: Path, profiles: object, mode: int = 0o600) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(profiles))
    path.chmod(mode)


def test_the_environment_and_an_api_nearby_are_first(monkeypatch: pytest.MonkeyPatch) -> None:
    write(profiles_path(), {"default": {"url": "https://one.example.com", "key": "sk_1"}})
    assert (find_target().url, find_target().key_name) == ("https://one.example.com", "profile default")
    file = Path(".scorm-webhooks/api.json")
    write_local_key(file, make_local_key("http://127.0.0.1:1"))
    assert (find_target().url, find_target().url_name) == ("http://127.0.0.1:1", str(file))
    monkeypatch.setenv("SCORM_WEBHOOKS_API_URL", "https://two.example.com")
    monkeypatch.setenv("SCORM_WEBHOOKS_API_KEY", "sk_2")
    assert find_target().url == "https://two.example.com"


def test_a_file_that_others_may_read_is_refused() -> None:
    write(profiles_path(), {"default": {"url": "https://one.example.com", "key": "sk_1"}}, mode=0o644)
    with pytest.raises(Misconfigured, match="chmod 600"):
        find_target()


@pytest.mark.parametrize("profiles", [[], {"default": 1}, {"default": {"url": "x"}}, {"default": {"key": "a b"}}])
def test_a_broken_file_says_what_writes_it(profiles: object) -> None:
    write(profiles_path(), profiles)
    with pytest.raises(Misconfigured, match="delete it, and sign in by `login`"):
        find_target()


async def test_a_typed_profile_is_before_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    write(profiles_path(), {"staging": {"url": "http://127.0.0.1:1", "key": "sk_1"}})
    monkeypatch.setenv("SCORM_WEBHOOKS_API_URL", "https://production.example.com")
    monkeypatch.setenv("SCORM_WEBHOOKS_API_KEY", "sk_2")
    away = await run("--profile", "staging", "webhooks", "list")
    assert "profile staging: http://127.0.0.1:1 does not answer" in str(away.exception)


async def test_a_key_is_not_sent_without_encryption() -> None:
    refused = await run("login", "http://webhooks.example.com", answer="sk_1\n")
    assert "must begin with https://" in str(refused.exception)


async def test_what_cannot_be_a_key_is_refused_before_it_is_sent() -> None:
    refused = await run("login", "https://one.example.com", answer="sk 1\n")
    assert isinstance(refused.exception, Invalid)
