"""What a commit says is read from its body's shape; whatever else comes is refused."""

from contextlib import suppress
from decimal import Decimal

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from api.course_sessions.commit_bodies import MAX_FORM_PARTS, NotScorm, parse_commit
from streams.features.course_sessions.commit import Completion, PlayerCommit, Score, Success


def read(text: str, content_type: str = "text/plain;charset=UTF-8") -> PlayerCommit:
    return parse_commit(text.encode(), content_type)


@pytest.mark.parametrize(
    "body",
    [
        '{"cmi":{"core":{"lesson_status":"passed","score":{"raw":"85"}}}}',
        '{"cmi":{"core":{"lesson_status":"passed","score":{"raw":85}}}}',
        '{"cmi.core.lesson_status":"passed","cmi.core.score.raw":"85"}',
        '{"cmi":{"cmi.core.lesson_status":"passed","cmi.core.score.raw":"85"}}',
        '{"cmi":{"core.lesson_status":"passed","core.score.raw":"85"}}',
        "cmi.core.lesson_status=passed&cmi.core.score.raw=85",
        "cmi__core__score__raw=85&cmi__core__lesson_status=passed&sesskey=x",
        '[{"name":"cmi.core.lesson_status","value":"passed"},{"name":"cmi.core.score.raw","value":"85"}]',
        '["cmi.core.lesson_status=passed","cmi.core.score.raw=85"]',
        '{"runtimeData":["cmi.core.lesson_status=passed","cmi.core.score.raw=85"]}',
        '{"runtimeData":{"cmi.core.lesson_status":"passed","cmi.core.score.raw":"85"}}',
        '{"runtimeData":"cmi.core.lesson_status=passed&cmi.core.score.raw=85"}',
        '\ufeff  {"cmi":{"core":{"lesson_status":" Passed ","score":{"raw":" 85 "}}}}',
    ],
)
def test_every_shape_says_the_same(body: str) -> None:
    commit = read(body)
    assert (commit.lesson_status, commit.score.raw) == ("passed", 85.0)


def test_a_form_is_read() -> None:
    fields = {"id": "7", "cmi__completion_status": "completed", "cmi__score__scaled": "0.5"}
    parts = [
        f'--b\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n' for name, value in fields.items()
    ]
    commit = read("".join(parts) + "--b--\r\n", "multipart/form-data; boundary=b")
    assert (commit.completion_status, commit.score.scaled) == (Completion.COMPLETED, 0.5)


FORM = "multipart/form-data; boundary=b"


def form(*headers: str, ending: str = "\r\n") -> str:
    return "".join(f"--b{ending}{header}{ending}{ending}passed{ending}" for header in headers) + f"--b--{ending}"


@pytest.mark.parametrize("ending", ["\r\n", "\n"])
@pytest.mark.parametrize(
    "header",
    [
        'Content-Disposition: form-data; name="cmi.core.lesson_status"',
        'CONTENT-DISPOSITION:form-data;Name=cmi.core.lesson_status; filename="name=x"',
        'Content-Type: text/plain\r\nContent-Disposition: form-data; name="cmi.core.lesson_status"',
    ],
)
def test_a_field_of_a_form_is_read_however_it_is_written(header: str, ending: str) -> None:
    assert read(form("", header, ending=ending), FORM).lesson_status == "passed"


def test_a_form_has_at_most_5000_fields() -> None:
    of_others = ['Content-Disposition: form-data; name="id"'] * (MAX_FORM_PARTS - 1)
    status = 'Content-Disposition: form-data; name="cmi.core.lesson_status"'
    assert read(form(*of_others, status), FORM).lesson_status == "passed"
    with pytest.raises(NotScorm, match="more than 5000 fields"):
        read(form("", *of_others, status), FORM)


@pytest.mark.parametrize(
    "header",
    [
        "",
        "CONTENT-DISPOSITION: form-data; name=" + "(" * 20_000,
        "Content-Disposition: form-data; " + ";".join(f"name*{number}=a" for number in range(50_000)),
        "Content-Type: multipart/mixed; boundary=b",
        "Content-Type: message/rfc822\r\n\r\n" * 2000,
    ],
)
def test_a_strange_form_is_no_commit(header: str) -> None:
    with pytest.raises(NotScorm):
        read(form(*[header] * 10), FORM)


def test_a_total_time_of_nothing_is_no_news() -> None:
    assert read('{"cmi":{"core":{"total_time":"00:00:00","session_time":"00:01:00"}}}').total_time is None
    assert read('{"totalTimeSeconds":750.5,"runtimeData":{"cmi":{"total_time":"PT0S"}}}').total_time == Decimal("750.5")


