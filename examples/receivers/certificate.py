"""Certificate: a PDF for each session that is passed, mailed to the learner, with a record for audits.

Settings: WEBHOOK_SECRET, PORT, DATA_DIR, where certificate.sqlite and the PDFs are; ISSUER, your organisation's name;
SMTP_URL, MAIL_FROM; LEARNERS, a CSV of learner, name, email; COURSES, a CSV of package, title; FONTS, a list like PATH.
"""

import csv
import hashlib
import os
import re
import smtplib
import ssl
import unicodedata
from datetime import UTC, datetime
from email.headerregistry import Address
from email.message import EmailMessage
from math import cos, pi, sin, sqrt
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult, unquote, urlsplit

from fpdf import FPDF
from fpdf.fonts import TTFFont
from receiver import EXISTING, Event, database, serve, setting

COLUMNS = "session_id, number, event_id, learner_id, package_id, passed_at, name, email, title, result"
TABLE = f"CREATE TABLE IF NOT EXISTS certificates ({COLUMNS}, pdf_sha256, sent_at, PRIMARY KEY (session_id))"
INSERT = f"INSERT OR IGNORE INTO certificates ({COLUMNS}) VALUES ({', '.join('?' * 10)})"
TO_SEND = f"SELECT {COLUMNS} FROM certificates WHERE session_id = ? AND sent_at IS NULL"
FONT_FOLDER = "/usr/share/fonts/truetype"
FONTS = ("freefont/FreeSerif.ttf", "dejavu/DejaVuSans.ttf", "droid/DroidSansFallbackFull.ttf")
HEADER_CHARACTERS = 100  # a header's line holds 998 bytes
Box = tuple[float, float, float, float]
INK, GOLD, PAPER = (38, 43, 64), (168, 130, 58), (253, 251, 245)
UNITS = {"Y": "years", "M": "months", "W": "weeks", "D": "days", "h": "h", "m": "min", "s": "s"}
JOINERS = "\u200c\u200d"  # invisible; Persian and Hindi need them


class Certificates:
    """One certificate for each session. The first event that says `passed` decides what it says."""

    def __init__(self, mail: "Mail", issuer: str, learners: str, courses: str, fonts: list[str]) -> None:
        self._mail, self._issuer, self._fonts = mail, issuer, fonts
        self._learners, self._courses = learners, courses
        self._db = database("certificate", TABLE)

    def issue(self, event: Event) -> None:
        data = event["data"]
        if event["type"] != "session.completed" or data["successStatus"] != "passed":
            return
        learner = find(self._learners, "learner", data["learnerId"])
        title = clean(find(self._courses, "package", data["packageId"])["title"])
        ids = (data["sessionId"], number_of(data["sessionId"]), event["id"], data["learnerId"], data["packageId"])
        texts = (event["createdAt"], clean(learner["name"]), learner["email"], title, result_of(data))
        self._db.execute(INSERT, ids + texts)
        for row in self._db.execute(TO_SEND, [data["sessionId"]]).fetchall():
            self._send(dict(zip(COLUMNS.split(", "), row, strict=True)))

    def _send(self, record: dict[str, str]) -> None:
        pdf = draw(record, self._issuer, self._fonts)
        unfinished = Path(os.environ["DATA_DIR"], "unfinished.pdf")
        unfinished.write_bytes(pdf)
        unfinished.rename(unfinished.with_name(f"certificate-{record['number']}.pdf"))
        self._mail.send(record, pdf)
        values = (hashlib.sha256(pdf).hexdigest(), datetime.now(UTC).isoformat(), record["session_id"])
        self._db.execute("UPDATE certificates SET (pdf_sha256, sent_at) = (?, ?) WHERE session_id = ?", values)


def number_of(session_id: str) -> str:
    """The certificate's number, always the same for a session."""
    return "-".join(re.findall("....", hashlib.sha256(session_id.encode()).hexdigest()[:16].upper()))


def find(path: str, column: str, value: str) -> dict[str, str]:
    """A line of a CSV file, which may change while the receiver runs."""
    with open(path, encoding="utf-8-sig", newline="") as file:
        for row in csv.DictReader(file):
            if row[column] == value:
                return row
    raise LookupError(f"{path} has no line for this {column}: add it")


