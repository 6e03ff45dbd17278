"""Mails to a real SMTP server that accepts, delays, rejects, or is away."""

import ssl
from collections.abc import Iterator
from email import message_from_bytes, policy
from email.message import EmailMessage
from typing import Any

import pytest
import trustme
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, Session

from builders import NOON
from real.process import free_ports
from streams.adapters import smtp
from streams.adapters.smtp import SmtpTransport, smtp_server
from streams.core.accounts.mail import Mail, MailKind, RenderedMail
from streams.core.errors import Misconfigured, PartiallySent, RowRefused, Unavailable
from streams.features.mails.text import compose

MAIL = RenderedMail("Webhook paused: Größe", "Hello — text\n", "<!doctype html><p>Hello — html</p>\n")
SENDER = "Webhooks <hooks@platform.example>"


class Mailbox:
    """The mails that a server took, and its scripted replies."""

    def __init__(self) -> None:
        self.messages: list[EmailMessage] = []
        self.recipients: list[list[str]] = []
        self.refuses: dict[str, str] = {}
        self.response_body = "250 taken"
        self.farewell = "221 Bye"
        self.greeting = "250 OK"

    async def handle_QUIT(self, server: SMTP, session: Session, envelope: Envelope) -> str:
        return self.farewell

    async def handle_MAIL(self, server: SMTP, session: Session, envelope: Envelope, address: str, _: list[str]) -> str:
        envelope.mail_from = address
        return self.greeting

    async def handle_RCPT(self, server: SMTP, session: Session, envelope: Envelope, address: str, _: list[str]) -> str:
        if address in self.refuses:
            return self.refuses[address]
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:
        if self.response_body.startswith("250"):
            assert isinstance(envelope.content, bytes)
            self.messages.append(message_from_bytes(envelope.content, policy=policy.default))
            self.recipients.append(envelope.rcpt_tos)
        return self.response_body


class Server:
    """A mail server on loopback, optionally with STARTTLS and a password."""

    def __init__(self, mailbox: Mailbox, tls: ssl.SSLContext | None = None, *, utf8: bool = False) -> None:
        def accepts(server: Any, session: Any, envelope: Any, mechanism: str, data: Any) -> AuthResult:
            return AuthResult(success=(data.login, data.password) == (b"me", b"pass/word"), handled=False)

        more: dict[str, Any] = {"tls_context": tls, "require_starttls": True} if tls else {}
        auth: dict[str, Any] = {"authenticator": accepts, "auth_required": True} if tls else {}
        [self.port] = free_ports(1)
        self._controller = Controller(
            mailbox, hostname="127.0.0.1", port=self.port, enable_SMTPUTF8=utf8, **more, **auth
        )
        self._controller.start()

    def stop(self) -> None:
        self._controller.stop()


@pytest.fixture
def mailbox() -> Mailbox:
    return Mailbox()


@pytest.fixture
def server(mailbox: Mailbox) -> Iterator[Server]:
    server = Server(mailbox)
    yield server
    server.stop()


def transport(port: int, options: str = "?tls=none", trusted: ssl.SSLContext | None = None) -> SmtpTransport:
    return SmtpTransport(
        smtp_server(f"smtp://127.0.0.1:{port}{options}"), SENDER, trusted or ssl.create_default_context()
    )


async def test_a_mail_has_text_html_and_its_own_message_id(mailbox: Mailbox, server: Server) -> None:
    assert await transport(server.port).send("mail_1", ["a@acme.example", "b@acme.example"], MAIL) is None
    [message] = mailbox.messages
    assert message["subject"] == MAIL.subject
    assert message["message-id"] == "<mail_1@platform.example>"
    assert message["auto-submitted"] == "auto-generated"
    assert mailbox.recipients == [["a@acme.example", "b@acme.example"]]
    text, html = message.get_body(("plain",)), message.get_body(("html",))
    assert text is not None
    assert html is not None
    content = tuple(part.get_content().replace("\r\n", "\n") for part in (text, html))
    assert content == (MAIL.text, MAIL.html)


async def test_a_domain_that_is_not_ascii_reaches_every_server(mailbox: Mailbox, server: Server) -> None:
    assert await transport(server.port).send("mail_1", ["ada@bücher.example"], MAIL) is None
    assert mailbox.recipients == [["ada@xn--bcher-kva.example"]]


async def test_a_name_that_is_not_ascii_waits_for_no_server(mailbox: Mailbox, server: Server) -> None:
    note = await transport(server.port).send("mail_1", ["jörg@acme.example", "ada@acme.example"], MAIL)
    assert note is not None
    assert "SMTPUTF8" in note
    assert mailbox.recipients == [["ada@acme.example"]]
    with pytest.raises(RowRefused, match="SMTPUTF8"):
        await transport(server.port).send("mail_2", ["jörg@acme.example"], MAIL)


async def test_a_name_that_is_not_ascii_is_sent_by_smtputf8(mailbox: Mailbox) -> None:
    server = Server(mailbox, utf8=True)
    try:
        assert await transport(server.port).send("mail_1", ["jörg@acme.example"], MAIL) is None
    finally:
        server.stop()
    assert mailbox.recipients == [["jörg@acme.example"]]


