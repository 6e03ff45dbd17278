"""Settings from the environment, each with its default and description."""

import difflib
import json
import socket
from collections.abc import Mapping
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, SecretStr, ValidationError

from scorm_webhooks_cli.api_variables import DEFAULT_DATA_DIR, KEY_VARIABLE, PROFILE_VARIABLE, URL_VARIABLE
from streams import setting_values as values
from streams.core.deliveries.request import USER_AGENT
from streams.core.deliveries.schedule import Schedule
from streams.core.deliveries.time_limits import MAX_ATTEMPT_SECONDS, TimeLimits
from streams.core.errors import Misconfigured
from streams.core.limits import MAX_WEBHOOKS_PER_ACCOUNT

PREFIX = "SCORM_WEBHOOKS_"
# `up` writes the embedded broker's address here, for other commands with the same data directory.
BROKER_FILE = "broker.json"
CONNECT_SECONDS = 2.0

# A host name or an IP address, a zone included.
_HOST = r"^[A-Za-z0-9._:%-]{1,253}$"
# One word of ASCII.
_VISIBLE = r"^[!-~]{1,256}$"
# \p{C} is every control, format or unassigned character.
_MAIL_FROM = r"^[^\p{C}]*[^\s\p{C}<>@]+@[^\s\p{C}<>@]+>?$"
_MAX_SHOWN_CHARACTERS = 200

OIDC_REQUIRED = ("oidc_issuer", "oidc_client_id", "oidc_client_secret")

Networks = tuple[IPv4Network | IPv6Network, ...]


