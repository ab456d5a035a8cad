"""Files are run once elsewhere, before they come into force."""

import pytest

from sp_proxy.addons import check as check_module
from sp_proxy.addons.check import check
from sp_proxy.addons.source import AddonError, look
from tests.addons.hooks import wait_for_end

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


def test_the_daemons_secrets_are_not_in_its_environment(monkeypatch):
    monkeypatch.setenv("SP_PROXY_PUBLIC_KEY", "pk-secret")
    text = "import os\nassert 'SP_PROXY_PUBLIC_KEY' not in os.environ\ndef exchange(ex): ...\n"
    check([look("/x/good.py", text)])


def test_one_that_does_not_end_is_ended(monkeypatch):
    monkeypatch.setattr(check_module, "SECONDS", 1.0)
    bad = look(
        "/x/bad.py",
        "import signal\nsignal.signal(signal.SIGALRM, signal.SIG_IGN)\nwhile True: pass\ndef exchange(ex): ...\n",
    )
    with pytest.raises(AddonError, match=r"not run within 1 s: /x/bad\.py"):
        check([bad])


@pytest.mark.parametrize("end", ["", "1 / 0"])
def test_what_a_file_has_started_ends_too(tmp_path, end):
    text = "import subprocess\nfrom pathlib import Path\nchild = subprocess.Popen(['sleep', '300'])\n"
    text += f"Path({str(tmp_path / 'pid')!r}).write_text(str(child.pid))\n{end}\ndef exchange(ex): ...\n"
    try:
        check([look("/x/starts.py", text)])
    except AddonError as error:
        assert "ZeroDivisionError" in str(error)  # noqa: PT017
    wait_for_end(tmp_path / "pid")


def test_one_that_writes_without_end_fills_nobodys_memory():
    text = "import os, threading\nthreading.Thread(target=lambda: [os.write(1, b'x' * 65536) for _ in range(1 << 40)]).start()\n"
    check([look("/x/writes.py", text + "def exchange(ex): ...\n")])
    text = "import os\nfor fd in range(1, 20):\n    try: os.write(fd, b'x' * (1 << 17))\n    except OSError: pass\n"
    with pytest.raises(AddonError, match="running them ended the process"):
        check([look("/x/writes.py", text + "def exchange(ex): ...\n")])
