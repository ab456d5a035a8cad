"""Nothing goes anywhere behind a refusal."""

from sp_proxy.taps.context import Signal, Tap
from sp_proxy.taps.discard import Discard


def test_nothing_passes_and_nothing_is_signalled():
    tap: Tap = Discard()
    outputs = [tap.client(b"GET / HTTP/1.1\r\n\r\n"), tap.server(b"HTTP/1.1 200 OK\r\n\r\n"), tap.timeout()]
    outputs += [tap.take_held(), tap.take_kept(), tap.client_eof(), tap.server_eof(), tap.drain(patient=False)]
    assert set(outputs) == {b""}
    assert tap.bulk(client=True) == tap.bulk(client=False) == 0
    tap.close("client_aborted")
    assert (tap.signal, tap.answer, tap.idle) == (Signal.NONE, b"", False)