def clean(text: str) -> str:
    """The text on one line, without control characters and overrides of its direction. ValueError if it is empty."""
    invisible = ("Cc", "Cf")
    line = " ".join(text.split())
    if visible := "".join(char for char in line if unicodedata.category(char) not in invisible or char in JOINERS):
        return visible
    raise ValueError("the name or the title is empty")


def result_of(data: dict[str, Any]) -> str:
    """Such as `with a score of 92 out of 100, in 12 min 34 s`; empty if the event says nothing about either."""
    score = ""
    if "scoreRaw" in data:
        best = f" out of {data['scoreMax']:.12g}" if "scoreMax" in data else ""
        score = f"with a score of {data['scoreRaw']:.12g}{best}"
    elif "scoreScaled" in data:
        score = f"with a score of {data['scoreScaled'] * 100:.12g} %"
    date, _, time = data["totalTime"].partition("T")
    amounts = re.findall(r"([\d.]+)(\w)", date + time.lower())
    spent = " ".join(f"{float(amount):.12g} {UNITS[unit]}" for amount, unit in amounts if float(amount))
    return ", ".join(filter(None, (score, spent and f"in {spent}")))


# -- the page, in millimetres --------------------------------------------------------------------------------------


def draw(record: dict[str, str], issuer: str, fonts: list[str]) -> bytes:
    """The PDF: the same bytes for the same record. Raises ValueError for a character that is in none of the fonts."""
    pdf = FPDF("landscape", format="A4")
    passed_at = datetime.fromisoformat(record["passed_at"])
    pdf.set_creation_date(passed_at)
    pdf.set_title(f"Certificate {record['number']}")
    pdf.set_auto_page_break(False)
    when = f"on {passed_at.day} {passed_at:%B %Y} {record['result']}"
    lines = [
        ((35, 30, 227, 20), "Certificate of Achievement", 44, GOLD),
        ((35, 57, 227, 8), "This is to certify that", 16, INK),
        ((35, 67, 227, 27), record["name"], 42, INK),
        ((35, 101, 227, 8), "has passed", 16, INK),
        ((35, 110, 227, 22), record["title"], 30, GOLD),
        ((35, 134, 227, 10), when, 15, INK),
        ((40, 177, 75, 8), issuer, 12, INK),
        ((182, 177, 75, 8), f"No. {record['number']}", 12, INK),
    ]
    add_fonts(pdf, fonts, {char for _, text, _, _ in lines for char in text if char not in JOINERS})
    pdf.add_page()
    draw_frame(pdf)
    draw_rosette(pdf, 148.5, 168)
    for line in lines:
        write(pdf, *line)
    return bytes(pdf.output())


def add_fonts(pdf: FPDF, fonts: list[str], chars: set[str]) -> None:
    """Add as many fonts as the characters need."""
    names = [f"font{number}" for number in range(len(fonts))]
    for name, path in zip(names, fonts, strict=True):
        if chars:
            pdf.add_font(name, fname=path)
            font = pdf.fonts[name]
            assert isinstance(font, TTFFont)
            chars = {char for char in chars if ord(char) not in font.cmap}
    if chars:
        raise ValueError(f"no font of FONTS has the character {min(chars)!a}: add one that has it")
    pdf.set_fallback_fonts([name for name in names[1:] if name in pdf.fonts], exact_match=False)
    pdf.set_text_shaping(True)


def write(pdf: FPDF, box: Box, text: str, size: float, colour: tuple[int, int, int]) -> None:
    """Write a text into the middle of a box (left, top, width, height): smaller, until its lines fit."""
    left, top, width, height = box

    def cell(at: float, **how: Any) -> Any:
        pdf.set_xy(left, at)
        return pdf.multi_cell(width, pdf.font_size * 1.2, text, align="C", **how)

    pdf.set_text_color(*colour)
    pdf.set_font("font0", size=size)
    while (needed := cell(top, dry_run=True, output="HEIGHT")) > height and size > 2:
        size *= min(0.95, sqrt(height / needed))
        pdf.set_font("font0", size=size)
    cell(top + (height - needed) / 2)


