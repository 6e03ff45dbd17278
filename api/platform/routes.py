"""Routes about the platform itself."""

from fastapi import APIRouter, Request

from api.auth import MayReadWebhooks
from api.platform.models import SourceAddresses
from api.services import services_of
from api.strict_route import StrictRoute

router = APIRouter(tags=["Webhooks"], route_class=StrictRoute)


@router.get("/v1/source-addresses", summary="List our source addresses", operation_id="listSourceAddresses")
async def source_addresses(caller: MayReadWebhooks, request: Request) -> SourceAddresses:
    """Requests to your endpoints come from these addresses, with this name: let them through your firewall."""
    services = services_of(request)
    return SourceAddresses(addresses=list(services.source_addresses), user_agent=services.user_agent)
