"""Every variable Palomar reads, with a default that works on a laptop.

The environment wins; what it leaves out comes from `.palomar/env`, which `./palomar up` writes, so that a second
shell talks to the system the first one started. A variable that is set to nothing (`PORT=`) counts as left out.
This file is the documentation of the variables: keep it in order.
"""

from functools import lru_cache
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from pydantic import (
    AliasChoices,
    Field,
    IPvAnyNetwork,
    SecretStr,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict, SettingsError

from shared.net.address_rules import Rules
from shared.process import database_url

ENV_FILE = ".palomar/env"
Seconds = Annotated[float, Field(gt=0)]
RECEIVE_PORT = 8080
RECEIVE_HEALTH_PORT = 8089
API_PORT = 8081


def _named(name: str) -> AliasChoices:
    """Read a field from this variable, not from the one that has our prefix and the field's name."""
    return AliasChoices(name, name.lower())


class Settings(BaseSettings):
    """One process's configuration. Times are seconds, sizes are bytes unless the name says otherwise."""

    model_config = SettingsConfigDict(
        env_prefix="PALOMAR_",
        env_file=ENV_FILE,
        env_ignore_empty=True,  # a compose file or a unit passes what its own environment lacks as an empty string
        extra="ignore",
        frozen=True,
        populate_by_name=True,
        hide_input_in_errors=True,  # it may be a password
    )

    # -- where the broker and the database are ---------------------------------------------------------------------
    amqp_url: SecretStr = Field(
        default=SecretStr("amqp://guest:guest@127.0.0.1:5672/"), validation_alias=_named("AMQP_URL")
    )
    database_url: SecretStr = Field(
        default=SecretStr("postgresql://palomar@127.0.0.1:5432/palomar"), validation_alias=_named("DATABASE_URL")
    )
    database_pool: int = Field(default=4, ge=2, le=64, description="connections per process")
    database_idle_in_transaction: float = Field(
        default=30.0,
        ge=0,
        description="then PostgreSQL ends a connection of ours whose transaction rests; 0: unset",
    )
    database_peer_timeout: int = Field(
        default=30, ge=0, description="seconds; then PostgreSQL lets go of a host that vanished; 0: unset"
    )
    database_role_per: Literal["connection", "transaction"] = Field(
        default="connection", description="when the role is taken; DATABASE_URL leads to a pooler: transaction"
    )
    database_statement_cache: int = Field(
        default=100, ge=0, description="prepared statements of a connection; a pooler that can't follow them: 0"
    )
    database_direct_url: SecretStr = Field(
        default=SecretStr(""), description="PostgreSQL itself behind a pooler, for LISTEN, locks and migrations"
    )
    state_dir: Path = Field(default=Path(".palomar"), description="spool, sealed directory, what `up` writes down")

    # -- secrets ---------------------------------------------------------------------------------------------------
    secret_keys: Annotated[SecretStr, NoDecode] = Field(
        default=SecretStr(""),
        description="`id:base64 of 32 bytes`, comma separated; the first seals, all of them open. `up` makes one.",
    )

    # -- ingress ---------------------------------------------------------------------------------------------------
    host: str = "127.0.0.1"
    port: int | None = Field(
        default=None,
        ge=0,
        le=65535,
        validation_alias=_named("PORT"),
        description="of this process: webhooks (8080 where unset), or a worker's health and metrics (any free one)",
    )
    health_port: int | None = Field(
        default=None,
        ge=0,
        le=65535,
        description="of `receive`, whose PORT is the public's: /healthz, /readyz, /metrics (8089 where unset; any "
        "free one where several processes share PORT)",
    )
    public_url: str = Field(
        default="http://127.0.0.1:8080", description="what the providers call and sign; never taken from a request"
    )
    ingress_publish_budget: Seconds = Field(default=1.0, description="then the webhook goes to the spool")
    ingress_body_limit: int = 1024 * 1024
    ingress_body_timeout: Seconds = Field(default=10.0, description="a body that stalls this long is answered 408")
    ingress_bytes: int = Field(
        default=20 * 1024**2,
        ge=1024**2,
        description="of bodies in hand of a process; half of it for one tenant, two thirds for one address; then 503",
    )
    trusted_proxies: tuple[IPvAnyNetwork, ...] = Field(
        default=(IPv4Network("127.0.0.0/8"), IPv6Network("::1")),
        description="addresses or networks whose X-Forwarded-For says whom they pass on: your TLS proxy",
    )
    waiting_connections: int = Field(
        default=2000,
        ge=4,
        description="of clients that send no request, open in a process; a fourth of them of one address. Of more, "
        "the one that has waited longest is closed",
    )
    directory_poll: Seconds = Field(default=30.0, description="LISTEN/NOTIFY is the fast way, this poll the sure one")
    spool_limit: int = Field(default=2 * 1024**3, description="bytes on disk; beyond it ingress answers 503")

    # -- management API --------------------------------------------------------------------------------------------
    api_port: int = Field(
        default=API_PORT,
        ge=0,
        le=65535,
        description="of `api`, for clients; its health and metrics are at PORT, as a worker's (any free one)",
    )
    api_url: str = Field(
        default="", description="where clients reach `api`, such as https://api.example.com; empty: links are paths"
    )
    api_cors_origins: tuple[str, ...] = Field(
        default=(), description='web pages that may call the API, such as ["https://console.example.com"]; * is any'
    )
    api_pool: int = Field(
        default=20, ge=2, le=64, description="connections of tenants' calls; one tenant takes at most a quarter of them"
    )
    api_patience: Seconds = Field(default=5.0, description="a call waits so long for a connection, then 503")
    api_lock_wait: Seconds = Field(default=4.0, description="and so long for a lock, as a repeated request does")
    api_statement_timeout: Seconds = Field(
        default=5.0, description="of one statement of a tenant's call, with its wait for locks; then 503"
    )
    api_rate_limit: int = Field(default=600, ge=1, description="calls of a key in api_rate_window; then 429")
    api_rate_window: Seconds = 60.0
    api_body_limit: int = Field(default=1024 * 1024, ge=1024)
    api_body_timeout: Seconds = Field(default=10.0, description="a body that stalls this long is answered 408")
    api_upload_limit: int = Field(
        default=512 * 1024**2, ge=1024**2, description="bytes of a file of contacts, after it is inflated"
    )
    api_bytes: int = Field(default=20 * 1024**2, ge=1024**2, description="of bodies in hand, as ingress_bytes")
    api_live_streams: int = Field(
        default=5000, ge=2, description="of events, open in a process at once; one tenant has at most half of them"
    )
    api_live_buffer: int = Field(
        default=256 * 1024,
        ge=4096,
        description="bytes that may wait for a stream's client; then 4008 closes it",
    )
    api_live_recover: int = Field(
        default=10_000,
        ge=1,
        description="events that a client may have missed; beyond, it loads anew",
    )
    api_live_heartbeat: Seconds = Field(default=25.0, description="of a stream of events on which nothing happens")
    api_live_reconnect: Seconds = Field(
        default=5.0, description="before a stop every stream is asked to come again at a random moment within this"
    )
    import_days: int = Field(default=90, ge=1, description="what is known of an import of contacts is kept this long")
    idempotency_days: int = Field(default=7, ge=1, description="answers to an Idempotency-Key are kept this long")

    # -- broker and runner -----------------------------------------------------------------------------------------
    publish_timeout: Seconds = Field(default=5.0, description="then the outcome of a publish is unknown")
    stop_grace: Seconds = Field(default=20.0, description="what is in hand may finish for this long after SIGTERM")
    circuit_breaker_share: float = Field(
        default=0.5,
        gt=0,
        le=1,
        validation_alias=_named("PALOMAR_BRAKE_SHARE"),
        description="share of jobs that may fail permanently before the circuit breaker opens",
    )
    circuit_breaker_window: int = Field(
        default=50,
        ge=5,
        validation_alias=_named("PALOMAR_BRAKE_WINDOW"),
        description="finished jobs the share is taken over",
    )
    circuit_breaker_trial: Seconds = Field(
        default=60.0,
        validation_alias=_named("PALOMAR_BRAKE_TRIAL"),
        description="with the circuit breaker open, one job is tried this often",
    )
    retry_delays: tuple[float, ...] = Field(
        default=(1, 5, 30, 120, 600), description="the retry schedule; a queue a step"
    )

    # -- due times and leases --------------------------------------------------------------------------------------
    handoff_lease: Seconds = Field(default=20.0, description="a row handed to the next worker is due again after this")
    reply_lease: Seconds = Field(
        default=15.0, description="a conversation is being answered; renewed while the model thinks"
    )
    send_timeout: Seconds = Field(default=15.0, description="hard total of one provider call")
    send_lease_margin: Seconds = Field(
        default=15.0, description="added to send_timeout: the lease of a message in `sending`"
    )
    unknown_check_after: Seconds = Field(default=30.0, description="a send of unknown outcome is looked up after this")
    unknown_give_up_after: Seconds = Field(default=600.0, description="then the channel's policy decides")
    unknown_absent_for: Seconds = Field(
        default=60.0, description="between two looks at the provider's list, before what it has not is sent anew"
    )
    clock_tick: Seconds = 1.0
    clock_batch: int = Field(default=500, ge=1)
    relay_poll: Seconds = 1.0
    relay_lease: Seconds = Field(default=15.0, description="a relay that is silent for so long is replaced by another")
    relay_batch: int = Field(default=500, ge=1)
    inbound_log_days: int = Field(default=30, ge=1, description="raw webhooks are stored this long")
    events_days: int = Field(default=14, ge=1)
    webhook_timeout: Seconds = Field(default=15.0, description="hard total of one delivery to a tenant's webhook")
    webhook_lease: Seconds = Field(
        default=30.0,
        description="beyond webhook_timeout, until another process delivers to the webhooks of one that was killed; "
        "half of it, until another one matches events",
    )
    webhook_concurrency: int = Field(default=16, ge=1, description="deliveries to one webhook at once")
    webhook_rate: int = Field(default=200, ge=1, description="deliveries to one webhook a second")
    webhook_http: bool = Field(default=False, description="whether webhooks may have http URLs")
    webhook_ports: tuple[Annotated[int, Field(ge=1, le=65535)], ...] = Field(
        default=(), description="that webhooks' URLs may name, such as [443, 8443]; empty: any"
    )
    webhook_networks: tuple[IPvAnyNetwork, ...] = Field(
        default=(), description='private networks that webhooks may be in, such as ["10.1.0.0/16"]'
    )
    webhook_secret_overlap: int = Field(
        default=86_400, ge=0, description="seconds; after a rotation a webhook's former secret and key sign too"
    )
    webhook_log_days: int = Field(default=30, ge=1, description="deliveries to webhooks are stored this long")

    # -- providers -------------------------------------------------------------------------------------------------
    twilio_api_url: str = Field(default="https://api.twilio.com", description="the sandbox's address in a local stack")
    meta_api_url: str = Field(
        default="https://graph.facebook.com", description="without the version; the sandbox's address in a local stack"
    )
    smtp_private_hosts: str = Field(
        default="", description="SMTP servers in private networks that channels may name, comma separated; * is any"
    )
    meta_api_version: str = Field(default="v24.0", pattern=r"^v\d+\.\d+$", description="of the Graph API")
    trusted_origins: tuple[str, ...] = Field(
        default=(),
        description="what others may name to be called though it is not https or not public: `up` names the sandbox",
    )
    kommo_api_url: str = Field(
        default="https://amojo.kommo.com", description="of the Chats API; the sandbox's address in a local stack"
    )
    https_proxy: SecretStr = Field(
        default=SecretStr(""),
        description="http://[USER:PASSWORD@]HOST:PORT; providers, models, webhooks and the files that customers send "
        "are called through it, all but trusted_origins. Mails and S3 are not. HTTPS_PROXY itself is never read.",
    )
    llm_base_url: str = Field(
        default="", description="any OpenAI-compatible endpoint; empty: the llm engine says its fallback"
    )
    llm_api_key: SecretStr = SecretStr("")

    # -- files that customers send -------------------------------------------------------------------------------------
    media_store: str = Field(
        default="",
        description="where our copies are stored: a folder (empty: `media` in state_dir), or s3://bucket/prefix",
    )
    media_s3_endpoint: str = Field(default="", description="of an S3-compatible store that is not Amazon's")
    media_s3_region: str = "us-east-1"
    media_s3_key_id: str = Field(
        default="", description="empty: AWS_… variables, else the role of the machine or container"
    )
    media_s3_secret: SecretStr = SecretStr("")
    media_timeout: Seconds = Field(default=120.0, description="hard total of fetching one file")
    media_attempts: int = Field(default=10, ge=1, description="then the file is given up; some four hours")
    media_retry_first: Seconds = Field(default=10.0, description="until the second try; three times as long each time")
    media_limit: int = Field(default=100 * 1024**2, ge=1, description="largest document or video")
    media_image_limit: int = Field(default=16 * 1024**2, ge=1, description="largest picture")
    media_audio_limit: int = Field(default=16 * 1024**2, ge=1, description="largest voice message")
    media_types: tuple[str, ...] = Field(default=("*/*",), description="what is stored, as patterns such as image/*")

    # -- logs and metrics ------------------------------------------------------------------------------------------
    log_level: str = "info"
    sandbox_smtp_port: int = Field(
        default=4025, ge=0, le=65535, description="where the sandbox takes mails; `up` chooses a free one"
    )
    sandbox_url: str = Field(default="", description="where `palomar say` finds the sandbox; `up` sets it")

    @field_validator("database_url", "database_direct_url")
    @classmethod
    def _can_be_connected_to(cls, value: SecretStr) -> SecretStr:
        if given := value.get_secret_value():
            database_url.parse(given)
        return value

    @field_validator("https_proxy")
    @classmethod
    def _is_a_proxy(cls, value: SecretStr) -> SecretStr:
        given = value.get_secret_value()
        parts = urlsplit(given)
        if given and (parts.scheme != "http" or not parts.hostname or parts.path not in ("", "/")):
            raise ValueError("this is no proxy; give http://HOST:PORT or http://USER:PASSWORD@HOST:PORT")
        return value

    def proxy_for(self, url: str) -> str | None:
        """The proxy through which this address is called; None where it is called straight."""
        parts = urlsplit(url)
        straight = f"{parts.scheme}://{parts.netloc}" in self.trusted_origins
        return None if straight else self.https_proxy.get_secret_value() or None

    @property
    def webhook_rules(self) -> Rules:
        """Which URLs of tenants' webhooks are called."""
        return Rules(self.trusted_origins, self.webhook_http, frozenset(self.webhook_ports), self.webhook_networks)

    @model_validator(mode="after")
    def _reaches_postgresql_itself(self) -> Self:
        if self.database_role_per == "transaction" and not self.database_direct_url.get_secret_value():
            raise ValueError(
                "PALOMAR_DATABASE_DIRECT_URL is missing: with PALOMAR_DATABASE_ROLE_PER=transaction, what listens, "
                "locks and migrates needs a way to PostgreSQL itself"
            )
        return self

    @property
    def database_session_url(self) -> str:
        """Where a session is one's own: PostgreSQL itself, also where DATABASE_URL leads to a pooler."""
        return self.database_direct_url.get_secret_value() or self.database_url.get_secret_value()


class SettingsInvalid(Exception):
    """What is wrong with the variables: a line for each, which names it and holds none of its value."""


def load(env_file: str | None = ENV_FILE) -> Settings:
    """Read the variables, and behind them the file where one is named. Raises SettingsInvalid."""
    try:
        return Settings(_env_file=env_file)
    except ValidationError as error:
        problems = [
            f"{_variable(found['loc'])}: {_sentence(found['msg'])}" if found["loc"] else _sentence(found["msg"])
            for found in error.errors()
        ]
        raise SettingsInvalid("\n".join(problems)) from None
    except SettingsError as error:  # it names the field between quotes, and nothing else of it can be asked for
        field = str(error).partition('"')[2].partition('"')[0]
        raise SettingsInvalid(f'{_variable((field,))}: should be a list in JSON, such as ["one", "two"]') from None


def _variable(place: tuple[int | str, ...]) -> str:
    """The variable that sets a field: pydantic names the field, or the alias that was read."""
    name = str(place[0]).upper()
    return name if name in ("AMQP_URL", "DATABASE_URL", "PORT") or name.startswith("PALOMAR_") else f"PALOMAR_{name}"


def _sentence(message: str) -> str:
    return message.removeprefix("Value error, ").replace("Input should be", "should be")


@lru_cache(maxsize=1)
def settings() -> Settings:
    """The process's settings, read once. Raises SettingsInvalid."""
    return load()
