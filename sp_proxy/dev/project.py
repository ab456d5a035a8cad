"""The file of ``sp-proxy dev``: which services there are, how each is started, where it listens (pure, but for the reading).

    [[service]]
    name = "orders"
    command = "python orders.py"
    port = 8081

Every mistake is a ``DevError`` of one line that names the file and the service.
"""

import re
import tomllib
from collections.abc import Iterable, Iterator
from pathlib import Path

import msgspec
from msgspec import Struct

from sp_proxy.dev.errors import DevError
from sp_proxy.dev.mistakes import mistakes

DEFAULT_FILE = "sp-dev.toml"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,39}")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_MAX_SERVICES = 50


class Service(Struct, frozen=True, forbid_unknown_fields=True):
    """One service."""

    name: str
    command: str | tuple[str, ...]
    """A line for the shell, or the words of a command."""
    port: int | None = None
    """Where it is called: captured on the way to ``to``. None: nobody calls it."""
    to: int | None = None
    """Where it listens; None: on a free port, which it finds in ``PORT``."""
    directory: str = ""
    """Relative to that of the file."""
    env: dict[str, str] = {}
    health: str = ""
    """A path that is asked for; empty: its port is looked at."""

    @property
    def words(self) -> list[str]:
        """The command as it is executed."""
        return ["sh", "-c", self.command] if isinstance(self.command, str) else list(self.command)


class Project(Struct, frozen=True):
    """What is to be run."""

    services: tuple[Service, ...]
    directory: Path
    host_ports: tuple[int, ...] = ()
    """Ports of this host's loopback that services in namespaces reach too: a database, for example."""


class _File(Struct, frozen=True, forbid_unknown_fields=True):
    service: tuple[Service, ...] = ()
    host_ports: tuple[int, ...] = ()


def read_project(path: Path) -> Project:
    """The services of a file. Raises DevError."""
    try:
        data = tomllib.loads(path.read_text("utf-8"))
    except OSError as error:
        raise DevError(f"{path}: {(error.strerror or str(error)).lower()}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise DevError(f"{path}: not TOML: {error}") from error
    if mistake := next(mistakes(data), ""):
        raise DevError(f"{path}: {mistake}")
    file = msgspec.convert(data, _File, strict=True)
    if problem := next(problems(file.service, file.host_ports), ""):
        raise DevError(f"{path}: {problem}")
    return Project(file.service, path.absolute().parent, file.host_ports)


def problems(services: Iterable[Service], host_ports: Iterable[int] = ()) -> Iterator[str]:
    """What is wrong with the services, a line each."""
    services = list(services)
    if not services:
        yield "there is no [[service]]"
    if len(services) > _MAX_SERVICES:
        yield f"{len(services)} services; at most {_MAX_SERVICES}"
    names: set[str] = set()
    ports: dict[int, str] = {}
    for service in services:
        if not _NAME.fullmatch(service.name):
            yield f"service {service.name!r}: a name is letters, digits, dots, dashes and underscores, at most 40"
            continue
        where = f"service {service.name}"
        if service.name in names:
            yield f"{where}: the name is taken by another service"
        names.add(service.name)
        if not service.command or not all(service.words) or "\0" in "".join(service.words):
            yield f"{where}: command: found nothing to run"
        if service.to is not None and service.port is None:
            yield f"{where}: to: needs port, where the service is called"
        for key, port in (("port", service.port), ("to", service.to)):
            if port is None:
                continue
            if not 0 < port < 65536:
                yield f"{where}: {key}: found {port}; allowed: 1 to 65535"
            elif port in ports:
                yield f"{where}: {key}: {port} is {ports[port]} too"
            else:
                ports[port] = f"{key} of {service.name}"
        for name, value in service.env.items():
            if not _VARIABLE.fullmatch(name) or "\0" in value:
                yield f"{where}: env: {name!r} is no variable"
        if service.health and (not service.health.startswith("/") or not service.health.isprintable()):
            yield f"{where}: health: found {service.health!r}; allowed: a path that begins with /"
        if service.health and service.port is None:
            yield f"{where}: health: needs port"
    for port in host_ports:
        if not 0 < port < 65536:
            yield f"host_ports: found {port}; allowed: 1 to 65535"
        elif port in ports:
            yield f"host_ports: {port} is {ports[port]} too"
        else:
            ports[port] = "in host_ports"


def single(
    command: tuple[str, ...], name: str, port: int | None, to: int | None, host_ports: tuple[int, ...] = ()
) -> Project:
    """The project of one command. Raises DevError."""
    name = name or re.sub(r"[^A-Za-z0-9._-]", "-", Path(command[0]).name).strip("-._")[:40] or "application"
    service = Service(name, command, port, to)
    if problem := next(problems([service], host_ports), ""):
        raise DevError(problem.removeprefix(f"service {name}: "))
    return Project((service,), Path.cwd(), host_ports)
