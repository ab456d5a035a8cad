"""Exchanges as a Parquet file, row group by row group. Needs pyarrow (``sp-proxy[parquet]``).

The rows are the lines of a ``jsonl`` export: one exchange in full each. What has no fixed shape (attributes, resource)
is JSON in a column.
"""

import base64
import json
from collections.abc import Iterable
from typing import Any

import pyarrow as pa
from pyarrow import parquet

ROWS = 1000
"""Of a row group; no more are in memory."""
_FIELDS = pa.map_(pa.string(), pa.string())
SCHEMA = pa.schema(
    [
        ("trace_id", pa.string()),
        ("span_id", pa.string()),
        ("parent_span_id", pa.string()),
        ("start", pa.timestamp("ns", tz="UTC")),
        ("duration_ns", pa.int64()),
        ("ttfb_ms", pa.float64()),
        ("failed", pa.bool_()),
        ("partial", pa.bool_()),
        ("truncated", pa.bool_()),
        ("session_id", pa.string()),
        ("service", pa.string()),
        ("peer", pa.string()),
        ("direction", pa.string()),
        ("method", pa.string()),
        ("scheme", pa.string()),
        ("host", pa.string()),
        ("path", pa.string()),
        ("status", pa.int32()),
        ("error", pa.string()),
        ("request_size", pa.int64()),
        ("response_size", pa.int64()),
        ("request_headers", _FIELDS),
        ("response_headers", _FIELDS),
        ("request_body", pa.binary()),
        ("response_body", pa.binary()),
        ("attributes", pa.string()),
        ("resource", pa.string()),
    ]
)


class ParquetFile:
    """A file that is written as lines come. Use ``feed`` and then ``close``."""

    def __init__(self, path: str) -> None:
        self._writer = parquet.ParquetWriter(path, SCHEMA, compression="zstd")
        self._rest = b""
        self._rows: list[dict[str, Any]] = []
        self.rows = 0
        """Written so far."""

    def feed(self, data: bytes) -> None:
        """Some bytes of the export; lines may be cut anywhere."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            self._rows.append(row(json.loads(line)))
            if len(self._rows) == ROWS:
                self._write()

    def close(self) -> None:
        """The export has ended: write what is left, and the footer, without which it is no file."""
        if self._rows:
            self._write()
        self._writer.close()

    def _write(self) -> None:
        self._writer.write_table(pa.Table.from_pylist(self._rows, SCHEMA))
        self.rows += len(self._rows)
        self._rows.clear()


def row(exchange: dict[str, Any]) -> dict[str, Any]:
    """One exchange as a row."""
    values = {name: exchange[name] for name in SCHEMA.names if name in exchange}
    for side in ("request", "response"):
        message = exchange[side]
        values[f"{side}_headers"] = _pairs(message["headers"])
        values[f"{side}_body"] = _body(message["body"])
    return {
        **values,
        "start": exchange["start_unix_ns"],
        "attributes": json.dumps(exchange["attributes"]),
        "resource": json.dumps(exchange["resource"]),
    }


def _pairs(headers: Iterable[list[str]]) -> list[tuple[str, str]]:
    return [(name, value) for name, value in headers]


def _body(body: dict[str, str] | None) -> bytes | None:
    if body is None:
        return None
    if body["encoding"] == "base64":
        try:
            return base64.b64decode(body["data"], validate=True)
        except ValueError:
            pass  # not what it claims to be: as it stands
    return body["data"].encode(errors="surrogatepass")
