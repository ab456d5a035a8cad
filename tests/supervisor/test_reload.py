"""Other settings in a running daemon, with real processes: what comes into force, what is refused, and what traffic feels."""

import json
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import trio

from tests.misbehaving_backend import Backend, open_backend
from tests.origin import origin
from tests.supervisor.daemon import REAL, TIMEOUT, WITH_FAKE_WORKERS, Daemon, free_ports, running_daemon
from tests.supervisor.test_run import echo_server, first_line

NOWHERE = "127.0.0.1:9"
QUICK: dict[str, Any] = {
    "batch": {"flush_timeout": "20ms"},
    "reload": {"interval": "100ms", "settle_time": "100ms", "watch": False},
}


class Changeable:
    """A daemon and its configuration file."""

    def __init__(self, daemon: Daemon, path: Path) -> None:
        self.daemon = daemon
        self.path = path
        self.settings: dict[str, Any] = json.loads(path.read_text())

    def write(self, text: str) -> None:
        """As a careful editor does it."""
        new = self.path.with_name("new")
        new.write_text(text)
        new.replace(self.path)

    def change(self, **values: Any) -> None:
        """In the file only."""
        self.settings |= values
        self.write(json.dumps(self.settings))

    async def reload(self, **values: Any) -> dict[str, Any]:
        """Ask for it; what came of it."""
        self.change(**values)
        async with httpx.AsyncClient(trust_env=False, timeout=TIMEOUT) as client:
            answer = await client.post(f"{self.daemon.admin}/reload")
        outcome: dict[str, Any] = answer.json()
        assert answer.status_code == (422 if outcome["result"] == "refused" else 200)
        return outcome

    @property
    def events(self) -> list[str]:
        return [line["event"] for line in self.daemon.log]


@asynccontextmanager
async def changeable(
    directory: Path, upstream: str = NOWHERE, *, command: tuple[str, ...] = WITH_FAKE_WORKERS, **settings: Any
) -> AsyncIterator[Changeable]:
    async with running_daemon(upstream, QUICK | settings, directory=directory, command=command) as daemon:
        yield Changeable(daemon, directory / "config.json")
        daemon.signal(signal.SIGTERM)
        assert await daemon.ended() == 0


async def test_sighup_a_changed_file_and_a_request_all_reload(tmp_path):
    async with changeable(tmp_path) as made:
        daemon = made.daemon
        made.change(strict="reject")
        daemon.signal(signal.SIGHUP)
        line = await daemon.logged("reloaded")
        assert (line["cause"], line["changed"]) == ("SIGHUP", ['strict: "raw" → "reject"'])
        outcome = await made.reload(reload=QUICK["reload"] | {"watch": True})
        assert (outcome["result"], outcome["changed"]) == ("applied", ["reload.watch: false → true"])
        made.change(strict="raw")
        assert (await daemon.logged("reloaded", 3))["cause"] == "file changed"
        daemon.signal(signal.SIGHUP)
        await daemon.logged("reload_unchanged")
        assert (await daemon.get("/config")).json()["settings"]["strict"] == "raw"
        metrics = (await daemon.get("/metrics")).text
        assert 'sp_proxy_config_reloads_total{result="applied"} 3.0' in metrics
        assert 'sp_proxy_config_reloads_total{result="unchanged"} 1.0' in metrics
        assert "sp_proxy_config_last_reload_successful 1.0" in metrics


