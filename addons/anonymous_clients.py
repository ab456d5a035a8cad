"""Send no client's whole address: the last byte of an IPv4 address and all but the network of an IPv6 one are cleared."""

import ipaddress

required = True
HEADERS = ("x-forwarded-for", "x-real-ip", "forwarded")


def exchange(ex):
    """The connection's address, and the headers that carry others."""
    if ex.client_address:
        bits = 24 if ipaddress.ip_address(ex.client_address).version == 4 else 48
        network = ipaddress.ip_network(f"{ex.client_address}/{bits}", strict=False)
        ex.client_address = str(network.network_address)
    for name in HEADERS:
        if name in ex.request.headers:
            del ex.request.headers[name]
