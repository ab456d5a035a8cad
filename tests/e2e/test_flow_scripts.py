"""mitmproxy's addon API as operators' scripts: unchanged scripts, for the hosts that they claim, in a real daemon."""

import ssl
from contextlib import suppress
from http.server import ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import httpx
import pytest
import trio
from wsproto import ConnectionType, WSConnection
from wsproto.events import AcceptConnection, CloseConnection, Request, TextMessage

from sp_proxy.cli.main import main
from tests.e2e.test_addons import ADDONS, Origin, daemon_with, origin
from tests.mitm.certificates import write_certificate
from tests.supervisor.daemon import TIMEOUT

SCRIPTS = Path(__file__).parent / "flow_scripts"
__all__ = ["origin"]


def flows(*names: str, **options: dict[str, str]) -> list[dict[str, Any]]:
    return [
        {"file": str(SCRIPTS / f"{name}.py"), "hosts": [r"^claimed\."], "options": options.get(name, {})}
        for name in names
    ]


CLAIMED = {"host": "claimed.shop"}


async def test_scripts_from_the_documentation_run_unchanged(origin, tmp_path):
    addons = {"flows": flows("add-header", "options", "commands", "filter-flows", "reply", options={"mark": "blue"})}
    fault = {"file": str(ADDONS / "fault.py"), "hosts": ["^faulty$"]}
    addons["flows"].append(fault)
    async with daemon_with(origin, tmp_path, addons, engine="eager") as (daemon, spans, client):
        await daemon.logged("mitm_worker_ready")

        answer = await client.get("/one", headers=CLAIMED)
        assert (answer.headers["count"], answer.headers["mark"]) == ("1", "blue")
        assert answer.json()["headers"]["x-number"] == "1"
        (span,) = await spans.of("/one")
        assert span["http.response.header.count"] == "1"
        assert span["http.request.header.x-number"] == "1"
        assert span["http.response.body"] == answer.text

        answer = await client.post("/echo/filtered", content="a dog", headers=CLAIMED)
        assert (answer.text, answer.headers["filtered"]) == ("a cat", "yes")
        (span,) = await spans.of("/echo/filtered?seen=yes")
        assert "filtered" in span["http.response.header.filtered"] or span["http.response.header.filtered"] == "yes"

        answer = await client.get("/reply", headers=CLAIMED)
        assert (answer.status_code, answer.text) == (418, "from the proxy")
        (span,) = await spans.of("/reply")
        assert (span["http.response.status_code"], span["http.response.body"]) == ("418", "from the proxy")

        other = await client.get("/other", headers={"host": "other.shop", "connection": "close"})
        assert "count" not in other.headers
        assert "x-number" not in other.json()["headers"]
        assert "http.response.header.count" not in (await spans.of("/other"))[0]

        # the example for faults
        faulty = {"host": "faulty", "connection": "close"}
        answer = await client.get("/abort", headers={**faulty, "x-fault": "abort=503"})
        assert (answer.status_code, answer.text) == (503, "fault\n")
        before = trio.current_time()
        answer = await client.get("/delay", headers={**faulty, "x-fault": "delay=300"})
        assert trio.current_time() - before >= 0.3
        assert "x-fault" not in answer.json()["headers"]
        with pytest.raises(Exception, match=r"disconnected|closed|reset|EOF"):
            await client.get("/reset", headers={**faulty, "x-fault": "reset"})


async def test_websocket_messages_are_a_scripts_to_change(tmp_path):
    async with trio.open_nursery() as nursery:
        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
        nursery.start_soon(trio.serve_listeners, echo_messages, listeners)
        port = listeners[0].socket.getsockname()[1]
        addons = {"flows": flows("websocket")}
        async with daemon_with(f"127.0.0.1:{port}", tmp_path, addons, engine="eager") as (daemon, _, _client):
            await daemon.logged("mitm_worker_ready")
            stream = await daemon.connect()
            said = await converse(stream, ["Hello you", "a secret", "plain"], 2)
            assert said == ["HAPPY you", "plain"]
        nursery.cancel_scope.cancel()


