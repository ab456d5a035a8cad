"""Where payloads go, as the settings have it: each destination's name, place and form, and the sink that reaches it."""

from collections.abc import Callable, Mapping
from hashlib import blake2s
from pathlib import Path

import structlog
from msgspec import Struct
from pydantic import SecretStr

from sp_proxy.exporter.encode import Form
from sp_proxy.exporter.lines import LinesFile, Stdout
from sp_proxy.exporter.resource import PUBLIC_KEY, resource_attributes
from sp_proxy.exporter.spool_place import spool_directory, spool_root
from sp_proxy.exporter.upload import OtlpHttp, traces_url
from sp_proxy.settings.checks import host_of
from sp_proxy.settings.model import Destination as DestinationSettings
from sp_proxy.settings.model import SettingsModel

Sink = OtlpHttp | LinesFile | Stdout

_NO_KEY = SecretStr("")


class World(Struct, frozen=True):
    """What the outside world is to a destination."""

    clock: Callable[[], float]
    """Tells unix time."""
    randomness: Callable[[], float]
    """Uniform in 0 to 1."""


class Plan(Struct, frozen=True):
    """One destination as the settings have it."""

    name: str
    settings: DestinationSettings
    url: str
    """Empty for what is not sent over a network."""
    form: Form
    """Of the payloads that it takes."""

    @property
    def target(self) -> str:
        """Where it goes, to tell spools apart."""
        if self.url:
            return str(traces_url(self.url))
        return self.settings.path or "-"


class Route(Struct, frozen=True, eq=False):
    """A plan that is ready to be followed."""

    name: str
    url: str
    form: Form
    place: tuple[str, str]
    """Target, and directory of the spool (empty without one): what waits for one place never goes to another."""
    directory: str | None
    """Of the spool; None without one."""
    settings: SettingsModel
    sink: Sink
    manner: tuple[object, ...]
    """All that decides how payloads get there, certificates included: with an equal one nothing needs to change."""


def plans(settings: SettingsModel, environ: Mapping[str, str]) -> list[Plan]:
    """The destinations in order; without ``exporters`` the Softprobe backend alone. Only that gets the public key."""
    resource = resource_attributes(settings, environ)
    keyless = {name: value for name, value in resource.items() if name != PUBLIC_KEY}
    found = []
    for each in settings.exporters or [DestinationSettings(type="softprobe")]:
        softprobe = each.type == "softprobe"
        local = each.type in {"file", "stdout"}
        found.append(
            Plan(
                each.name or each.type,
                each,
                "" if local else each.url or settings.sp_backend_url,
                Form(
                    resource if softprobe else keyless,
                    "none" if local else each.compression or settings.upload.compression,
                ),
            )
        )
    return found


def spool_directories(settings: SettingsModel, environ: Mapping[str, str]) -> dict[str, Path]:
    """The spool of each destination by its name, whether it exists or not; none when there is no place for spools."""
    root = spool_root(settings.spool.directory, environ)
    if root is None:
        return {}
    return {plan.name: spool_directory(root, plan.name, plan.target) for plan in plans(settings, environ)}


def routes(settings: SettingsModel, environ: Mapping[str, str], world: World) -> list[Route]:
    """The destinations in order, each with a sink. Raises ValueError, one line for a person, for settings that cannot be used."""
    spools = spool_directories(settings, environ) if settings.spool.mode != "off" else {}
    if not spools and settings.spool.mode != "off":
        structlog.get_logger().warning(
            "spool_off", reason="no directory can be written: set spool.directory, or spool.mode to off"
        )
    return [make_route(settings, plan, world, spools.get(plan.name)) for plan in plans(settings, environ)]


def make_route(settings: SettingsModel, plan: Plan, world: World, directory: Path | None) -> Route:
    """One of them. Raises ValueError as ``routes`` does."""
    key = settings.public_key.get_secret_value() if plan.settings.type == "softprobe" else ""
    upload = settings.upload
    files = (upload.ca_file, upload.client_cert_file, upload.client_key_file) if plan.url else ()
    manner = (plan.settings, plan.url, key, upload, settings.retry, settings.queue, settings.spool)
    return Route(
        plan.name,
        plan.url,
        plan.form,
        (plan.target, str(directory or "")),
        str(directory) if directory else None,
        settings,
        _sink(settings, plan, world),
        (*manner, tuple(settings.approved_backends), *map(_digest, files)),
    )


def _sink(settings: SettingsModel, plan: Plan, world: World) -> Sink:
    match plan.settings.type:
        case "file":
            return LinesFile(Path(plan.settings.path or ""), plan.settings.max_size)
        case "stdout":
            return Stdout()
        case kind:
            return OtlpHttp(
                plan.url,
                settings.public_key if kind == "softprobe" else _NO_KEY,
                settings.upload,
                world.clock,
                further_headers=plan.settings.headers,
                approved_hosts=settings.approved_backends or [host_of(plan.url)],
            )


def _digest(path: str) -> bytes:
    """Of a file's content: a certificate that was renewed is another one. Empty for no file, or one that is gone."""
    try:
        return blake2s(Path(path).read_bytes()).digest() if path else b""
    except OSError:
        return b""
