"""What was handed over and finds no mitm worker is not lost."""

from pathlib import Path

import pytest

from tests.supervisor.running_engine import DESTINATION, running


async def test_while_it_cannot_serve_connections_pass_raw(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    until = tmp_path / "until"
    until.touch()
    monkeypatch.setenv("FAKE_MITM", "dies")
    monkeypatch.setenv("FAKE_MITM_UNTIL", str(until))
    async with running() as daemon:
        stream, refusal = daemon.hand_over(b"on its way")
        assert refusal is None
        await daemon.until(lambda: bool(daemon.diverted))
        assert daemon.diverted == [(DESTINATION, b"on its way")]
        assert daemon.engine.diverted_total == 1
        await stream.aclose()
        stream, refusal = daemon.hand_over()
        await stream.aclose()
        assert refusal == "engine_down"
        until.unlink()
        await daemon.until(lambda: daemon.engine.state == "ready")
        stream, _ = await daemon.served()
        await stream.aclose()
