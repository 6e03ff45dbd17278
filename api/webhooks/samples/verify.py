import hmac
from collections.abc import Mapping


# headers: your framework's, which ignores case; raw_body: before json.loads.
def is_genuine(headers: Mapping[str, str], raw_body: bytes, secret: str) -> bool:
    expected = hmac.digest(secret.encode(), raw_body, "sha256").hex()
    names = ("X-AllureConnect-Signature", "X-AllureConnect-Signature-Next")
    return any(hmac.compare_digest(headers.get(name, "").encode(), expected.encode()) for name in names)
