"""Whether addons run at all, found out before they come into force: their files are run once, in a process of their own."""

import os
import select
import signal
import subprocess
import sys
import time
from typing import NoReturn

from msgspec import Struct, json

from sp_proxy.addons.loading import check_loads, confine, end_after
from sp_proxy.addons.process import environment
from sp_proxy.addons.source import AddonError, AddonFile, different, read_flows, read_hooks
from sp_proxy.settings.addons import Addons

SECONDS = 60.0
"""For all of them; each has ``loading.LOAD_SECONDS``."""
MAX_MEMORY = 1 << 30
MAX_ANSWER = 1 << 16


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
    paths = ", ".join(each.path for each in files)
    try:
        with os.fdopen(os.memfd_create("sp-proxy-addons"), "w+b", buffering=0) as given:
            given.write(json.encode(files))
            given.seek(0)
            process = subprocess.Popen(
                [sys.executable, "-P", "-m", "sp_proxy.addons", "check"],
                stdin=given,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
                env=environment(),
            )
    except OSError as error:
        raise AddonError(f"addons: could not be run: {(error.strerror or str(error)).lower()}: {paths}") from error
    with process:
        try:
            assert process.stdout is not None
            found = json.decode(_all_of(process.stdout.fileno(), SECONDS), type=Found)
        except TimeoutError:
            raise AddonError(f"addons: not run within {SECONDS:g} s: {paths}") from None
        except Exception:  # noqa: BLE001  # whatever a file does at its top, there is no answer
            raise AddonError(f"addons: running them ended the process: {paths}") from None
        finally:
            # With all that a file has started. It has not been waited for, so its number is nobody else's yet.
            os.killpg(process.pid, signal.SIGKILL)
    if found.problem:
        raise AddonError(found.problem)


def _all_of(descriptor: int, seconds: float) -> bytes:
    """What comes until its end. Raises TimeoutError, and ValueError for more than an answer is."""
    poll, data = select.poll(), b""
    poll.register(descriptor, select.POLLIN)
    until = time.monotonic() + seconds
    while poll.poll(max(0.0, until - time.monotonic()) * 1000):
        piece = os.read(descriptor, MAX_ANSWER)
        data += piece
        if not piece:
            return data
        if len(data) > MAX_ANSWER:
            raise ValueError("no answer")
    raise TimeoutError


def answer() -> NoReturn:
    """In that process."""
    end_after(2 * SECONDS)
    files = json.decode(sys.stdin.buffer.read(), type=list[AddonFile])
    # What a file writes, or has others write, to its standard output is nobody's.
    out = os.dup(1)
    os.dup2(2, 1)
    confine(MAX_MEMORY)
    problem = ""
    for each in files:
        try:
            check_loads(each.name, each.path, each.text)
        except AddonError as error:
            problem = str(error)
            break
    os.write(out, json.encode(Found(problem)))
    os._exit(0)  # whatever threads a file has begun
