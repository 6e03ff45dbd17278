"""The application."""

from importlib.resources import files

from fastapi import FastAPI
from fastapi.staticfiles import StaticFiles

from api.dashboard import account as account_pages
from api.dashboard import assets, dead_letters, jobs, oidc, operator, overview, sign_in, webhook_form
from api.dashboard import deliveries as delivery_pages
from api.dashboard import learners as learner_pages
from api.dashboard import replays as replay_pages
from api.dashboard import usage as usage_pages
from api.dashboard import webhooks as webhook_pages
from api.dashboard.address_errors import add_address_errors
from api.dashboard.branding import Site
from api.dashboard.sign_in_limits import SignInLimits
from api.event_limits import EventLimits
from api.middleware import RequestMiddleware
from api.openapi import ABOUT, describe
from api.player import commits
from api.player.commits import CommitLimits, CommitOrigins, TakeCommits
from api.problems import add_handlers
from api.publish import PublishEvents
from api.routes import (
    accounts,
    course_sessions,
    deliveries,
    events,
    help_page,
    learners,
    probes,
    replays,
    usage,
    webhooks,
)
from api.services import Services
from streams.core.limits import STORED_RESPONSE_BYTES_PER_DAY
from streams.core.rate import RateLimits

PAGES = (
    assets,
    # Before `/sign-in/{token}`, which its paths match too.
    oidc,
    sign_in,
    overview,
    # Before `/webhooks/{webhook_id}`, which `/webhooks/new` matches too.
    webhook_form,
    webhook_pages,
    delivery_pages,
    dead_letters,
    replay_pages,
    jobs,
    account_pages,
    learner_pages,
    usage_pages,
    operator,
)


def create_app(
    services: Services, version: str, requests_a_minute: int, site: Site | None = None, events_a_second: int = 1000
) -> FastAPI:
    """Create the admin API and the dashboard on these services; nothing is global."""
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
    app.state.stored_responses = RateLimits(STORED_RESPONSE_BYTES_PER_DAY, 24 * 60 * 60)
    app.state.site = site or Site()
    app.state.commit_limits = CommitLimits()
    app.state.sign_in_limits = SignInLimits()
    # Routes are tried in their order, and commits come most often.
    api = webhooks, deliveries, replays, events, learners, accounts, help_page, probes, usage, course_sessions
    for module in (commits, *api):
        app.include_router(module.router)
    for page in PAGES:
        app.include_router(page.router)
    # Only the assets of Swagger UI in that package are used.
    app.mount("/docs/assets", StaticFiles(directory=str(files("fastapi_offline") / "static")))
    add_handlers(app)
    add_address_errors(app)
    describe(app)
    app.add_middleware(TakeCommits)
    app.add_middleware(PublishEvents, services=services, limits=EventLimits(events_a_second))
    app.add_middleware(RequestMiddleware, services=services)
    # Outermost, so that even an answer to our own error has its headers.
    app.add_middleware(CommitOrigins)
    return app
