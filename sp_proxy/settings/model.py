"""Every setting: its name, unit, default and meaning. The contract's keys first, then our own sections.

The description of a field is its documentation: ``docs/configuration.md`` is generated from here. Durations and sizes
carry their unit in the value (``200ms``, ``64KiB``; a bare number means seconds, or bytes). Keys keep the spelling of
the filter's ``pluginConfig`` where they come from it, camel case included.
"""

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, SecretStr

from sp_proxy.settings.addons import Addons
from sp_proxy.settings.backend import Backend
from sp_proxy.settings.inject import Inject
from sp_proxy.settings.interception import Mitm, Tls, WebSocket
from sp_proxy.settings.limits import Limits, RateLimit, Sampling
from sp_proxy.settings.netfilter import Netfilter
from sp_proxy.settings.redaction import Redaction
from sp_proxy.settings.section import Section
from sp_proxy.settings.types import (
    Address,
    AnyCase,
    Duration,
    ExporterName,
    HeaderName,
    HeaderValue,
    Host,
    Integer,
    Key,
    Line,
    Method,
    Number,
    OptionalAddress,
    Pattern,
    Size,
    TagName,
    Upstream,
    Url,
)

# ---- contract, section 1


class ServerRule(Section):
    """Selects inbound exchanges. All given parts must match."""

    path: Pattern | None = Field(None, description="Regular expression searched in the request target.")
    host: Pattern | None = Field(None, description="Regular expression searched in the authority.")
    paths: list[Pattern] = Field([], description="Alternatives to `path`; one of them must match.")
    methods: list[Method] = Field([], description="Request methods; none means all.")
    exclude: bool = Field(False, description="A match is not collected, whatever other rules say.")
    limits: RateLimit | None = Field(None, description="Limits of what this rule collects, beside the daemon's own.")


class ClientRule(Section):
    """Selects outbound exchanges. All given parts must match."""

    host: Pattern | None = Field(None, description="Regular expression searched in the authority.")
    paths: list[Pattern] = Field([], description="Regular expressions searched in the request target; one must match.")
    methods: list[Method] = Field([], description="Request methods; none means all.")
    exclude: bool = Field(False, description="A match is not collected, whatever other rules say.")
    limits: RateLimit | None = Field(None, description="Limits of what this rule collects, beside the daemon's own.")


class HttpRules(Section):
    """Collection rules for HTTP. None at all: everything is collected. For one direction only: only that one."""

    server: list[ServerRule] = Field([], description="Rules for inbound exchanges, alternatives.")
    client: list[ClientRule] = Field([], description="Rules for outbound exchanges, alternatives.")


class CollectionRules(Section):
    """What to collect."""

    http: HttpRules = Field(HttpRules(), description="Rules for HTTP.")


OTLP_PATHS = (
    "/v1/traces",
    "/api/traces",
    "/v1/metrics",
    "/api/metrics",
    "/v1/logs",
    "/api/logs",
    "/otlp/v1/traces",
    "/otlp/v1/metrics",
    "/otlp/v1/logs",
)


class ExemptionRule(Section):
    """Never collected, whatever the collection rules say. A missing part matches everything but `pathPatterns`,
    which then means the OTLP paths.
    """

    hostPatterns: list[Pattern] = Field([], description="Regular expressions searched in the authority.")
    pathPatterns: list[Pattern] = Field(
        list(OTLP_PATHS), description="Regular expressions searched in the request target."
    )


_DIRECTIONS = {"server": "server", "inbound": "server", "client": "client", "outbound": "client", "both": "both"}


def _direction(value: Any) -> Any:
    if value is None or value == "":
        return "both"
    if not isinstance(value, str) or value not in _DIRECTIONS:
        raise ValueError("server (or inbound), client (or outbound), or both")
    return _DIRECTIONS[value]


# ---- our own sections


class ForwardListener(Section):
    """A listener with a fixed upstream, for use without redirect rules: a reverse proxy."""

    listen: Address = Field(description="PORT or HOST:PORT.")
    upstream: Upstream = Field(description="HOST:PORT of the application.")
    direction: Literal["inbound", "outbound"] = Field("inbound", description="Direction of its exchanges.")


