"""Render pages, and format times, counts and texts for people."""

import gzip
import json
from collections import defaultdict
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from fastapi import Request
from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined, pass_context
from jinja2.runtime import Context
from starlette.responses import HTMLResponse, RedirectResponse, Response

from api.deliveries.filters import FAILURE_LABELS
from api.deliveries.reasons import REASON_MESSAGES, details_of, reason_of
from api.public_files import accepts_gzip
from api.services import services_of
from api.shell.assets import asset_url
from api.shell.security import add_security_headers
from api.shell.sentences import field_sentence
from api.shell.times import FIELD_TIME_FORMAT, clock_text, to_zone
from api.shell.visits import OperatorVisit, Visit, site_of, theme_of, zone_of
from api.visibility import visible
from streams.core.accounts.access import Scope
from streams.core.errors import FieldError
from streams.core.text import escape_controls
from streams.core.times import parse_time
from streams.core.webhooks.webhook import pause_cause
from streams.features.deliveries.search_rules import MAX_COUNTED_DELIVERIES

MIN_COMPRESSED_BYTES = 1_000
# Where templates are.
TEMPLATE_FOLDERS = (
    "shell",
    "accounts",
    "deliveries",
    "events",
    "learners",
    "platform",
    "replays",
    "sign_in",
    "usage",
    "webhooks",
)


def render(
    visitor: Visit | OperatorVisit | Request,
    template: str,
    *,
    status: int | None = None,
    has_secret: bool = False,
    return_path: str | None = None,
    errors: tuple[FieldError, ...] = (),
    **context: Any,
) -> HTMLResponse:
    """Render a page with the parts of `context` that its visitor may see. A public page gets the request instead.

    A page with a secret is not compressed, because its length would reveal its content (BREACH). `return_path` is where
    the forms at the foot return to; without it, the address of the request.
    """
    visit = visitor if isinstance(visitor, Visit) else None
    operator = visitor if isinstance(visitor, OperatorVisit) else None
    request = visitor if isinstance(visitor, Request) else visitor.request
    site = site_of(request)
    visible_context = visible(context, visit.permissions) if visit else context
    html = _TEMPLATES.get_template(template).render(
        branding=site.branding,
        site=site,
        visit=visit,
        may=visit.may if visit else lambda permission: False,
        scope=Scope,
        now=services_of(request).clock.now(),
        zone=zone_of(request),
        theme=theme_of(request),
        operator=operator,
        wide=visit is not None or operator is not None,
        path=request.url.path,
        query=request.query_params,
        here=return_path or _current_page(request),
        version=request.app.version,
        # A field without an error has an empty one.
        errors=defaultdict(str, {error.field: error.message for error in errors}),
        **visible_context,
    )
    body = html.encode(errors="replace")
    response = HTMLResponse(body, status or (422 if errors else 200))
    add_security_headers(response, site)
    if not has_secret and accepts_gzip(request) and len(body) >= MIN_COMPRESSED_BYTES:
        response.body = gzip.compress(body, 5, mtime=0)
        response.headers["Content-Encoding"] = "gzip"
        response.headers["Content-Length"] = str(len(response.body))
    return response


def redirect(path: str) -> Response:
    """Go to a page after a form was sent (RFC 9110 §15.4.4), so that a reload does not send the form again."""
    return RedirectResponse(path, 303, {"Cache-Control": "no-store", "Referrer-Policy": "no-referrer"})


def _current_page(request: Request) -> str:
    return request.url.path + (f"?{request.url.query}" if request.url.query else "")


# -- filters ---------------------------------------------------------------------------------------------------------


@pass_context
def exact_time(context: Context, moment: datetime) -> str:
    """A time as `3 May 2026, 14:02:11 UTC`."""
    zone: ZoneInfo = context["zone"]
    local = to_zone(moment, zone)
    return f"{local.day} {local:%b %Y, %H:%M:%S} {local.tzname() or zone.key}"


@pass_context
def clock_time(context: Context, moment: datetime) -> str:
    """A time as `14:02` today, `3 May 14:02` before."""
    return clock_text(moment, context["now"], context["zone"])


@pass_context
def relative_time(context: Context, moment: datetime) -> str:
    """A time as `4 min ago` or `in 2 h`."""
    now: datetime = context["now"]
    text = format_duration(abs(now - moment))
    return f"{text} ago" if moment <= now else f"in {text}"