def draw_frame(pdf: FPDF) -> None:
    pdf.set_fill_color(*PAPER)
    pdf.rect(0, 0, 297, 210, style="F")
    pdf.set_draw_color(*GOLD)
    for inset, thickness in ((10, 1.4), (12.5, 0.3), (16, 0.3)):
        pdf.set_line_width(thickness)
        pdf.rect(inset, inset, 297 - 2 * inset, 210 - 2 * inset)
    for x in (12.5, 297 - 12.5):
        for y in (12.5, 210 - 12.5):
            for radius in (5.5, 3.5):
                pdf.circle(x, y, radius, style="DF")
    for left, top, width in ((83, 96, 131), (40, 176, 75), (182, 176, 75)):
        pdf.line(left, top, left + width, top)


def draw_rosette(pdf: FPDF, x: float, y: float) -> None:
    pdf.set_fill_color(*GOLD)
    for side in (-1, 1):
        pdf.polygon([(x, y), (x + 9 * side, y + 4), (x + 9 * side, y + 24), (x + 4.5 * side, y + 19)], style="F")
    rays = ((16.5 if ray % 2 else 14.5, ray * pi / 24) for ray in range(48))
    pdf.polygon([(x + radius * cos(angle), y + radius * sin(angle)) for radius, angle in rays], style="F")
    pdf.set_draw_color(*PAPER)
    for radius in (12.5, 11.5):
        pdf.circle(x, y, radius)
    pdf.set_line_width(1.8)
    pdf.polyline([(x - 5, y), (x - 1.5, y + 4), (x + 5.5, y - 4.5)])


# -- the mail ------------------------------------------------------------------------------------------------------


class Mail:
    """Sends by SMTP. A crash may send a mail twice: both have the same Message-ID, by which mailboxes drop one."""

    def __init__(self, server: SplitResult, sender: str) -> None:
        self._server, self._sender = server, sender

    def send(self, record: dict[str, str], pdf: bytes) -> None:
        mail, name = EmailMessage(), f"certificate-{record['number']}"
        mail["From"], mail["Subject"] = self._sender, f"Your certificate: {record['title'][:HEADER_CHARACTERS]}"
        user, _, domain = record["email"].rpartition("@")
        mail["To"] = Address(record["name"][:HEADER_CHARACTERS], user, domain)
        mail["Message-ID"] = f"<{name}@{self._sender.rpartition('@')[2]}>"
        text = f"{record['name']},\n\nyou have passed {record['title']}. Your certificate is attached.\n"
        mail.set_content(text, cte="base64")
        mail.add_attachment(pdf, maintype="application", subtype="pdf", filename=f"{name}.pdf")
        send(mail, self._server)


def send(mail: EmailMessage, server: SplitResult) -> None:
    host, port, context = server.hostname or "", server.port or 0, ssl.create_default_context()
    tls = server.scheme == "smtps"
    with smtplib.SMTP_SSL(host, port, context=context) if tls else smtplib.SMTP(host, port, timeout=20) as smtp:
        if not tls and server.query != "tls=none":
            smtp.starttls(context=context)
        if server.username:
            smtp.login(unquote(server.username), unquote(server.password or ""))
        smtp.send_message(mail)


# -- settings ------------------------------------------------------------------------------------------------------


def smtp_server(text: str) -> SplitResult:
    url = urlsplit(text)
    if url.scheme not in ("smtp", "smtps") or not url.hostname or not url.port:
        raise ValueError(text)
    return url


def font_files(text: str) -> list[str]:
    paths = text.split(os.pathsep)
    if not all(map(os.path.isfile, paths)):
        raise ValueError(text)
    return paths


if __name__ == "__main__":
    known = [path for name in FONTS if os.path.isfile(path := f"{FONT_FOLDER}/{name}")]
    os.environ.setdefault("FONTS", os.pathsep.join(known))
    mail = Mail(
        setting("SMTP_URL", smtp_server, "smtp://user:password@host:587, smtps://host:465 or smtp://host:25?tls=none"),
        setting("MAIL_FROM", str, "the address that mails come from"),
    )
    certificates = Certificates(
        mail,
        issuer=setting("ISSUER", str, "your organisation's name"),
        learners=setting("LEARNERS", EXISTING, "a CSV file with the columns learner, name, email"),
        courses=setting("COURSES", EXISTING, "a CSV file with the columns package, title"),
        fonts=setting("FONTS", font_files, "TrueType fonts, such as those of fonts-freefont-ttf"),
    )
    serve(certificates.issue)
