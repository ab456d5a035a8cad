"""The connections that uploads go over: which versions of HTTP there may be, how they are secured, what proxy is between.

TLS is 1.2 at least and always verified; nothing of the environment is taken, neither proxies nor authorities.
"""

import ssl

import httpcore
import httpx

from sp_proxy.core.http_version import Version
from sp_proxy.exporter.network import Network, host_name
from sp_proxy.settings.model import Upload

KEEPALIVE_SECONDS = 60.0
"""An idle connection is closed after this long."""


def connection_pools(url: httpx.URL, settings: Upload) -> dict[Version, httpcore.AsyncConnectionPool]:
    """The connections, by version: only TLS can tell which there are. Raises ValueError as ``tls_context`` does."""
    proxy = httpx.Proxy(settings.proxy) if settings.proxy else None
    next_hop = proxy.url if proxy else url
    secured = url.scheme == "https"
    versions: tuple[Version, ...] = ("1.1", "2") if secured else ("1.1",)
    needed = secured or settings.ca_file or settings.client_cert_file  # files are tried in any case
    return {
        version: httpcore.AsyncConnectionPool(
            ssl_context=tls_context(settings) if needed else None,  # one each: httpcore says in it what it offers
            proxy=httpcore.Proxy(core_url(proxy.url), proxy.raw_auth) if proxy else None,
            max_connections=settings.concurrency,
            max_keepalive_connections=settings.concurrency,
            keepalive_expiry=KEEPALIVE_SECONDS,
            http2=version == "2",
            network_backend=Network({host_name(next_hop.raw_host.decode("ascii"))}),
        )
        for version in versions
    }


def core_url(url: httpx.URL) -> httpcore.URL:
    """The same URL in httpcore's form."""
    return httpcore.URL(scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path)


def tls_context(settings: Upload) -> ssl.SSLContext:
    """What is trusted, and who we are. Raises ValueError, one line for a person, for files that cannot be used."""
    try:
        if settings.ca_file:
            context = ssl.create_default_context(cafile=settings.ca_file)
        else:
            context = httpx.create_ssl_context(trust_env=False)  # the authorities that come with httpx
    except (OSError, ssl.SSLError) as error:
        raise ValueError(f"upload.ca_file: {settings.ca_file}: {_reason(error)}") from error
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if settings.client_cert_file:
        # A callable that answers nothing: otherwise OpenSSL would ask for an encrypted key's password on the terminal.
        try:
            context.load_cert_chain(settings.client_cert_file, settings.client_key_file or None, password=lambda: b"")
        except (OSError, ssl.SSLError) as error:
            raise ValueError(f"upload.client_cert_file: {settings.client_cert_file}: {_reason(error)}") from error
    return context


def _reason(error: OSError) -> str:
    if isinstance(error, ssl.SSLError):
        return (error.reason or "not a PEM file that can be used").replace("_", " ").lower()
    return error.strerror or str(error)
