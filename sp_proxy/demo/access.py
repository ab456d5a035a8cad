"""Lets an unprivileged user run this very installation although it lies in a directory closed to others (a clone in root's
home): in the mount namespace of the process alone, the closed directory shows what is needed of it and nothing else.

Nothing of this can be seen outside that process and its children, and nothing remains of it when they have ended.
"""

import os
import shlex
import sys
from collections.abc import Iterable
from pathlib import Path


def needed_paths() -> list[Path]:
    """The directories that a Python process of ours reads; none of them inside another."""
    names = [sys.prefix, sys.base_prefix, *(entry for entry in sys.path if entry)]
    found = {path for name in names for path in (Path(name).absolute(), Path(name).resolve()) if path.is_dir()}
    return outermost(found)


def outermost(paths: Iterable[Path]) -> list[Path]:
    """Those of the paths that are not inside another one."""
    kept: list[Path] = []
    for path in sorted(paths):
        if not any(path.is_relative_to(other) for other in kept):
            kept.append(path)
    return kept


def closed_directories(paths: Iterable[Path]) -> list[Path]:
    """The outermost directories above these paths which others may not enter."""
    above = {parent for path in paths for parent in path.parents}
    return outermost(path for path in above if not path.stat().st_mode & 0o001)


def opener(directory: Path) -> list[str]:
    """What goes before a command of root's so that users without any right can read what is needed; empty if they can.

    Mount points are made in ``directory``, which is open to all.
    """
    needed = needed_paths()
    closed = closed_directories(needed)
    if not closed:
        return []
    hidden = [path for path in needed if any(path.is_relative_to(each) for each in closed)]
    points = [directory / f"view-{number}" for number, _ in enumerate(hidden)]
    for point in points:
        point.mkdir(exist_ok=True)
    kept = list(zip(hidden, points, strict=True))
    lines = ["set -e", "umask 022"]
    lines += [_shell("mount", "--bind", path, point) for path, point in kept]
    lines += [_shell("mount", "-t", "tmpfs", "-o", "mode=0755", "tmpfs", each) for each in closed]
    for path, point in kept:
        lines += [_shell("mkdir", "-p", path), _shell("mount", "--bind", point, path)]
    lines.append('exec "$@"')
    return ["unshare", "--mount", "--propagation", "private", "--", "sh", "-c", "; ".join(lines), "sh"]


def _shell(*words: str | Path) -> str:
    return shlex.join(os.fspath(word) for word in words)
