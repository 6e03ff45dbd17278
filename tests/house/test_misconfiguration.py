"""Wrong configuration is one line that names the variable and a right value."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from fakes import FakeTelemetry
from scorm_webhooks_cli.main import WRONG_USE
from streams.__main__ import main
from streams.cli.stage_commands import STAGE_HELP
from streams.core.errors import Misconfigured, Unavailable
from streams.runtime.bootstrap import SqlDeployment
from streams.runtime.startup import STAGES, prepare_stage
from streams.runtime.startup_checks import StartupChecks
from streams.settings import PREFIX, load_settings, names
from streams.telemetry import PrometheusTelemetry

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("logging_as_it_was")]


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("SCORM_WEBHOOKS_RETRY_SHEDULE", "1s", "did you mean SCORM_WEBHOOKS_RETRY_SCHEDULE?"),
        ("SCORM_WEBHOOKS_RETRY_SCHEDULE", "2m,30s", "each wait must be longer"),
        ("SCORM_WEBHOOKS_RETRY_SCHEDULE", "soon", "is not a wait such as 30s"),
        ("SCORM_WEBHOOKS_ALLOWED_NETWORKS", "10.0.0.0/99", "SCORM_WEBHOOKS_ALLOWED_NETWORKS"),
        ("SCORM_WEBHOOKS_API_PORT", "tcp://10.0.0.1:80", "enableServiceLinks: false"),
        ("SCORM_WEBHOOKS_SLOTS", "many", "SCORM_WEBHOOKS_SLOTS"),
        ("SCORM_WEBHOOKS_SIGNATURE_HEADER", "X Y", "SCORM_WEBHOOKS_SIGNATURE_HEADER"),
        ("SCORM_WEBHOOKS_OPERATOR_KEYS", "ada=too-short", "at least 24 characters"),
        ("SCORM_WEBHOOKS_OPERATOR_KEYS", f"ada={'a' * 24},ada={'b' * 24}", "a name of its own"),
        ("SCORM_WEBHOOKS_API_CONNECTIONS", "0", "SCORM_WEBHOOKS_API_CONNECTIONS"),
    ],
)
def test_a_wrong_setting_is_named(name: str, value: str, message: str) -> None:
    with pytest.raises(Misconfigured) as refused:
        SqlDeployment.from_environment({name: value})
    text = str(refused.value)
    assert name in text
    assert message in text
    assert "\n" not in text


MANY_WAITS = ",".join(f"{seconds}s" for seconds in range(1, 5000))
STEERING = "\x1b[2J\r\n\u202e"
NOT_A_NUMBER = ("many", "1e3", "\u0661\u0662", "9" * 5000, "0", "-1", "1.5", STEERING)
NO_PORT = ("-1", "65536", "http", "tcp://10.0.0.1:80", STEERING)
NO_HOST = ("no host", "host\n", f"host{STEERING}", "x" * 254, "http://host")
# Values that are always wrong; `up` and every stage refuse them at start.
WRONG = {
    "ENCRYPTION_KEYS": (),
    "DATA_DIR": (),
    "LOCAL_KEY_FILE": (),
    "CA_FILE": (),
    "DATABASE_CONNECTIONS": (*NOT_A_NUMBER, "1001"),
    "KAFKA_GROUP_PROTOCOL": ("eager", "KIP-848", STEERING),
    "DATABASE_POOLER": ("session", "pgbouncer", STEERING),
    "RETRY_SCHEDULE": ("soon", ",", "0s", "-1s", "2m,30s", "1s,1s", "400d", "9" * 5000 + "d", STEERING, MANY_WAITS),
    "TOPIC_PREFIX": ("a b", "x" * 65, "\u00e4", STEERING),
    "EVENT_PARTITIONS": NOT_A_NUMBER,
    "DELIVERY_PARTITIONS": NOT_A_NUMBER,
    "REPLICATION_FACTOR": NOT_A_NUMBER,
    "EVENT_FRAMING": ("avro", STEERING),
    "EVENT_SUBJECT": ("a b", "x" * 257, STEERING),
    "FAN_OUT_CONSUMER": ("kafka", "Faust", STEERING),
    "ALLOWED_NETWORKS": ("10.0.0.0/99", "127.0.0.1/8", "localhost", "x" * 100_000, STEERING),
    "EGRESS_PROXY": (
        "proxy:3128",
        "https://proxy:3128",
        "socks5://proxy:1080",
        "http://proxy",
        "http://proxy:0",
        "http://proxy:65536",
        "http://proxy:3128/path",
        "http://user:password@proxy:3128",
        "http://proxy:3128\r\n",
        STEERING,
    ),
    "EGRESS_PROXY_CREDENTIALS": ("user:password", "user", ":password", "user:", "a b:password", "x" * 1000, STEERING),
    "EGRESS_PROXY_RESOLVES": ("maybe", "true", STEERING),
    "SOURCE_ADDRESSES": ("203.0.113.0/99", "203.0.113.7/8", "proxy", ",".join(["203.0.113.7"] * 101), STEERING),
    "SENDS_MAIL": ("maybe", "2", STEERING),
    "ALLOW_HTTP": ("maybe", "2", STEERING),
    "SEND_TRACEPARENT": ("maybe", "2", STEERING),
    "DNS_PROBE_HOST": ("a b", "x" * 254, STEERING),
    "USER_AGENT": (" acme", "acme ", "x" * 201, "acmé", STEERING),
    "SIGNATURE_HEADER": ("X Y", "X:", "x" * 65, "Host", "content-length", "Webhook-Id", "User-Agent", STEERING),
    "ATTEMPT_TIMEOUT_SECONDS": ("0", "-1", "nan", "inf", "1e-300", "61", "soon", STEERING),
    "SLOTS": (*NOT_A_NUMBER, "1", "100001"),
    "RELEASE_RATE": NOT_A_NUMBER,
    "LATENCY_BUDGET_MS": ("many", "-1", "1.5", "1001", STEERING),
    "WATCHDOG_SECONDS": ("many", "1e3", "-1", "1.5", "3601", "9" * 5000, STEERING),
    "API_HOST": NO_HOST,
    "API_PORT": NO_PORT,
    "API_CONNECTIONS": NOT_A_NUMBER,
    "OPERATOR_KEYS": ("ada=short", f"ada={'a' * 24},ada={'b' * 24}", f"{'a' * 24},{'a' * 24}", STEERING),
    "WEBHOOKS_PER_ACCOUNT": NOT_A_NUMBER,
    "RATE_LIMIT": NOT_A_NUMBER,
    "EVENT_RATE_LIMIT": NOT_A_NUMBER,
    "PLAYER_STATES_MIB": ("many", "-1", "1.5", "1048577"),
    "PUBLIC_URL": (
        "https://user:password@hooks.example.com",
        "hooks.example.com",
        "ftp://example.com",
        "https://",
        "https://a b",
        STEERING,
    ),
    "BRAND_NAME": ("x" * 61, "Acme\x1b[2J"),
    "BRAND_LOGO": ("/nowhere/logo.png", "logo.gif", STEERING),
    "ACCENT_COLOR": ("blue", "#12345", "#1f5fbf;}", STEERING),
    "FRAME_ANCESTORS": ("lms.example.com", "https://lms.example.com/path", "'self'", STEERING),
    "TRUSTED_PROXIES": ("10.0.0.0/99", "10.0.0.1/8", "proxy", STEERING),
    "OIDC_ISSUER": (
        "login.example.com",
        "ftp://login.example.com",
        "http://login.example.com",
        "http://localhost.example.com",
        "https://login.example.com/?tenant=1",
        "https://user@login.example.com",
        "https://login.example.com",
        STEERING,
    ),
    "OIDC_CLIENT_ID": ("webhooks", "a b", "x" * 257, STEERING),
    "OIDC_CLIENT_SECRET": ("a secret", "x" * 1025, STEERING),
    "OIDC_NAME": ("Acme", "x" * 61, "Acme\x1b[2J"),
    "OIDC_SCOPES": ("openid email", "email profile", "openid  email", "openid,email", STEERING),
    "OIDC_ACCOUNT_CLAIM": ("accounts", "a b", STEERING),
    "OIDC_ROLE_CLAIM": ("role", "a b", STEERING),
    "OIDC_OPERATOR_GROUP": ("operators", "x" * 257, STEERING),
    "MAIL_FROM": ("nobody", "a@b\r\nBcc: c@d", "\x1b[2J@example.com", "a@\u202eb", STEERING),
    "RETENTION_DAYS": NOT_A_NUMBER,
    "DEAD_LETTER_RETENTION_DAYS": NOT_A_NUMBER,
    "AUDIT_RETENTION_DAYS": NOT_A_NUMBER,
    "SESSION_RETENTION_DAYS": NOT_A_NUMBER,
    "HEALTH_HOST": NO_HOST,
    "HEALTH_PORT": NO_PORT,
    "INSTANCE_ID": ("a b", "x" * 250, "a/b", "\u00e4", STEERING),
    "LOG_FORMAT": ("xml", STEERING),
    "LOG_LEVEL": ("TRACE", STEERING),
    # Unknown settings.
    "X": ("1",),
    "x": ("1",),
    "SLOTS_": ("1",),
    f"SLOTS{STEERING}": ("1",),
    "y" * 5000: ("1",),
}


def reason_in(line: str) -> str:
    """The reason in a stage's JSON line, or in a command's `error: ` line."""
    if line.startswith("error: "):
        return line.removeprefix("error: ")
    logged = json.loads(line)
    assert (logged["level"], logged["event"]) == ("critical", "misconfigured")
    return str(logged["why"])


COMMANDS = ["up", "publish", "api", *STAGE_HELP]
MAX_CHARACTERS = 500


def test_the_table_of_wrong_values_has_every_setting() -> None:
    assert {name.removeprefix(PREFIX) for name in names()} <= WRONG.keys()


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("name", WRONG, ids=lambda name: repr(name[:12]))
def test_each_stage_refuses_a_wrong_value_in_one_line(
    name: str, command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["scorm-webhooks", command])
    monkeypatch.setattr("streams.cli.stages._run_async", lambda _: pytest.fail("the stage starts"))
    for value in WRONG[name]:
        monkeypatch.setenv(PREFIX + name, value)
        with pytest.raises(SystemExit) as ended:
            main()
        said = capsys.readouterr()
        assert (ended.value.code, said.out) == (WRONG_USE, "")
        assert reason_in(said.err).startswith(f"{PREFIX}{name[:5].upper()}")
        assert said.err.removesuffix("\n").isprintable()
        assert len(said.err) <= MAX_CHARACTERS


Part = Callable[[SqlDeployment], object]


@pytest.mark.parametrize(
    ("environ", "part", "message"),
    [
        ({"DATABASE_URL": "mysql://x/y"}, lambda d: d.database_url, "use postgresql:// or sqlite:///"),
        ({"DATABASE_URL": "nonsense"}, lambda d: d.database_url, "DATABASE_URL: must be a URL"),
        ({"DATABASE_URL": "postgresql://u@h:port/n"}, lambda d: d.database_url, "DATABASE_URL: must be a URL"),
        ({"DATABASE_URL": "postgresql://u@h:p/n"}, lambda d: d.replay_lookup(FakeTelemetry()), "must be a URL"),
        ({"DATABASE_URL": "mysql://x/y"}, lambda d: d.replay_lookup(FakeTelemetry()), "DATABASE_URL: must be a URL"),
        ({"DATABASE_URL": "postgresql://x/y"}, lambda d: d.encryption, "SCORM_WEBHOOKS_ENCRYPTION_KEYS is not set"),
        ({"SCORM_WEBHOOKS_ENCRYPTION_KEYS": "short"}, lambda d: d.encryption, "32 bytes in url-safe base64"),
        ({"SCORM_WEBHOOKS_RETRY_SCHEDULE": "30s,5d"}, lambda d: d.topics, "longer than half of the topics' retention"),
        ({"SCORM_WEBHOOKS_DATA_DIR": "/nowhere"}, lambda d: d.kafka, "start `scorm-webhooks up` first"),
    ],
)
def test_a_missing_part_says_what_to_set(environ: dict[str, str], part: Part, message: str) -> None:
    with pytest.raises(Misconfigured) as refused:
        part(SqlDeployment.from_environment(environ))
    assert message in str(refused.value)
    assert "\n" not in str(refused.value)


MARKED = ("https://user:marker@[host", "ht://user:marker@host", "user:marker@host", "https://user:mark/marker@host")


@pytest.mark.parametrize("url", MARKED)
@pytest.mark.parametrize(
    ("name", "part"),
    [
        ("DATABASE_URL", lambda d: d.database_url),
        ("DATABASE_URL", lambda d: d.replay_lookup(FakeTelemetry())),
        ("SMTP_URL", lambda d: d.mail_transport()),
        ("SCHEMA_REGISTRY_URL", lambda d: d.event_codec),
        ("SCORM_WEBHOOKS_PUBLIC_URL", lambda d: d.settings),
        ("SCORM_WEBHOOKS_EGRESS_PROXY", lambda d: d.settings),
        ("SCORM_WEBHOOKS_OIDC_ISSUER", lambda d: d.settings),
    ],
)
def test_a_wrong_url_is_named_without_its_password(name: str, part: Part, url: str) -> None:
    with pytest.raises(Misconfigured) as refused:
        part(SqlDeployment.from_environment({name: url}))
    assert str(refused.value).startswith(f"{name}: ")
    assert "mark" not in str(refused.value)


OIDC = {
    "SCORM_WEBHOOKS_OIDC_ISSUER": "https://login.example.com",
    "SCORM_WEBHOOKS_OIDC_CLIENT_ID": "webhooks",
    "SCORM_WEBHOOKS_OIDC_CLIENT_SECRET": "canary-of-the-tests",
    "SCORM_WEBHOOKS_PUBLIC_URL": "https://hooks.example.com",
}


@pytest.mark.parametrize("missing", OIDC)
def test_openid_connect_names_the_missing_setting(missing: str) -> None:
    with pytest.raises(Misconfigured) as refused:
        load_settings({name: value for name, value in OIDC.items() if name != missing})
    assert missing in str(refused.value)
    assert "canary" not in str(refused.value)


@pytest.mark.parametrize(("name", "value"), [("CREDENTIALS", "user:canary"), ("RESOLVES", "true")])
def test_settings_of_the_proxy_need_its_url(name: str, value: str) -> None:
    with pytest.raises(Misconfigured) as refused:
        load_settings({f"SCORM_WEBHOOKS_EGRESS_PROXY_{name}": value})
    assert str(refused.value) == (
        f"SCORM_WEBHOOKS_EGRESS_PROXY_{name}: set SCORM_WEBHOOKS_EGRESS_PROXY too, or remove "
        f"SCORM_WEBHOOKS_EGRESS_PROXY_{name}"
    )


def test_a_password_in_the_proxys_url_is_refused_unseen() -> None:
    with pytest.raises(Misconfigured, match="SCORM_WEBHOOKS_EGRESS_PROXY_CREDENTIALS_FILE") as refused:
        load_settings({"SCORM_WEBHOOKS_EGRESS_PROXY": "http://user:canary@proxy:3128"})
    assert "canary" not in str(refused.value)


@pytest.mark.parametrize(
    "url", ["http://proxy:3128", "http://proxy:3128/", "http://10.0.0.7:80", "http://[fd00::7]:3128"]
)
def test_a_proxy_may_have_any_address(url: str) -> None:
    assert load_settings({"SCORM_WEBHOOKS_EGRESS_PROXY": url}).egress_proxy == url.removesuffix("/")


def test_a_role_claim_needs_an_account_claim() -> None:
    with pytest.raises(Misconfigured, match="SCORM_WEBHOOKS_OIDC_ROLE_CLAIM: set SCORM_WEBHOOKS_OIDC_ACCOUNT_CLAIM"):
        load_settings({**OIDC, "SCORM_WEBHOOKS_OIDC_ROLE_CLAIM": "role"})


@pytest.mark.parametrize("issuer", ["http://localhost:9000", "http://127.0.0.1/realms/x", "http://[::1]:80/"])
def test_an_issuer_on_this_machine_may_use_http(issuer: str) -> None:
    assert load_settings({**OIDC, "SCORM_WEBHOOKS_OIDC_ISSUER": issuer}).oidc_issuer == issuer


def test_a_command_names_an_unreachable_broker() -> None:
    deployment = SqlDeployment.from_environment({"KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:1"})
    message = "KAFKA_BOOTSTRAP_SERVERS is 127.0.0.1:1 .*; gave up after 0 seconds"
    with pytest.raises(Unavailable, match=message):
        StartupChecks(["session-events"], request_timeout_seconds=0.1).wait_or_raise(deployment, timeout_seconds=0)


@pytest.mark.parametrize("stage", STAGES)
async def test_every_stage_refuses_waits_beyond_the_retention(stage: str) -> None:
    environ = {"SCORM_WEBHOOKS_RETRY_SCHEDULE": "30s,5d", "KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:1"}
    deployment = SqlDeployment.from_environment(environ)
    with pytest.raises(Misconfigured, match="5d is longer than half of the topics' retention"):
        await prepare_stage(stage, deployment, PrometheusTelemetry(stage), print)


@pytest.mark.parametrize(
    ("environ", "command", "named"),
    [
        ({"SCORM_WEBHOOKS_RETRY_SHEDULE": "1s"}, "topics plan", "SCORM_WEBHOOKS_RETRY_SHEDULE"),
        ({"SCORM_WEBHOOKS_RETRY_SCHEDULE": "soon"}, "fan-out", "SCORM_WEBHOOKS_RETRY_SCHEDULE"),
        ({"SCORM_WEBHOOKS_ALLOWED_NETWORKS": "10.0.0.0/99"}, "deliver", "SCORM_WEBHOOKS_ALLOWED_NETWORKS"),
        ({"SCORM_WEBHOOKS_API_PORT": "tcp://10.0.0.1:80"}, "record", "SCORM_WEBHOOKS_API_PORT"),
        ({"DATABASE_URL": "mysql://x/y"}, "db upgrade", "DATABASE_URL"),
    ],
)
def test_every_command_ends_with_2_and_one_line(
    environ: dict[str, str],
    command: str,
    named: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["scorm-webhooks", *command.split()])
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(SystemExit) as ended:
        main()
    said = capsys.readouterr()
    assert (ended.value.code, said.out) == (WRONG_USE, "")
    assert named in reason_in(said.err)
    assert said.err.count("\n") == 1


def test_the_installed_command_ends_with_2_and_one_line(tmp_path: Path) -> None:
    environ = {**os.environ, "SCORM_WEBHOOKS_RETRY_SCHEDULE": "soon"}
    command = [sys.executable, "-m", "streams", "deliver"]
    done = subprocess.run(command, env=environ, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (2, "")
    assert reason_in(done.stderr).startswith("SCORM_WEBHOOKS_RETRY_SCHEDULE: ")
    assert done.stderr.count("\n") == 1