async def test_a_server_that_is_away_or_busy_is_tried_again(mailbox: Mailbox, server: Server) -> None:
    [unused] = free_ports(1)
    with pytest.raises(Unavailable, match="ConnectionRefusedError"):
        await transport(unused).send("mail_1", ["a@acme.example"], MAIL)
    mailbox.response_body = "451 try again"
    with pytest.raises(Unavailable, match="451 try again"):
        await transport(server.port).send("mail_1", ["a@acme.example"], MAIL)
    mailbox.refuses = {"a@acme.example": "450 greylisted"}
    with pytest.raises(Unavailable, match="450 greylisted"):
        await transport(server.port).send("mail_1", ["a@acme.example"], MAIL)
    mailbox.refuses, mailbox.response_body = {}, "250 taken"
    await transport(server.port).send("mail_1", ["a@acme.example"], MAIL)
    assert len(mailbox.messages) == 1


async def test_a_refusal_for_good_is_one(mailbox: Mailbox, server: Server) -> None:
    mailbox.response_body = "554 no spam"
    with pytest.raises(RowRefused, match="554 no spam"):
        await transport(server.port).send("mail_1", ["a@acme.example"], MAIL)
    mailbox.refuses = {"a@acme.example": "550 no such user"}
    with pytest.raises(RowRefused, match="550 no such user"):
        await transport(server.port).send("mail_1", ["a@acme.example"], MAIL)


async def test_an_error_of_quit_does_not_matter(mailbox: Mailbox, server: Server) -> None:
    mailbox.farewell = "421 too late"
    assert await transport(server.port).send("mail_1", ["a@acme.example"], MAIL) is None
    assert len(mailbox.messages) == 1


async def test_a_sender_that_may_not_send_waits_for_an_operator(mailbox: Mailbox, server: Server) -> None:
    mailbox.greeting = "550 not from you"
    with pytest.raises(Unavailable, match="550 not from you"):
        await transport(server.port).send("mail_1", ["a@acme.example"], MAIL)


async def test_a_subject_that_looks_encoded_adds_no_header(mailbox: Mailbox, server: Server) -> None:
    word = "=?utf-8?q?=0d=0aBcc:_evil=40example.com=0d=0a=0d=0aown body?="
    details = {"description": word}
    mail = Mail("mail_1", "key", "acme", "wh_crm", MailKind.PAUSED, details, NOON)
    await transport(server.port).send("mail_1", ["a@acme.example"], compose(mail, "https://hooks.example.com"))
    [message] = mailbox.messages
    assert message["bcc"] is None
    assert mailbox.recipients == [["a@acme.example"]]


async def test_other_recipients_get_the_mail_when_some_are_refused(mailbox: Mailbox, server: Server) -> None:
    mailbox.refuses = {"a@acme.example": "550 no such user"}
    note = await transport(server.port).send("mail_1", ["a@acme.example", "b@acme.example"], MAIL)
    assert note == "the mail server refused some recipients: 550 no such user"
    assert mailbox.recipients == [["b@acme.example"]]


async def test_transiently_refused_recipients_are_tried_again(mailbox: Mailbox, server: Server) -> None:
    mailbox.refuses = {"a@acme.example": "450 greylisted", "c@acme.example": "550 no such user"}
    with pytest.raises(PartiallySent, match="450 greylisted; 550 no such user") as some:
        await transport(server.port).send("mail_1", ["a@acme.example", "b@acme.example", "c@acme.example"], MAIL)
    assert some.value.unreached == ("a@acme.example",)
    assert mailbox.recipients == [["b@acme.example"]]


async def test_a_server_that_says_nothing_is_left_after_a_while(
    mailbox: Mailbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    import socket

    monkeypatch.setattr(smtp, "TIMEOUT_SECONDS", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent, pytest.raises(Unavailable, match="timed out"):
        await transport(silent.getsockname()[1]).send("mail_1", ["a@acme.example"], MAIL)


async def test_starttls_is_required_and_the_password_is_sent_only_then(mailbox: Mailbox) -> None:
    authority = trustme.CA()
    tls, trusted = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.create_default_context()
    authority.issue_cert("localhost").configure_cert(tls)
    authority.configure_trust(trusted)
    server = Server(mailbox, tls)

    def at(user: str, trusted: ssl.SSLContext | None) -> SmtpTransport:
        url = f"smtp://{user}@localhost:{server.port}"
        return SmtpTransport(smtp_server(url), SENDER, trusted or ssl.create_default_context())

    try:
        await at("me:pass%2Fword", trusted).send("mail_1", ["a@acme.example"], MAIL)
        assert len(mailbox.messages) == 1
        with pytest.raises(Unavailable, match="535"):
            await at("me:wrong", trusted).send("mail_1", ["a@acme.example"], MAIL)
        with pytest.raises(Unavailable, match="certificate"):
            await at("me:pass%2Fword", None).send("mail_1", ["a@acme.example"], MAIL)
    finally:
        server.stop()


@pytest.mark.parametrize(
    "url",
    ["mail.example.com", "http://mail.example.com", "smtp://", "smtp://h?tls=perhaps", "smtp://h:x", "smtp://h?a=1"],
)
def test_a_wrong_url_is_named_with_a_correct_example(url: str) -> None:
    with pytest.raises(Misconfigured, match=r"^SMTP_URL: must be smtp://"):
        smtp_server(url)


def test_a_server_shows_no_password() -> None:
    server = smtp_server("smtps://me:pass%2Fword@mail.example.com")
    assert (server.port, server.tls, server.password) == (465, "tls", "pass/word")
    assert "word" not in repr(server)
