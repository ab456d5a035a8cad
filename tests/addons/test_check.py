"""Files are run once elsewhere, before they come into force."""

import pytest

from sp_proxy.addons.check import check, read_and_check
from sp_proxy.addons.source import AddonError, look
from sp_proxy.settings.addons import Addons

GOOD = look("/x/good.py", "import json\nprint('hello')\ndef exchange(ex): ...\n")


def test_good_ones_pass():
    check([])
    check([GOOD])


@pytest.mark.parametrize(
    "top, said",
    [
        ("1 / 0", r"^/x/bad\.py:1: ZeroDivisionError: division by zero$"),
        ("import os; os._exit(0)", "running them ended the process: /x/good.py, /x/bad.py"),
        ("kept = bytearray(4 << 30)", r"^/x/bad\.py:1: MemoryError"),
        ("import sys; print('{}'); sys.exit()", r"^/x/bad\.py:1: SystemExit"),
    ],
)
def test_bad_ones_are_one_line(top, said):
    with pytest.raises(AddonError, match=said):
        check([GOOD, look("/x/bad.py", f"{top}\ndef exchange(ex): ...\n")])


def test_all_that_settings_name_is_read_and_run(tmp_path):
    (tmp_path / "hook.py").write_text("def exchange(ex): ...\n")
    flow = tmp_path / "flow.py"
    flow.write_text("def request(flow): ...\n")
    addons = Addons(directory=str(tmp_path / "none"), files=[str(tmp_path / "hook.py")])
    addons = Addons.model_validate({"files": addons.files, "flows": [{"file": str(flow), "hosts": ["."]}]})
    assert [each.name for each in read_and_check(addons)] == ["hook", "flow"]
    wrong = Addons.model_validate({"flows": [{"file": str(flow), "hosts": ["."], "options": {"delay": "1"}}]})
    with pytest.raises(AddonError, match=r"flow\.py: options\.delay: unknown option; allowed: none"):
        read_and_check(wrong)