def test_common_fields_are_read() -> None:
    commit = read(
        '{"completionStatus":"completed","successStatus":"passed","totalTimeSeconds":750.5,"score":{"max":100},'
        '"runtimeData":{"cmi":{"score":{"raw":"8"}}},"commitSequence":3,"isFinal":true}'
    )
    assert (commit.course_completion, commit.course_success) == (Completion.COMPLETED, Success.PASSED)
    assert (commit.total_time, commit.sequence) == (Decimal("750.5"), 3)
    assert commit.score == Score(raw=8.0, max=100.0)


def test_the_sequence_is_read_without_common_fields() -> None:
    assert read('{"cmi":{"core":{"lesson_status":"passed"}},"commitSequence":7}').sequence == 7
    assert read('{"cmi.core.lesson_status":"passed","commitSequence":7}').sequence == 7
    for wrong in ("true", '"7"', "-1", "7.5", "null", str(2**60)):
        assert read(f'{{"cmi":{{}},"commitSequence":{wrong}}}').sequence is None


def test_the_total_time_of_the_data_model_comes_first() -> None:
    assert read('{"totalTimeSeconds":9,"runtimeData":{"cmi":{"total_time":"PT1M"}}}').total_time == 60
    assert read('{"totalTimeSeconds":0,"completionStatus":"unknown"}').total_time is None


def test_text_of_the_learner_forges_nothing() -> None:
    forged = "cmi.suspend_data=x&cmi.core.lesson_status=passed&cmi.core.lesson_status=incomplete&cmi.core.score.raw=7"
    assert (read(forged).lesson_status, read(forged).score.raw) == (None, 7.0)
    # The other standard's names are no way around it.
    other = "cmi.suspend_data=x&cmi.completion_status=completed&cmi.core.lesson_status=incomplete"
    assert (read(other).completion_status, read(other).lesson_status) == (None, None)


def test_a_value_that_comes_twice_alike_counts() -> None:
    assert read("cmi.core.lesson_status=passed&cmi.core.lesson_status=passed").lesson_status == "passed"


def test_of_a_list_of_values_the_last_counts() -> None:
    body = '[{"name":"cmi.core.score.raw","value":"1"},{"name":"cmi.core.score.raw","value":"2"}]'
    assert read(body).score.raw == 2.0


@pytest.mark.parametrize("value", ['""', "null", "true", "{}", "[]", '"NaN"', '"1e999"', '"٣"', '"1_0"', '"x"'])
def test_what_is_not_a_number_is_no_news(value: str) -> None:
    assert read(f'{{"cmi":{{"score":{{"raw":{value}}}}}}}').score == Score()


def test_a_measure_out_of_its_bounds_is_no_news() -> None:
    commit = read('{"cmi":{"score":{"scaled":"1.01"},"progress_measure":"2","scaled_passing_score":"-1.5"}}')
    assert (commit.score.scaled, commit.progress_measure, commit.scaled_passing_score) == (None, None, None)


def test_a_course_that_tells_nothing_yet_is_scorm() -> None:
    for body in ('{"cmi":{}}', "cmi.suspend_data=", '{"cmi.suspend_data":"x"}', '{"runtimeData":null}'):
        assert read(body).lesson_status is None


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        ("", ""),
        ("hello", ""),
        ("{}", "application/json"),
        ("[]", "application/json"),
        ('{"a":1}', "application/json"),
        ('{"cmi":', "application/json"),
        ("[" * 5000, "application/json"),
        ('{"cmi":' * 5000, "application/json"),
        ("--b", "multipart/form-data"),
        ("--b--", "multipart/form-data; boundary=b"),
        ("x", "multipart/form-data; boundary=é"),
        (
            "--b\r\nContent-Disposition: form-data; name=a\r\n\r\n1\r\n" * (MAX_FORM_PARTS + 1),
            "multipart/form-data; boundary=b",
        ),
    ],
)
def test_what_is_not_scorm_is_refused(body: str, content_type: str) -> None:
    with pytest.raises(NotScorm):
        read(body, content_type)


words = st.sampled_from(
    [
        '{"cmi":',
        "cmi.core.lesson_status=",
        "passed",
        "&",
        "--b\r\n",
        "Content-Disposition: form-data; name=",
        "{",
        "[",
        '"',
        "]",
        "}",
        ",",
        ":",
    ]
)


@given(
    st.binary(max_size=80) | st.lists(words, max_size=20).map(lambda parts: "".join(parts).encode()),
    st.sampled_from(["", "multipart/form-data; boundary=b", "multipart/form-data; boundary=\x00"]),
)
@example(
    b"--b\r\nContent-Disposition: form-data; name*=utf-8''%ff\r\n\r\nx\r\n--b--", "multipart/form-data; boundary=b"
)
@example(b"--b\r\nContent-Transfer-Encoding: base64\r\n\r\n=\r\n--b--", "multipart/form-data; boundary=b")
def test_any_bytes_are_read_or_refused(body: bytes, content_type: str) -> None:
    with suppress(NotScorm):
        assert parse_commit(body, content_type).digest
