"""A mail server that keeps what it gets, and the files that mails are made from."""

import csv
from email import message_from_string
from email.message import EmailMessage
from email.policy import default
from pathlib import Path

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, Envelope, Session

from real.process import free_ports


class Mailbox:
    """`mails` has one mail for each Message-ID, as a mailbox shows them; `received` counts each transmission."""

    def __init__(self) -> None:
        self.mails: dict[str, EmailMessage] = {}
        self.received = 0
        [self.port] = free_ports(1)
        self._controller = Controller(self, "127.0.0.1", self.port, enable_SMTPUTF8=True)

    def start(self) -> None:
        self._controller.start()

    def stop(self) -> None:
        self._controller.stop()

    @property
    def settings(self) -> dict[str, str]:
        return {"SMTP_URL": f"smtp://127.0.0.1:{self.port}?tls=none", "MAIL_FROM": "training@acme.example.com"}

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:
        content = envelope.content
        assert isinstance(content, bytes)
        mail = message_from_string(content.decode(), _class=EmailMessage, policy=default)
        self.mails.setdefault(mail["Message-ID"], mail)
        self.received += 1
        return "250 OK"


def write_csv(path: Path, *rows: tuple[str, ...]) -> str:
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows(rows)
    return str(path)
