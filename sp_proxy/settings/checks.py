"""What no single key can tell: keys that do not go together. Pure; the places are added by ``load.py``."""

from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address
from itertools import combinations
from urllib.parse import urlencode, urlsplit

from sp_proxy.settings.keys import KeyPath, dotted, variable
from sp_proxy.settings.masking import masked_url
from sp_proxy.settings.model import SettingsModel
from sp_proxy.settings.redaction import MIN_SALT
from sp_proxy.settings.types import Address

type Found = tuple[KeyPath, str]
"""A key and what is to be said about it."""

_ANY = {"", "0.0.0.0", "::"}


@dataclass(frozen=True, slots=True)
class Socket:
    """An address on which the daemon itself is going to listen."""

    path: KeyPath
    address: Address


def sockets(settings: SettingsModel) -> list[Socket]:
    """Everything that is switched on and listens."""
    listen = settings.listen
    result = [Socket(("listen", "forward", i, "listen"), f.listen) for i, f in enumerate(listen.forward)]
    if listen.outbound is not None:
        result.insert(0, Socket(("listen", "outbound"), listen.outbound))
    if listen.inbound is not None:
        result.insert(0, Socket(("listen", "inbound"), listen.inbound))
    if listen.proxy is not None:
        result.append(Socket(("listen", "proxy"), listen.proxy))
    if settings.admin.enabled:
        result.append(Socket(("admin", "listen"), settings.admin.listen))
    if settings.backend.enabled:
        result.append(Socket(("backend", "listen"), settings.backend.listen))
    return result


def problems(settings: SettingsModel, *, sends: bool = True) -> list[Found]:
    """Everything in these settings that cannot work; ``sends`` says whether it is a daemon that is to work with them: it
    needs the secrets, which others need not have.
    """
    key = [*_public_key(settings), *_token(settings)] if sends else []
    looks = (_clashes, _loops, _sizes, _exporters, _salt, _engine)
    return [*(found for look in looks for found in look(settings)), *key]


def warnings(settings: SettingsModel) -> list[Found]:
    """What works but is hardly meant."""
    found: list[Found] = []
    listen = settings.listen
    if listen.inbound is None and listen.outbound is None and not listen.forward and listen.proxy is None:
        found.append((("listen",), "nothing listens: no traffic will arrive"))
    for index, rule in enumerate(settings.exemptionRules):
        if not rule.hostPatterns and not rule.pathPatterns:
            found.append((("exemptionRules", index), "exempts everything: nothing will be captured"))
    if settings.inject.enabled:
        whom = masked_url(inject_url(settings).partition("?")[0])
        text = (
            f"FOR TESTS ONLY: outbound requests are asked of {whom}, and what it answers never reaches its destination"
        )
        found.append((("inject", "enabled"), text))
    return found


def is_loopback(host: str) -> bool:
    """Whether a host name or IP address is this machine itself: ``localhost``, 127.0.0.0/8, ``::1``."""
    if host.rstrip(".").lower() == "localhost":
        return True
    address = _ip(host)
    if isinstance(address, IPv6Address) and address.ipv4_mapped:
        address = address.ipv4_mapped
    return address is not None and address.is_loopback


def _ip(host: str) -> IPv4Address | IPv6Address | None:
    try:
        return ip_address(host)
    except ValueError:
        return None


def _overlap(a: Address, b: Address) -> bool:
    """Whether the second of the two could not be bound (or would take connections meant for the first)."""
    if a.port != b.port:
        return False
    if a.host in _ANY or b.host in _ANY or a.host == b.host:
        return not (a.host == "0.0.0.0" and ":" in b.host) and not (b.host == "0.0.0.0" and ":" in a.host)
    return is_loopback(a.host) and is_loopback(b.host) and "localhost" in {a.host, b.host}


def _clashes(settings: SettingsModel) -> list[Found]:
    return [
        (b.path, f"found {b.address}, which {dotted(a.path)} ({a.address}) takes already; allowed: another port")
        for a, b in combinations(sockets(settings), 2)
        if _overlap(a.address, b.address)
    ]


def _loops(settings: SettingsModel) -> list[Found]:
    found: list[Found] = []
    for index, forward in enumerate(settings.listen.forward):
        upstream = forward.upstream
        local = is_loopback(upstream.host) or upstream.host in _ANY
        for socket in sockets(settings):
            own = socket.path[0] == "listen" and socket.address.port == upstream.port
            if own and (upstream.host == socket.address.host or (local and _reaches(upstream, socket.address))):
                path: KeyPath = ("listen", "forward", index, "upstream")
                text = f"found {upstream}, which is {dotted(socket.path)} itself; allowed: the application's address"
                found.append((path, text))
    return found


def _reaches(upstream: Address, listener: Address) -> bool:
    return _overlap(upstream, listener) or (
        is_loopback(listener.host) and "localhost" in {upstream.host, listener.host}
    )


def _sizes(settings: SettingsModel) -> list[Found]:
    found: list[Found] = []
    if settings.queue.max_records < settings.batch.max_records:
        text = f"found {settings.queue.max_records}; allowed: at least batch.max_records ({settings.batch.max_records})"
        found.append((("queue", "max_records"), text))
    if settings.retry.max_interval < settings.retry.initial_interval:
        text = f"found {settings.retry.max_interval:g}s; allowed: at least retry.initial_interval"
        found.append((("retry", "max_interval"), f"{text} ({settings.retry.initial_interval:g}s)"))
    return found


