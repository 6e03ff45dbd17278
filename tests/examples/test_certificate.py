"""Each session that is passed has one certificate, one mail and one record."""

import hashlib
import random
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import certificate
import pypdfium2
import pytest

import parts
from conftest import left_out
from examples.conftest import Connect
from examples.customer import KILLS
from examples.events import Event, completed, later
from examples.mailbox import Mailbox, write_csv

pytestmark = pytest.mark.slow

FONTS = [f"{certificate.FONT_FOLDER}/{name}" for name in certificate.FONTS]
NAMES = (
    "Zoë Łukasiewicz-O’Brien",
    "زينب عبد الرحمن",
    "שרה כהן",
    "王小明",
    "नरेन्द्र कुमार",
    "Ali\u202e gnp.exe\u202c\r\nBcc: everyone@example.com",
    "a'b\"c;,\\d <x@example.com>",
    "𝔘" * 1024,
    "ع" * 1024,
    "Anna Maria " * 93,
)
TITLE = "السلامة من الحرائق – Fire Safety"


@pytest.fixture(autouse=True)
def need_fonts() -> None:
    if parts.fonts() is None:
        left_out("fonts for certificates")


@pytest.fixture
def settings(mailbox: Mailbox, tmp_path: Path) -> dict[str, str]:
    learners = [(f"learner-{n}", name, f"zoë-{n}@example.com") for n, name in enumerate(NAMES)]
    return {
        **mailbox.settings,
        "ISSUER": "Acme Learning",
        "LEARNERS": write_csv(tmp_path / "learners.csv", ("learner", "name", "email"), *learners),
        "COURSES": write_csv(tmp_path / "courses.csv", ("package", "title"), ("pkg_1", TITLE)),
    }


def sessions() -> list[Event]:
    """One session of each learner: completed and passed by two events, or by three, or by one; and failed ones."""
    events = []
    for n in range(len(NAMES)):
        session: dict[str, Any] = {
            "sessionId": f"sess_{n}",
            "learnerId": f"learner-{n}",
            "scoreRaw": 92.5,
            "scoreMax": 100,
        }
        events.append(completed(10 * n, later(1), **session))
        if n % 3:
            events.append(completed(10 * n + 1, **session | {"successStatus": "unknown"}))
        if n % 3 == 2:
            events.append(completed(10 * n + 2, later(2), **session))
        events.append(completed(10 * n + 3, **session | {"sessionId": f"failed_{n}", "successStatus": "failed"}))
    random.Random(1).shuffle(events)
    return events


def records(folder: Path) -> list[dict[str, Any]]:
    with closing(sqlite3.connect(folder / "certificate.sqlite")) as db:
        db.row_factory = sqlite3.Row
        return [dict(row) for row in db.execute("SELECT * FROM certificates ORDER BY learner_id")]


@pytest.mark.e2e
def test_a_passed_session_has_one_certificate(
    connect: Connect, mailbox: Mailbox, settings: dict[str, str], tmp_path: Path
) -> None:
    events = sessions()
    connect("certificate", "session.completed", **settings).publish_through_kills(events)
    found = records(tmp_path)
    assert [record["session_id"] for record in found] == [f"sess_{n}" for n in range(len(NAMES))]
    assert len(mailbox.mails) == len(NAMES)
    assert mailbox.received <= len(NAMES) + KILLS
    assert len(list(tmp_path.glob("*.pdf"))) == len(NAMES)
    for n, record in enumerate(found):
        assert (record["name"], record["title"]) == (certificate.clean(NAMES[n]), TITLE)
        assert record["result"] == "with a score of 92.5 out of 100, in 12 min 34 s"
        mail = mailbox.mails[f"<certificate-{record['number']}@acme.example.com>"]
        [to] = mail["To"].addresses
        assert (to.display_name, to.addr_spec) == (record["name"][:100], f"zoë-{n}@example.com")
        body = mail.get_body()
        assert body is not None
        assert record["name"] in body.get_content()
        [attachment] = mail.iter_attachments()
        pdf = (tmp_path / f"certificate-{record['number']}.pdf").read_bytes()
        assert attachment.get_content() == pdf
        assert hashlib.sha256(pdf).hexdigest() == record["pdf_sha256"]


@pytest.mark.e2e
def test_a_certificate_waits_for_an_unknown_learner(
    connect: Connect, mailbox: Mailbox, settings: dict[str, str], tmp_path: Path
) -> None:
    customer = connect("certificate", "session.completed", **settings)
    customer.publish([completed(1, learnerId="new")])
    customer.program.wait_for_failure("evt_1")
    write_csv(tmp_path / "learners.csv", ("learner", "name", "email"), ("new", "Eva", "eva@example.com"))
    customer.wait_for(1)
    assert len(mailbox.mails) == 1


# -- the page ------------------------------------------------------------------------------------------------------


def record(**changes: str) -> dict[str, str]:
    made = {"number": "A", "passed_at": "2026-04-10T14:32:00Z", "name": "Eva", "title": "Fire Safety", "result": ""}
    return {**made, **changes}


@pytest.mark.parametrize("name", NAMES)
def test_a_certificate_is_one_page(name: str) -> None:
    assert len(pypdfium2.PdfDocument(certificate.draw(record(name=certificate.clean(name)), "Acme", FONTS))) == 1


def test_a_certificate_says_who_what_and_when() -> None:
    pdf = certificate.draw(record(name="Zoë Łukasiewicz", result="with a score of 92"), "Acme Learning", FONTS)
    text = pypdfium2.PdfDocument(pdf)[0].get_textpage().get_text_range()
    for part in ("Zoë Łukasiewicz", "Fire Safety", "on 10 April 2026 with a score of 92", "Acme Learning", "No. A"):
        assert part in text


def test_a_certificate_is_the_same_each_time() -> None:
    assert certificate.draw(record(), "Acme", FONTS) == certificate.draw(record(), "Acme", FONTS)


def test_a_character_without_a_glyph_is_an_error() -> None:
    with pytest.raises(ValueError, match=r"no font of FONTS has the character '\\U0001f393'"):
        certificate.draw(record(name="🎓"), "Acme", FONTS)


@pytest.mark.parametrize("name", ["", " \n", "\u202e\x00"])
def test_an_empty_name_is_an_error(name: str) -> None:
    with pytest.raises(ValueError, match="empty"):
        certificate.clean(name)


@pytest.mark.parametrize(
    ("data", "result"),
    [
        ({"totalTime": "PT12M34S"}, "in 12 min 34 s"),
        ({"totalTime": "P1Y2M3W4DT5H6M7.5S"}, "in 1 years 2 months 3 weeks 4 days 5 h 6 min 7.5 s"),
        ({"totalTime": "PT0S"}, ""),
        ({"scoreRaw": 92, "scoreMax": 100, "totalTime": "PT0S"}, "with a score of 92 out of 100"),
        ({"scoreRaw": -0.5, "totalTime": "PT1H"}, "with a score of -0.5, in 1 h"),
        ({"scoreRaw": 10**300, "totalTime": "PT1H"}, "with a score of 1e+300, in 1 h"),
        ({"scoreScaled": 0.85, "totalTime": "PT0S"}, "with a score of 85 %"),
    ],
)
def test_the_result_is_written_for_people(data: dict[str, Any], result: str) -> None:
    assert certificate.result_of(data) == result
