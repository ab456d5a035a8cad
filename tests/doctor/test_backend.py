"""Backends, real ones: reached or not, with a key that they know or not."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import trio

from sp_proxy.doctor import backend
from sp_proxy.doctor.backend import nothing
from sp_proxy.doctor.findings import Finding, Verdict
from sp_proxy.settings.model import SettingsModel
from tests.misbehaving_backend import Backend, Behaviour, answer, open_backend, refused_url, reset_without_answer


@contextmanager
def running(*behaviours: Behaviour) -> Iterator[Backend]:
    """One in a thread of its own: the doctor has a loop of its own too."""
    ready, end = threading.Event(), trio.Event()
    found: list[Backend] = []
    tokens: list[trio.lowlevel.TrioToken] = []

    async def main() -> None:
        tokens.append(trio.lowlevel.current_trio_token())
        async with open_backend(*behaviours) as made:
            found.append(made)
            ready.set()
            await end.wait()

    thread = threading.Thread(target=trio.run, args=(main,))
    thread.start()
    assert ready.wait(20)
    try:
        yield found[0]
    finally:
        tokens[0].run_sync_soon(end.set)
        thread.join()


def examined(url: str, **values) -> Finding:
    (found,) = backend.examine(SettingsModel(sp_backend_url=url, public_key="pk-secret", **values), {})
    assert "pk-secret" not in found.text + found.advice
    return found


def test_one_that_accepts():
    with running() as made:
        found = examined(made.url)
    assert found.verdict is Verdict.OK
    assert found.text.startswith(f"softprobe: {made.url} accepts, in ")
    assert found.text.endswith("with our key")
    (received,) = made.received
    assert received.headers["x-public-key"] == "pk-secret"
    (resource,) = received.otlp().resource_spans
    assert [list(scope.spans) for scope in resource.scope_spans] == [[]]


@pytest.mark.parametrize(
    "behaviour, verdict, words",
    [
        (answer(401), Verdict.FAIL, "refuses us"),
        (answer(403), Verdict.FAIL, "refuses us"),
        (answer(404), Verdict.FAIL, "404"),
        (answer(400), Verdict.WARN, "refuses a request without spans"),
        (answer(413), Verdict.FAIL, "takes no request at all"),
        (answer(503), Verdict.WARN, "503"),
        (answer(429), Verdict.WARN, "429"),
        (reset_without_answer, Verdict.FAIL, "cannot be reached"),
    ],
)
def test_one_that_does_not(behaviour, verdict, words):
    with running(behaviour) as made:
        found = examined(made.url)
    assert found.verdict is verdict
    assert words in found.text
    assert found.advice


def test_one_that_is_not_there():
    found = examined(refused_url())
    assert found.verdict is Verdict.FAIL
    assert "cannot be reached" in found.text
    found = examined("http://no-such-host.invalid")
    assert found.verdict is Verdict.FAIL


def test_what_needs_no_network_and_what_cannot_be_used():
    (found,) = backend.examine(SettingsModel(public_key="k", exporters=[{"type": "stdout"}]), {})
    assert found.verdict is Verdict.OK
    (found,) = backend.examine(SettingsModel(public_key="k", upload={"ca_file": "/nowhere"}), {})
    assert found.text == "upload.ca_file: /nowhere: No such file or directory"


def test_a_request_of_nothing_is_short():
    assert nothing().records == 0
    assert 10 < len(nothing().body) < 200