async def test_what_is_wrong_is_refused_whole_with_one_line_and_the_old_settings_stay(tmp_path):
    async with changeable(tmp_path, public_key="pk-hidden") as made:
        daemon = made.daemon
        workers = await pids(made)
        cases: list[tuple[dict[str, Any], str]] = [
            ({"strict": "reject", "relay": {"wrokers": 2}}, "relay.wrokers"),
            ({"relay": {}, "listen": made.settings["listen"] | {"inbound": 17006}}, "listen.inbound: cannot change"),
            ({"listen": made.settings["listen"], "upload": {"ca_file": "/nowhere"}}, "upload.ca_file: /nowhere: "),
            ({"upload": {}, "tls": {"intercept": ["x"], "ca_directory": "/nowhere"}}, "tls.ca_directory: /nowhere"),
            ({"tls": {}, "service_name": "dies"}, "a worker with these settings ended before it was ready"),
        ]
        for number, (values, problem) in enumerate(cases, 1):
            outcome = await made.reload(**values)
            assert outcome["result"] == "refused"
            (found,) = outcome["problems"]
            assert problem in found
            line = await daemon.logged("reload_refused", number)
            assert (line["level"], line["problems"]) == ("error", [found])
        made.write("strict: [")
        daemon.signal(signal.SIGHUP)
        await daemon.logged("reload_refused", len(cases) + 1)
        assert (await daemon.get("/config")).json()["settings"]["strict"] == "raw"
        assert await daemon.metric("sp_proxy_config_last_reload_successful") == 0
        assert (await daemon.get("/status")).json()["reload_refused"] != []
        assert (await daemon.get("/healthz/ready")).status_code == 200
        assert await pids(made) == workers
        # And what is right again comes into force.
        assert (await made.reload(service_name="right"))["result"] == "applied"
        assert await daemon.metric("sp_proxy_config_last_reload_successful") == 1
        assert await pids(made) != workers
        assert "pk-hidden" not in str(daemon.log)


async def pids(made: Changeable) -> set[int]:
    """Of the workers that new connections meet."""
    found = set()
    for _ in range(3):
        async with await made.daemon.connect() as stream:
            found.add(int(await first_line(stream)))
    return found


async def test_a_connection_stays_with_its_worker_and_new_ones_go_to_the_next_generation(tmp_path):
    async with changeable(tmp_path, relay={"workers": 2}) as made:
        async with await made.daemon.connect() as old:
            first = int(await first_line(old))
            outcome = await made.reload(relay={"workers": 1}, strict="reject")
            assert outcome["workers_replaced"]
            (second,) = await pids(made)
            assert second != first
            await old.send_all(b"still here")
            assert await old.receive_some() == b"still here"
            assert await made.daemon.metric("sp_proxy_relay_workers") == 1
            await made.daemon.metric_becomes("sp_proxy_relay_workers_retired", lambda value: value == 1)
        await made.daemon.metric_becomes("sp_proxy_relay_workers_retired", lambda value: value == 0)
        assert "worker_died" not in made.events


async def test_there_is_a_limit_to_the_workers_of_earlier_settings(tmp_path):
    limited = QUICK["reload"] | {"max_retired": 2}
    async with changeable(tmp_path, reload=limited) as made:
        streams: list[trio.SocketStream] = []
        results = []
        for number in range(4):
            streams.append(await made.daemon.connect())
            await first_line(streams[-1])
            results.append(await made.reload(service_name=f"n{number}"))
        assert [each["result"] for each in results] == ["applied", "applied", "refused", "refused"]
        assert results[-1]["problems"][0].startswith("reload.max_retired: 2 workers with earlier settings still serve")
        # What needs no other workers is not concerned.
        made.settings["service_name"] = "n1"
        assert (await made.reload(batch={"max_records": 7}))["result"] == "applied"
        assert (await made.reload(service_name="last", reload=limited | {"max_retired": 3}))["result"] == "applied"
        for stream in streams:
            await stream.aclose()
        await made.daemon.metric_becomes("sp_proxy_relay_workers_retired", lambda value: value == 0)


async def test_a_forwarding_listener_gets_another_upstream(tmp_path):
    async with (
        echo_server(b"one\n") as one,
        echo_server(b"two\n") as two,
        changeable(tmp_path, one, command=REAL) as made,
        await made.daemon.connect() as before,
    ):
        assert await first_line(before) == b"one\n"
        listen = made.settings["listen"]
        listen["forward"][0]["upstream"] = two
        assert (await made.reload(listen=listen))["result"] == "applied"
        async with await made.daemon.connect() as after:
            assert await first_line(after) == b"two\n"
        await before.send_all(b"x")
        assert await before.receive_some() == b"x"


