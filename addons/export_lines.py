"""Append a line of JSON for each exchange to a file: method, host, path without its query, status, milliseconds.

It sees what redaction has not seen yet, so it writes no headers, bodies or queries. For redacted spans: ``exporters: [{type: file}]``.
"""

import json
import os

PATH = os.environ.get("EXPORT_LINES", "/var/log/sp-proxy/exchanges.jsonl")


def exchange(ex):
    """One write a line, so that lines stay whole whoever else appends."""
    line = {
        "start": ex.start,
        "direction": ex.direction,
        "service": ex.service_name,
        "method": ex.method,
        "host": ex.host,
        "path": ex.path.partition("?")[0],
        "status": ex.status,
        "milliseconds": round(ex.duration * 1000, 3),
        "trace": ex.trace_id,
    }
    with open(PATH, "a", encoding="utf-8") as file:
        file.write(json.dumps(line) + "\n")