async def echo_messages(stream: trio.SocketStream) -> None:
    connection = WSConnection(ConnectionType.SERVER)
    # The client goes without a closing handshake: a reset is one way for that to arrive.
    with suppress(trio.BrokenResourceError):
        async for data in stream:
            connection.receive_data(bytes(data))
            for event in connection.events():
                if isinstance(event, Request):
                    await stream.send_all(connection.send(AcceptConnection()))
                elif isinstance(event, TextMessage):
                    await stream.send_all(connection.send(TextMessage(event.data)))
                elif isinstance(event, CloseConnection):
                    await stream.send_all(connection.send(event.response()))


async def converse(stream: trio.SocketStream, texts: list[str], count: int) -> list[str]:
    connection = WSConnection(ConnectionType.CLIENT)
    said: list[str] = []
    with trio.fail_after(TIMEOUT):
        await stream.send_all(connection.send(Request(host="claimed.shop", target="/chat")))
        while len(said) < count:
            connection.receive_data(bytes(await stream.receive_some()))
            for event in connection.events():
                if isinstance(event, AcceptConnection):
                    for text in texts:
                        await stream.send_all(connection.send(TextMessage(text)))
                elif isinstance(event, TextMessage):
                    said.append(event.data)
    await stream.aclose()
    return said


async def test_scripts_that_fail_cost_their_own_effect(origin, tmp_path):
    bad = tmp_path / "bad.py"
    bad.write_text(
        "import sys, time\n"
        "def request(flow):\n"
        "    if flow.request.path == '/raise':\n        1 / 0\n"
        "    if flow.request.path == '/exit':\n        sys.exit(3)\n"
        "    if flow.request.path == '/block':\n        time.sleep(600)\n"
    )
    addons = {"flows": [{"file": str(bad), "hosts": ["."]}, *flows("add-header")], "stuck_after": "500ms"}
    async with daemon_with(origin, tmp_path, addons, engine="eager") as (daemon, spans, client):
        await daemon.logged("mitm_worker_ready")
        for path in ("/raise", "/exit", "/block", "/block", "/block", "/after"):
            answer = await client.get(path, headers=CLAIMED)
            assert (answer.status_code, "count" in answer.headers) == (200, True)
        assert (await daemon.logged("addon_blocks"))["addon"] == "bad"
        assert len(await spans.of("/block", 3)) == 3
        places = {line["place"] for line in daemon.log if line["event"] == "addon_fault"}
        assert places == {f"{bad}:{line}" for line in (4, 6, 8)}


async def test_in_opened_tls_they_are_called_for_claimed_names(tmp_path):
    certificate = write_certificate(tmp_path / "origin.pem", "claimed.shop", "other.shop")
    assert main(["ca", "init", "--directory", str(tmp_path / "ca")]) == 0
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate)
    with ThreadingHTTPServer(("127.0.0.1", 0), Origin) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            tls = {"intercept": ["shop$"], "ca_directory": str(tmp_path / "ca"), "trusted_ca_file": str(certificate)}
            settings: dict[str, Any] = {"engine": "eager", "tls": tls}
            upstream = f"127.0.0.1:{server.server_port}"
            async with daemon_with(upstream, tmp_path, {"flows": flows("add-header")}, **settings) as (
                daemon,
                spans,
                _,
            ):
                await daemon.logged("mitm_worker_ready")
                trust = ssl.create_default_context(cafile=str(tmp_path / "ca" / "sp-proxy-ca-cert.pem"))
                async with httpx.AsyncClient(verify=trust, trust_env=False, timeout=TIMEOUT) as client:
                    for name, claimed in (("claimed.shop", True), ("other.shop", False)):
                        answer = await client.get(
                            f"https://127.0.0.1:{daemon.port}/{name}",
                            headers={"host": name, "connection": "close"},
                            extensions={"sni_hostname": name},
                        )
                        assert answer.status_code == 200
                        assert ("count" in answer.headers) is claimed
                        (span,) = await spans.of(f"/{name}")
                        assert ("http.response.header.count" in span) is claimed
        finally:
            server.shutdown()
            thread.join()
