"""The process in which files are run once: whatever they do, there is an answer, and nothing of it remains."""

import pytest

from sp_proxy.addons import elsewhere
from sp_proxy.addons.check import check
from sp_proxy.addons.source import AddonError, look
from tests.addons.hooks import wait_for_end


def test_the_daemons_secrets_are_not_in_its_environment(monkeypatch):
    monkeypatch.setenv("SP_PROXY_PUBLIC_KEY", "pk-secret")
    text = "import os\nassert 'SP_PROXY_PUBLIC_KEY' not in os.environ\ndef exchange(ex): ...\n"
    check([look("/x/good.py", text)])


def test_one_that_does_not_end_is_ended(monkeypatch):
    monkeypatch.setattr(elsewhere, "SECONDS", 1.0)
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
