"""Running files, and naming their lines."""

import contextlib
import subprocess
import sys
import time

import pytest

from sp_proxy.addons.loading import TooSlowError, check_loads, fault_of, line_of, line_of_function, load, time_limit
from sp_proxy.addons.source import AddonError


def test_where_a_function_begins():
    module = load("a", "/x/a.py", "import functools\n\n@functools.cache\ndef exchange(ex): ...\nexchange2 = print\n")
    assert line_of_function(module.exchange, "/x/a.py") in {3, 4}
    assert [line_of_function(each, "/x/a.py") for each in (module.exchange2, load, None)] == [0, 0, 0]


def test_a_file_is_run_as_a_module():
    module = load("one", "/x/one.py", "import sys\nvalue = __name__, __file__\n")
    assert module.__dict__["value"] == ("sp_proxy_addon_one", "/x/one.py")


def test_faults_name_the_innermost_line_of_the_file_and_no_content():
    text = "import json\ndef parse(text):\n    return json.loads(text)\ndef exchange(ex):\n    parse(ex)\n"
    module = load("two", "/x/two.py", text)
    with pytest.raises(ValueError) as caught:
        module.__dict__["exchange"]("secret")
    fault = fault_of(caught.value, "/x/two.py")
    assert (fault.kind, fault.line) == ("JSONDecodeError", 3)
    assert line_of(None, "/x/two.py") == 0


def test_time_limits_end_what_catches_everything_else():
    def stubborn() -> None:
        while True:
            with contextlib.suppress(Exception):
                time.sleep(60)

    with pytest.raises(TooSlowError) as caught, time_limit(0.05):
        stubborn()
    assert fault_of(caught.value, "").kind == "too slow"
    with time_limit(60):
        pass


@pytest.mark.parametrize(
    "text, said",
    [
        ("import sys\nsys.exit(4)\n", "/x/a.py:2: SystemExit: 4"),
        ("\nimport nowhere_to_be_found\n", "/x/a.py:2: ModuleNotFoundError: No module named 'nowhere_to_be_found'"),
        ("x = 1\ny = 1 / 0\n", "/x/a.py:2: ZeroDivisionError: division by zero"),
    ],
)
def test_checks_tell_the_line(text, said):
    with pytest.raises(AddonError) as caught:
        check_loads("a", "/x/a.py", text)
    assert str(caught.value) == said


def test_a_file_that_does_not_end_is_ended(monkeypatch):
    monkeypatch.setattr("sp_proxy.addons.loading.LOAD_SECONDS", 0.1)
    with pytest.raises(AddonError, match=r"/x/a\.py:[12]: takes longer"):
        check_loads("a", "/x/a.py", "while True:\n    pass\n")


def test_what_holds_the_interpreter_ends_too():
    text = "import re; from sp_proxy.addons.loading import end_after; end_after(0.2); re.match('(a+)+b', 'a' * 99)"
    done = subprocess.run([sys.executable, "-c", text], stderr=subprocess.DEVNULL, check=False, timeout=60)
    assert done.returncode == 1
