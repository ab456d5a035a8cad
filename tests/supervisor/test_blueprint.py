"""What follows from settings, and whether workers must be others for it."""

import socket

import pytest

from sp_proxy.core.exchange import Direction
from sp_proxy.settings.load import load
from sp_proxy.settings.types import Address
from sp_proxy.supervisor.blueprint import Blueprint, make_blueprint, worker_config
from sp_proxy.supervisor.sockets import BoundListener

FORWARD = [{"listen": 8080, "upstream": "127.0.0.1:3000"}]


def blueprint(**flags) -> Blueprint:
    keys = {name.replace("__", "."): value for name, value in flags.items()}
    return make_blueprint(load(None, {}, {"sp_backend_url": "http://127.0.0.1:9"} | keys), {})


def test_what_a_worker_is_told_comes_from_the_settings():
    settings = blueprint(
        service_name="orders",
        strict="reject",
        capture__max_body_size="1KiB",
        shutdown__grace_period="3s",
        detect_timeout="50ms",
    ).settings
    config = worker_config(settings, {})
    assert config.headers.service_name == "orders"
    assert (config.strict, config.max_body_size, config.grace_period, config.detect_timeout) == (
        "reject",
        1024,
        3.0,
        0.05,
    )
    assert config.max_head_size == settings.relay.max_head_size
    assert config.buffer_size == settings.relay.buffer_size


@pytest.mark.parametrize(
    "flags",
    [
        {"strict": "reject"},
        {"capture__enabled": False},
        {"capture__max_body_size": 1},
        {"service_name": "x"},
        {"relay__workers": 2},
        {"relay__buffer_size": 8192},
        {"limits__exchanges_per_second": 5},
        {"sampling__ratio": 0.5},
        {"traffic_direction": "server"},
        {"shutdown__grace_period": "1s"},
        {"data_path": "mitmproxy"},
        {"engine": "eager"},
        {"mitm__max_age": "1h"},
        {"websocket__capture": "messages"},
        {"listen__forward": FORWARD},
    ],
)
def test_what_workers_must_know_needs_others(flags):
    assert not blueprint().same_workers(blueprint(**flags))


@pytest.mark.parametrize(
    "flags",
    [
        {"sp_backend_url": "http://127.0.0.1:10"},
        {"public_key": "k"},
        {"tags": {"a": "b"}},
        {"batch__max_records": 7},
        {"queue__max_size": "1MiB"},
        {"spool__mode": "off"},
        {"retry__multiplier": 2},
        {"upload__concurrency": 2},
        {"redaction__send_cookies": True},
        {"shutdown__flush_timeout": "1s"},
        {"netfilter__outbound_exclude_ports": [22]},
        {"reload__watch": False},
    ],
)
def test_what_they_need_not_know_leaves_them_alone(flags):
    assert blueprint().same_workers(blueprint(**flags))


def test_descriptors_are_handed_to_workers_that_hand_over():
    plan = blueprint().worker_plan(("relay",), (5, 6))
    assert (plan.count, plan.config.handover_fd, plan.pass_fds) == (1, -1, ())
    assert not plan.config.hand_over
    plan = blueprint(data_path="mitmproxy", relay__workers=2).worker_plan(("relay",), (5, 6))
    assert (plan.count, plan.config.handover_fd, plan.config.engine_state_fd, plan.pass_fds) == (2, 5, 6, (5, 6))
    assert plan.config.hand_over.http


def test_the_engine_is_needed_eager_or_neither():
    assert (blueprint().engine_plan().needed, blueprint().engine_plan().eager) == (False, False)
    assert blueprint(engine="eager").engine_plan().eager
    plan = blueprint(websocket__capture="messages", mitm__max_age="1h", mitm__max_memory="256MiB").engine_plan()
    assert (plan.needed, plan.max_age, plan.max_memory) == (True, 3600.0, 256 << 20)


def test_listeners_follow_with_other_upstreams():
    with socket.socket() as sock:
        bound = [BoundListener("listen.forward[0].listen", Direction.INBOUND, sock, Address("127.0.0.1", 3000))]
        (found,) = blueprint(
            listen__forward=[{"listen": 8080, "upstream": "127.0.0.1:4000", "direction": "outbound"}]
        ).listeners(bound)
    assert (found.socket, found.direction, found.upstream) == (sock, Direction.OUTBOUND, Address("127.0.0.1", 4000))


def test_an_authority_that_is_missing_is_one_line(tmp_path):
    with pytest.raises(ValueError, match=r"tls.ca_directory: .* does not exist"):
        blueprint(tls__intercept=["x"], tls__ca_directory=str(tmp_path / "none"))