class Settings(BaseModel):
    """The settings of a deployment; each is read from `SCORM_WEBHOOKS_<NAME>`."""

    model_config = ConfigDict(frozen=True, arbitrary_types_allowed=True)

    data_dir: Annotated[
        Path,
        Field(description="folder of SQLite, of the generated encryption key, and of the embedded broker's address"),
    ]
    encryption_keys: Annotated[
        tuple[SecretStr, ...],
        BeforeValidator(values.split),
        Field(description="keys that encrypt secrets, newest first, comma-separated; `keys generate` makes one"),
    ] = ()
    database_connections: Annotated[
        int, Field(ge=1, le=1000, description="connections to PostgreSQL in the pool of one process")
    ] = 5
    database_pooler: Annotated[
        Literal["none", "transaction"],
        Field(description="`transaction`: DATABASE_URL leads to a pooler in transaction mode, such as PgBouncer"),
    ] = "none"
    retry_schedule: Annotated[Schedule, BeforeValidator(values.schedule), Field(description="waits between attempts")]
    topic_prefix: Annotated[
        str,
        Field(pattern=r"^[A-Za-z0-9._-]{0,64}$", description="prefix of every topic and consumer group"),
    ] = ""
    kafka_group_protocol: Annotated[
        Literal["auto", "consumer", "classic"],
        Field(
            description="protocol of consumer groups, except Faust's: `consumer` is KIP-848; `auto` takes it where "
            "the brokers support it, else `classic`"
        ),
    ] = "auto"
    event_partitions: Annotated[int, Field(ge=1, le=10_000, description="partitions of session-events")]
    delivery_partitions: Annotated[
        int, Field(ge=1, le=10_000, description="partitions of every topic keyed by webhook id; may only grow")
    ]
    replication_factor: Annotated[
        int | None,
        Field(ge=1, description="replication factor of topics; empty: 3, or the number of brokers if that is less"),
    ] = None
    event_framing: Annotated[
        Literal["single-object", "confluent"],
        Field(
            description="framing that `api` and `events publish` write; both are read when SCHEMA_REGISTRY_URL is set"
        ),
    ] = "single-object"
    event_subject: Annotated[
        str | None,
        Field(
            pattern=_VISIBLE,
            description="subject of our schema in the schema registry; empty: the topic's name and `-value`",
        ),
    ] = None
    fan_out_consumer: Annotated[
        Literal["faust", "librdkafka"],
        Field(description="client that `fan-out` reads with; all its processes have the same (docs/upgrades.md)"),
    ] = "faust"
    allowed_networks: Annotated[
        Networks,
        BeforeValidator(values.networks),
        Field(description="non-public networks that webhooks may reach, such as `10.1.0.0/16`"),
    ] = ()
    egress_proxy: Annotated[
        str | None,
        AfterValidator(values.proxy_url),
        Field(
            description="HTTP proxy to every endpoint and token server of webhooks, such as `http://proxy.example.com:3128`"
        ),
    ] = None
    egress_proxy_credentials: Annotated[
        SecretStr | None,
        AfterValidator(values.proxy_credentials),
        Field(description="user and password at that proxy, as `user:password`"),
    ] = None
    egress_proxy_resolves: Annotated[
        bool, Field(description="let that proxy resolve host names, and decide which addresses they may have")
    ] = False
    source_addresses: Annotated[
        Networks,
        BeforeValidator(values.networks),
        Field(max_length=100, description="addresses that requests to endpoints come from, for customers' firewalls"),
    ] = ()
    sends_mail: Annotated[
        bool | None,
        Field(description="whether the sign-in page offers a mail; without it, whether `api` has `SMTP_URL`"),
    ] = None
    allow_http: Annotated[bool, Field(description="allow webhooks with http:// URLs")] = False
    ca_file: Annotated[
        Path | None, Field(description="PEM file of certificate authorities to trust in addition to the system's")
    ] = None
    dns_probe_host: Annotated[
        str | None,
        Field(
            pattern=r"^[A-Za-z0-9.-]{1,253}$",
            description="a host name that always resolves; while it does not, DNS failures do not count for health",
        ),
    ] = None
    user_agent: Annotated[
        str,
        Field(pattern=r"^[!-~]([ -~]{0,198}[!-~])?$", description="`User-Agent` of every request to an endpoint"),
    ] = USER_AGENT
    signature_header: Annotated[
        str,
        Field(pattern=r"^[A-Za-z0-9-]{1,64}$", description="name of the platform's own signature header"),
        AfterValidator(values.free_header),
    ] = "X-AllureConnect-Signature"
    send_traceparent: Annotated[bool, Field(description="send endpoints the W3C `traceparent` of each attempt")] = False
    attempt_timeout_seconds: Annotated[
        float,
        Field(ge=0.1, le=MAX_ATTEMPT_SECONDS, description="timeout of an attempt, from DNS to the end of the response"),
    ] = 10
    slots: Annotated[
        int,
        Field(ge=2, le=100_000, description="requests in flight in one `deliver` process, and twice as many slow ones"),
    ] = 256
    release_rate: Annotated[
        int,
        Field(ge=1, le=100_000, description="held deliveries and replays released to one webhook per second, at most"),
    ] = 1100
    api_host: Annotated[str, Field(pattern=_HOST, description="address that `api` listens on")] = "127.0.0.1"
    api_port: Annotated[int, Field(ge=0, le=65535, description="port that `api` listens on; 0: any free port")] = 8080
    api_connections: Annotated[
        int,
        Field(
            ge=1,
            le=100_000,
            description="open connections to one `api` process; for one more, the one that waits longest for its "
            "client is closed",
        ),
    ] = 500
    operator_keys: Annotated[
        tuple[SecretStr, ...],
        BeforeValidator(values.split),
        AfterValidator(values.check_operator_keys),
        Field(description="keys of operators, who create accounts: `name=key`, comma-separated, 24 characters or more"),
    ] = ()
    local_key_file: Annotated[
        Path | None,
        Field(
            description="file with the address of `api` and an operator's key, for commands on its machine; without "
            "it: `api.json` in the folder of `SCORM_WEBHOOKS_DATA_DIR`"
        ),
    ] = None
    webhooks_per_account: Annotated[int, Field(ge=1, le=100_000, description="limit of webhooks of an account")] = (
        MAX_WEBHOOKS_PER_ACCOUNT
    )
    rate_limit: Annotated[
        int, Field(ge=1, le=1_000_000, description="requests a minute of one account to one `api` process")
    ] = 1200
    event_rate_limit: Annotated[
        int,
        Field(
            ge=1,
            le=1_000_000,
            description="events a second of one account over HTTP to one `api` process; tenfold at once",
        ),
    ] = 1000
    public_url: Annotated[
        str | None,
        Field(
            pattern=r"^https?://[!-~]+$",
            description="public URL of the API and the dashboard, for links in mails and commit URLs",
        ),
        AfterValidator(values.page_url),
    ] = None
    brand_name: Annotated[
        str,
        AfterValidator(values.printable),
        Field(min_length=1, max_length=60, description="the platform's name on the dashboard"),
    ] = "Webhooks"
    brand_logo: Annotated[
        Path | None,
        AfterValidator(values.logo),
        Field(description="PNG or SVG file of at most 32 KiB, the platform's logo on the dashboard"),
    ] = None
    accent_color: Annotated[
        str, Field(pattern=r"^#[0-9a-fA-F]{6}$", description="colour of the dashboard's links and buttons, as #rrggbb")
    ] = "#1f5fbf"
    frame_ancestors: Annotated[
        tuple[str, ...],
        BeforeValidator(values.split),
        AfterValidator(values.origins),
        Field(description="origins whose pages may frame the dashboard, comma-separated"),
    ] = ()
    trusted_proxies: Annotated[
        Networks,
        BeforeValidator(values.networks),
        Field(description="networks of the proxies whose `X-Forwarded-For` counts for the limit of sign-ins"),
    ] = ()
    oidc_issuer: Annotated[
        str | None,
        AfterValidator(values.issuer),
        Field(description="issuer URL of the OpenID Connect provider"),
    ] = None
    oidc_client_id: Annotated[
        str | None,
        Field(pattern=_VISIBLE, description="client id at the provider"),
    ] = None
    oidc_client_secret: Annotated[
        SecretStr | None,
        AfterValidator(values.visible),
        Field(description="client secret at the provider"),
    ] = None
    oidc_name: Annotated[
        str,
        AfterValidator(values.printable),
        Field(min_length=1, max_length=60, description="the provider's name on the sign-in page: Sign in with …"),
    ] = "single sign-on"
    oidc_scopes: Annotated[
        str,
        AfterValidator(values.scopes),
        Field(description="scopes to ask the provider for, separated by spaces"),
    ] = "openid email profile"
    oidc_account_claim: Annotated[
        str | None,
        Field(
            pattern=_VISIBLE,
            description="claim with the id of a person's account, or a list of them; empty: the e-mail address counts",
        ),
    ] = None
    oidc_role_claim: Annotated[
        str | None,
        Field(pattern=_VISIBLE, description="claim with a person's role in these accounts; without it member"),
    ] = None
    oidc_operator_group: Annotated[
        str | None,
        AfterValidator(values.printable),
        Field(max_length=256, description="value of the claim `groups` that makes a person an operator"),
    ] = None
    mail_from: Annotated[str, Field(pattern=_MAIL_FROM, description="sender of mails")] = "scorm-webhooks@localhost"
    retention_days: Annotated[
        int,
        Field(
            ge=1, le=36_500, description="retention of delivered, discarded and failed deliveries, with their attempts"
        ),
    ] = 30
    dead_letter_retention_days: Annotated[
        int | None, Field(ge=1, le=36_500, description="retention of dead letters; empty: until somebody decides")
    ] = None
    session_retention_days: Annotated[
        int, Field(ge=1, le=36_500, description="retention of SCORM sessions after their last commit URL has ended")
    ] = 30
    player_states_mib: Annotated[
        int, Field(ge=0, le=1_048_576, description="MiB of players' states that an account may keep (`keepState`)")
    ] = 1024
    audit_retention_days: Annotated[int, Field(ge=1, le=36_500, description="retention of the audit log")] = 365
    health_host: Annotated[
        str, Field(pattern=_HOST, description="address that a stage serves probes and metrics on")
    ] = "127.0.0.1"
    health_port: Annotated[
        int,
        Field(
            ge=0,
            le=65535,
            description="port that a stage serves probes and metrics on; 0: any free port, which is logged",
        ),
    ] = 0
    latency_budget_ms: Annotated[
        int,
        Field(
            ge=0,
            le=1000,
            description="milliseconds that an event may wait in `fan-out`, so that others share its requests; 0: none",
        ),
    ] = 10
    watchdog_seconds: Annotated[
        int,
        Field(
            ge=0,
            le=3600,
            description="a stage ends when its consumer has read nothing for so long while there are records; 0: never",
        ),
    ] = 60
    instance_id: Annotated[
        str | None,
        # Kafka's rule for group.instance.id.
        Field(
            pattern=r"^[A-Za-z0-9._-]{1,249}$",
            description="name for Kafka's static membership; it must survive a restart, as a pod's of a StatefulSet",
        ),
    ] = None
    log_format: Annotated[Literal["console", "json"], Field(description="format of log lines")] = "json"
    log_level: Annotated[
        Literal["debug", "info", "warning", "error"], Field(description="lowest level that is logged")
    ] = "info"

    @property
    def time_limits(self) -> TimeLimits:
        """The time limits that follow from the timeout of an attempt."""
        return TimeLimits(self.attempt_timeout_seconds)

    @property
    def url(self) -> str:
        """The URL of the API and the dashboard."""
        return self.public_url or f"http://{self.api_host}:{self.api_port}"

    @property
    def is_behind_pooler(self) -> bool:
        """Whether two transactions of one connection may run in two sessions of PostgreSQL."""
        return self.database_pooler == "transaction"

    @property
    def notes(self) -> list[str]:
        """Additional lines of a ready process at `/readyz`."""
        return ["the egress proxy decides which addresses endpoints may have"] if self.egress_proxy_resolves else []

    @property
    def broker_file(self) -> Path:
        return self.data_dir / BROKER_FILE


