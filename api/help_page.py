"""The help page that a mail links to: the API calls that repair a webhook, for anyone with a key of its account."""

from html import escape

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse

from api.services import services_of
from streams.core.errors import NotFound
from streams.core.ids import is_id

router = APIRouter(include_in_schema=False)

# Stands for the API's address where the deployment does not say it.
_ADDRESS_PLACEHOLDER = "https://…"
_CONTENT_SECURITY_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="robots" content="noindex">
<title>Repair webhook {webhook_id}</title>
<link rel="icon" href="data:,">
<style>
:root {{ color-scheme: light dark; }}
body {{ font: 1rem/1.5 system-ui, sans-serif; max-width: 46rem; margin: 0 auto; padding: 1rem; }}
h1 {{ font-size: 1.5rem; line-height: 1.2; margin: .5rem 0; }}
h2 {{ font-size: 1rem; margin: 1.25rem 0 .25rem; }}
p {{ margin: .25rem 0; }}
.end {{ margin-top: 1.25rem; }}
code, pre {{ font-family: ui-monospace, monospace; font-size: .875rem; overflow-wrap: anywhere; }}
pre {{ white-space: pre-wrap; user-select: all; -webkit-user-select: all; cursor: text; margin: 0;
      padding: .5rem .75rem; border: 1px solid #8888; border-radius: .25rem; background: #8881; }}
</style>
</head>
<body>
<h1>Repair a webhook</h1>
<p>Webhook <code>{webhook_id}</code>. One click selects a command.</p>
<h2>Your API key</h2>
<p>It needs the scopes <code>webhooks:read</code>, <code>webhooks:write</code> and <code>deliveries:write</code>.</p>
<pre>API={address} KEY=sk_…</pre>
{steps}
<p class="end">All calls: <a href="{base}/docs">API documentation</a></p>
</body>
</html>
"""
_STEPS = (
    (
        "1. See what is wrong",
        'curl -s $API/v1/webhooks/{webhook_id}/health -H "Authorization: Bearer $KEY"',
    ),
    (
        "2. Repair the endpoint, then send a test event",
        'curl -s -X POST $API/v1/webhooks/{webhook_id}/test -H "Authorization: Bearer $KEY"',
    ),
    (
        "3. Enable the webhook. Held events: deliver, keep or discard",
        'curl -s -X POST $API/v1/webhooks/{webhook_id}/enable -H "Authorization: Bearer $KEY" '
        "-H 'Content-Type: application/json' -d '{{\"held\": \"deliver\"}}'",
    ),
    (
        "4. Send its dead letters again",
        'curl -s -X POST $API/v1/dead-letters/retry -H "Authorization: Bearer $KEY" '
        '-H \'Content-Type: application/json\' -d \'{{"filter": {{"webhookId": "{webhook_id}"}}}}\'',
    ),
)


@router.get("/help/webhooks/{webhook_id}")
async def help_page(request: Request, webhook_id: str) -> HTMLResponse:
    """The same for every id: it does not reveal whether the webhook exists."""
    if not is_id(webhook_id):
        raise NotFound("there is no such page")
    steps = "\n".join(
        f"<h2>{escape(title)}</h2>\n<pre>{escape(call.format(webhook_id=webhook_id), quote=False)}</pre>"
        for title, call in _STEPS
    )
    base = escape((services_of(request).mails.public_url or "").rstrip("/"))
    page = _PAGE.format(webhook_id=webhook_id, address=base or _ADDRESS_PLACEHOLDER, base=base, steps=steps)
    return HTMLResponse(page, headers={"Content-Security-Policy": _CONTENT_SECURITY_POLICY})
