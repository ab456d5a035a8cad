import sys

import pytest

from sp_proxy.demo.shop import report
from sp_proxy.demo.shop.report import Call


def test_a_call_survives_the_pipe(capsys):
    call = Call("orders", "payment", "POST", "/charge", 402)
    report.write(call)
    out = capsys.readouterr().out
    assert out.endswith("\n")
    assert report.parse(out) == call
    assert sys.stdout is not None


@pytest.mark.parametrize("line", ["", "warning: something", "[1]", "{}", '{"source":"a"}', "null", '"text"'])
def test_lines_of_another_kind_are_no_calls(line):
    assert report.parse(line) is None
