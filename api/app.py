"""The application."""

from importlib.resources import files

from fastapi import FastAPI
from fastapi.staticfiles import StaticFiles

from api.auth import RateLimits
from api.middleware import RequestMiddleware
from api.openapi import ABOUT, describe
from api.problems import add_handlers
from api.routes import accounts, deliveries, events, help_page, probes, webhooks
from api.services import Services


def create_app(services: Services, version: str, requests_a_minute: int) -> FastAPI:
    """Create the admin API on these services; nothing is global."""
    app = FastAPI(
        title="scorm-webhooks",
        version=version,
        description=ABOUT,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
    )
    app.state.services = services
    app.state.rates = RateLimits(requests_a_minute)
    for module in (webhooks, deliveries, events, accounts, help_page, probes):
        app.include_router(module.router)
    # Only the assets of Swagger UI in that package are used.
    app.mount("/docs/assets", StaticFiles(directory=str(files("fastapi_offline") / "static")))
    add_handlers(app)
    describe(app)
    app.add_middleware(RequestMiddleware, services=services)
    return app
