"""Give each request without one an ``x-request-id``, and tag the exchange with it, to find it in other logs."""

import uuid


def request(head):
    """Not ``pure``: each request has its own."""
    if "x-request-id" not in head.headers:
        head.headers["x-request-id"] = str(uuid.uuid4())
    head.tag("request_id", head.headers["x-request-id"])