class Listen(Section):
    """Where traffic arrives. A port alone means all addresses of both IP versions."""

    inbound: OptionalAddress = Field(Address("", 16006), description="Redirected inbound traffic; `off` for none.")
    outbound: OptionalAddress = Field(Address("", 16001), description="Redirected outbound traffic; `off` for none.")
    forward: list[ForwardListener] = Field([], description="Listeners with a fixed upstream.")
    proxy: OptionalAddress = Field(
        None, description="Explicit proxy for local development (`HTTP_PROXY`, `HTTPS_PROXY`); `off` for none."
    )


class Capture(Section):
    """What is never captured, and how much of what is."""

    enabled: bool = Field(True, description="`false`: forward and inject only.")
    max_body_size: Size = Field(
        65536, le=16 << 20, description="Bytes of a body that are kept, each side. True sizes always are."
    )
    partial_after: Duration = Field(
        30.0,
        description="An exchange that goes on for longer (event stream, long poll) is recorded at once as a partial one, "
        "and as a whole when it ends; 0: only then.",
    )
    skip_static: bool = Field(True, description="Skip static resources (by extension and response content type).")
    skip_prefetch: bool = Field(True, description="Skip framework prefetches (Next.js and the like).")
    skip_ingress_gateway: bool = Field(
        True, description="Leave requests from Istio's ingress gateway alone: not captured, no headers added."
    )


class Relay(Section):
    """The relay workers."""

    workers: Integer = Field(1, ge=1, le=64, description="Worker processes.")
    max_head_size: Size = Field(
        131072, ge=8192, description="A longer request or response head makes a connection raw."
    )
    buffer_size: Size = Field(
        262144, ge=4096, description="Bytes waiting for a slow receiver before its sender is made to wait."
    )


class Batch(Section):
    """When a batch is closed: at the first of these."""

    max_records: Integer = Field(512, ge=1, description="Records in a batch.")
    max_size: Size = Field(4 << 20, description="Bytes of captured content in a batch.")
    flush_timeout: Duration = Field(1.0, description="Age of the oldest record.")


class Queue(Section):
    """The sending queue in memory. Full: the newest batch is dropped and counted."""

    max_records: Integer = Field(50_000, ge=1, description="Records waiting for upload.")
    max_size: Size = Field(64 << 20, description="Bytes of encoded payloads waiting for upload.")


def _off_is_a_word(value: Any) -> Any:
    return "off" if value is False else value  # YAML 1.1 reads a bare `off` as false


class Spool(Section):
    """The sending queue on disk, for what memory should not hold any longer; one directory below for each exporter."""

    mode: Annotated[Literal["overflow", "always", "off"], BeforeValidator(_off_is_a_word)] = Field(
        "overflow",
        description="`overflow`: to disk when the backend is slower than the traffic, and at shutdown; "
        "`always`: every batch is on disk before it is sent.",
    )
    directory: str = Field(
        "",
        description="Where; empty means `/var/lib/sp-proxy`, else `$XDG_STATE_HOME/sp-proxy`, else "
        "`~/.local/state/sp-proxy`: the first that can be written, and without any the spool is off.",
    )
    max_size: Size = Field(1 << 30, ge=1 << 20, description="Bytes of each exporter's spool; the oldest are evicted.")
    max_age: Duration = Field(2 * 86400.0, gt=0, description="Older batches are evicted.")
    fsync: bool = Field(
        False, description="Wait for the disk at each batch: it then outlives a failure of the machine, not only ours."
    )
    overflow_above: Number = Field(
        0.5,
        ge=0,
        le=1,
        description="Part of `queue.max_records` and `queue.max_size` above which the oldest go to disk.",
    )
    overflow_after: Duration = Field(5.0, description="A batch that waits longer in memory goes to disk.")


class Exporter(Section):
    """The exporter as a whole."""

    max_memory: Size = Field(
        256 << 20,
        ge=32 << 20,
        description="Captured content and payloads held by all stages together; above it new records are dropped.",
    )


