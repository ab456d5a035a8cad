"""A process in which addons' files are run once, to see whether they run: it is asked, and answers what is wrong, or dies of it."""

import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from typing import NoReturn

from msgspec import Struct, json

from sp_proxy.addons.loading import confine, end_after
from sp_proxy.addons.process import environment
from sp_proxy.addons.source import AddonError

SECONDS = 60.0
"""For all files; each has ``loading.LOAD_SECONDS``."""
MAX_MEMORY = 1 << 30
MAX_ANSWER = 1 << 16


class Found(Struct):
    """What the process says."""

    problem: str = ""


def ask(module: str, question: bytes, paths: Sequence[str]) -> None:
    """Run ``python -m MODULE check`` with a question on its standard input. Raises AddonError for the problem that it names, or for its
    end without an answer; ``paths`` are the files that may be at fault.
    """
    named = ", ".join(paths)
    try:
        with os.fdopen(os.memfd_create("sp-proxy-addons"), "w+b", buffering=0) as given:
            given.write(question)
            given.seek(0)
            process = subprocess.Popen(
                [sys.executable, "-P", "-m", module, "check"],
                stdin=given,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
                env=environment(),
            )
    except OSError as error:
        raise AddonError(f"addons: could not be run: {(error.strerror or str(error)).lower()}: {named}") from error
    with process:
        try:
            assert process.stdout is not None
            found = json.decode(_all_of(process.stdout.fileno(), SECONDS), type=Found)
        except TimeoutError:
            raise AddonError(f"addons: not run within {SECONDS:g} s: {named}") from None
        except Exception:  # noqa: BLE001  # whatever a file does at its top, there is no answer
            raise AddonError(f"addons: running them ended the process: {named}") from None
        finally:
            # With all that a file has started. It has not been waited for, so its number is nobody else's yet.
            os.killpg(process.pid, signal.SIGKILL)
    if found.problem:
        raise AddonError(found.problem)


def answer(problem_of: Callable[[bytes], str]) -> NoReturn:
    """In that process: say what ``problem_of`` finds wrong with the question, and end."""
    end_after(2 * SECONDS)
    question = sys.stdin.buffer.read()
    # What a file writes, or has others write, to its standard output is nobody's.
    out = os.dup(1)
    os.dup2(2, 1)
    confine(MAX_MEMORY)
    os.write(out, json.encode(Found(problem_of(question))))
    os._exit(0)  # whatever threads a file has begun


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
