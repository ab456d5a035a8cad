"""Count exchanges by the version of the API that they ask for: ``/v2/orders``, or ``accept: application/vnd.shop.v2+json``.

In ``/metrics``: ``sp_proxy_addon_api_requests_total{version="v2",status="2xx"}``.
"""

import re

PATH = re.compile(r"^/(?:api/)?(v\d{1,3})(?:/|$)")
ACCEPT = re.compile(r"\.(v\d{1,3})\+")


def exchange(ex):
    """What goes on for long comes twice: it is counted when it has ended."""
    if ex.ongoing or ex.direction != "inbound":
        return
    found = PATH.match(ex.path) or ACCEPT.search(ex.request.headers.get("accept", ""))
    ex.count("api_requests", version=found[1] if found else "none", status=f"{ex.status // 100}xx")