class Destination(Section):
    """One destination, with its own queue, spool and counters: one that is down does not stop the others."""

    type: Literal["softprobe", "otlp", "file", "stdout"] = Field(
        description="The Softprobe backend, any OTLP/HTTP collector, or OTLP-JSON, one request a line."
    )
    name: ExporterName = Field("", description="In metrics and as directory of its spool; empty means its type.")
    url: Url | None = Field(
        None, description="`otlp`: `POST {url}/v1/traces`; `softprobe`: instead of `sp_backend_url`."
    )
    headers: dict[HeaderName, HeaderValue] = Field({}, description="Further request headers.")
    compression: Literal["gzip", "none"] | None = Field(None, description="Instead of `upload.compression`.")
    path: str | None = Field(None, min_length=1, description="`file`: where to write.")
    max_size: Size = Field(
        100 << 20, ge=1 << 20, description="`file`: a larger one becomes `PATH.1`, in place of the one before."
    )


class Retry(Section):
    """Exponential backoff with jitter, for what OTLP/HTTP calls retryable (words of the OpenTelemetry Collector)."""

    initial_interval: Duration = Field(1.0, description="Wait before the first retry.")
    max_interval: Duration = Field(30.0, description="Upper limit of the wait.")
    multiplier: Number = Field(1.5, ge=1.0, description="Growth of the wait.")
    randomization_factor: Number = Field(0.5, ge=0.0, le=1.0, description="Jitter, as a part of the wait.")
    max_elapsed_time: Duration = Field(
        300.0, description="After this long a batch goes back to the spool, and without one is dropped; 0 means never."
    )


class Upload(Section):
    """Requests to the backend."""

    concurrency: Integer = Field(
        8, ge=1, le=256, description="Most uploads side by side; how many there are adapts to the backend."
    )
    compression: Literal["gzip", "none"] = Field("gzip", description="`content-encoding` of the payload.")
    connect_timeout: Duration = Field(5.0, gt=0, description="Limit for connecting.")
    write_timeout: Duration = Field(10.0, gt=0, description="Limit for one write.")
    read_timeout: Duration = Field(10.0, gt=0, description="Limit for one read of the answer.")
    timeout: Duration = Field(30.0, gt=0, description="Limit for a whole attempt.")
    max_request_size: Size = Field(
        64 << 20, ge=1 << 14, le=64 << 20, description="Bytes of a request before compression; more is split."
    )
    ca_file: str = Field("", description="PEM file of the certificate authorities to trust, instead of the known ones.")
    client_cert_file: str = Field("", description="PEM file of the client certificate, with its chain.")
    client_key_file: str = Field("", description="PEM file of its key, where that is not in the same file.")
    proxy: Url | None = Field(None, description="HTTP proxy for uploads; those of the environment are never used.")


class Admin(Section):
    """Health, readiness, metrics, settings in force, drain."""

    enabled: bool = Field(True, description="Run the admin server.")
    listen: Address = Field(
        Address("127.0.0.1", 16021),
        description="PORT or HOST:PORT. Others than this host are answered on health, metrics and status only.",
    )


class Shutdown(Section):
    """SIGTERM: stop accepting, let exchanges finish, flush, exit."""

    grace_period: Duration = Field(30.0, description="Time for exchanges in flight to finish.")
    flush_timeout: Duration = Field(5.0, description="Time for the exporter to deliver what waits, after that.")


class Reload(Section):
    """Other settings without a restart: on SIGHUP, `POST /reload`, or when the configuration file has changed."""

    watch: bool = Field(True, description="Look at the configuration file, and reload when its content has changed.")
    interval: Duration = Field(1.0, ge=0.1, description="Time between two looks.")
    settle_time: Duration = Field(
        1.0, description="A changed file is read when it has not changed any more for this long."
    )
    retire_timeout: Duration = Field(
        0.0,
        description="Workers with earlier settings serve the connections that they have; after this long these have "
        "`shutdown.grace_period` left. 0: as long as they last.",
    )
    max_retired: Integer = Field(
        8, ge=1, le=256, description="Such workers at most: beyond it a reload is refused, until connections end."
    )


