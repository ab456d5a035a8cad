"""The rules of ``docs/contributing.md`` that a machine can keep: who imports whom, what mirrors what, what is documented."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from sp_proxy.settings.keys import dotted, fields

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "sp_proxy"
ROOMS = sorted(path.name for path in PACKAGE.iterdir() if (path / "__init__.py").exists())

NO_TEST_FILE: dict[str, str] = {}
"""Modules without a test file of their own, beside ``__init__`` and ``__main__``, and why."""

FORBIDDEN = {
    "relay": {"mitmproxy", "trio", "pydantic"},
    "exporter": {"mitmproxy"},
    "supervisor": {"mitmproxy"},
    "admin": {"mitmproxy"},
}
"""What a room must not import, not even by way of another module."""


def modules(room: str = "") -> list[str]:
    """Dotted names of all modules of the package, or of one room."""
    return sorted(
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        for path in (PACKAGE / room).rglob("*.py")
    )


def source(module: str) -> Path:
    path = ROOT.joinpath(*module.split("."))
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


def is_type_checking(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and ast.unparse(node.test) in {"TYPE_CHECKING", "typing.TYPE_CHECKING"}


def import_statements(tree: ast.AST, *, inside_functions: bool) -> Iterator[ast.Import | ast.ImportFrom]:
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            yield node
        elif is_type_checking(node):
            continue
        elif inside_functions or not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            yield from import_statements(node, inside_functions=inside_functions)


@cache
def imports(module: str, *, inside_functions: bool = True) -> frozenset[str]:
    """Dotted names that a module imports: modules of ours in full, others as written."""
    found = set()
    for node in import_statements(ast.parse(source(module).read_text()), inside_functions=inside_functions):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
            continue
        assert node.level == 0, f"{module}: imports are absolute"
        assert node.module is not None
        for alias in node.names:
            name = f"{node.module}.{alias.name}"
            found.add(name if name in KNOWN else node.module)
    return frozenset(found)


KNOWN = frozenset(modules())


def reached(module: str) -> dict[str, tuple[str, ...]]:
    """Everything that importing a module may import, each with the way to it."""
    ways: dict[str, tuple[str, ...]] = {}
    waiting: list[tuple[str, ...]] = [(module,)]
    while waiting:
        way = waiting.pop()
        for name in imports(way[-1]):
            if name not in ways:
                ways[name] = (*way, name)
                if name in KNOWN:
                    waiting.append((*way, name))
    return ways


def top(name: str) -> str:
    return name.partition(".")[0]


def room_of(name: str) -> str:
    return name.split(".")[1] if name.startswith("sp_proxy.") else ""


def test_the_graph_is_read():
    """Guards the other tests against reading nothing."""
    assert {"core", "taps", "relay", "exporter", "supervisor", "admin", "cli", "settings"} <= set(ROOMS)
    assert "sp_proxy.core.exchange" in imports("sp_proxy.channel.frames")
    assert reached("sp_proxy.supervisor.run")["trio"][0] == "sp_proxy.supervisor.run"
    assert "sp_proxy.admin.server" in reached("sp_proxy.supervisor.run")
    assert "sp_proxy.admin.server" not in imports("sp_proxy.supervisor.run", inside_functions=False)


@pytest.mark.parametrize("room", ["core", "taps"])
def test_pure_rooms_import_the_standard_library_and_msgspec_only(room):
    allowed = {"core": {"core"}, "taps": {"core", "taps"}}[room]
    wrong = [
        f"{module} imports {name}"
        for module in modules(room)
        for name in sorted(imports(module))
        if not (
            room_of(name) in allowed if top(name) == "sp_proxy" else top(name) in {*sys.stdlib_module_names, "msgspec"}
        )
    ]
    assert wrong == []


@pytest.mark.parametrize("room", sorted(FORBIDDEN))
def test_rooms_do_not_reach_what_they_must_not(room):
    wrong = {
        " → ".join(way)
        for module in modules(room)
        for name, way in reached(module).items()
        if top(name) in FORBIDDEN[room]
    }
    assert wrong == set()


def test_only_the_room_for_it_imports_mitmproxy():
    assert [module for module in KNOWN if room_of(module) != "mitm" and "mitmproxy" in map(top, imports(module))] == []


def test_cli_imports_a_room_inside_its_subcommand():
    wrong = [
        f"{module} imports {name}"
        for module in modules("cli")
        for name in sorted(imports(module, inside_functions=False))
        if room_of(name) not in {"", "cli", "terminal"}  # the last is no room, and imports nothing
    ]
    assert wrong == []


BLOCKED_IMPORTS = """
import importlib, sys

blocked = set(sys.argv[1].split(","))

class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in blocked:
            raise ImportError(f"{name} is blocked")

sys.meta_path.insert(0, Blocker())
for name in sys.argv[2:]:
    importlib.import_module(name)
print(len(sys.argv[2:]))
"""


@pytest.mark.parametrize(
    "rooms, blocked",
    [
        (("core", "taps"), "mitmproxy,trio,uvloop,pydantic,pydantic_settings,asyncio"),
        (("relay",), "mitmproxy,trio,pydantic,pydantic_settings"),
        (("exporter", "supervisor", "admin"), "mitmproxy"),
    ],
)
def test_rooms_can_be_imported_without(rooms, blocked):
    names = [name for room in rooms for name in modules(room) if not name.endswith("__main__")]
    done = subprocess.run(
        [sys.executable, "-c", BLOCKED_IMPORTS, blocked, *names],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == str(len(names))


def test_every_module_has_its_test_file():
    missing = []
    for module in KNOWN:
        path = source(module).relative_to(PACKAGE)
        if path.stem in {"__init__", "__main__"} or module in NO_TEST_FILE:
            continue
        if not (ROOT / "tests" / path.with_name(f"test_{path.name}")).exists():
            missing.append(str(path))
    assert sorted(missing) == []


def test_the_exceptions_are_still_needed():
    for module, reason in NO_TEST_FILE.items():
        assert module in KNOWN
        assert reason
        path = source(module).relative_to(PACKAGE)
        assert not (ROOT / "tests" / path.with_name(f"test_{path.name}")).exists(), f"{module} has a test file now"


def test_packages_hold_a_docstring_only():
    for path in PACKAGE.rglob("__init__.py"):
        docstring, *rest = ast.parse(path.read_text()).body
        assert isinstance(docstring, ast.Expr), path
        if path.parent == PACKAGE:
            assert [ast.unparse(node).partition(" ")[0] for node in rest] == ["__version__"]
        else:
            assert rest == [], path


def test_every_module_says_what_it_is_for():
    assert [module for module in KNOWN if not ast.get_docstring(ast.parse(source(module).read_text()))] == []


def test_every_setting_is_documented():
    text = (ROOT / "docs" / "configuration.md").read_text()
    assert [dotted(path) for path, _ in fields() if f"`{dotted(path)}`" not in text] == []