async def test_a_drain_refuses_reloads_and_one_that_is_under_way_does_not_hold_it_up(tmp_path):
    async with running_daemon(NOWHERE, QUICK, directory=tmp_path) as daemon:
        made = Changeable(daemon, tmp_path / "config.json")
        async with await daemon.connect() as stream:
            await first_line(stream)
            made.change(service_name="hangs")
            daemon.signal(signal.SIGHUP)
            await daemon.logged("worker_started", 2)
            daemon.signal(signal.SIGTERM)
            line = await daemon.logged("reload_refused")
            assert line["problems"] == ["the daemon is ending"]
            assert (await made.reload(service_name="x"))["problems"] == ["the daemon is ending"]
        assert await daemon.ended() == 0


async def test_workers_that_crash_with_their_settings_are_saved_by_others(tmp_path):
    until = tmp_path / "until"
    until.touch()
    environ = {"FAKE_WORKER": "dies", "FAKE_WORKER_UNTIL": str(until)}
    async with (
        echo_server(b"application\n") as upstream,
        running_daemon(upstream, QUICK, directory=tmp_path, environ=environ, until="failing_open") as daemon,
    ):
        made = Changeable(daemon, tmp_path / "config.json")
        assert (await made.reload(service_name="other"))["result"] == "refused"
        until.unlink()
        assert (await made.reload(service_name="other"))["result"] == "applied"
        await daemon.logged("failing_open_ended")
        async with await daemon.connect() as stream:
            assert int(await first_line(stream)) > 0
        daemon.signal(signal.SIGTERM)
        assert await daemon.ended() == 0


@asynccontextmanager
async def captured_by(directory: Path, **settings: Any) -> AsyncIterator[tuple[Changeable, Backend, str]]:
    """The real daemon between an HTTP origin and a backend."""

    async with (
        origin() as upstream,
        open_backend() as backend,
        changeable(
            directory, upstream, command=REAL, sp_backend_url=backend.url, spool={"mode": "off"}, **settings
        ) as made,
    ):
        yield made, backend, f"http://127.0.0.1:{made.daemon.port}"


def names(backend: Backend) -> list[str]:
    return sorted(span.name for span in backend.spans)


async def test_rules_redaction_and_destinations_are_in_force_when_the_answer_comes(tmp_path):
    async with captured_by(tmp_path) as (made, first, url), open_backend() as second:
        async with httpx.AsyncClient(trust_env=False, timeout=TIMEOUT) as client:
            await client.get(f"{url}/one?token=SECRET-1")
            rules = {"http": {"server": [{"path": "^/two"}]}}
            redaction = {"rules": [{"query": ["token"]}]}
            outcome = await made.reload(
                collectionRules=rules, redaction=redaction, sp_backend_url=second.url, public_key="k"
            )
            assert outcome["result"] == "applied"
            # The same connection may carry one more request, on the worker that has it; then the client is told to let it go.
            answer = await client.get(f"{url}/one?token=SECRET-2")
            assert answer.headers["connection"] == "close"
            await client.get(f"{url}/one?token=SECRET-3")
            await client.get(f"{url}/two?token=SECRET-4")
        await made.daemon.metric_becomes("sp_proxy_exchanges_captured_total", lambda value: value == 3)
        await made.daemon.metric_becomes(
            'sp_proxy_records_accepted_total{exporter="softprobe"}', lambda value: value == 3
        )
        assert await made.daemon.metric("sp_proxy_delivery_balanced") == 1
        assert names(first) == ["/one?token=SECRET-1"]
        assert [name.partition("?")[0] for name in names(second)] == ["/one", "/two"]
        assert "SECRET" not in "".join(names(second))
        assert {received.headers["x-public-key"] for received in second.received} == {"k"}


