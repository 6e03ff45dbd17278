"""E-mail addresses, as the library `email-validator` reads them."""

from collections.abc import Sequence

from email_validator import EmailNotValidError, validate_email

from streams.core.errors import FieldError
from streams.core.limits import MAX_EMAILS


def normalize_email(text: str) -> str:
    """The address with its domain in lower case and its characters in Unicode's normal form.

    Raises `ValueError`, which says what is wrong. DNS is not asked: a domain that does not resolve today may tomorrow.
    """
    # `EmailMessage` decodes text that looks like an encoded word (RFC 2047), line breaks included.
    if "=?" in text:
        raise ValueError('An address must not contain "=?".')
    try:
        return validate_email(text, check_deliverability=False).normalized
    except EmailNotValidError as error:
        raise ValueError(str(error)) from None


def email_errors(field: str, emails: Sequence[str]) -> list[FieldError]:
    """An error for each of these that is not an e-mail address."""
    if len(emails) > MAX_EMAILS:
        return [FieldError(field, f"must have at most {MAX_EMAILS} addresses")]
    errors = []
    for email in emails:
        try:
            normalize_email(email)
        except ValueError as error:
            errors.append(FieldError(field, f"{email!r} is not an e-mail address: {error}"))
    return errors
