"""``docs/operations.md``: the events that it names are those of the code."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
TEXT = (ROOT / "docs" / "operations.md").read_text("utf-8")
SERIOUS = {"warning", "error", "exception", "critical"}


def events(levels: set[str]) -> Iterator[str]:
    """What the code says to its logs at these levels."""
    for path in (ROOT / "sp_proxy").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            match node:
                case ast.Call(func=ast.Attribute(value=logger, attr=level), args=[ast.Constant(str(event)), *_]):
                    named = re.fullmatch("[a-z_]+", event)  # relay workers' own are sentences
                    if named and level in levels and ast.unparse(logger).rpartition(".")[2] in {"log", "_log"}:
                        yield event


def documented() -> set[str]:
    """Names in the table of events; ``mitm_worker_…`` is all that begin so."""
    table = TEXT.partition("| event | means |")[2].partition("\n\n")[0]
    cells = [line.split("|")[1] for line in table.splitlines() if line.startswith("|")]
    return {name for cell in cells for name in re.findall(r"`([a-z_]+…?)`", cell)}


def test_whatever_is_serious_is_on_the_page():
    names = documented()
    prefixes = tuple(name[:-1] for name in names if name.endswith("…"))
    said = set(events(SERIOUS))
    assert len(said) > 30
    assert {event for event in said if event not in names and not event.startswith(prefixes)} == set()


def test_what_is_on_the_page_is_said():
    said = set(events(SERIOUS | {"info", "debug", "log"}))
    source = "".join(path.read_text("utf-8") for path in (ROOT / "sp_proxy").rglob("*.py"))
    for name in documented():
        if name.endswith("…"):
            assert any(event.startswith(name[:-1]) for event in said), name
        else:
            assert name in said or f'"{name}"' in source, name