class Log(Section):
    """Logs go to standard error."""

    level: Annotated[Literal["debug", "info", "warning", "error"], AnyCase] = Field(
        "info", description="Least severe level written."
    )
    format: Literal["auto", "json", "console"] = Field("auto", description="`auto`: console on a terminal, else JSON.")


class SettingsModel(Section):
    """The whole configuration."""

    sp_backend_url: Url = Field("https://o.softprobe.ai", description="Where batches go: `POST {url}/v1/traces`.")
    public_key: Key = Field(
        SecretStr(""), description="Tenant identity, sent as `x-public-key`. Required unless the backend is loopback."
    )
    service_name: Line = Field(
        "default-service", description="Fixed service name; empty or `default-service` means: detect."
    )
    traffic_direction: Annotated[Literal["server", "client", "both"], BeforeValidator(_direction)] = Field(
        "both", description="Collect `server` (`inbound`), `client` (`outbound`) exchanges, or `both`."
    )
    collectionRules: CollectionRules = Field(CollectionRules(), description="What to collect.")
    exemptionRules: list[ExemptionRule] = Field(
        [ExemptionRule()], description="What never to collect; `[]` switches exemptions off."
    )

    listen: Listen = Field(Listen(), description="Where traffic arrives.")
    strict: Literal["raw", "reject"] = Field(
        "raw", description="Ambiguous HTTP/1 is forwarded untouched (`raw`) or answered 400 and closed (`reject`)."
    )
    detect_timeout: Duration = Field(
        0.2, description="Bytes that do not decide what a connection speaks are held no longer than this."
    )
    compat_headers: bool = Field(True, description="Also inject `x-service-name` and `x-current-service`.")
    debug_headers: bool = Field(
        False, description="Also inject the `x-debug-*` headers (host, pod, namespace, account)."
    )
    resource_type: Line = Field("sp-envoy-proxy", description="Resource attribute `sp.resource.type`.")
    tags: dict[TagName, Line] = Field({}, description="Custom tags: resource attributes of every batch.")
    capture: Capture = Field(Capture(), description="What is captured.")
    relay: Relay = Field(Relay(), description="Relay workers.")
    data_path: Literal["auto", "mitmproxy"] = Field(
        "auto", description="`auto`: mitmproxy only for what needs it; `mitmproxy`: all HTTP passes through it."
    )
    engine: Literal["eager", "on_demand", "off"] = Field(
        "on_demand", description="When the mitmproxy worker is started: at once, on first need, or never."
    )
    mitm: Mitm = Field(Mitm(), description="The mitmproxy worker.")
    tls: Tls = Field(Tls(), description="TLS.")
    websocket: WebSocket = Field(WebSocket(), description="WebSocket.")
    addons: Addons = Field(Addons(), description="Operators' scripts.")
    inject: Inject = Field(Inject(), description="Stored answers, for tests only.")
    redaction: Redaction = Field(Redaction(), description="What never leaves this machine.")
    limits: Limits = Field(Limits(), description="How much is captured at most.")
    sampling: Sampling = Field(Sampling(), description="Which part of the traces is captured.")
    batch: Batch = Field(Batch(), description="Batching.")
    queue: Queue = Field(Queue(), description="Sending queue.")
    spool: Spool = Field(Spool(), description="Sending queue on disk.")
    exporter: Exporter = Field(Exporter(), description="Exporter.")
    exporters: list[Destination] = Field(
        [], description="Where batches go; none means the Softprobe backend at `sp_backend_url`."
    )
    approved_backends: list[Host] = Field(
        [], description="The only hosts that are ever talked to; none means those of `exporters`."
    )
    retry: Retry = Field(Retry(), description="Retries.")
    upload: Upload = Field(Upload(), description="Uploads.")
    admin: Admin = Field(Admin(), description="Admin server.")
    backend: Backend = Field(Backend(), description="Embedded backend.")
    shutdown: Shutdown = Field(Shutdown(), description="Shutdown.")
    reload: Reload = Field(Reload(), description="Reloading.")
    log: Log = Field(Log(), description="Logs.")
    netfilter: Netfilter = Field(Netfilter(), description="Redirect rules.")
