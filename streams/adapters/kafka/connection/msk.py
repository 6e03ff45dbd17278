"""Tokens for Amazon MSK with IAM, signed by AWS's own library. They need the extra `msk`."""

import re
import time
from collections.abc import Mapping
from importlib.util import find_spec
from typing import Any

from streams.adapters.kafka.connection.tokens import Token, TokenSource
from streams.core.errors import Misconfigured, TokenUnavailable

REGION_VARIABLE = "KAFKA_MSK_REGION"
ROLE_ARN_VARIABLE = "KAFKA_MSK_ROLE_ARN"

STS_SECONDS = 3.0
ROLE_SESSION = "scorm-webhooks"


def msk_of(environ: Mapping[str, str]) -> dict[str, Any]:
    """librdkafka's properties for MSK; empty without `KAFKA_MSK_REGION`. Raises `Misconfigured`."""
    region, role = environ.get(REGION_VARIABLE, "").strip(), environ.get(ROLE_ARN_VARIABLE, "").strip()
    if role and not region:
        raise Misconfigured(f"{ROLE_ARN_VARIABLE} is set, but {REGION_VARIABLE} is not")
    return msk_properties(region, role or None, REGION_VARIABLE) if region else {}


def msk_properties(region: str, role_arn: str | None = None, name: str = "region") -> dict[str, Any]:
    """librdkafka's properties for MSK, with a token source. `name` is the setting that errors name.

    Raises `Misconfigured`.
    """
    if not re.fullmatch(r"[a-z0-9-]{1,32}", region):
        raise Misconfigured(f"{name} must be the name of a region, such as eu-central-1")
    if find_spec("aws_msk_iam_sasl_signer") is None:
        raise Misconfigured(f"{name} is set, but AWS's signer is missing: pip install 'scorm-webhooks[msk]'")
    source = TokenSource(MskTokens(region, role_arn).fetch)
    return {"security.protocol": "SASL_SSL", "sasl.mechanism": "OAUTHBEARER", "oauth_cb": source}


class MskTokens:
    """Signs tokens with the credentials that AWS's libraries find, or with the credentials of `role_arn`."""

    def __init__(self, region: str, role_arn: str | None) -> None:
        self._region = region
        self._role_arn = role_arn
        # The session keeps credentials, and refreshes them.
        self._session: Any = None

    def fetch(self) -> Token:
        """Sign a token. Raises `TokenUnavailable`."""
        # Imported here, because without MSK no process needs these.
        from aws_msk_iam_sasl_signer import MSKAuthTokenProvider
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            provider = _to_provider(self._credentials())
            value, end_ms = MSKAuthTokenProvider.generate_auth_token_from_credentials_provider(self._region, provider)
        except ClientError as error:
            code = error.response.get("Error", {}).get("Code", "an unknown error")
            raise TokenUnavailable(f"AWS refuses {error.operation_name}: {code}") from None
        except BotoCoreError as error:
            raise TokenUnavailable(f"AWS gives no credentials: {error}") from None
        return Token(value, end_ms / 1000 - time.time())

    def _credentials(self) -> Any:
        import botocore.session

        if self._session is None:
            self._session = botocore.session.Session()
        own_credentials = self._session.get_credentials()
        if own_credentials is None:
            raise TokenUnavailable("AWS's libraries find no credentials: give this process a role, or access keys")
        return self._assume_role() if self._role_arn else own_credentials

    def _assume_role(self) -> Any:
        from botocore.config import Config
        from botocore.credentials import Credentials

        limits = Config(connect_timeout=STS_SECONDS, read_timeout=STS_SECONDS, retries={"total_max_attempts": 1})
        sts = self._session.create_client("sts", region_name=self._region, config=limits)
        credentials = sts.assume_role(RoleArn=self._role_arn, RoleSessionName=ROLE_SESSION)["Credentials"]
        return Credentials(credentials["AccessKeyId"], credentials["SecretAccessKey"], credentials["SessionToken"])


def _to_provider(credentials: Any) -> Any:
    """Credentials in the form that AWS's signer accepts."""
    from botocore.credentials import CredentialProvider

    class StaticCredentials(CredentialProvider):  # type: ignore[misc]
        def load(self) -> Any:
            return credentials.get_frozen_credentials()

    return StaticCredentials()