async def test_under_load_nothing_is_refused_dropped_or_lost(tmp_path):
    """New connections and kept ones, requests of many sizes, and a reload after another."""
    async with captured_by(tmp_path, relay={"workers": 2}) as (made, backend, url):
        answered = failed = 0
        over = False

        async def load(*, keep: bool) -> None:
            nonlocal answered, failed
            async with httpx.AsyncClient(trust_env=False, timeout=TIMEOUT) as client:
                while not over:
                    headers = {} if keep else {"connection": "close"}
                    try:
                        answer = await client.get(f"{url}/load?id={answered}", headers=headers)
                        assert answer.text == "ok"
                        answered += 1
                    except httpx.HTTPError:
                        failed += 1

        async with trio.open_nursery() as nursery:
            for number in range(6):
                nursery.start_soon(lambda keep: load(keep=keep), bool(number % 2))
            for number in range(6):
                before = answered
                outcome = await made.reload(
                    service_name=f"service-{number}", relay={"workers": 1 + number % 2}, public_key=f"k{number}"
                )
                assert outcome["result"] == "applied", outcome
                while answered < before + 30:  # noqa: ASYNC110  # the load goes on by itself
                    await trio.sleep(0.01)
            over = True
        assert failed == 0
        daemon = made.daemon
        await daemon.metric_becomes("sp_proxy_relay_workers_retired", lambda value: value == 0)
        await daemon.metric_becomes("sp_proxy_exchanges_captured_total", lambda value: value == answered)
        await daemon.metric_becomes(
            'sp_proxy_records_accepted_total{exporter="softprobe"}', lambda value: value == answered
        )
        assert await daemon.metric("sp_proxy_delivery_balanced") == 1
        assert len(names(backend)) == answered
        assert "worker_died" not in made.events


async def test_the_mitm_worker_comes_and_goes_with_the_settings(tmp_path):
    async with captured_by(tmp_path, engine="off") as (made, backend, url):
        async with httpx.AsyncClient(trust_env=False, timeout=TIMEOUT) as client:
            assert "sp_proxy_mitm_state" not in (await made.daemon.get("/metrics")).text
            assert (await made.reload(data_path="mitmproxy", engine="on_demand"))["result"] == "applied"
            assert (await client.get(f"{url}/by-mitmproxy")).text == "ok"
            await made.daemon.metric_becomes('sp_proxy_mitm_state{state="ready"}', lambda value: value == 1)
            outcome = await made.reload(data_path="auto", service_name="without")
            assert outcome["result"] == "applied"
            await made.daemon.logged("mitm_worker_not_needed")
        async with httpx.AsyncClient(trust_env=False, timeout=TIMEOUT) as client:
            assert (await client.get(f"{url}/by-the-relay")).text == "ok"
        await made.daemon.logged("mitm_worker_ended")
        await made.daemon.metric_becomes(
            'sp_proxy_records_accepted_total{exporter="softprobe"}', lambda value: value == 2
        )
        assert names(backend) == ["/by-mitmproxy", "/by-the-relay"]


@pytest.mark.parametrize("number", [signal.SIGHUP])
async def test_it_never_dies_of_the_signal(tmp_path, number):
    """Not at the start, not many at once, not without a file."""
    (admin,) = free_ports(1)
    flags = ["sp_backend_url=http://127.0.0.1:9", "listen.inbound=off", "listen.outbound=off"]
    flags += [f"admin.listen=127.0.0.1:{admin}"]
    command = [*REAL[:-1], *(word for flag in flags for word in ("--set", flag))]
    process = await trio.lowlevel.open_process(command, stdin=None, stderr=-3)
    try:
        async with httpx.AsyncClient(trust_env=False, timeout=TIMEOUT) as client:
            with trio.fail_after(TIMEOUT):
                while True:
                    try:
                        if (await client.get(f"http://127.0.0.1:{admin}/healthz/ready")).status_code == 200:
                            break
                    except httpx.TransportError:
                        await trio.sleep(0.05)
                for _ in range(20):
                    os.kill(process.pid, number)
                    await trio.sleep(0.005)
                answer = await client.post(f"http://127.0.0.1:{admin}/reload")
                assert answer.json()["result"] == "unchanged"
    finally:
        process.send_signal(signal.SIGTERM)
        with trio.fail_after(TIMEOUT):
            assert await process.wait() == 0