NEEDED = {"softprobe": None, "otlp": "url", "file": "path", "stdout": None}
"""What an exporter cannot do without."""
_UPLOADS = {"url", "headers", "compression"}
_ALLOWED = {"softprobe": _UPLOADS, "otlp": _UPLOADS, "file": {"path", "max_size"}, "stdout": set[str]()}


def _exporters(settings: SettingsModel) -> list[Found]:
    found: list[Found] = []
    names: dict[str, int] = {}
    for index, exporter in enumerate(settings.exporters):
        path: KeyPath = ("exporters", index)
        needed = NEEDED[exporter.type]
        if needed and getattr(exporter, needed) is None:
            found.append(((*path, needed), f"missing; needed for type {exporter.type}"))
        said = exporter.model_fields_set - {"type", "name"} - _ALLOWED[exporter.type]
        found += [
            ((*path, key), f"means nothing for type {exporter.type}; allowed: without it") for key in sorted(said)
        ]
        name = exporter.name or exporter.type
        first = names.setdefault(name, index)
        if first != index:
            text = f"found {name}, which exporters[{first}] is called already; allowed: a name of its own"
            found.append(((*path, "name"), text))
    if settings.approved_backends:
        asked = [(("inject", "url"), inject_url(settings))] if settings.inject.enabled and settings.inject.url else []
        found += [
            (path, f"found {masked_url(url)}, whose host is not in approved_backends; allowed: a host which is")
            for path, url in [*_urls(settings), *asked]
            if host_of(url) not in settings.approved_backends
        ]
    upload = settings.upload
    if upload.client_key_file and not upload.client_cert_file:
        found.append((("upload", "client_cert_file"), "missing; needed for upload.client_key_file"))
    return found


def _urls(settings: SettingsModel) -> list[tuple[KeyPath, str]]:
    """Everything that batches are sent to, with the place where it is said."""
    if not settings.exporters:
        return [(("sp_backend_url",), settings.sp_backend_url)]
    urls: list[tuple[KeyPath, str]] = []
    for index, exporter in enumerate(settings.exporters):
        if exporter.url is not None:
            urls.append((("exporters", index, "url"), exporter.url))
        elif exporter.type == "softprobe":
            urls.append((("sp_backend_url",), settings.sp_backend_url))
    return urls


def host_of(url: str) -> str:
    """The host of a URL as it is compared: lower case, without the dot at the end and an address's brackets."""
    return (urlsplit(url).hostname or "").rstrip(".").lower()


def _salt(settings: SettingsModel) -> list[Found]:
    redaction = settings.redaction
    actions = [*redaction.detectors.model_dump().values(), *(rule.action for rule in redaction.rules)]
    length = len(redaction.salt.get_secret_value())
    if length >= MIN_SALT or (not length and "hash" not in actions):
        return []
    found = "one that is too short" if length else "nothing"
    needed = " (the action hash needs it)" if "hash" in actions else ""
    return [(("redaction", "salt"), f"found {found}; allowed: {MIN_SALT} characters or more{needed}")]


def engine_users(settings: SettingsModel) -> list[KeyPath]:
    """The keys whose values need the mitmproxy worker."""
    wanted: dict[KeyPath, bool] = {
        ("data_path",): settings.data_path == "mitmproxy",
        ("tls", "intercept"): bool(settings.tls.intercept),
        ("websocket", "capture"): settings.websocket.capture == "messages",
        ("addons", "flows"): bool(settings.addons.flows),
        ("inject", "enabled"): settings.inject.enabled,
    }
    return [path for path, needed in wanted.items() if needed]


def _engine(settings: SettingsModel) -> list[Found]:
    users = engine_users(settings)
    if settings.engine != "off" or not users:
        return []
    return [(("engine",), f"found off; allowed: on_demand or eager, because of {', '.join(map(dotted, users))}")]


def _public_key(settings: SettingsModel) -> list[Found]:
    if settings.public_key.get_secret_value():
        return []
    types = [exporter.type for exporter in settings.exporters] or ["softprobe"]
    urls = {exporter.url or settings.sp_backend_url for exporter in settings.exporters if exporter.type == "softprobe"}
    far = [url for url in sorted(urls or {settings.sp_backend_url}) if not is_loopback(urlsplit(url).hostname or "")]
    if "softprobe" not in types or not far:
        return []
    backend = masked_url(far[0])
    path: KeyPath = ("public_key",)
    text = (
        f"found nothing; needed because the backend {backend} is not on this machine"
        f" (set it here or in {variable(path)}; or send to the embedded backend: backend.enabled: true)"
    )
    return [(path, text)]


def _token(settings: SettingsModel) -> list[Found]:
    """A name instead of an address is looked at when it is resolved, at the start."""
    backend = settings.backend
    host = backend.listen.host
    named = host not in _ANY and _ip(host) is None
    if not backend.enabled or backend.token.get_secret_value() or named or is_loopback(host):
        return []
    path: KeyPath = ("backend", "token")
    text = (
        f"found nothing; needed because the backend listens on {backend.listen}, not on this machine alone"
        f" (set it here or in {variable(path)}; or backend.listen: 127.0.0.1:{backend.listen.port})"
    )
    return [(path, text)]


def inject_url(settings: SettingsModel) -> str:
    """Where stored answers are looked up."""
    url = settings.inject.url or f"{settings.sp_backend_url}/v1/inject"
    return f"{url}?{urlencode({'q': settings.inject.query})}" if settings.inject.query else url


def embedded_url(settings: SettingsModel) -> str:
    """The embedded backend's URL, as this machine reaches it."""
    address = settings.backend.listen
    host = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}.get(address.host, address.host)
    return f"http://{Address(host, address.port)}"
