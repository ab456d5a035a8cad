"""The fuzzer's corpus, input by input; and the fuzzer itself, for a short time."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

from fuzz.http1_conversation import SEPARATOR, check
from tests.requirements import unavailable

ROOT = Path(__file__).parents[2]
CORPUS = ROOT / "fuzz" / "corpus" / "http1"
SECONDS = 10


@pytest.mark.parametrize("file", sorted(CORPUS.iterdir()), ids=lambda file: file.name)
def test_every_input_of_the_corpus_keeps_the_rules(file):
    check(file.read_bytes())


def test_the_check_notices_a_byte_that_is_lost(monkeypatch):
    monkeypatch.setattr("tests.taps.rig.Http1Tap.take_held", lambda tap: b"")
    with pytest.raises(AssertionError, match="forwarded as it came"):
        check(b"0" + SEPARATOR.join([b"cGE", b"s220 smtp\r\n"]))


@pytest.mark.timeout(120)
def test_the_fuzzer_finds_nothing_in_a_short_time(tmp_path):
    if importlib.util.find_spec("atheris") is None:
        unavailable("needs atheris, which this platform has no package of")
    options = ["-seed=1", f"-max_total_time={SECONDS}", f"-artifact_prefix={tmp_path}/", "-print_final_stats=1"]
    done = subprocess.run(
        [sys.executable, "-m", "fuzz.http1_tap", *options, str(tmp_path), str(CORPUS)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert "stat::number_of_executed_units" in done.stderr
