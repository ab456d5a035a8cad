"""The readiness latch."""

from sp_proxy.supervisor.readiness import Readiness


def test_ready_once_every_stage_was_released():
    readiness = Readiness(["exporter", "relay workers"])
    assert readiness.reasons == ["waiting for: exporter", "waiting for: relay workers"]
    readiness.release("exporter")
    assert readiness.reasons == ["waiting for: relay workers"]
    readiness.release("relay workers")
    readiness.release("relay workers")
    assert readiness.reasons == []


def test_only_a_drain_takes_it_back_for_good():
    readiness = Readiness(["exporter"])
    readiness.release("exporter")
    readiness.drain()
    readiness.release("exporter")
    assert readiness.reasons == ["draining"]


def test_a_drain_before_the_start_has_ended_names_both():
    readiness = Readiness(["exporter"])
    readiness.drain()
    assert readiness.reasons == ["waiting for: exporter", "draining"]
