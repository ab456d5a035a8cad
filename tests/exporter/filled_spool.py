"""Spools with something in them, for tests of what works on spools."""

from pathlib import Path

from sp_proxy.core.spans import SpanEncoder
from sp_proxy.core.spool_index import Entry
from sp_proxy.exporter.body import decode_body
from sp_proxy.exporter.encode import Encoder, Form, Payload
from sp_proxy.exporter.routes import spool_directories
from sp_proxy.exporter.spool_files import HEAD_BYTES, SpoolFiles
from sp_proxy.settings.model import SettingsModel
from tests.exporter.rig import make_exchanges

STORED_UNIX = 4_000_000_000.0
"""Far in the future, so that nothing is too old."""


def payload(number: int) -> Payload:
    """So many records."""
    (made,) = Encoder(SpanEncoder(decode_body).encode_span, [Form({})]).encode(make_exchanges(number)).payloads
    return made


def fill(settings: SettingsModel, *counts: int, exporter: str = "softprobe") -> Path:
    """Store payloads of so many records in an exporter's spool, and return its directory."""
    directory = spool_directories(settings, {})[exporter]
    files = SpoolFiles(directory)
    files.open()
    for sequence, count in enumerate(counts, 1):
        content = payload(count)
        files.write(Entry(sequence, count, HEAD_BYTES + len(content.body), STORED_UNIX), content)
    files.close()
    return directory
