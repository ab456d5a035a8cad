"""An addon's file as it is read: its text, and which hooks stand in it. Nothing of it is run here.

The text that is looked at is the text that is run: processes get it, not the path, so a file that changes in between
changes nothing. What a file offers is read from its syntax, so the supervisor never runs an operator's code.
"""

import ast
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Final, Literal

from msgspec import Struct

Hook = Literal["exchange", "request", "flow"]

MAX_BYTES: Final = 1 << 20
"""Of a file: more is no script."""
FLOW_EVENTS: Final = (
    *("requestheaders", "request", "responseheaders", "response", "error"),
    *("websocket_start", "websocket_message", "websocket_end"),
)
"""Events of mitmproxy that a flow script hears, for the hosts that it claims."""
_LIFE: Final = ("load", "configure", "running", "done")


class AddonError(ValueError):
    """A file that is no addon. One line for a person: ``FILE:LINE: what is wrong``."""


class AddonFile(Struct, frozen=True):
    """One addon."""

    name: str
    """The file's name without ``.py``; in metrics and in the log."""
    path: str
    text: str
    hooks: tuple[Hook, ...]
    """``exchange`` and ``request``, or ``flow``."""
    required: bool = False
    """It says ``required = True``: a record that its capture hook could not see is not sent."""
    pure: bool = False
    """It says ``pure = True``: its request hook answers the same for the same head, and its answers are remembered."""


def read(path: str) -> AddonFile:
    """Read a file and look at it. Raises AddonError."""
    try:
        with Path(path).open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise AddonError(f"{path}: cannot be read ({(error.strerror or str(error)).lower()})") from error
    if len(data) > MAX_BYTES:
        raise AddonError(f"{path}: longer than {MAX_BYTES >> 20} MiB; allowed: one file of plain Python")
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise AddonError(f"{path}:{line}: not UTF-8") from error
    return look(path, text)


def look(path: str, text: str) -> AddonFile:
    """Which hooks this text has. Raises AddonError for what is no Python, and for hooks that cannot be called."""
    try:
        tree = ast.parse(text, path)
        compile(tree, path, "exec", dont_inherit=True)
    except SyntaxError as error:
        raise AddonError(f"{path}:{error.lineno or 1}: {error.msg}") from error
    except (ValueError, RecursionError, MemoryError) as error:
        raise AddonError(f"{path}:1: not Python ({error})") from error
    name = Path(path).stem
    if not name.replace("-", "_").isidentifier():
        raise AddonError(f"{path}: the name of a file is the addon's; allowed: letters, digits, _ and -")
    hooks = tuple(dict.fromkeys(hook for node in tree.body for hook in _hooks(path, node)))
    if not hooks:
        raise AddonError(f"{path}:1: no hook; needed: def exchange(ex), def request(head), or a mitmproxy script's")
    if "flow" in hooks and len(hooks) > 1:
        raise AddonError(f"{path}:1: a flow script and another hook; allowed: a file for each")
    required, pure = (_says(path, tree.body, word) for word in ("required", "pure"))
    return AddonFile(name, path, text, hooks, required, pure)


def hook_files(files: Sequence[str], directory: str) -> list[str]:
    """The named files, then those of the folder by name. Raises AddonError for a folder that cannot be read."""
    found = list(files)
    if directory:
        try:
            inside = sorted(str(each) for each in Path(directory).iterdir() if _is_addon(each))
        except OSError as error:
            raise AddonError(f"addons.directory: {directory}: {(error.strerror or str(error)).lower()}") from error
        found += [each for each in inside if each not in found]
    return found


def read_hooks(files: Sequence[str], directory: str) -> list[AddonFile]:
    """All addons with capture or request hooks, in the order in which they are called. Raises AddonError."""
    found = [read(path) for path in hook_files(files, directory)]
    for each in found:
        if "flow" in each.hooks:
            raise AddonError(f"{each.path}:1: a flow script; allowed: in addons.flows, with the hosts that it claims")
    return different(found)


def different(found: Iterable[AddonFile]) -> list[AddonFile]:
    """The same. Raises AddonError when two have one name."""
    known: dict[str, AddonFile] = {}
    for each in found:
        other = known.setdefault(each.name, each)
        if other is not each:
            raise AddonError(f"{each.path}: {other.path} has this name already; allowed: a name of its own")
    return list(known.values())


def read_flows(files: Sequence[str]) -> list[AddonFile]:
    """Flow scripts. Raises AddonError."""
    found = [read(path) for path in files]
    for each in found:
        if "flow" not in each.hooks:
            raise AddonError(f"{each.path}:1: no flow script; allowed: in addons.files")
    return different(found)


def _is_addon(path: Path) -> bool:
    return path.suffix == ".py" and not path.name.startswith(("_", ".")) and path.is_file()


def _hooks(path: str, node: ast.stmt) -> Iterator[Hook]:
    if isinstance(node, ast.Assign) and any(
        isinstance(each, ast.Name) and each.id == "addons" for each in node.targets
    ):
        yield "flow"
    if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
        return
    given = node.args
    names = [each.arg for each in (*given.posonlyargs, *given.args)]
    if node.name == "exchange":
        _takes_one(path, node, names, "ex")
        yield "exchange"
    elif node.name == "request" and names[:1] == ["head"]:
        _takes_one(path, node, names, "head")
        if isinstance(node, ast.AsyncFunctionDef):
            raise AddonError(f"{path}:{node.lineno}: request(head) cannot be async: the relay waits for nobody")
        yield "request"
    elif node.name in FLOW_EVENTS or node.name in _LIFE:
        yield "flow"


def _takes_one(path: str, node: ast.FunctionDef | ast.AsyncFunctionDef, names: list[str], name: str) -> None:
    given = node.args
    needed = len(names) - len(given.defaults)
    if not names or needed > 1 or any(default is None for default in given.kw_defaults):
        raise AddonError(f"{path}:{node.lineno}: {node.name} is called with one argument: def {node.name}({name})")


def _says(path: str, body: list[ast.stmt], word: str) -> bool:
    for node in body:
        targets = (
            node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
        )
        if any(isinstance(each, ast.Name) and each.id == word for each in targets):
            value = getattr(node, "value", None)
            if not isinstance(value, ast.Constant) or not isinstance(value.value, bool):
                raise AddonError(f"{path}:{node.lineno}: {word} is True or False, written out")
            return value.value
    return False
