"""The exam of a receiver: requests as production sends them, and the right response to each."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from streams.core.deliveries.signing import sign_platform, sign_standard
from streams.core.limits import MAX_PAYLOAD_BYTES
from streams.core.times import format_time

OLD = timedelta(minutes=10)
LATE = timedelta(days=8)
_VERIFY, _ORDER, _RESPOND, _ROTATE = "verify-the-signature", "duplicates-and-order", "respond", "rotate-the-secret"


@dataclass(frozen=True, slots=True)
class ExamRequest:
    """One request of the exam, without a `User-Agent`. A slow one brings its body in pieces."""

    headers: Mapping[str, str]
    body: bytes
    is_slow: bool = False

    def __repr__(self) -> str:
        return f"ExamRequest({self.headers.get('webhook-id')})"


def sample_request(secret: str | None, platform_header: str, event_id: str, now: datetime) -> ExamRequest:
    """A test event as a platform sends it; without a secret it has no signature."""
    event = {"id": event_id, "type": "session.completed", "createdAt": format_time(now), "test": True}
    body, timestamp = _render({**event, "data": _COMPLETED}), int(now.timestamp())
    headers = {
        "Content-Type": "application/json",
        "webhook-id": event_id,
        "webhook-timestamp": str(timestamp),
        "webhook-attempt": "1",
    }
    if secret is not None:
        headers[platform_header] = sign_platform(secret, body)
        headers["webhook-signature"] = sign_standard(secret, event_id, timestamp, body)
    return ExamRequest(headers, body)


@dataclass(frozen=True, slots=True)
class Check:
    """Requests, in order, that a receiver must all accept with 2xx, or all refuse with 4xx.

    `meaning` says what they are, `advice` what to change if the receiver fails. `section` is one of docs/receiving.md.
    """

    name: str
    meaning: str
    requests: Sequence[ExamRequest]
    advice: str
    section: str
    must_refuse: bool = False

    def is_right(self, status: int) -> bool:
        """Whether this status is the right response."""
        return 400 <= status < 500 if self.must_refuse else 200 <= status < 300


@dataclass(frozen=True, slots=True)
class Exam:
    """Makes the requests. `run_id` makes each run's events new; `other_secret` is a secret that no receiver knows."""

    secret: str = field(repr=False)
    other_secret: str = field(repr=False)
    signature_header: str
    run_id: str
    now: datetime

    def checks(self) -> Sequence[Check]:
        """Every check, the plain request first."""
        plain = self._event("plain")
        completed = self._event("completed", createdAt=format_time(self.now), sequence=2)
        launched = self._event(
            "launched",
            type="session.launched",
            createdAt=format_time(self.now - timedelta(minutes=5)),
            data={**_SESSION, "sequence": 1},
        )
        return [
            Check("accept", "a correct request", [self._signed(plain)], "Respond with 2xx.", _RESPOND),
            Check(
                "signature",
                "a wrong signature, the signature of another body, and no signature",
                self._forged(),
                "Verify the signature over the bytes of the body, and respond with 401 if it is wrong or missing.",
                _VERIFY,
                must_refuse=True,
            ),
            Check(
                "time",
                "a correct signature that is ten minutes old, as somebody sends who has recorded a request",
                [self._signed(self._event("old"), at=self.now - OLD)],
                "Verify `webhook-signature` with a library of Standard Webhooks: it refuses a `webhook-timestamp` that "
                "is older than five minutes.",
                _VERIFY,
                must_refuse=True,
            ),
            Check(
                "duplicate",
                "the same event twice",
                [self._signed(self._event("twice")), self._signed(self._event("twice"), attempt=2)],
                "Respond with 2xx to an `id` that you have seen, and do nothing.",
                _ORDER,
            ),
            Check(
                "order",
                "the end of a session before its launch",
                [self._signed(completed), self._signed(launched)],
                "Respond with 2xx to an event that is older than what you have, and ignore it.",
                _ORDER,
            ),
            Check(
                "late",
                "the sixth attempt at an event of eight days ago",
                [self._signed(self._event("late", createdAt=format_time(self.now - LATE)), attempt=6)],
                "Compare `webhook-timestamp` with your clock, and not `createdAt`: retries bring old events.",
                _VERIFY,
            ),
            Check(
                "type",
                "an event of a type that does not exist yet",
                [self._signed(self._event("type", type="session.exam"))],
                "Respond with 2xx to a type that you do not know, and ignore it: new types come.",
                _RESPOND,
            ),
            Check(
                "field",
                "an event with fields that do not exist yet",
                [self._signed(self._event("field", newField={"new": True}, data={**_COMPLETED, "newField": [1, 2]}))],
                "Ignore fields that you do not know: new fields come.",
                _RESPOND,
            ),
            Check(
                "size",
                f"a body of {MAX_PAYLOAD_BYTES // 1024} KiB, the largest there is",
                [self._signed(self._large())],
                "Accept bodies of up to 1 MiB.",
                _VERIFY,
            ),
            Check(
                "slow",
                "a body that needs some seconds to arrive",
                [self._signed(self._event("slow"), is_slow=True)],
                "Wait for the whole body before you verify it; ten seconds are enough.",
                _VERIFY,
            ),
            Check(
                "rotation",
                "requests during a rotation, signed with two secrets; yours is the one or the other",
                [
                    self._signed(self._event("old secret"), secrets=(self.secret, self.other_secret)),
                    self._signed(self._event("new secret"), secrets=(self.other_secret, self.secret)),
                ],
                f"Accept a request if one of the signatures in `webhook-signature` is right, or one of the headers "
                f"`{self.signature_header}` and `{self.signature_header}-Next`.",
                _ROTATE,
            ),
            Check(
                "test",
                'a test event, with `"test": true`',
                [self._signed(self._event("test", test=True))],
                "Respond to a test event with 2xx, and do nothing else.",
                _RESPOND,
            ),
        ]

    def _event(self, name: str, **fields: Any) -> dict[str, Any]:
        return {
            "id": f"evt_exam_{self.run_id}_{name.replace(' ', '_')}",
            "type": "session.completed",
            "createdAt": format_time(self.now),
            "data": {**_COMPLETED, **({"sequence": fields.pop("sequence")} if "sequence" in fields else {})},
            **fields,
        }

    def _large(self) -> dict[str, Any]:
        event = self._event("large")
        metadata = {"note": ""}
        event["data"]["metadata"] = metadata
        metadata["note"] = "x" * (MAX_PAYLOAD_BYTES - len(_render(event)))
        return event

    def _signed(
        self,
        event: Mapping[str, Any],
        *,
        at: datetime | None = None,
        attempt: int = 1,
        secrets: Sequence[str] = (),
        is_slow: bool = False,
    ) -> ExamRequest:
        """A request signed with these secrets, the old one first, or with the receiver's."""
        body, timestamp = _render(event), int((at or self.now).timestamp())
        secrets = secrets or (self.secret,)
        headers = {
            "Content-Type": "application/json",
            self.signature_header: sign_platform(secrets[0], body),
            "webhook-id": event["id"],
            "webhook-timestamp": str(timestamp),
            "webhook-signature": " ".join(sign_standard(secret, event["id"], timestamp, body) for secret in secrets),
            "webhook-attempt": str(attempt),
        }
        if len(secrets) > 1:
            headers[f"{self.signature_header}-Next"] = sign_platform(secrets[-1], body)
        return ExamRequest(headers, body, is_slow)

    def _forged(self) -> Sequence[ExamRequest]:
        genuine = self._signed(self._event("forged"))
        unsigned = {
            name: value
            for name, value in genuine.headers.items()
            if name not in (self.signature_header, "webhook-signature")
        }
        return [
            self._signed(self._event("wrong secret"), secrets=(self.other_secret,)),
            ExamRequest(genuine.headers, genuine.body.replace(b'"passed"', b'"failed"')),
            ExamRequest(unsigned, genuine.body),
        ]


_SESSION = {"sessionId": "sess_exam", "packageId": "pkg_exam", "learnerId": "learner-exam"}
_COMPLETED = {
    **_SESSION,
    "completionStatus": "completed",
    "successStatus": "passed",
    "scoreRaw": 92,
    "totalTime": "PT9M",
}


def _render(event: Mapping[str, Any]) -> bytes:
    return json.dumps(event, ensure_ascii=False, separators=(",", ":")).encode()
