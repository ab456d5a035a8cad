"""The steady load: its documents, its number of exchanges, and how it fails."""

import json

import pytest

from benchmarks.processes import BenchmarkError, free_port
from benchmarks.steady import VARIANTS, Load, bodies, drive, serve_origin, served


@pytest.mark.parametrize("size", [16, 100, 16384])
def test_bodies_are_documents_of_the_size_that_is_asked_for(size):
    made = bodies(size, 1)
    assert [len(body) for body in made] == [size] * VARIANTS
    assert all(isinstance(json.loads(body)["items"], list) for body in made)
    assert len(set(made)) == (VARIANTS if size > 60 else 1)


def test_a_load_has_its_number_of_exchanges_and_its_rate():
    load = Load(rate=200, seconds=1.0, body_size=5000)
    with served(serve_origin, load.body_size) as port:
        driven = drive(port, load)
    assert len(driven.latencies_us) == load.requests == 200
    assert driven.latencies_us == sorted(driven.latencies_us)
    assert driven.latencies_us[0] > 0
    assert driven.seconds > 0.9
    assert driven.rate == 200 / driven.seconds


def test_a_client_or_a_server_that_fails_is_an_error():
    with pytest.raises(BenchmarkError, match="the client failed"):
        drive(free_port(), Load(rate=10, seconds=0.1, body_size=16))
    with pytest.raises(BenchmarkError, match="a server failed"), served(bool):  # which ends at once
        raise AssertionError("it was served")
