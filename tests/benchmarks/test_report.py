"""Medians, tables and the place for them in the documentation."""

import pytest

from benchmarks.cases import CASES
from benchmarks.measure import Measured
from benchmarks.processes import BenchmarkError
from benchmarks.report import BEGIN, END, Result, as_markdown, as_text, table, write
from tests.test_project import ROOT


def _numbers(cpu: float, **others: float) -> Measured:
    return Measured(
        {"cpu_us": cpu, "rate": 20_000.4, "p50_ms": 0.4, "p99_ms": 1.0, "errors": 0, "pss_mib": 61.26, **others}
    )


@pytest.fixture
def result():
    result = Result(CASES["get-16"])
    for cpu in (25.0, 90.0, 26.0):
        result.add("sp-exported", _numbers(cpu, worker_cpu_us=cpu - 5))
    for cpu in (50.0, 52.0, 51.0):
        result.add("envoy", _numbers(cpu))
    result.add("direct", _numbers(0.0))
    result.failures["mitmdump"] = "it was tired"
    return result


def test_rows_have_medians_in_the_order_of_the_proxies(result):
    heading, *rows = table(result)
    assert [row[0] for row in rows] == ["direct, no proxy", "sp_proxy, everything exported", "Envoy"]
    cells = dict(zip(heading, rows[1], strict=True))
    assert cells["CPU µs/request"] == "26.0"
    assert cells["of Envoy"] == "0.51"
    assert cells["requests/s"] == "20,000"
    assert cells["p99.9 ms"] == "-"


def test_direct_has_no_cpu_time(result):
    heading, direct, *_ = table(result)
    assert direct[heading.index("CPU µs/request")] == "-"
    assert direct[heading.index("PSS MiB")] == "-"


def test_failures_are_said(result):
    assert "mitmdump failed: it was tired" in as_text(result)
    assert "- mitmdump failed: it was tired" in as_markdown({}, [result])


def test_a_proxy_that_failed_later_has_no_row(result):
    result.failures["envoy"] = "it fell"
    heading, *rows = table(result)
    assert "Envoy" not in [row[0] for row in rows]
    assert {row[heading.index("of Envoy")] for row in rows} == {"-"}


def test_markdown_has_as_many_cells_in_every_row(result):
    lines = [line for line in as_markdown({"date": "today"}, [result]).splitlines() if line.startswith("|")]
    assert len(lines) == 5
    assert len({line.count("|") for line in lines}) == 1


def test_tables_are_put_between_the_markers(tmp_path, result):
    document = tmp_path / "performance.md"
    document.write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n")
    for _ in range(2):
        write(document, "new")
        assert document.read_text() == f"before\n{BEGIN}\n\nnew\n\n{END}\nafter\n"


def test_a_document_without_markers_is_left_alone(tmp_path):
    document = tmp_path / "performance.md"
    document.write_text(f"before\n{BEGIN}\n")
    with pytest.raises(BenchmarkError, match="no place for the tables"):
        write(document, "new")
    assert document.read_text() == f"before\n{BEGIN}\n"


def test_the_documentation_has_the_markers():
    text = (ROOT / "docs" / "performance.md").read_text()
    assert 0 < text.index(BEGIN) < text.index(END)
