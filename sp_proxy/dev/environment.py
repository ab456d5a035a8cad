"""The variables that lead an application's connections to the proxy and make it trust our authority (pure).

Which runtime reads which is in docs/local.md, and so is what none of them can reach. Names of proxies are written in both
cases: curl and Ruby read ``http_proxy`` in lower case only, Go and Node either.
"""

from collections.abc import Mapping
from pathlib import Path

from msgspec import Struct

PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY")
NO_PROXY = "NO_PROXY"
BUNDLES = (
    "SSL_CERT_FILE",  # OpenSSL's: Python, Ruby, Go, PHP, Rust
    "REQUESTS_CA_BUNDLE",
    "CURL_CA_BUNDLE",
    "GIT_SSL_CAINFO",
    "AWS_CA_BUNDLE",
    "PIP_CERT",
    "CARGO_HTTP_CAINFO",
    "DENO_CERT",
    "GRPC_DEFAULT_SSL_ROOTS_FILE_PATH",
    "PERL_LWP_SSL_CA_FILE",
)
"""Variables that hold a file of all authorities to trust: the known ones and ours."""
ADDED_AUTHORITY = "NODE_EXTRA_CA_CERTS"
"""Holds a file of authorities to trust beside the known ones."""


class Trust(Struct, frozen=True):
    """The files by which applications know the authorities."""

    authority: Path
    """Ours alone, PEM."""
    bundle: Path
    """The known ones and ours, PEM."""
    known: Path
    """The known ones alone, PEM: the daemon verifies origins by them."""
    java_store: Path
    """PKCS12."""


def proxied(environ: Mapping[str, str], proxy: tuple[str, int], trust: Trust, node_preload: Path) -> dict[str, str]:
    """The environment of an application whose connections are to go through the proxy."""
    host, port = proxy
    url = f"http://{host}:{port}"
    made = trusting(environ, trust)
    for name in PROXIES:
        made[name] = made[name.lower()] = url
    made[NO_PROXY] = made[NO_PROXY.lower()] = ""
    made["NODE_USE_ENV_PROXY"] = "1"
    made["NODE_OPTIONS"] = _added(made.get("NODE_OPTIONS", ""), f"--require {_quoted(node_preload)}")
    java = [f"-D{scheme}.proxy{part}" for scheme in ("http", "https") for part in (f"Host={host}", f"Port={port}")]
    made["JAVA_TOOL_OPTIONS"] = _added(made["JAVA_TOOL_OPTIONS"], " ".join([*java, "-Dhttp.nonProxyHosts="]))
    return made


def trusting(environ: Mapping[str, str], trust: Trust) -> dict[str, str]:
    """The environment of an application that is to trust our authority, and needs no proxy."""
    made = dict(environ)
    for name in BUNDLES:
        made[name] = str(trust.bundle)
    # With authorities of the user's own for Node, these are in the bundle; without, one is all that has to be read.
    made[ADDED_AUTHORITY] = str(trust.bundle if environ.get(ADDED_AUTHORITY) else trust.authority)
    store = f"-Djavax.net.ssl.trustStore={trust.java_store} -Djavax.net.ssl.trustStoreType=PKCS12"
    made["JAVA_TOOL_OPTIONS"] = _added(made.get("JAVA_TOOL_OPTIONS", ""), store)
    return made


def trusting_node(environ: Mapping[str, str], trust: Trust) -> dict[str, str]:
    """For who sees our authority in the machine's stores: Node.js alone has no store, its authorities are compiled in.

    A file that the variable names already is one of those which are laid over (``view.py``).
    """
    return {**environ, ADDED_AUTHORITY: environ.get(ADDED_AUTHORITY) or str(trust.authority)}


def replaced_proxies(environ: Mapping[str, str]) -> list[str]:
    """Variables with a proxy of the user's own, which ours takes the place of."""
    names = [each for name in (*PROXIES, NO_PROXY) for each in (name, name.lower())]
    return [name for name in names if environ.get(name)]


def own_bundles(environ: Mapping[str, str]) -> list[Path]:
    """Files of further authorities that the user's environment names: whom the user trusts, the daemon trusts."""
    found = [environ[name] for name in (*BUNDLES, ADDED_AUTHORITY) if environ.get(name)]
    return [Path(name) for name in dict.fromkeys(found)]


def _added(present: str, more: str) -> str:
    return f"{present} {more}".strip()


def _quoted(path: Path) -> str:
    """As Node reads its options: in double quotes where there is a space."""
    text = str(path)
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"' if " " in text else text
