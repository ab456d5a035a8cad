"""The request hook that is measured: one header, called with every head."""


def request(head):
    head.headers["x-measured"] = "yes"
