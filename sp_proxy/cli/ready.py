"""``sp-proxy ready``: is the daemon at work, or when will it be? For hooks that start something behind it."""

import http.client
import json
import time
from typing import TYPE_CHECKING, Annotated

import typer

from sp_proxy.cli.options import ConfigOption, SetOption, duration_or_exit, load_or_exit, say

if TYPE_CHECKING:
    from sp_proxy.settings.model import Admin

NOT_READY = 1
ASK_SECONDS = 2.0
PAUSE_SECONDS = 0.1
_HERE = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}
"""Where to ask what listens on all addresses."""

TimeoutOption = Annotated[str, typer.Option("--timeout", metavar="DURATION", help="Wait this long for it: 10s.")]


def ready(timeout: TimeoutOption = "0s", config: ConfigOption = None, assignments: SetOption = None) -> None:
    """Ask the daemon whether it is ready, until it is.

    Exit code 0 when it is, 1 when it is not in time, with the reason.
    """
    seconds = duration_or_exit("--timeout", timeout)
    settings = load_or_exit(config, assignments, sends=False).settings
    if not settings.admin.enabled:
        say("admin.enabled is false: there is nobody to ask")
        raise typer.Exit(NOT_READY)
    deadline = time.monotonic() + seconds
    while reason := why_not(settings.admin):
        if time.monotonic() >= deadline:
            say(reason)
            raise typer.Exit(NOT_READY)
        time.sleep(PAUSE_SECONDS)


def why_not(admin: "Admin") -> str:
    """Why the daemon is not ready, for a person; empty if it is."""
    host, port = _HERE.get(admin.listen.host, admin.listen.host), admin.listen.port
    connection = http.client.HTTPConnection(host, port, timeout=ASK_SECONDS)
    try:
        connection.request("GET", "/healthz/ready")
        answer = connection.getresponse()
        body = answer.read()
        if answer.status == http.client.OK:
            return ""
        return f"not ready: {', '.join(json.loads(body)['reasons'])}"
    except (OSError, http.client.HTTPException) as error:
        said = getattr(error, "strerror", None) or str(error) or type(error).__name__
        return f"no answer on {host}:{port} ({said.lower()}): no daemon runs, or its admin.listen is another one"
    except (ValueError, KeyError, TypeError):
        return f"what answers on {host}:{port} is not sp-proxy"
    finally:
        connection.close()
