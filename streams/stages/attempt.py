"""One attempt: build the request, send it, judge the result, decide what follows."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from streams.core.deliveries.attempt import Attempt
from streams.core.deliveries.decision import Decision, SendNow, judge_attempt
from streams.core.deliveries.delivery import Delivery
from streams.core.deliveries.outcome import Failure, OutcomeKind, Response
from streams.core.deliveries.request import USER_AGENT, Request, build_request
from streams.core.deliveries.schedule import Schedule
from streams.core.errors import InvalidRecord, Unavailable
from streams.core.events.trace import SpanName
from streams.core.webhooks.access_token import late_token
from streams.core.webhooks.auth import Auth, AuthType, basic_credentials
from streams.core.webhooks.url import host_of
from streams.core.webhooks.webhook import Webhook
from streams.ports.delivery import Encryption, ErasedLearners, ReplayLookup, Sender, Subscriptions
from streams.ports.kafka import Codec, RecordProducer
from streams.ports.runtime import Clock, Telemetry
from streams.stages.access_tokens import AccessTokens

# If a slow token server leaves less than this, no request is sent: the endpoint would have no chance.
MIN_SEND_SECONDS = 0.5


@dataclass(frozen=True, slots=True)
class DeliveryPolicy:
    """How a deployment delivers: its retry schedule, the timeout of an attempt, and some of a request's headers.

    A webhook may have a schedule and a timeout of its own.
    """

    schedule: Schedule
    timeout_seconds: float = 10.0
    signature_header: str = "X-AllureConnect-Signature"
    sends_trace_parent: bool = False
    user_agent: str = USER_AGENT


@dataclass(frozen=True, slots=True)
class DeliverPorts:
    """The ports that `deliver` needs."""

    codec: Codec
    subscriptions: Subscriptions
    replay_lookup: ReplayLookup
    erased_learners: ErasedLearners
    encryption: Encryption
    sender: Sender
    producer: RecordProducer
    clock: Clock
    telemetry: Telemetry


class AttemptSender:
    """Makes attempts for any webhook. A failure of the endpoint or the network is an outcome, never an exception."""

    def __init__(self, ports: DeliverPorts, policy: DeliveryPolicy) -> None:
        self._ports = ports
        self._policy = policy
        self._tokens = AccessTokens(ports.sender, ports.encryption, ports.clock, user_agent=policy.user_agent)

    async def attempt(
        self, delivery: Delivery, target: SendNow, on_token_wait: Callable[[], None]
    ) -> tuple[Attempt, Decision]:
        """POST once. Returns the attempt as it is recorded, and the decision that follows.

        Calls `on_token_wait` before it waits for an access token. Raises `InvalidRecord` if the code fails on the
        result, and `Unavailable` if this machine is short of a resource.
        """
        ports, policy = self._ports, self._policy
        span = ports.telemetry.span(SpanName.ATTEMPT, delivery.trace_parent)
        request: Request | None = None
        result: Response | Failure
        timeout_seconds: float = target.webhook.options.timeout_seconds or policy.timeout_seconds
        try:
            started_at = ports.clock.now()
            try:
                request = self._build_request(delivery, target, started_at, span.trace_parent)
            except (InvalidRecord, ValueError) as error:
                # A request that cannot be signed is retried like any failure, and stops no other webhook.
                result = Failure(OutcomeKind.UNSENDABLE, str(error))
            else:
                auth = target.webhook.auth_for(target.url)
                if auth is None or auth.type is AuthType.BASIC:
                    result = await ports.sender.send(request)
                else:
                    deadline = time.monotonic() + timeout_seconds
                    request, result = await self._send_with_token(
                        request, target.webhook, auth, deadline, on_token_wait
                    )
                    if request is not None and request.timeout_seconds is not None:
                        # The time for a token does not count for the endpoint.
                        timeout_seconds = request.timeout_seconds
            ended_at = ports.clock.now()
            attempt, decision = judge_attempt(
                delivery,
                target,
                request,
                result,
                started_at,
                ended_at,
                policy.schedule,
                timeout_seconds,
            )
        except BaseException as error:
            span.end(delivery.ids, type(error).__name__)
            raise
        if span.is_recording:
            # Not its message, which may quote the endpoint.
            span.end(_span_attributes(attempt), None if attempt.outcome is OutcomeKind.DELIVERED else attempt.outcome)
        return attempt, decision

    async def _send_with_token(
        self,
        request: Request,
        webhook: Webhook,
        auth: Auth,
        deadline: float,
        on_wait: Callable[[], None],
    ) -> tuple[Request | None, Response | Failure]:
        """Send a request with the webhook's token before the deadline. Without a token nothing is sent.

        If the endpoint refuses the token with 401, the request is sent once more with a new one. Returns the last
        request that was sent, and its result.
        """
        sent_request: Request | None = None
        result: Response | Failure | None = None
        for _ in range(2):
            try:
                token = await self._tokens.token(webhook, auth, max(0.0, deadline - time.monotonic()), on_wait)
            except InvalidRecord as error:
                return sent_request, result or Failure(OutcomeKind.UNSENDABLE, str(error))
            except Unavailable:
                if result is None:
                    raise
                break
            seconds_left = deadline - time.monotonic()
            if isinstance(token, Failure) or seconds_left < MIN_SEND_SECONDS:
                return sent_request, result or (token if isinstance(token, Failure) else late_token(auth))
            # A fraction of a second means nothing to a person.
            sent_request = request.with_authorization(f"Bearer {token}")._replace(
                timeout_seconds=round(seconds_left, 1)
            )
            result = await self._ports.sender.send(sent_request)
            is_refused = isinstance(result, Response) and result.status == 401
            if not is_refused or not self._tokens.reject(webhook.id, token):
                break
        assert result is not None
        return sent_request, result

    def _build_request(self, delivery: Delivery, target: SendNow, now: datetime, trace_parent: str | None) -> Request:
        webhook, encryption = target.webhook, self._ports.encryption
        request = build_request(
            delivery,
            target.url,
            [encryption.decrypt(secret.ciphertext) for secret in webhook.valid_secrets(now)],
            encryption.decrypt_headers(webhook.headers_for(target.url)),
            int(now.timestamp()),
            self._policy.signature_header,
            trace_parent if self._policy.sends_trace_parent else None,
            webhook.options.timeout_seconds,
            webhook.options.fields,
            self._policy.user_agent,
        )
        auth = webhook.auth_for(target.url)
        if auth is None or auth.type is not AuthType.BASIC:
            return request
        password = encryption.decrypt(webhook.encrypted_auth_secret or "")
        return request.with_authorization(basic_credentials(auth.username or "", password), password)


def record_metrics(telemetry: Telemetry, attempt: Attempt) -> None:
    """Count an attempt with its duration, and log it at debug. Call it when its record is acknowledged."""
    milliseconds = attempt.milliseconds
    telemetry.count("attempts_total", outcome=attempt.outcome)
    telemetry.observe("attempt_seconds", milliseconds / 1000)
    if attempt.outcome is OutcomeKind.DELIVERED:
        telemetry.observe("event_to_delivered_seconds", attempt.seconds_since_event(attempt.ended_at))
    if attempt.is_first_of_event:
        telemetry.observe("first_attempt_delay_seconds", attempt.seconds_since_event(attempt.started_at))
    if telemetry.is_debug_enabled:
        _log_attempt(telemetry, attempt)


def _log_attempt(telemetry: Telemetry, attempt: Attempt) -> None:
    telemetry.debug(
        "delivery_attempt_succeeded" if attempt.outcome is OutcomeKind.DELIVERED else "delivery_attempt_failed",
        delivery_id=attempt.delivery_id,
        event_id=attempt.event_id,
        webhook_id=attempt.webhook_id,
        account_id=attempt.account_id,
        generation=attempt.generation,
        number=attempt.number,
        target=attempt.target,
        outcome=attempt.outcome,
        status=attempt.status,
        milliseconds=round(attempt.milliseconds, 1),
        next_step=attempt.next_step,
        tier=attempt.tier,
    )


def _span_attributes(attempt: Attempt) -> dict[str, str | int]:
    """The attributes of an attempt's span. They contain only the host of its URL."""
    attributes: dict[str, str | int] = {
        "delivery_id": attempt.delivery_id,
        "event_id": attempt.event_id,
        "event_type": attempt.event_type,
        "account_id": attempt.account_id,
        "webhook_id": attempt.webhook_id,
        "attempt": attempt.number,
        "outcome": attempt.outcome,
        "server.address": host_of(attempt.url),
    }
    return attributes if attempt.status is None else {**attributes, "http.response.status_code": attempt.status}
