"""Show an account its mails."""

from dataclasses import dataclass

from streams.core.accounts.mail import Mail, RenderedMail
from streams.core.page import Cursor, Page
from streams.features.mails.storage import SqlMails
from streams.features.mails.text import compose


@dataclass(frozen=True, slots=True)
class MailDetails:
    """A mail with its text."""

    mail: Mail
    letter: RenderedMail


@dataclass
class MailService:
    """`public_url` is the dashboard's URL, for links in mails."""

    _mails: SqlMails
    public_url: str | None

    async def page(self, account_id: str, cursor: Cursor | None, limit: int) -> Page[MailDetails]:
        """The mails to an account, sent and waiting; newest first."""
        page = await self._mails.list(account_id, cursor, limit)
        return Page([MailDetails(mail, compose(mail, self.public_url)) for mail in page.rows], page.next_cursor)