_UNITS = ((timedelta(days=1), "d"), (timedelta(hours=1), "h"), (timedelta(minutes=1), "min"))


@pass_context
def local_input(context: Context, moment: datetime | None) -> str:
    """The value of a field for a time, in the zone that the page prints."""
    return f"{to_zone(moment, context['zone']):{FIELD_TIME_FORMAT}}" if moment else ""


@pass_context
def format_hour(context: Context, moment: datetime) -> str:
    """An hour as `14:00`."""
    return f"{to_zone(moment, context['zone']):%H:%M}"


def format_duration(length: timedelta) -> str:
    """A duration in its largest unit: `3 d`, `4 min`, `12 s`."""
    for unit, name in _UNITS:
        if length >= unit:
            return f"{length // unit} {name}"
    return f"{int(length.total_seconds())} s"


def format_seconds(value: float) -> str:
    """A number of seconds in its largest unit: `40 s`, and at least `1 s`."""
    return format_duration(timedelta(seconds=max(1.0, value)))


def field_error_sentence(message: str, label: str) -> str:
    """The error of a form's field, as a sentence."""
    return field_sentence(FieldError("", message), label)


def format_count(number: int) -> str:
    """A number with thin spaces: `1 204`."""
    return f"{number:,}".replace(",", "\N{NARROW NO-BREAK SPACE}")


def format_capped_count(number: int) -> str:
    """A number, or `10 000+` if the count was stopped."""
    return f"{format_count(number)}{'+' if number >= MAX_COUNTED_DELIVERIES else ''}"


def format_milliseconds(value: float) -> str:
    """A response time as `1 204 ms`; the lease of a reader may last for minutes."""
    if value >= 60_000:
        return format_duration(timedelta(milliseconds=value))
    return f"{format_count(round(value))} ms"


def format_mebibytes(size: int) -> str:
    """A size as `1 024 MiB`, and at least `1 MiB`."""
    return f"{format_count(max(1, round(size / 1024**2)))} MiB"


def to_one_line(text: object) -> str:
    """Text from outside on one line, its control characters escaped."""
    return escape_controls(" ".join(str(text).split()))


def to_plain_lines(text: str | bytes) -> str:
    """Text or bytes from outside, with line breaks, other control characters escaped."""
    decoded_text = text.decode("utf-8", "replace") if isinstance(text, bytes) else text
    return escape_controls(decoded_text.replace("\r\n", "\n"), allowed="\n\t")


@pass_context
def format_detail(context: Context, value: object) -> str:
    """A value of the audit log in words: `events 3, mails 1`, `a, b`, `yes`, `none`; a time as the page shows times."""
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {format_detail(context, item)}" for name, item in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(format_detail(context, item) for item in value) or "none"
    if moment := parse_time(value):
        return exact_time(context, moment)
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "none" if value in (None, "") else str(value)


def pretty_json(value: object) -> str:
    """Human-readable JSON, with the fields in their original order."""
    return escape_controls(json.dumps(value, indent=2, ensure_ascii=False), allowed="\n")


_TEMPLATES = Environment(
    # A feature's templates lie beside its pages; no two have the same name.
    loader=ChoiceLoader([PackageLoader(f"api.{name}") for name in TEMPLATE_FOLDERS]),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
_TEMPLATES.filters.update(
    exact=exact_time,
    clock=clock_time,
    ago=relative_time,
    count=format_count,
    ms=format_milliseconds,
    plain=to_one_line,
    plain_lines=to_plain_lines,
    pretty_json=pretty_json,
    detail=format_detail,
    duration=format_duration,
    capped=format_capped_count,
    hour=format_hour,
    number="{:g}".format,
    local_input=local_input,
    pause_words=lambda webhook: pause_cause(webhook.pause.reason, webhook.options.pause_after),
    first_upper=lambda text: text[:1].upper() + text[1:],
    failure=FAILURE_LABELS.__getitem__,
    reason=reason_of,
    reason_words=REASON_MESSAGES.__getitem__,
    details=details_of,
    seconds=format_seconds,
    mebibytes=format_mebibytes,
    of_field=field_error_sentence,
)
_TEMPLATES.globals.update(asset=asset_url)
