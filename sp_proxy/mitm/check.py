"""Whether flow scripts can be loaded, with their options: the process behind ``addons/flows.py``."""

import asyncio
from collections import defaultdict
from typing import NoReturn

from mitmproxy.master import Master

from sp_proxy.addons import elsewhere
from sp_proxy.addons.loading import LOAD_SECONDS, line_of, time_limit
from sp_proxy.mitm.config import FlowScriptConfig, decode_scripts
from sp_proxy.mitm.live import Connections
from sp_proxy.mitm.options import ProxyOptions, proxy_options
from sp_proxy.mitm.scripts import Scripts


def answer() -> NoReturn:
    """In that process."""
    elsewhere.answer(_problem)


def _problem(question: bytes) -> str:
    scripts = decode_scripts(question)
    try:
        with time_limit(LOAD_SECONDS * len(scripts)):
            asyncio.run(_load(scripts))
    except ValueError as error:
        return str(error)
    except BaseException as error:  # noqa: BLE001  # too slow, or whatever a script does
        places = ((each.path, line_of(error.__traceback__, each.path)) for each in scripts)
        path, line = next(((path, line) for path, line in places if line), (scripts[0].path, 1))
        return f"{path}:{line}: cannot be loaded within {LOAD_SECONDS:g} s, or ends what loads it"
    return ""


async def _load(scripts: tuple[FlowScriptConfig, ...]) -> None:
    """As the worker does."""
    master = Master(proxy_options(""), event_loop=asyncio.get_running_loop())
    master._legacy_log_events.uninstall()  # noqa: SLF001
    master.addons.add(ProxyOptions())  # type: ignore[no-untyped-call]
    Scripts(scripts, LOAD_SECONDS, master, Connections(), defaultdict(int))
