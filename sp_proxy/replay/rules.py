"""What counts as a difference: rules from a TOML or YAML file and from options, and which of them hold for an exchange (pure
but for the file).
"""

import tomllib
from fnmatch import translate
from pathlib import Path
from re import Pattern
from re import compile as compile_pattern

import msgspec
import yaml
from msgspec import Struct

from sp_proxy.core.redact import json_paths
from sp_proxy.replay.problems import ReplayError
from sp_proxy.replay.recorded import Recorded

HEADERS = ("content-type", "location")
"""Compared unless other fields are named."""
MAX_BYTES = 1 << 20


class Tolerance(Struct, frozen=True, forbid_unknown_fields=True):
    """How far numbers may be apart: by either measure. Without a path it holds for all numbers."""

    path: str = ""
    absolute: float = 0.0
    relative: float = 0.0


class Part(Struct, frozen=True, forbid_unknown_fields=True):
    """Rules for the exchanges that ``method`` and ``path`` name (``*`` is any text); empty is every one."""

    method: str = ""
    path: str = ""
    ignore: tuple[str, ...] = ()
    unordered: tuple[str, ...] = ()
    tolerance: tuple[Tolerance, ...] = ()
    ignore_headers: tuple[str, ...] = ()
    ignore_status: bool = False
    ignore_body: bool = False


class File(Struct, frozen=True, forbid_unknown_fields=True):
    """A rules file."""

    headers: tuple[str, ...] = HEADERS
    ignore: tuple[str, ...] = ()
    unordered: tuple[str, ...] = ()
    tolerance: tuple[Tolerance, ...] = ()
    ignore_headers: tuple[str, ...] = ()
    carry: tuple[str, ...] = ()
    placeholders: tuple[str, ...] = ()
    """Texts that stand where something was redacted, beside the default one."""
    where: tuple[Part, ...] = ()


class Bounds(Struct, frozen=True):
    """A tolerance, compiled. An empty path is all numbers."""

    path: json_paths.Path
    absolute: float
    relative: float


class Rules(Struct, frozen=True):
    """What holds for one exchange, compiled."""

    headers: tuple[str, ...] = HEADERS
    ignore: tuple[json_paths.Path, ...] = ()
    unordered: tuple[json_paths.Path, ...] = ()
    tolerance: tuple[Bounds, ...] = ()
    status: bool = True
    body: bool = True


class _Where(Struct, frozen=True):
    method: str
    path: Pattern[str]
    rules: Rules
    ignored_headers: frozenset[str]


class RuleBook:
    """All rules. Raises ReplayError for a path that is none, or a tolerance below zero."""

    def __init__(self, file: File) -> None:
        self.carry = tuple(_path("carry", each) for each in file.carry)
        self.placeholders = file.placeholders
        gone = _names(file.ignore_headers)
        everywhere = Part(ignore=file.ignore, unordered=file.unordered, tolerance=file.tolerance)
        headers = tuple(name for name in dict.fromkeys(each.lower() for each in file.headers) if name not in gone)
        self._everywhere = _compiled(everywhere, headers, "")
        self._where = [
            _Where(
                part.method.upper(),
                compile_pattern(translate(part.path or "*")),
                _compiled(part, (), f"where[{index}]."),
                _names(part.ignore_headers),
            )
            for index, part in enumerate(file.where)
        ]

    def of(self, recorded: Recorded) -> Rules:
        """The rules for one exchange: those for all, and those of every part that names it."""
        rules = self._everywhere
        for part in self._where:
            if part.method in {"", recorded.method.upper()} and part.path.match(recorded.target):
                rules = Rules(
                    tuple(name for name in rules.headers if name not in part.ignored_headers),
                    rules.ignore + part.rules.ignore,
                    rules.unordered + part.rules.unordered,
                    part.rules.tolerance + rules.tolerance,
                    rules.status and part.rules.status,
                    rules.body and part.rules.body,
                )
        return rules


def _compiled(part: Part, headers: tuple[str, ...], place: str) -> Rules:
    for each in part.tolerance:
        if not (each.absolute >= 0 and each.relative >= 0):
            raise ReplayError(f"{place}tolerance: found {min(each.absolute, each.relative)}; allowed: 0 or more")
    return Rules(
        headers,
        tuple(_path(f"{place}ignore", each) for each in part.ignore),
        tuple(_path(f"{place}unordered", each) for each in part.unordered),
        tuple(
            Bounds(_path(f"{place}tolerance", each.path) if each.path else (), each.absolute, each.relative)
            for each in part.tolerance
        ),
        not part.ignore_status,
        not part.ignore_body,
    )


def _path(place: str, text: str) -> json_paths.Path:
    try:
        return json_paths.parse(text)
    except ValueError as error:
        raise ReplayError(f"{place}: found {text[:100]!r}; allowed: {error}") from None


def _names(names: tuple[str, ...]) -> frozenset[str]:
    return frozenset(name.lower() for name in names)


def read_file(path: Path) -> File:
    """A rules file. Raises ReplayError."""
    return read_document(path, File)


def read_document[T](path: Path, kind: type[T]) -> T:
    """A file of rules: TOML by its name, else YAML (which JSON is too). Raises ReplayError."""
    try:
        with path.open("rb") as opened:
            data = opened.read(MAX_BYTES + 1)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else "no such file"
        raise ReplayError(f"{path}: cannot be read ({reason.lower()})") from None
    if len(data) > MAX_BYTES:
        raise ReplayError(f"{path}: larger than {MAX_BYTES >> 20} MiB")
    try:
        text = data.decode()
        value = tomllib.loads(text) if path.suffix == ".toml" else yaml.safe_load(text)
        return msgspec.convert({} if value is None else value, kind)
    except (tomllib.TOMLDecodeError, yaml.YAMLError, msgspec.ValidationError, UnicodeDecodeError) as error:
        raise ReplayError(f"{path}: {' '.join(str(error).split())}") from None
    except RecursionError:
        raise ReplayError(f"{path}: nested too deeply") from None


def with_options(
    file: File,
    *,
    ignore: tuple[str, ...] = (),
    headers: tuple[str, ...] = (),
    unordered: tuple[str, ...] = (),
    carry: tuple[str, ...] = (),
    tolerance: float | None = None,
) -> File:
    """The file with what options add to it; ``headers`` are compared beside the file's."""
    more = () if tolerance is None else (Tolerance(relative=tolerance),)
    return msgspec.structs.replace(
        file,
        headers=file.headers + headers,
        ignore=file.ignore + ignore,
        unordered=file.unordered + unordered,
        carry=file.carry + carry,
        tolerance=file.tolerance + more,
    )
