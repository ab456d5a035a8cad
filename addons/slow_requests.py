"""Write slow exchanges into the daemon's log, tag them, and measure all: paths without their ids, and no query."""

import re

SECONDS = 1.0
ID = re.compile(r"/(?:\d+|[0-9a-f]{8}-[0-9a-f-]{27})(?=/|$)")


def exchange(ex):
    """What is printed becomes a line of the log (``addon_says``)."""
    if ex.ongoing:
        return
    route = ID.sub("/{id}", ex.path.partition("?")[0])
    ex.observe("request_seconds", ex.duration, direction=ex.direction)
    if ex.duration >= SECONDS:
        ex.tag("slow", "true")
        print(f"{ex.method} {route} took {ex.duration:.1f} s, status {ex.status}, trace {ex.trace_id}")