def load_settings(environ: Mapping[str, str]) -> Settings:
    """The settings in `environ`. Raises `Misconfigured` with one line that says what to set."""
    values = {
        name.removeprefix(PREFIX).lower(): value
        for name, value in environ.items()
        if name.startswith(PREFIX) and name not in (URL_VARIABLE, KEY_VARIABLE, PROFILE_VARIABLE)
    }
    _refuse_unknown(values)
    is_embedded = not environ.get("KAFKA_BOOTSTRAP_SERVERS")
    defaults: dict[str, object] = {
        "data_dir": DEFAULT_DATA_DIR,
        "retry_schedule": "30s,2m,10m,1h,6h",
        "event_partitions": 4 if is_embedded else 12,
        "delivery_partitions": 4 if is_embedded else 24,
    }
    try:
        settings = Settings.model_validate(
            {**defaults, **{name: value for name, value in values.items() if value != ""}}
        )
    except ValidationError as error:
        raise Misconfigured(_words(error)) from None
    _require_whole_oidc(settings)
    _require_proxy(settings)
    return settings


def names() -> list[str]:
    """Every setting's variable."""
    return [PREFIX + name.upper() for name in Settings.model_fields]


def _refuse_unknown(values: Mapping[str, str]) -> None:
    for name, value in values.items():
        printable = _printable(PREFIX + name.upper())
        if value.startswith("tcp://"):
            raise Misconfigured(
                f"{printable}={_printable(value)} was put there by Kubernetes for a Service of that name: "
                "set enableServiceLinks: false in the pod"
            )
        if name not in Settings.model_fields:
            close = difflib.get_close_matches(name, Settings.model_fields, n=1)
            hint = f"did you mean {PREFIX}{close[0].upper()}?" if close else "see docs/settings.md"
            raise Misconfigured(f"{printable} is not a setting; {hint}")


