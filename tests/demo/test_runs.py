import os
import subprocess
import sys

from sp_proxy.demo import runs


def test_a_run_that_runs_is_not_left_over():
    assert runs.this_run() == runs.this_run()
    assert not runs.is_left_over(f"{runs.this_run()}-orders")


def test_an_ended_process_and_a_reused_id_are():
    ended = subprocess.run(
        [sys.executable, "-c", "from sp_proxy.demo.runs import this_run; print(this_run())"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()
    assert runs.is_left_over(ended)
    assert runs.is_left_over(f"{runs.PREFIX}-{os.getpid()}-1-orders")


def test_what_is_no_runs_is_left_alone():
    for name in ("", "other-1-1", f"{runs.PREFIX}-x-1", f"{runs.PREFIX}-1", f"a{runs.PREFIX}-1-1"):
        assert not runs.is_left_over(name), name


def test_directories_of_ended_runs_are_removed(tmp_path):
    ended, running, link = (
        tmp_path / f"{runs.PREFIX}-{os.getpid()}-1-a",
        tmp_path / f"{runs.this_run()}-b",
        tmp_path / f"{runs.PREFIX}-{os.getpid()}-1-link",
    )
    (tmp_path / "precious").mkdir()
    link.symlink_to(tmp_path / "precious")
    (ended / "backend").mkdir(parents=True)
    running.mkdir()
    assert runs.remove_left_over_directories(tmp_path) == [ended]
    assert sorted(tmp_path.iterdir()) == sorted([running, link, tmp_path / "precious"])
