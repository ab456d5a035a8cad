"""Whether addons run at all, found out before they come into force: their files are run once, in a process of their own."""

import subprocess
import sys

from msgspec import Struct, json

from sp_proxy.addons.loading import check_loads, confine
from sp_proxy.addons.process import environment
from sp_proxy.addons.source import AddonError, AddonFile, different, read_flows, read_hooks
from sp_proxy.settings.addons import Addons

SECONDS = 60.0
"""For all of them; each has ``loading.LOAD_SECONDS``."""
MAX_MEMORY = 1 << 30


class Found(Struct):
    """What the process says."""

    problem: str = ""


def read_and_check(addons: Addons) -> list[AddonFile]:
    """All addons that settings name, each run once. Raises AddonError."""
    flows = read_flows([flow.file for flow in addons.flows])
    found = different([*read_hooks(addons.files, addons.directory), *flows])
    check(found)
    return found


def check(files: list[AddonFile]) -> None:
    """Run each file once, elsewhere. Raises AddonError for the first that cannot be run: ``FILE:LINE: why``."""
    if not files:
        return
    try:
        done = subprocess.run(
            [sys.executable, "-P", "-m", "sp_proxy.addons", "check"],
            input=json.encode(files),
            capture_output=True,
            timeout=SECONDS,
            start_new_session=True,
            check=False,
            env=environment(),
        )
        found = json.decode(done.stdout.rpartition(b"\n")[2], type=Found)
    except subprocess.TimeoutExpired:
        raise AddonError(f"addons: not run within {SECONDS:g} s: {', '.join(each.path for each in files)}") from None
    except Exception:  # noqa: BLE001  # whatever a file does at its top, there is no answer
        paths = ", ".join(each.path for each in files)
        raise AddonError(f"addons: running them ended the process: {paths}") from None
    if found.problem:
        raise AddonError(found.problem)


def answer() -> int:
    """In that process; its exit code."""
    files = json.decode(sys.stdin.buffer.read(), type=list[AddonFile])
    out, sys.stdout = sys.stdout, sys.stderr
    confine(MAX_MEMORY)
    problem = ""
    for each in files:
        try:
            check_loads(each.name, each.path, each.text)
        except AddonError as error:
            problem = str(error)
            break
    out.write("\n" + json.encode(Found(problem)).decode())
    out.flush()
    return 0
