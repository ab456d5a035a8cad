import json
from datetime import UTC, datetime

import pytest
from pyarrow import parquet

from sp_proxy.backend.export import parquet as module
from sp_proxy.backend.export.formats import line
from sp_proxy.backend.export.parquet import SCHEMA, ParquetFile
from tests.backend.export.records import exchange
from tests.backend.requests import HOSTILE

RECORDS = [
    exchange({"x": HOSTILE}, path=HOSTILE, request_body="AP8=", response_body="é"),
    exchange(status=0, response_body=None, more={"sp.ttfb_ms": None, "sp.tag.env": "prod"}),
    exchange(path="/last", response_body="not base64!", more={"http.response.header.content-type": "image/png"}),
]


@pytest.mark.parametrize("cut", [1, 7, 100_000])
@pytest.mark.parametrize("rows", [1, 2, 1000])
def test_lines_become_rows_however_they_are_cut(tmp_path, monkeypatch, cut, rows):
    monkeypatch.setattr(module, "ROWS", rows)
    lines = b"".join(line(record) for record in RECORDS)
    path = str(tmp_path / "file.parquet")
    file = ParquetFile(path)
    for start in range(0, len(lines), cut):
        file.feed(lines[start : start + cut])
    file.close()
    assert file.rows == 3
    table = parquet.read_table(path)
    assert table.schema.equals(SCHEMA)
    first, second, third = table.to_pylist()
    assert (first["path"], first["request_body"], first["response_body"]) == (HOSTILE, b"\x00\xff", "é".encode())
    assert dict(first["request_headers"])["x"] == HOSTILE
    assert first["start"].to_pydatetime() == datetime(2023, 11, 14, 22, 13, 20, tzinfo=UTC)
    assert (second["status"], second["response_body"], second["ttfb_ms"]) == (0, None, None)
    assert json.loads(second["attributes"])["sp.tag.env"] == "prod"
    assert third["response_body"] == b"not base64!"


def test_nothing_is_a_file_too(tmp_path):
    path = str(tmp_path / "file.parquet")
    file = ParquetFile(path)
    file.close()
    assert parquet.read_table(path).num_rows == 0
