"""A client of the API."""

import asyncio
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from scorm_webhooks_cli.connection_errors import no_response_reason
from scorm_webhooks_cli.problems import json_or_raise, retry_after_seconds
from scorm_webhooks_cli.profiles import ApiTarget, find_target
from streams.core.accounts.access import ACCOUNT_HEADER, ALL_ACCOUNTS
from streams.core.errors import FieldError, Invalid, Misconfigured, Unavailable
from streams.core.ids import ID_DESCRIPTION, is_id
from streams.core.page import MAX_PAGE_ROWS

if TYPE_CHECKING:
    import httpx2

CONNECT_SECONDS = 10.0
# Longer than the longest response, which is a test event's: 12 s until it leaves, 60 s for its attempt, 3 s to store
# it.
RESPONSE_SECONDS = 90.0
# How long a command repeats a request while the API responds with 429.
MAX_RETRY_SECONDS = 60.0
MIN_RETRY_SECONDS = 0.2


class ApiClient:
    """Sends requests, and returns the JSON of the responses.

    Pass the segments below `/v1`, such as `"webhooks", webhook_id`. Raises the exceptions of `streams.core.errors`.
    """

    def __init__(self, runner: asyncio.Runner, client: "httpx2.AsyncClient", target: ApiTarget) -> None:
        self._runner = runner
        self._client = client
        self._target = target

    def get(self, *path: str, **query: object) -> Any:
        return self._request("GET", path, query)

    def post(
        self,
        *path: str,
        body: Mapping[str, Any] | None = None,
        response_seconds: float = RESPONSE_SECONDS,
        headers: Mapping[str, str] | None = None,
        **query: object,
    ) -> Any:
        return self._request("POST", path, query, body, response_seconds, headers)

    def patch(self, *path: str, body: Mapping[str, Any], headers: Mapping[str, str] | None = None) -> Any:
        return self._request("PATCH", path, body=body, headers=headers)

    def delete(self, *path: str) -> None:
        self._request("DELETE", path)

    def rows(self, *path: str, limit: int | None = None, **query: object) -> list[dict[str, Any]]:
        """The rows of a list, page by page; with `limit` only the first ones."""
        return [row for page in self.pages(*path, limit=limit, **query) for row in page]

    def pages(self, *path: str, limit: int | None = None, **query: object) -> Iterator[list[dict[str, Any]]]:
        """The pages of a list, each when it is asked for; with `limit` only the first rows."""
        rows_left, cursor = limit, None
        while True:
            page_rows = MAX_PAGE_ROWS if rows_left is None else min(rows_left, MAX_PAGE_ROWS)
            page = self.get(*path, limit=page_rows, cursor=cursor, **query)
            rows = page.get("data") if isinstance(page, dict) else None
            if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
                raise Unavailable(
                    f"{self._client.base_url} sent no list: is {self._target.url_name} the URL of the API?"
                )
            yield rows
            cursor = page.get("nextCursor")
            rows_left = None if rows_left is None else rows_left - len(rows)
            if cursor is None or rows_left == 0:
                return

    @property
    def is_for_all(self) -> bool:
        """Whether requests act for all accounts."""
        return self._client.headers.get(ACCOUNT_HEADER) == ALL_ACCOUNTS

    def act_for(self, account: str) -> None:
        """Limit all later requests to one account. Raises `Invalid` if the key is another account's."""
        if self._target.is_operators:
            self._client.headers[ACCOUNT_HEADER] = account
        elif self.get("account")["id"] != account:
            raise Invalid(FieldError("account", f"must be the account of {self._target.key_name}"))

    def act_for_every_account(self) -> None:
        """Undo `act_for`."""
        self._client.headers[ACCOUNT_HEADER] = ALL_ACCOUNTS

    def _request(
        self,
        method: str,
        path: Sequence[str],
        query: Mapping[str, object] | None = None,
        body: Mapping[str, Any] | None = None,
        response_seconds: float = RESPONSE_SECONDS,
        headers: Mapping[str, str] | None = None,
    ) -> Any:
        params = {
            name: _require_unicode(name, str(value)) for name, value in (query or {}).items() if value is not None
        }
        content = None if body is None else encode_json(body)
        url_path = f"/v1/{'/'.join(map(_path_part, path))}"
        return self._runner.run(self._send(method, url_path, params, content, response_seconds, headers))

    async def _send(
        self,
        method: str,
        path: str,
        params: Mapping[str, str],
        content: bytes | None,
        response_seconds: float,
        headers: Mapping[str, str] | None,
    ) -> Any:
        import httpx2

        deadline = time.monotonic() + MAX_RETRY_SECONDS
        while True:
            try:
                response = await self._client.request(
                    method, path, params=params, content=content, headers=headers, timeout=_timeout(response_seconds)
                )
            except (httpx2.HTTPError, httpx2.InvalidURL) as error:
                url = str(self._client.base_url)
                reason = no_response_reason(url, error)
                raise Unavailable(
                    f"{self._target.url_name}: {url} does not answer: {reason}{_remedy(self._target)}"
                ) from None
            seconds = retry_after_seconds(response)
            if seconds is None or time.monotonic() + seconds > deadline:
                return json_or_raise(response, self._target)
            await asyncio.sleep(max(seconds, MIN_RETRY_SECONDS))


