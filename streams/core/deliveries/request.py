"""Requests: the exact bytes and headers of one attempt."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from streams.core.deliveries.delivery import Delivery
from streams.core.deliveries.outcome import Response
from streams.core.deliveries.rendering import render_body
from streams.core.deliveries.signing import sign_platform, sign_standard
from streams.core.limits import MAX_RESPONSE_BODY_BYTES

MASK = "•••"
MIN_SECRET_CHARACTERS = 6
# A platform may give its own name.
USER_AGENT = "scorm-webhooks/1.0"


class Request(NamedTuple):
    """One POST.

    The body is sent as it is, so that its signature is valid; `private_names` names the customer's own headers.
    `timeout_seconds` is the webhook's own timeout, `kept_body_bytes` the limit for the stored part of the response.
    `secrets` are masked in the response beside the customer's own headers. It takes the turn of `account_id`.
    """

    url: str
    headers: Mapping[str, str]
    body: bytes
    private_names: frozenset[str] = frozenset()
    timeout_seconds: float | None = None
    kept_body_bytes: int = MAX_RESPONSE_BODY_BYTES
    secrets: tuple[str, ...] = ()
    account_id: str = ""

    def __repr__(self) -> str:
        return f"Request({self.url})"

    def with_authorization(self, authorization: str, *secrets: str) -> "Request":
        """The request with these credentials, which replace the customer's own header of that name.

        `secrets` are the texts in the header that are encoded there.
        """
        names = frozenset(name for name in self.private_names if name.lower() != "authorization")
        headers = {name: value for name, value in self.headers.items() if name.lower() != "authorization"}
        headers["Authorization"] = authorization
        return self._replace(headers=headers, private_names=names | {"Authorization"}, secrets=secrets)

    @property
    def public_headers(self) -> Mapping[str, str]:
        """The headers with the values of the customer's own headers masked."""
        if not self.private_names:
            return self.headers
        return {name: MASK if name in self.private_names else value for name, value in self.headers.items()}

    def mask(self, response: Response) -> Response:
        """Mask the values of the customer's own headers in a response: some endpoints send them back."""
        secrets = [part for name in self.private_names for part in _secret_parts(self.headers[name])]
        secrets += [secret for secret in self.secrets if len(secret) >= MIN_SECRET_CHARACTERS]
        if not secrets:
            return response
        headers, body = dict(response.headers), response.body
        for secret in sorted(secrets, key=len, reverse=True):
            headers = {name: _mask_text(value, secret) for name, value in headers.items()}
            body = _mask_bytes(body, secret.encode())
        return response._replace(headers=headers, body=body[:MAX_RESPONSE_BODY_BYTES])


def _mask_text(text: str, secret: str) -> str:
    return _mask_bytes(text.encode(errors="surrogatepass"), secret.encode()).decode(errors="surrogatepass")


def _mask_bytes(text: bytes, secret: bytes) -> bytes:
    """Mask a secret, also if the end of the text cuts it."""
    text = text.replace(secret, MASK.encode())
    beginning = secret[:MIN_SECRET_CHARACTERS]
    start = text.find(beginning)
    while start >= 0 and not secret.startswith(text[start:]):
        start = text.find(beginning, start + 1)
    return text if start < 0 else text[:start] + MASK.encode()


def _secret_parts(value: str) -> list[str]:
    """The value, and each part of it that may be a secret by itself, as in `Bearer <token>`.

    Shorter parts are not secrets, and masking them would spoil the response.
    """
    return [part for part in {value, *value.split()} if len(part) >= MIN_SECRET_CHARACTERS]


def build_request(
    delivery: Delivery,
    url: str,
    secrets: Sequence[str],
    customer_headers: Mapping[str, str],
    timestamp: int,
    signature_header: str,
    trace_parent: str | None = None,
    timeout_seconds: float | None = None,
    fields: Sequence[str] | None = None,
    user_agent: str = USER_AGENT,
) -> Request:
    """Build the request of one attempt, signed with both the platform's scheme and Standard Webhooks.

    `secrets` are oldest first. During a rotation the platform's header has the old secret's signature and
    `<header>-Next` the new one's; Standard Webhooks has both. `timestamp` is in Unix seconds. A customer's header
    never replaces one of ours. `trace_parent` is the attempt's, if endpoints get one. `fields` names those to send;
    None means all. Raises ValueError if no secret can sign, and `InvalidRecord` for a body without fields.
    """
    if not secrets:
        raise ValueError("the webhook has no valid secret")
    body = render_body(delivery.body, fields)
    standard_signatures = (sign_standard(secret, delivery.event_id, timestamp, body) for secret in secrets)
    headers = {
        "Content-Type": "application/json",
        "User-Agent": user_agent,
        signature_header: sign_platform(secrets[0], body),
        "webhook-id": delivery.event_id,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": " ".join(standard_signatures),
        "webhook-attempt": str(delivery.attempt),
    }
    if len(secrets) > 1:
        headers[f"{signature_header}-Next"] = sign_platform(secrets[-1], body)
    if trace_parent:
        headers["traceparent"] = trace_parent
    if not customer_headers:
        return Request(url, headers, body, timeout_seconds=timeout_seconds, account_id=delivery.account_id)
    our_names = {name.lower() for name in headers}
    own_headers = {name: value for name, value in customer_headers.items() if name.lower() not in our_names}
    return Request(
        url,
        {**own_headers, **headers},
        body,
        frozenset(own_headers),
        timeout_seconds,
        account_id=delivery.account_id,
    )
