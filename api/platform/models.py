"""Models about the platform itself."""

from typing import Annotated

from pydantic import Field

from api.shared_models import Model


class SourceAddresses(Model):
    """Where requests to endpoints come from."""

    addresses: Annotated[
        list[str],
        Field(description="Addresses and networks (CIDR); empty if the platform's operator has not published them."),
    ]
    user_agent: Annotated[str, Field(description="The `User-Agent` of each request.")]
