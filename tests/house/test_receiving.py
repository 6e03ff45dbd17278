"""The verification code of docs/receiving.md accepts our requests, also during a rotation, and no others."""

import json
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from builders import delivery
from conftest import left_out
from streams.core.deliveries.request import Request, build_request
from streams.core.deliveries.signing import make_secret

TEXT = (Path(__file__).parents[2] / "docs" / "receiving.md").read_text()
OLD, NEW, STRANGE = (make_secret(bytes([number]) * 32) for number in range(3))
Verify = Callable[[Request, str], bool]


def block(language: str) -> str:
    """The first block of code in this language."""
    return str(re.findall(rf"```{language}\n(.*?)```", TEXT, re.DOTALL)[0])


def by_python(request: Request, secret: str) -> bool:
    made: dict[str, Any] = {}
    exec(block("python"), made)
    return bool(made["is_genuine"](request.headers, request.body, secret))


def by_node(request: Request, secret: str) -> bool:
    headers = {name.lower(): value for name, value in request.headers.items()}
    asked = ", ".join(map(json.dumps, (headers, request.body.decode(), secret)))
    script = f"{block('js')}\nconsole.log(isGenuine({asked}))"
    done = subprocess.run(["node", "-e", script], capture_output=True, text=True, check=True, timeout=30)
    return done.stdout == "true\n"


@pytest.fixture(params=[by_python, by_node])
def verify(request: pytest.FixtureRequest) -> Verify:
    if request.param is by_node and shutil.which("node") is None:
        left_out("Node")
    found: Verify = request.param
    return found


def sent(*secrets: str) -> Request:
    return build_request(delivery(), "https://crm.example.com", secrets, {}, 1_775_831_520, "X-AllureConnect-Signature")


def test_both_secrets_verify_during_a_rotation(verify: Verify) -> None:
    assert verify(sent(OLD, NEW), OLD)
    assert verify(sent(OLD, NEW), NEW)
    assert not verify(sent(OLD, NEW), STRANGE)


def test_without_a_rotation_only_the_secret_verifies(verify: Verify) -> None:
    assert verify(sent(OLD), OLD)
    assert not verify(sent(OLD), NEW)
    assert not verify(sent(OLD)._replace(body=b"{}"), OLD)
    assert not verify(sent(OLD)._replace(headers={}), OLD)


def test_every_header_of_a_request_is_documented() -> None:
    every = {*sent(OLD, NEW).headers, "traceparent"}
    assert every <= set(re.findall(r"^\| `([^`]+)` \|", TEXT, re.MULTILINE))
