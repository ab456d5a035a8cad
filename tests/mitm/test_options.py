"""mitmproxy's options as we have them: all that its layers ask for are there."""

import asyncio
import re
from importlib.util import find_spec
from pathlib import Path

from mitmproxy.master import Master

from sp_proxy.mitm.options import ProxyOptions, proxy_options


def options(trusted_file: str = ""):
    async def make():
        master = Master(proxy_options(trusted_file))
        master.addons.add(ProxyOptions())
        return master.options

    return asyncio.run(make())


def test_every_option_of_the_layers_we_use_is_declared():
    spec = find_spec("mitmproxy")
    assert spec is not None
    assert spec.submodule_search_locations
    proxy = Path(spec.submodule_search_locations[0]) / "proxy"
    asked = set()
    for path in [proxy / "server.py", *(proxy / "layers").rglob("*.py")]:
        asked |= set(re.findall(r"(?:context|ctx)\.options\.(\w+)", path.read_text()))
    assert asked - {"proxyauth"} <= set(options().keys())


def test_what_differs_from_the_defaults():
    found = options()
    assert found.connection_strategy == "eager"
    assert found.http2_ping_keepalive == 0
    assert not found.websocket
    assert found.rawtcp
    assert not found.ssl_insecure
    assert found.ssl_verify_upstream_trusted_ca is None
    assert options("/a.pem").ssl_verify_upstream_trusted_ca == "/a.pem"
