"""Running an addon's file, and where in it something went wrong. Only in processes that may be lost by it."""

import contextlib
import faulthandler
import inspect
import os
import resource
import signal
import sys
from collections.abc import Iterator
from types import CodeType, FrameType, ModuleType, TracebackType

from sp_proxy.addons.source import AddonError
from sp_proxy.addons.wire import Fault

LOAD_SECONDS = 5.0
"""For what stands at the top of a file."""


class TooSlowError(BaseException):
    """A call has taken its time. No Exception, so that a hook which catches those does not catch it."""


def load(name: str, path: str, text: str) -> ModuleType:
    """Run a file as a module of this name. Raises whatever it raises."""
    known = f"sp_proxy_addon_{name.replace('-', '_')}"
    module = ModuleType(known)
    module.__file__ = path
    sys.modules[known] = module
    exec(compile(text, path, "exec", dont_inherit=True), module.__dict__)  # noqa: S102  # what addons are for
    return module


def fault_of(error: BaseException, path: str) -> Fault:
    """Which line of the addon was running, and the exception's class. Nothing of what it says."""
    kind = "too slow" if isinstance(error, TooSlowError) else type(error).__name__[:64]
    return Fault(kind, line_of(error.__traceback__, path))


def line_of(trace: TracebackType | None, path: str) -> int:
    """The innermost line of the addon's; 0 without one."""
    line = 0
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == path:
            line = trace.tb_lineno
        trace = trace.tb_next
    return line


def line_of_function(function: object, path: str) -> int:
    """Where a function of the addon's begins; 0 for what is no function of its."""
    code = getattr(inspect.unwrap(function) if callable(function) else function, "__code__", None)
    return code.co_firstlineno if isinstance(code, CodeType) and code.co_filename == path else 0


def check_loads(name: str, path: str, text: str) -> None:
    """Run a file once, to see whether it runs. Raises AddonError with its line."""
    try:
        with time_limit(LOAD_SECONDS):
            load(name, path, text)
    except BaseException as error:  # noqa: BLE001  # whatever a file does at its top, sys.exit included
        line = line_of(error.__traceback__, path) or getattr(error, "lineno", None) or 1
        said = "takes longer than 5 s" if isinstance(error, TooSlowError) else f"{type(error).__name__}: {error}"
        raise AddonError(f"{path}:{line}: {' '.join(said.split())[:300]}") from None


@contextlib.contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """End what is within by TooSlowError. Main thread only. Again and again: one may be swallowed."""
    signal.signal(signal.SIGALRM, _too_slow)
    signal.setitimer(signal.ITIMER_REAL, seconds, max(seconds, 0.01))
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


def _too_slow(_number: int, _frame: FrameType | None) -> None:
    raise TooSlowError


def end_after(seconds: float) -> None:
    """End this process when so much time has passed, unless it is asked for again. It needs nothing of the interpreter, so
    neither a loop in C nor a hook that swallows everything is in its way; and nobody else need be left to do it.
    """
    faulthandler.dump_traceback_later(seconds, exit=True, file=2)


def confine(max_memory: int) -> None:
    """Limit what this process may take: memory, core files, its share of the processor."""
    hard = resource.getrlimit(resource.RLIMIT_AS)[1]
    limit = max_memory if hard == resource.RLIM_INFINITY else min(max_memory, hard)
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with contextlib.suppress(OSError):
        os.nice(5)
