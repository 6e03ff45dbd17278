"""Where the link in a mail leads: the calls that mend a webhook, for whoever has a key of its account."""

from html import escape

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse

from api.services import services_of
from streams.core.errors import NotFound
from streams.core.ids import is_id

router = APIRouter(include_in_schema=False)

_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="robots" content="noindex">
<title>Mend webhook {webhook_id}</title>
<link rel="icon" href="data:,">
<style>
body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 50rem; margin: 2rem auto; padding: 0 1rem; }}
pre {{ background: #f3f3f3; color: #111; padding: .75rem 1rem; overflow-x: auto; }}
</style>
</head>
<body>
<h1>Mend webhook <code>{webhook_id}</code></h1>
<p>Put an API key of your account into <code>KEY</code>, with the scopes <code>webhooks:read</code>,
<code>webhooks:write</code> and <code>deliveries:write</code>.</p>
<pre>API={base} KEY=sk_…</pre>
{steps}
<p>All calls, to read and to try: <a href="{base}/docs">the API's documentation</a>.</p>
</body>
</html>
"""
_STEPS = (
    (
        "What is wrong: since when it fails, and the endpoint's last answer",
        'curl -s $API/v1/webhooks/{webhook_id}/health -H "Authorization: Bearer $KEY"',
    ),
    (
        "Is it mended? A test event, and what the endpoint answers to it",
        'curl -s -X POST $API/v1/webhooks/{webhook_id}/test -H "Authorization: Bearer $KEY"',
    ),
    (
        "Enable it if it is paused. What was held meanwhile: deliver it, keep it as dead letters, or discard it",
        'curl -s -X POST $API/v1/webhooks/{webhook_id}/enable -H "Authorization: Bearer $KEY" \\\n'
        "  -H 'Content-Type: application/json' -d '{{\"held\": \"deliver\"}}'",
    ),
    (
        "Send its dead letters again, if there are any",
        'curl -s -X POST $API/v1/dead-letters/retry -H "Authorization: Bearer $KEY" \\\n'
        '  -H \'Content-Type: application/json\' -d \'{{"filter": {{"webhookId": "{webhook_id}"}}}}\'',
    ),
)


@router.get("/webhooks/{webhook_id}")
async def mend(request: Request, webhook_id: str) -> HTMLResponse:
    """The same for every id: whether there is such a webhook is not told to strangers."""
    if not is_id(webhook_id):
        raise NotFound("there is no such page")
    steps = "\n".join(
        f"<h2>{escape(title)}</h2>\n<pre>{escape(call.format(webhook_id=webhook_id), quote=False)}</pre>"
        for title, call in _STEPS
    )
    base = escape(services_of(request).webhook_stats.public_url.rstrip("/"))
    page = _PAGE.format(webhook_id=webhook_id, base=base, steps=steps)
    return HTMLResponse(
        page, headers={"Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; img-src data:"}
    )
