"""Which requests are alike (pure but for the file): what of a query and of a body may be another than was recorded."""

from fnmatch import translate
from pathlib import Path
from re import Pattern
from re import compile as compile_pattern

from msgspec import Struct

from sp_proxy.core.redact import json_paths
from sp_proxy.replay.problems import ReplayError
from sp_proxy.replay.rules import read_document


class Part(Struct, frozen=True, forbid_unknown_fields=True):
    """For the requests that ``method`` and ``path`` name (``*`` is any text; without the query); empty is every one."""

    method: str = ""
    path: str = ""
    ignore_query: tuple[str, ...] = ()
    ignore: tuple[str, ...] = ()
    ignore_body: bool = False


class File(Struct, frozen=True, forbid_unknown_fields=True):
    """A rules file."""

    ignore_query: tuple[str, ...] = ()
    """Names of parameters."""
    ignore: tuple[str, ...] = ()
    """JSON paths in bodies."""
    ignore_body: bool = False
    placeholders: tuple[str, ...] = ()
    where: tuple[Part, ...] = ()


class Likeness(Struct, frozen=True):
    """What holds for one request."""

    query: frozenset[str] = frozenset()
    ignore: tuple[json_paths.Path, ...] = ()
    body: bool = True


class _Where(Struct, frozen=True):
    method: str
    path: Pattern[str]
    likeness: Likeness


class MatchRules:
    """The rules, compiled. Raises ReplayError for a JSON path that is none."""

    def __init__(self, file: File) -> None:
        self.placeholders = file.placeholders
        everywhere = Part("", "", file.ignore_query, file.ignore, file.ignore_body)
        self._everywhere = _compiled(everywhere, "")
        self._where = [
            _Where(
                part.method.upper(), compile_pattern(translate(part.path or "*")), _compiled(part, f"where[{index}].")
            )
            for index, part in enumerate(file.where)
        ]

    def of(self, method: str, path: str) -> Likeness:
        """For a request; ``path`` is without its query."""
        found = self._everywhere
        for part in self._where:
            if part.method in {"", method.upper()} and part.path.match(path):
                more = part.likeness
                found = Likeness(found.query | more.query, found.ignore + more.ignore, found.body and more.body)
        return found


def _compiled(part: Part, place: str) -> Likeness:
    paths = []
    for text in part.ignore:
        try:
            paths.append(json_paths.parse(text))
        except ValueError as error:
            raise ReplayError(f"{place}ignore: found {text[:100]!r}; allowed: {error}") from None
    return Likeness(frozenset(part.ignore_query), tuple(paths), not part.ignore_body)


def read_file(path: Path) -> File:
    """A rules file, TOML by its name, else YAML. Raises ReplayError."""
    return read_document(path, File)
