"""Patterns of rules: right, never slow, and without RE2 where it is not needed."""

import subprocess
import sys
import time

import pytest

from sp_proxy.patterns import compile_pattern
from sp_proxy.settings.model import OTLP_PATHS

SAME = [
    (r"^/api/v1", "/api/v1/x", True),
    (r"/a|/b", "/x/b", True),
    (r"^/a$|^/b$", "/b/", False),
    (r"[a-c]1", "/b1", True),
    (r"example\.com", "examplexcom", False),
    (r"\/api\/", "/api/x", True),
    (r"/users/\d+$", "/users/12", True),
    (r"^/(orders|items)/.*", "/items/1", True),
    (r"(?i)HEALTH", "/health", True),
    (r"", "/anything", True),
    (r"ü", "/ü", True),
    (r"/a.b", "/a\udcffb", True),
    (r"/a.*b", "/a\udcffb", True),
]


@pytest.mark.parametrize("pattern,text,found", SAME)
def test_what_is_found(pattern, text, found):
    assert bool(compile_pattern(pattern)(text)) is found


@pytest.mark.parametrize(
    "pattern",
    [
        "(a+)+$",
        "a?a?a?a?a?a?a?a?a?a?a?a?a?a?a?a?a?a?a?a?a?a?a?a?aaaaaaaaaaaaaaaaaaaaaaaa",
        "x.*y.*z",
        "(a|a)" * 24 + "b",
    ],
)
def test_nothing_takes_long(pattern):
    start = time.process_time()
    compile_pattern(pattern)("x" * 20_000 + "a" * 40)
    assert time.process_time() - start < 2


@pytest.mark.parametrize("pattern", ["[", "a[", "(", "*", "(?=/api)", "(?<!a)b", r"(a)\1", r"\Z"])
def test_what_is_no_pattern(pattern):
    with pytest.raises(ValueError) as caught:
        compile_pattern(pattern)
    assert "\n" not in str(caught.value)


def test_the_defaults_need_no_second_engine():
    code = "import sys; from sp_proxy.patterns import compile_pattern; [compile_pattern(each) for each in sys.argv[1:]]; print('re2' in sys.modules)"
    patterns = [*OTLP_PATHS, r"^/health$", r"shop\.example"]
    done = subprocess.run(
        [sys.executable, "-c", code, *patterns], capture_output=True, text=True, check=True, timeout=30
    )
    assert done.stdout.strip() == "False"
    done = subprocess.run([sys.executable, "-c", code, "/a/.*"], capture_output=True, text=True, check=True, timeout=30)
    assert done.stdout.strip() == "True"
