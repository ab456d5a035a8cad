"""A batch as the rows that are written: everything costly (JSON, compression) is done here, before the writer's turn.

Blobs begin with one byte: 0, as it is; 1, zstd. Short ones are not worth compressing.
"""

import hashlib
from typing import Any

import msgspec
import zstandard
from msgspec import Struct

from sp_proxy.backend.log_model import LogBatch, StoredLog
from sp_proxy.backend.model import Batch, StoredSpan

_PLAIN = b"\x00"
_ZSTD = b"\x01"
_WORTHWHILE = 128
"""Bytes from which compression is tried."""


class PackedSpan(Struct, frozen=True, gc=False):
    """A span with its blobs ready."""

    span: StoredSpan
    details: bytes
    request_body: bytes | None
    response_body: bytes | None
    tags_digest: bytes
    """Of the tags, empty without any."""


class PackedBatch(Struct, frozen=True):
    """A batch with its blobs ready."""

    tenant: str
    received_unix_ns: int
    resources: list[tuple[bytes, bytes]]
    """Digest and blob of each."""
    spans: list[PackedSpan]


class PackedLogs(Struct, frozen=True):
    """A batch of log records with their blobs ready."""

    tenant: str
    received_unix_ns: int
    resources: list[tuple[bytes, bytes]]
    logs: list[StoredLog]
    details: list[bytes]


def pack_logs(batch: LogBatch) -> PackedLogs:
    """Encode and compress."""
    compressor = zstandard.ZstdCompressor(level=1)
    return PackedLogs(
        tenant=batch.tenant,
        received_unix_ns=batch.received_unix_ns,
        resources=_pack_resources(batch.resources, compressor),
        logs=batch.logs,
        details=[pack(msgspec.json.encode(log.details), compressor) for log in batch.logs],
    )


def pack_batch(batch: Batch) -> PackedBatch:
    """Encode and compress."""
    compressor = zstandard.ZstdCompressor(level=1)
    resources = _pack_resources(batch.resources, compressor)
    spans = [
        PackedSpan(
            span=span,
            details=pack(msgspec.json.encode(span.details), compressor),
            request_body=None if span.request_body is None else pack(span.request_body, compressor),
            response_body=None if span.response_body is None else pack(span.response_body, compressor),
            tags_digest=digest_of(span.tags),
        )
        for span in batch.spans
    ]
    return PackedBatch(tenant=batch.tenant, received_unix_ns=batch.received_unix_ns, resources=resources, spans=spans)


def digest_of(tags: dict[str, str]) -> bytes:
    """What tells one combination of tags from another; empty without any."""
    return hashlib.sha256(msgspec.json.encode(sorted(tags.items()))).digest() if tags else b""


def _pack_resources(resources: list[dict[str, Any]], compressor: zstandard.ZstdCompressor) -> list[tuple[bytes, bytes]]:
    encoded = [msgspec.json.encode(resource) for resource in resources]
    return [(hashlib.sha256(one).digest(), pack(one, compressor)) for one in encoded]


def pack(data: bytes, compressor: zstandard.ZstdCompressor) -> bytes:
    """A blob."""
    if len(data) >= _WORTHWHILE:
        compressed = compressor.compress(data)
        if len(compressed) < len(data):
            return _ZSTD + compressed
    return _PLAIN + data


def unpack(blob: bytes) -> bytes:
    """The data of a blob."""
    if blob[:1] == _ZSTD:
        return zstandard.ZstdDecompressor().decompress(blob[1:])
    return blob[1:]


def unpack_json(blob: bytes) -> dict[str, Any]:
    """The object in a blob."""
    value: dict[str, Any] = msgspec.json.decode(unpack(blob))
    return value
