"""The page of every problem that the API responds with: the `type` of a problem leads to its section."""

from api.problems import problem_kinds
from docs_reference import table
from streams.adapters.http_server import refusals
from streams.adapters.http_server.refusals import Refusal

_RETRY = "Send the same request again after `Retry-After` seconds. With an `Idempotency-Key` it is done once."
# (why it comes, what to do)
HELP = {
    "invalid": (
        "A field, a parameter or several have a value that is not accepted. `errors` names each: `field` is its path, "
        "such as `events[3].data.scoreRaw`, and `message` says what would be right.",
        "Correct the fields. `omittedErrors` counts those beyond the first 20.",
    ),
    "not-found": (
        "There is no such address, or no such object in the key's account. Objects of other accounts are not found.",
        "Check the id, and the key's account by `GET /v1/account`.",
    ),
    "unauthorized": (
        "The request has no API key, or one that is unknown, revoked or expired.",
        "Send `Authorization: Bearer <API key>`. An owner makes keys on the page Account, or by the API.",
    ),
    "forbidden": (
        "The key is valid, and lacks the scope that this call needs. An operator's key may not call it.",
        "Use a key with the scope that the API reference names for the call.",
    ),
    "conflict": (
        "The request conflicts with what is stored: a limit is reached, the object is in another state, or a request "
        "with the same `Idempotency-Key` is in progress.",
        "`detail` says what to do first.",
    ),
    "stale": (
        "`If-Match` names a version of the object that is not its newest one.",
        "Read the object, repeat your change on it, and send its new version in `If-Match`.",
    ),
    "ended": (
        "A commit URL has ended, because its session was closed or its time is over.",
        "Open a session again, and reload the course's page.",
    ),
    "too-many-requests": (
        "The account has used its requests or events of this minute, or has as many requests in progress as it may.",
        f"{_RETRY} Publish a backlog to Kafka.",
    ),
    "refused": (
        "The database does not store a value of this request. The reason is in the log, under `requestId`.",
        "Send the value in another form. Give `requestId` to the operator if you do not know which value it is.",
    ),
    "newer-release": (
        "A newer release of this system wrote a webhook in a way that this process does not know. During an upgrade, "
        "both releases answer.",
        "Send the request again when the upgrade is complete. Until then, what this process knows stays as it is.",
    ),
    "undecryptable": (
        "A stored secret was encrypted by a key that this process does not have.",
        "Ask the operator to add the old key to `SCORM_WEBHOOKS_ENCRYPTION_KEYS`.",
    ),
    "misconfigured": (
        "A setting of the system is wrong. The log says which, under `requestId`.",
        "Give `requestId` to the operator.",
    ),
    "unavailable": (
        "The database or Kafka does not answer. Nothing is lost: what was accepted before is kept.",
        f"{_RETRY} An event may have been stored: keep its `id`, and receivers see one.",
    ),
    "bad-request": (
        "The body is not JSON, or the request is not valid HTTP.",
        "`detail` names the character where the body stops being JSON. Send one `Host`, and one `Content-Length`.",
    ),
    "method-not-allowed": (
        "The address exists, and has no such method.",
        "`Allow` names its methods.",
    ),
    "too-large": ("The body has more than 1 MiB.", "Send fewer events in a request: at most 500, and 1 MiB together."),
    "not-json": (
        "The body has no JSON content type.",
        "Send `Content-Type: application/json`.",
    ),
    "headers-too-large": (
        "URL and headers have more than 64 KiB, or more than 100 lines.",
        "Send fewer or shorter headers: look for a growing cookie.",
    ),
    "timeout": (
        "The headers did not arrive within 10 seconds, or the body not within 30.",
        "Look for a slow network between you and the API, and send the request again.",
    ),
    "too-many-connections": (
        "The process has as many connections as it serves.",
        "Wait five seconds, and reuse connections.",
    ),
    "broken": (
        "The request failed because of an error in our own code. The log has the details, under `requestId`.",
        "Repeat it once. If it fails again, give `requestId` to the operator.",
    ),
    "error": (
        "The server refused the request for the reason in `detail`.",
        "Compare the request with the API reference.",
    ),
}


def problems_page() -> str:
    """The page: a section for each problem, under its name."""
    kinds: dict[str, list[tuple[str, str]]] = {}
    for name, status, title in all_kinds():
        kinds.setdefault(name, []).append((status, title))
    parts = [
        "# Problems",
        "Why was my request refused, and what do I do now? Each error of the API is a problem of RFC 9457, and its "
        "`type`, below the address of the API, leads to a section of this page. "
        "`status` and `detail` say more, and `requestId` is in the log.",
        "```json\n"
        '{"type": "/docs/problems#invalid", "title": "Some fields are wrong", "status": 422,\n'
        ' "errors": [{"field": "url", "message": "must start with https://"}],\n'
        ' "requestId": "req_01HYX9K2M3N4P5Q6R7S8T9V0W1"}\n'
        "```",
        "A program compares the whole `type`. It is the same in every deployment and release.",
        table(
            ("type", "status", "title"),
            [
                (f"[`/docs/problems#{name}`](#{name})", ", ".join(sorted({status for status, _ in rows})), rows[0][1])
                for name, rows in sorted(kinds.items())
            ],
        ),
    ]
    for name in sorted(kinds):
        why, what = HELP[name]
        parts += [f"## {name}", f"**Why:** {why}", f"**What to do:** {what}"]
    return "\n\n".join(parts) + "\n"


def all_kinds() -> list[tuple[str, str, str]]:
    """Name, status and title of each problem: of the API's own, and of the HTTP server's before it."""
    values = [value for value in vars(refusals).values() if isinstance(value, Refusal)]
    return [
        *problem_kinds(),
        *((value.name, str(value.status.value), value.title) for value in values),
    ]
