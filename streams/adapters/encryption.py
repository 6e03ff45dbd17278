"""Encrypt secrets at rest and on the topic, with Fernet keys that can be rotated."""

import json
from collections.abc import Mapping, Sequence
from functools import lru_cache
from types import MappingProxyType

from cryptography.fernet import Fernet, InvalidToken, MultiFernet

from streams.core.encryption import CHECK_TEXT
from streams.core.errors import InvalidRecord, Misconfigured

_NO_HEADERS: Mapping[str, str] = MappingProxyType({})
MAX_CACHED_TEXTS = 20_000
# The size of a secret or some headers. Longer texts are read once: caching them would take a gigabyte.
MAX_CACHED_CHARACTERS = 16 * 1024
_NO_KEY_MESSAGE = "the webhook's secret was encrypted with a key that is not configured here"


class FernetEncryption:
    """An `Encryption` with Fernet: the first key encrypts, every key decrypts. Decrypted texts are cached."""

    def __init__(self, keys: Sequence[str]) -> None:
        try:
            self._fernet = MultiFernet([Fernet(key) for key in keys])
        except ValueError:
            raise Misconfigured(
                "SCORM_WEBHOOKS_ENCRYPTION_KEYS: each key must be 32 bytes in url-safe base64, separated by commas; "
                "`scorm-webhooks keys generate` makes one"
            ) from None
        self._decrypt_cached = lru_cache(MAX_CACHED_TEXTS)(self._decrypt)
        self._decrypt_headers_cached = lru_cache(MAX_CACHED_TEXTS)(self._decrypt_headers)

    def encrypt(self, plaintext: str) -> str:
        return self._fernet.encrypt(plaintext.encode()).decode()

    def reencrypt(self, ciphertext: str) -> str:
        try:
            return self._fernet.rotate(ciphertext.encode()).decode()
        except InvalidToken:
            raise InvalidRecord(_NO_KEY_MESSAGE) from None

    def is_valid_check_text(self, ciphertext: str) -> bool:
        return self.can_decrypt(ciphertext) and self._decrypt(ciphertext) == CHECK_TEXT

    def can_decrypt(self, ciphertext: str) -> bool:
        try:
            self._decrypt(ciphertext)
        except (InvalidRecord, ValueError):  # not ours, or not ASCII
            return False
        return True

    def decrypt(self, ciphertext: str) -> str:
        return (
            self._decrypt_cached(ciphertext) if len(ciphertext) <= MAX_CACHED_CHARACTERS else self._decrypt(ciphertext)
        )

    def decrypt_headers(self, ciphertext: str | None) -> Mapping[str, str]:
        return _NO_HEADERS if ciphertext is None else self._decrypt_headers_cached(ciphertext)

    def _decrypt(self, ciphertext: str) -> str:
        try:
            return self._fernet.decrypt(ciphertext.encode()).decode()
        except InvalidToken:
            raise InvalidRecord(_NO_KEY_MESSAGE) from None

    def _decrypt_headers(self, ciphertext: str) -> Mapping[str, str]:
        headers: dict[str, str] = json.loads(self._decrypt(ciphertext))
        return headers


def generate_key() -> str:
    """A new key for SCORM_WEBHOOKS_ENCRYPTION_KEYS."""
    return Fernet.generate_key().decode()
