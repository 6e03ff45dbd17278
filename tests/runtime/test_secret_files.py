"""Secrets come from the files that variables with `_FILE` at their end name."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from streams.core.errors import Misconfigured
from streams.runtime.bootstrap import SqlDeployment
from streams.secret_files import MAX_SECRET_FILE_BYTES, secret_names, with_secrets


@pytest.fixture
def secret(tmp_path: Path) -> Callable[[bytes], str]:
    def write(content: bytes) -> str:
        path = tmp_path / "secret"
        path.write_bytes(content)
        return str(path)

    return write


def test_every_secret_setting_may_come_from_a_file() -> None:
    assert secret_names() == [
        "DATABASE_URL",
        "SMTP_URL",
        "SCORM_WEBHOOKS_ENCRYPTION_KEYS",
        "SCORM_WEBHOOKS_EGRESS_PROXY_CREDENTIALS",
        "SCORM_WEBHOOKS_OPERATOR_KEYS",
        "SCORM_WEBHOOKS_OIDC_CLIENT_SECRET",
    ]


@pytest.mark.parametrize("name", [*secret_names(), "KAFKA_CONFIG_SASL_PASSWORD", "SCHEMA_REGISTRY_CONFIG_USER"])
def test_a_line_break_at_the_end_does_not_count(name: str, secret: Callable[[bytes], str]) -> None:
    assert with_secrets({f"{name}_FILE": secret(b"the value\r\n"), "OTHER": "1"}) == {name: "the value", "OTHER": "1"}


def test_a_certificate_keeps_its_lines(secret: Callable[[bytes], str]) -> None:
    found = with_secrets({"KAFKA_CONFIG_SSL_CA_PEM_FILE": secret(b"first\nsecond\n")})
    assert found == {"KAFKA_CONFIG_SSL_CA_PEM": "first\nsecond"}


def test_a_deployment_reads_its_secrets(secret: Callable[[bytes], str]) -> None:
    key = "bm90LWEtc2VjcmV0LW9ubHktZm9yLXRlc3RzLTEyMzQ="
    deployment = SqlDeployment.from_environment({"SCORM_WEBHOOKS_ENCRYPTION_KEYS_FILE": secret(key.encode())})
    assert [one.get_secret_value() for one in deployment.settings.encryption_keys] == [key]


def test_other_variables_that_end_so_are_left_alone() -> None:
    others = {"SCORM_WEBHOOKS_CA_FILE": "/etc/ca.pem", "LOG_FILE": "/var/log/x", "DATABASE_URL_FILE": ""}
    assert with_secrets(others) == others


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"\n", "is empty"),
        (b"\xff\xfe", "is not UTF-8 text"),
        (b"x" * (MAX_SECRET_FILE_BYTES + 1), "is larger than 64 KiB"),
    ],
    ids=["empty", "a line break", "bytes", "large"],
)
def test_a_wrong_file_is_named(content: bytes, message: str, secret: Callable[[bytes], str]) -> None:
    path = secret(content)
    with pytest.raises(Misconfigured, match=f"^DATABASE_URL_FILE: {path} {message}$"):
        with_secrets({"DATABASE_URL_FILE": path})


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(Misconfigured, match=rf"^SMTP_URL_FILE: {tmp_path}/none: No such file or directory$"):
        with_secrets({"SMTP_URL_FILE": f"{tmp_path}/none"})
    with pytest.raises(Misconfigured, match=rf"^SMTP_URL_FILE: {tmp_path}: Is a directory$"):
        with_secrets({"SMTP_URL_FILE": str(tmp_path)})


def test_a_value_and_a_file_are_too_much(secret: Callable[[bytes], str]) -> None:
    with pytest.raises(Misconfigured, match=r"^DATABASE_URL and DATABASE_URL_FILE are both set: remove one$"):
        with_secrets({"DATABASE_URL": "sqlite://", "DATABASE_URL_FILE": secret(b"sqlite://")})


def test_a_pipe_is_refused_before_it_is_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(Misconfigured, match="pipe is a pipe: name a file"):
        with_secrets({"DATABASE_URL_FILE": str(tmp_path / "pipe")})