def _timeout(response_seconds: float) -> "httpx2.Timeout":
    import httpx2

    return httpx2.Timeout(response_seconds, connect=CONNECT_SECONDS)


def encode_json(value: object) -> bytes:
    """Encode as JSON in UTF-8. An unpaired surrogate is escaped, so that the API can report it."""
    try:
        return json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return json.dumps(value).encode()


def _require_unicode(name: str, text: str) -> str:
    """Raises `Invalid` for text that is not valid Unicode, such as input in another encoding."""
    try:
        text.encode()
    except UnicodeEncodeError:
        raise Invalid(FieldError(name, "must be valid Unicode")) from None
    return text


def _path_part(text: str) -> str:
    """Raises `Invalid` for a text that is neither an id nor a name: it could lead to another resource."""
    if not is_id(text):
        raise Invalid(FieldError("id", f"{text!r} is not an id: {ID_DESCRIPTION}"))
    return quote(text, safe="")


@contextmanager
def open_api(
    account: str | None = None, target: ApiTarget | None = None, *, needs_account: bool = False
) -> Iterator[ApiClient]:
    """Open an API for one command: `target`, or what is configured (`find_target`).

    `account` limits all requests to one account (`ApiClient.act_for`). An operator must give it where the command
    `needs_account`. Raises `Misconfigured` if no API is configured.
    """
    target = target or find_target()
    if needs_account and account is None and target.is_operators:
        raise Invalid(FieldError("--account", "is required: the id of the account"))
    with asyncio.Runner() as runner:
        client = runner.run(_open_client(target))
        api = ApiClient(runner, client, target)
        try:
            if account is not None:
                api.act_for(account)
            yield api
        except (AttributeError, LookupError, TypeError) as error:
            # Commands rely on the documented responses of the API.
            why = f"answered as this API does not ({type(error).__name__}: {error})"
            raise Unavailable(f"{target.url} {why}: is {target.url_name} the URL of the API?") from error
        finally:
            runner.run(client.aclose())


async def _open_client(target: ApiTarget) -> "httpx2.AsyncClient":
    import httpx2

    headers = {"Authorization": f"Bearer {target.key}", "Content-Type": "application/json"}
    if target.is_operators:
        headers[ACCOUNT_HEADER] = ALL_ACCOUNTS
    try:
        # Connections to this machine use no proxy.
        return httpx2.AsyncClient(base_url=target.url, headers=headers, trust_env=not target.is_local)
    except (httpx2.InvalidURL, ImportError, OSError, ValueError) as error:
        # The cause may also be a variable such as HTTPS_PROXY or SSL_CERT_FILE.
        raise Misconfigured(f"{target.url_name}: {target.url} cannot be used: {error}") from None


def _remedy(target: ApiTarget) -> str:
    """What to do where the API of the local key does not answer."""
    return "; start `scorm-webhooks up` or `scorm-webhooks api` here, or choose an API by --profile" * target.is_local
