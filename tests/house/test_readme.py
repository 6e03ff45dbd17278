"""README.md is short, and the request that it shows is one that the product sends."""

import re

from house.test_docs import README

from builders import delivery
from streams.core.deliveries.request import build_request

MAX_WORDS = 700
# The secret of the webhook that got the request.
SECRET = "whsec_W2zWgZ9Nrw4fQjMYPr0dcQZkL74xiZyHaOI2ioVFG00="


def test_the_readme_is_short() -> None:
    assert len(README.split()) <= MAX_WORDS


def test_the_request_of_the_readme_is_what_we_send() -> None:
    [shown] = re.findall(r"```http\n(.*?)\n```", README, re.DOTALL)
    head, _, body_lines = shown.partition("\n\n")
    body = body_lines.replace("\n", "").encode()
    _, *lines = head.splitlines()
    headers = dict(line.split(": ", 1) for line in lines)
    owed = delivery(event_id=headers["webhook-id"], body=body)
    timestamp = int(headers["webhook-timestamp"])
    request = build_request(owed, "http://127.0.0.1/hook", [SECRET], {}, timestamp, "X-AllureConnect-Signature")
    of_http = {"Host": headers["Host"], "Accept": "*/*", "Accept-Encoding": "identity"}
    assert headers == {**of_http, **request.headers, "Content-Length": str(len(body))}
