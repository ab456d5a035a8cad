"""Names of runs: what a run leaves behind when it is killed is known by its name, and removed by the next one.

A run is named by its process id and the time at which that process started (in clock ticks since boot), so that a reused
process id is not taken for the run of old.
"""

import os
import re
import shutil
from pathlib import Path

PREFIX = "spdemo"
_NAME = re.compile(r"([a-z]+)-([0-9]+)-([0-9]+)\b")


def this_run(prefix: str = PREFIX) -> str:
    """The name of this process's run."""
    pid = os.getpid()
    return f"{prefix}-{pid}-{_start_ticks(pid)}"


def is_left_over(name: str, prefix: str = PREFIX) -> bool:
    """Whether a name belongs to a run that has ended. False for what is no run's."""
    match = _NAME.match(name)
    return match is not None and match[1] == prefix and _start_ticks(int(match[2])) != int(match[3])


def remove_left_over_directories(parent: Path, prefix: str = PREFIX) -> list[Path]:
    """Remove the directories of ended runs which are ours; returns those that were removed."""
    removed = []
    for path in parent.glob(f"{prefix}-*"):
        # The directory is everybody's: what another user put there under such a name is not touched.
        if is_left_over(path.name, prefix) and not path.is_symlink() and path.stat().st_uid == os.geteuid():
            shutil.rmtree(path, ignore_errors=True)
            removed.append(path)
    return removed


def _start_ticks(pid: int) -> int | None:
    """Field 22 of /proc/PID/stat (proc(5)); None when there is no such process."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text("utf-8", errors="replace")
    except OSError:
        return None
    return int(text.rpartition(")")[2].split()[19])
