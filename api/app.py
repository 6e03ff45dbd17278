"""The application."""

from fastapi import FastAPI

from api import probes
from api.accounts import overview, terminals
from api.accounts import pages as account_pages
from api.accounts import routes as accounts
from api.admission import class_of
from api.course_sessions import commits
from api.course_sessions import routes as course_sessions
from api.course_sessions.commits import MAX_COMMITS_PER_SECOND, CommitCorsMiddleware, CommitMiddleware
from api.deliveries import dead_letters, retries
from api.deliveries import pages as delivery_pages
from api.deliveries import routes as deliveries
from api.documentation import pages as documentation
from api.events import catalogue
from api.events import pages as event_pages
from api.events import routes as events
from api.events.limits import EventLimits
from api.events.publish import PublishMiddleware
from api.learners import pages as learner_pages
from api.learners import routes as learners
from api.middleware import RequestMiddleware
from api.openapi import DESCRIPTION, complete_openapi
from api.platform import pages as operator
from api.platform import routes as platform
from api.problems import add_handlers
from api.pulls import routes as pulls
from api.replays import jobs
from api.replays import pages as replay_pages
from api.replays import routes as replays
from api.services import Services
from api.shell import assets
from api.shell.branding import Site
from api.sign_in import oidc_pages
from api.sign_in import pages as sign_in
from api.sign_in.limits import MAX_ATTEMPTS_PER_MINUTE
from api.usage import pages as usage_pages
from api.usage import routes as usage
from api.webhooks import form as webhook_form
from api.webhooks import pages as webhook_pages
from api.webhooks import routes as webhooks
from api.webhooks.address_errors import add_address_errors
from streams.core.limits import MAX_STORED_RESPONSE_BYTES_PER_DAY
from streams.core.queues.rate import RateLimits
from streams.core.queues.request_class import request_limits
from streams.fair_places import FairPlaces

PAGES = (
    assets,
    # Before `/sign-in/{token}`, which also matches its paths.
    oidc_pages,
    sign_in,
    overview,
    # Before `/webhooks/{webhook_id}`, which also matches `/webhooks/new`.
    webhook_form,
    webhook_pages,
    event_pages,
    catalogue,
    # Before `/deliveries/{delivery_id}`, which also matches its path.
    retries,
    delivery_pages,
    dead_letters,
    replay_pages,
    jobs,
    account_pages,
    terminals,
    learner_pages,
    usage_pages,
    operator,
)


def create_app(
    services: Services,
    version: str,
    requests_a_minute: int,
    site: Site | None = None,
    max_events_per_second: int = 1000,
    max_connections: int = 500,
) -> FastAPI:
    """Create the admin API and the dashboard on these services; nothing is global."""
    app = FastAPI(
        title="scorm-webhooks",
        version=version,
        description=DESCRIPTION,
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        redirect_slashes=False,
    )
    app.state.services = services
    app.state.rates = RateLimits(requests_a_minute)
    app.state.page_rates = RateLimits(requests_a_minute)
    app.state.places = FairPlaces(max_connections, request_limits(max_connections))
    app.state.stored_responses = RateLimits(MAX_STORED_RESPONSE_BYTES_PER_DAY, 24 * 60 * 60)
    app.state.site = site or Site()
    app.state.commit_rates = RateLimits(MAX_COMMITS_PER_SECOND, 1)
    app.state.sign_in_rates = RateLimits(MAX_ATTEMPTS_PER_MINUTE)
    app.state.is_proxy_logged = False
    # Routes are tried in order, and commits are the most frequent requests.
    api = webhooks, pulls, deliveries, replays, events, learners, accounts, probes, usage, course_sessions, platform
    for module in (commits, *api, *PAGES, documentation):
        for route in module.router.routes:
            class_of(route)
        app.include_router(module.router)
    add_handlers(app)
    add_address_errors(app)
    complete_openapi(app)
    app.add_middleware(CommitMiddleware)
    app.add_middleware(PublishMiddleware, services=services, limits=EventLimits(max_events_per_second))
    app.add_middleware(RequestMiddleware, services=services)
    # Outermost, so that even the response to an error of our own has its headers.
    app.add_middleware(CommitCorsMiddleware)
    return app
