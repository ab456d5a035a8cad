"""Ask for another host: what was sent to an old name is sent with the new one. The connection goes where it went."""

pure = True
HOSTS = {"orders.old.example": "orders.example"}


def request(head):
    """Keep the port, and tell the server what was asked for."""
    name, colon, port = head.host.partition(":")
    if name in HOSTS:
        head.headers["x-forwarded-host"] = head.host
        head.host = HOSTS[name] + colon + port
