"""No repr has a secret, key or payload: a traceback or a log line may show it."""

from dataclasses import replace
from typing import Any

import pytest

from api.webhooks.models import NewWebhook
from builders import NOON, attempt, dead_letter, delivery, event
from real.posting import proxy_at
from streams.adapters.oidc.provider import OidcClient
from streams.core.accounts.access import NewKey
from streams.core.accounts.account import AttemptDetails, DeliveryDetails
from streams.core.accounts.mail import RenderedMail
from streams.core.accounts.oidc import AuthorizationRequest, PendingSignIn
from streams.core.deliveries.delivery_state import Batch, RecordedEvent, RecordedValue, state_of_record
from streams.core.deliveries.held import HeldChoice, HeldDelivery
from streams.core.deliveries.outcome import Response
from streams.core.deliveries.request import Request
from streams.core.events.event import EventSubjects
from streams.core.webhooks.webhook_input import WebhookInput
from streams.features.accounts.service import OpenedAccount
from streams.features.sign_in.oidc import ProviderAnswer, StartedSignIn
from streams.features.webhooks.secrets import RotationResult
from streams.features.webhooks.service import RegistrationResult
from streams.ports.kafka import Outgoing, Partition, Record
from streams.runtime.deployment import Deployment
from streams.settings import load_settings

CANARY = "canary-of-the-tests"
BYTES = CANARY.encode()
SEEN: Any = None
OWED = delivery(body=BYTES)
SHOWN = AttemptDetails(
    generation=1,
    number=1,
    target="primary",
    url="https://crm.example.com",
    started_at=NOON,
    milliseconds=3.0,
    request_headers={"X-Key": CANARY},
    status=200,
    response_headers={"x-echo": CANARY},
    response_body=BYTES,
    outcome="delivered",
    message="",
    next_step="done",
    tier=None,
    webhook_version=1,
    fields=None,
)
ENVIRON = {
    "DATABASE_URL": f"postgresql+psycopg://user:{CANARY}@localhost/x",
    "SCORM_WEBHOOKS_OIDC_ISSUER": "https://login.example.com",
    "SCORM_WEBHOOKS_OIDC_CLIENT_ID": "webhooks",
    "SCORM_WEBHOOKS_OIDC_CLIENT_SECRET": CANARY,
    "SCORM_WEBHOOKS_PUBLIC_URL": "https://hooks.example.com",
    "SCORM_WEBHOOKS_EGRESS_PROXY": "http://proxy:3128",
    "SCORM_WEBHOOKS_EGRESS_PROXY_CREDENTIALS": f"user:{CANARY}",
    "SCORM_WEBHOOKS_OPERATOR_KEYS": CANARY + "-that-is-long-enough",
}


@pytest.mark.parametrize(
    "holder",
    [
        OWED,
        event(data={"learnerId": CANARY}),
        attempt(response_body=BYTES, request_headers={"X-Key": CANARY}),
        replace(dead_letter(), delivery=OWED),
        RecordedValue(OWED, NOON),
        HeldDelivery(OWED, HeldChoice.DELIVER),
        Batch(events={("acme", "evt_1"): RecordedEvent(NOON, BYTES, None, EventSubjects(), BYTES)}),
        DeliveryDetails(state_of_record(OWED, NOON), BYTES, (SHOWN,), 1),
        Request("https://crm.example.com", {"X-Key": CANARY}, BYTES, frozenset({"X-Key"})),
        Response(200, {"x-echo": CANARY}, BYTES),
        Record(Partition("deliveries", 0), 1, b"wh_crm", BYTES, NOON, (("x", BYTES),)),
        Outgoing("deliveries", b"wh_crm", BYTES, (("x", BYTES),)),
        NewKey(SEEN, CANARY),
        OpenedAccount(SEEN, CANARY),
        RegistrationResult(SEEN, CANARY),
        RotationResult(SEEN, CANARY, None),
        WebhookInput("acme", "https://crm.example.com", headers={"X-Key": CANARY}),
        AuthorizationRequest(CANARY, CANARY, CANARY),
        PendingSignIn("sha256", "sha256", CANARY, NOON, NOON),
        OidcClient("https://login.example.com", "webhooks", CANARY, "openid", "https://hooks.example.com"),
        ProviderAnswer(CANARY, CANARY),
        StartedSignIn(CANARY, CANARY),
        proxy_at(3128, credentials=CANARY),
        RenderedMail("A webhook is paused", CANARY, CANARY),
        Deployment(load_settings(ENVIRON), ENVIRON),
    ],
    ids=lambda holder: type(holder).__name__,
)
def test_a_repr_has_the_id_and_no_secret(holder: object) -> None:
    assert type(holder).__name__ in repr(holder)
    for shown in (repr(holder), str(holder), repr([holder]), f"{holder}"):
        assert CANARY not in shown


def test_a_request_body_is_not_in_a_repr() -> None:
    asked = NewWebhook.model_validate({"url": "https://crm.example.com", "headers": {"X-Key": CANARY}})
    assert CANARY not in repr(asked)
    assert CANARY not in str(asked)
