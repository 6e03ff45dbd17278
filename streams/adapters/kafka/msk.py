"""Tokens for Amazon MSK with IAM, by AWS's own signer. Its package is the extra `msk`."""

import re
import time
from collections.abc import Mapping
from importlib.util import find_spec
from typing import Any

from streams.adapters.kafka.tokens import Token, TokenSource
from streams.core.errors import Misconfigured, TokenUnavailable

REGION = "KAFKA_MSK_REGION"
ROLE_ARN = "KAFKA_MSK_ROLE_ARN"

STS_SECONDS = 3.0
ROLE_SESSION = "scorm-webhooks"


def msk_of(environ: Mapping[str, str]) -> dict[str, Any]:
    """librdkafka's properties for MSK; none without `KAFKA_MSK_REGION`. Raises `Misconfigured`."""
    region, role = environ.get(REGION, "").strip(), environ.get(ROLE_ARN, "").strip()
    if role and not region:
        raise Misconfigured(f"{ROLE_ARN} is set, but {REGION} is not")
    return msk_properties(region, role or None, REGION) if region else {}


def msk_properties(region: str, role_arn: str | None = None, name: str = "region") -> dict[str, Any]:
    """librdkafka's properties for MSK, with a token source. `name` is that of the region in errors.

    Raises `Misconfigured`.
    """
    if not re.fullmatch(r"[a-z0-9-]{1,32}", region):
        raise Misconfigured(f"{name} must be the name of a region, such as eu-central-1")
    if find_spec("aws_msk_iam_sasl_signer") is None:
        raise Misconfigured(f"{name} is set, but AWS's signer is missing: pip install 'scorm-webhooks[msk]'")
    source = TokenSource(MskTokens(region, role_arn).fetch)
    return {"security.protocol": "SASL_SSL", "sasl.mechanism": "OAUTHBEARER", "oauth_cb": source}


class MskTokens:
    """Signs tokens with the credentials that AWS's libraries find, or those of `role`. They refresh them themselves."""

    def __init__(self, region: str, role: str | None) -> None:
        self._region = region
        self._role = role
        self._session: Any = None

    def fetch(self) -> Token:
        """Raises `TokenUnavailable`."""
        from aws_msk_iam_sasl_signer import MSKAuthTokenProvider
        from botocore.credentials import CredentialProvider
        from botocore.exceptions import BotoCoreError, ClientError

        class Provider(CredentialProvider):  # type: ignore[misc]
            def load(provider) -> Any:
                return self._credentials()

        try:
            value, end_ms = MSKAuthTokenProvider.generate_auth_token_from_credentials_provider(self._region, Provider())
        except ClientError as refused:
            code = refused.response.get("Error", {}).get("Code", "an unknown error")
            raise TokenUnavailable(f"AWS refuses to give credentials: {code} ({refused.operation_name})") from None
        except BotoCoreError as error:
            raise TokenUnavailable(f"AWS gives no credentials: {error}") from None
        return Token(value, end_ms / 1000 - time.time())

    def _credentials(self) -> Any:
        import botocore.session
        from botocore.config import Config

        if self._session is None:
            self._session = botocore.session.Session()
        own = self._session.get_credentials()
        if own is None:
            raise TokenUnavailable("AWS's libraries find no credentials: give this process a role or access keys")
        if self._role is None:
            return own.get_frozen_credentials()
        limits = Config(connect_timeout=STS_SECONDS, read_timeout=STS_SECONDS, retries={"total_max_attempts": 1})
        sts = self._session.create_client("sts", region_name=self._region, config=limits)
        found = sts.assume_role(RoleArn=self._role, RoleSessionName=ROLE_SESSION)["Credentials"]
        return botocore.credentials.Credentials(found["AccessKeyId"], found["SecretAccessKey"], found["SessionToken"])