def _words(error: ValidationError) -> str:
    first = error.errors(include_url=False, include_input=False)[0]
    name = str(first["loc"][0])
    reason = first.get("ctx", {}).get("error")
    message = str(reason) if reason else first["msg"]
    return f"{PREFIX}{name.upper()}: {_printable(message)} ({Settings.model_fields[name].description})"


def _printable(text: str) -> str:
    """Short, on one line, without control characters."""
    printable = text if text.isprintable() else text.encode("unicode_escape").decode()
    return printable if len(printable) <= _MAX_SHOWN_CHARACTERS else f"{printable[:_MAX_SHOWN_CHARACTERS]}…"


def _require_whole_oidc(settings: Settings) -> None:
    """Raises `Misconfigured` for settings of OpenID Connect that are not complete, or do not fit together."""
    set_names = {name for name in settings.model_fields_set if name.startswith("oidc_")}
    if unset := [name for name in OIDC_REQUIRED if set_names and getattr(settings, name) is None]:
        unset_name, other_name = (f"{PREFIX}{name.upper()}" for name in (unset[0], min(set_names)))
        raise Misconfigured(
            f"{unset_name} is not set, and {other_name} is: set it too, or remove every {PREFIX}OIDC_ setting"
        )
    if set_names and settings.public_url is None:
        raise Misconfigured(
            f"{PREFIX}OIDC_ISSUER: set {PREFIX}PUBLIC_URL too, because the provider sends browsers back to that URL"
        )
    if settings.oidc_role_claim and not settings.oidc_account_claim:
        raise Misconfigured(
            f"{PREFIX}OIDC_ROLE_CLAIM: set {PREFIX}OIDC_ACCOUNT_CLAIM too, or remove it: "
            "people who sign in by their e-mail address have the role of their user"
        )


def _require_proxy(settings: Settings) -> None:
    """Raises `Misconfigured` for settings of an egress proxy without its URL."""
    for field in ("egress_proxy_credentials", "egress_proxy_resolves"):
        if getattr(settings, field) and settings.egress_proxy is None:
            name = f"{PREFIX}{field.upper()}"
            raise Misconfigured(f"{name}: set {PREFIX}EGRESS_PROXY too, or remove {name}")


def find_broker(environ: Mapping[str, str], settings: Settings) -> dict[str, str]:
    """`environ` with the broker's address: as set, or as the running `up` of this data directory wrote it."""
    if environ.get("KAFKA_BOOTSTRAP_SERVERS"):
        return dict(environ)
    try:
        bootstrap = str(json.loads(settings.broker_file.read_text())["bootstrap"])
        host, _, port = bootstrap.rpartition(":")
        # An `up` that was killed leaves its file behind.
        socket.create_connection((host, int(port)), CONNECT_SECONDS).close()
    except (OSError, ValueError, LookupError, TypeError):
        raise Misconfigured(
            "KAFKA_BOOTSTRAP_SERVERS is not set, and no `scorm-webhooks up` runs in "
            f"{settings.data_dir}: set it, or start `scorm-webhooks up` first"
        ) from None
    return {**environ, "KAFKA_BOOTSTRAP_SERVERS": bootstrap}
