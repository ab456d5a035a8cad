"""A daemon that is limited to what it needs relays, captures and uploads as before, and its user gets nowhere else."""

import json
from functools import partial

import pytest

from tests.e2e.conftest import Pair
from tests.e2e.harness import (
    DAEMON_UID,
    SETTINGS,
    eventually,
    get,
    home,
    launch,
    netfilter,
    write_config,
)
from tests.e2e.otlp_sink import otlp_sink
from tests.e2e.servers import NGINX_PORT, nginx

SINK_PORT = 9004


@pytest.mark.parametrize("writer", ["nft", "iptables-nft"])
def test_it_works_as_before_and_its_user_gets_nowhere_else(pair: Pair, writer: str):
    pod, outside = pair
    with (
        home() as directory,
        nginx(pod, directory / "pod"),
        nginx(outside, directory / "outside"),
        otlp_sink(outside, SINK_PORT) as sink,
    ):
        settings = {
            **SETTINGS,
            "sp_backend_url": f"http://{outside.ipv4}:{SINK_PORT}",
            "public_key": "k",
            "netfilter": {"restrict_egress": True},
        }
        config = write_config(directory, settings)
        daemon = launch(pod, directory, config)
        try:
            daemon.wait_ready()
            assert f"applied 27 rules with {writer}" in netfilter(pod, config, "apply", "--writer", writer)
            reach = partial(pod.run, "curl", "-sS", "--max-time", "5", check=False)
            elsewhere = f"http://[{outside.ipv6}]:{NGINX_PORT}/"
            # Nobody was going there yet; and to the backend's host, not to that port.
            assert reach(elsewhere, user=DAEMON_UID).returncode != 0
            assert reach(f"http://{outside.ipv4}:{NGINX_PORT}/", user=DAEMON_UID).returncode != 0
            ways = {
                "/in": (outside, pod.ipv4),
                "/in6": (outside, f"[{pod.ipv6}]"),
                "/out": (pod, outside.ipv4),
                "/out6": (pod, f"[{outside.ipv6}]"),
            }
            for path, (near, address) in ways.items():
                answer = eventually(
                    partial(
                        near.run, "curl", "-sS", "--max-time", "5", f"http://{address}:{NGINX_PORT}{path}", check=False
                    ),
                    lambda done: done.returncode == 0 and json.loads(done.stdout)["service"] == "shop",
                    f"{path} goes through the daemon",
                )
                assert answer.returncode == 0
            eventually(
                lambda: {each.span.name for each in sink.spans}, lambda seen: seen >= set(ways), "all are uploaded"
            )
            assert get(pod, NGINX_PORT, "/")[0] == 200
            daemon.stop()
        except BaseException:
            print(daemon.log)
            raise
        finally:
            netfilter(pod, config, "remove")
            if daemon.process.poll() is None:
                daemon.process.kill()
                daemon.process.wait()
