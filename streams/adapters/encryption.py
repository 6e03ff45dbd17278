"""Secrets at rest and in the topic: Fernet, with keys that can be rotated."""

import json
from collections.abc import Mapping, Sequence
from functools import lru_cache
from types import MappingProxyType

from cryptography.fernet import Fernet, InvalidToken, MultiFernet

from streams.core.encryption import CHECK_TEXT
from streams.core.errors import InvalidRecord, Misconfigured

_NO_HEADERS: Mapping[str, str] = MappingProxyType({})
REMEMBERED = 20_000
_NO_KEY = "the webhook's secret was encrypted with a key that is not configured here"


class Sealing:
    """A `Sealer` and a `Sealed`; the first key seals, every key opens. What was opened is remembered."""

    def __init__(self, keys: Sequence[str]) -> None:
        try:
            self._fernet = MultiFernet([Fernet(key) for key in keys])
        except ValueError:
            raise Misconfigured(
                "SCORM_WEBHOOKS_ENCRYPTION_KEYS: each key must be 32 bytes in url-safe base64, separated by commas; "
                "`scorm-webhooks keys generate` makes one"
            ) from None
        self._secret = lru_cache(REMEMBERED)(self._unseal)
        self._headers = lru_cache(REMEMBERED)(self._unseal_headers)

    def seal(self, plain: str) -> str:
        return self._fernet.encrypt(plain.encode()).decode()

    def reseal(self, sealed: str) -> str:
        try:
            return self._fernet.rotate(sealed.encode()).decode()
        except InvalidToken:
            raise InvalidRecord(_NO_KEY) from None

    def seal_check(self) -> str:
        return self.seal(CHECK_TEXT)

    def opens_check(self, sealed: str) -> bool:
        return self.opens(sealed) and self._unseal(sealed) == CHECK_TEXT

    def opens(self, sealed: str) -> bool:
        try:
            self._unseal(sealed)
        except (InvalidRecord, ValueError):  # no text of ours, or text that is no ASCII
            return False
        return True

    def secret(self, sealed: str) -> str:
        return self._secret(sealed)

    def headers(self, sealed: str | None) -> Mapping[str, str]:
        return _NO_HEADERS if sealed is None else self._headers(sealed)

    def _unseal(self, sealed: str) -> str:
        try:
            return self._fernet.decrypt(sealed.encode()).decode()
        except InvalidToken:
            raise InvalidRecord(_NO_KEY) from None

    def _unseal_headers(self, sealed: str) -> Mapping[str, str]:
        headers: dict[str, str] = json.loads(self._unseal(sealed))
        return headers


def generate_key() -> str:
    """A new key for SCORM_WEBHOOKS_ENCRYPTION_KEYS."""
    return Fernet.generate_key().decode()
