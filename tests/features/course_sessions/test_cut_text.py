"""A course cuts its text where it likes, also within a character: its result counts all the same."""

import json
import re
import time
from collections.abc import Callable, Iterator
from urllib.parse import quote

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from api.course_sessions.commit_bodies import NotScorm, parse_commit
from rest.api_fixture import ApiFixture
from streams.features.course_sessions.commit import PlayerCommit

# Pairs as escapes and as characters, escaped backslashes before text that looks like half a pair, quotes.
TEXT = 'a😀\\ud83d\\\\"é\\ude00😀\\\\😀&x=1\n\ud800'
PLAYERS_FORM = "multipart/form-data; boundary=b"
ALPHABET = st.sampled_from('\\"ud83e0 é😀=&\ud83d\ude00\ud800\udfff')


def units(text: str) -> bytes:
    return text.encode("utf-16-le", "surrogatepass")


def of_units(text: bytes) -> str:
    return text.decode("utf-16-le", "surrogatepass")


def cuts(text: str) -> Iterator[str]:
    """The text cut at every position of a JavaScript string, its beginning and its end."""
    whole = units(text)
    for at in range(0, len(whole) + 1, 2):
        yield of_units(whole[:at])
        yield of_units(whole[at:])


def escaped(value: object) -> bytes:
    """JSON.stringify of a browser, with every other character as an escape too."""
    return json.dumps(value).encode()


def capitals(value: object) -> bytes:
    return re.sub(r"(?<!\\)((?:\\\\)*)\\u([0-9a-f]{4})", _capital, json.dumps(value)).encode()


def _capital(found: re.Match[str]) -> str:
    return f"{found[1]}\\u{found[2].upper()}"


def raw(value: object) -> bytes:
    """JSON with half a character as three bytes, which are not UTF-8."""
    return json.dumps(value, ensure_ascii=False).encode("utf-8", "surrogatepass")


def stringify(value: object) -> bytes:
    """JSON.stringify: characters as they are, half of one as an escape."""
    text = json.dumps(value, ensure_ascii=False)
    return re.sub(r"[\ud800-\udfff]", lambda found: f"\\u{ord(found[0]):04x}", text).encode()


SHAPES: dict[str, Callable[[str], object]] = {
    "nested": lambda text: {"cmi": {"suspend_data": text, "core": {"lesson_status": "passed"}}},
    "flattened": lambda text: {"cmi.suspend_data": text, "cmi.core.lesson_status": "passed"},
    "name": lambda text: {"cmi": {text: text, "core": {"lesson_status": "passed"}, text + "x": {text: 1}}},
    "flattened name": lambda text: {"cmi.core.lesson_status": "passed", text + "x": text},
    "common fields": lambda text: {"runtimeData": {"cmi": {"core": {"lesson_status": "passed"}, "location": text}}},
    "list": lambda text: {"runtimeData": ["cmi.core.lesson_status=passed", f"cmi.suspend_data={text}"]},
    "list of values": lambda text: [
        {"name": text, "value": text},
        {"name": "cmi.core.lesson_status", "value": "passed"},
    ],
    "params in JSON": lambda text: {
        "runtimeData": f"cmi.core.lesson_status=passed&cmi.suspend_data={text}&cmi.exit=suspend"
    },
}


@pytest.mark.parametrize("encode", [escaped, capitals, stringify, raw])
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_a_cut_text_does_not_hide_the_result(shape: Callable[[str], object], encode: Callable[[object], bytes]) -> None:
    for text in cuts(TEXT):
        assert parse_commit(encode(shape(text))).lesson_status == "passed", ascii(text)


def params(text: str) -> tuple[bytes, str]:
    return raw_text(f"cmi.core.lesson_status=passed&cmi.suspend_data={text}"), ""


def encoded_params(text: str) -> tuple[bytes, str]:
    value = quote(raw_text(text))
    return f"cmi.suspend_data={value}&cmi__core__lesson_status=passed".encode(), "text/plain;charset=UTF-8"


def form(text: str) -> tuple[bytes, str]:
    parts = {b"cmi.suspend_data": raw_text(text), raw_text(text): b"1", b"cmi.core.lesson_status": b"passed"}
    fields = [
        b'--b\r\nContent-Disposition: form-data; name="%s"\r\n\r\n%s\r\n' % (name.replace(b"\n", b"%0A"), value)
        for name, value in parts.items()
    ]
    return b"".join(fields) + b"--b--\r\n", PLAYERS_FORM


def raw_text(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


@pytest.mark.parametrize("body", [params, encoded_params, form])
def test_bytes_that_are_not_utf_8_do_not_hide_it(body: Callable[[str], tuple[bytes, str]]) -> None:
    for text in cuts(TEXT):
        assert parse_commit(*body(text)).lesson_status == "passed", ascii(text)


def status_of(body: bytes) -> str | None:
    commit: PlayerCommit = parse_commit(body)
    return commit.lesson_status


@given(st.text(ALPHABET, max_size=20), st.sampled_from([escaped, capitals, stringify]))
@example("\\ud800", escaped)
@example("\\\ud800", escaped)
@example("\ud83d\ud83d\ude00\ude00", escaped)
@example("\ude00\ud83d", stringify)
def test_only_half_characters_are_replaced(text: str, encode: Callable[[object], bytes]) -> None:
    body = encode({"cmi": {"core": {"lesson_status": text}}})
    read = json.loads(body)["cmi"]["core"]["lesson_status"]
    whole = re.sub("[\ud800-\udfff]", "\N{REPLACEMENT CHARACTER}", read)
    assert status_of(body) == (whole.strip().lower() or None)


@pytest.mark.parametrize(
    "body", [rb'{"cmi":{"a":"\ud8"}}', rb'{"cmi":{"a":"\ud8zz"}}', rb'{"cmi":{"a":"\\\"}}', b"{\\ud800}"]
)
def test_what_is_no_json_stays_refused(body: bytes) -> None:
    with pytest.raises(NotScorm):
        parse_commit(body)


@pytest.mark.parametrize("unit", [r"\ud800", r"\udc00", r"\ud83d\ude00", r"\\", r"\\\ud83d", r"\\\\ud800", r"\"", "x"])
def test_any_text_takes_time_in_its_length(unit: str) -> None:
    """One pass: 1 MiB takes milliseconds. A second is for a busy machine; a pass for each escape takes minutes."""
    body = b'{"cmi":{"core":{"lesson_status":"passed"},"suspend_data":"%s"}}' % (unit * (2**20 // len(unit))).encode()
    began = time.thread_time()
    assert status_of(body) == "passed"
    assert time.thread_time() - began < 1


async def test_a_pass_with_a_cut_text_is_an_event(api: ApiFixture) -> None:
    made = await api.acme.post("/v1/sessions", {"packageId": "pkg_1", "learnerId": "ada", "sessionId": "s-1"})
    path = made["commitUrl"].partition("/runtime/")[2]
    body = rb'{"cmi":{"core":{"lesson_status":"passed"},"suspend_data":"progress \ud83d"}}'
    assert (await api.client.post(f"/runtime/{path}", content=body)).status_code == 200
    assert (await api.acme.get("/v1/sessions/s-1"))["successStatus"] == "passed"
