"""The same, with its answers remembered."""

pure = True


def request(head):
    head.headers["x-measured"] = "yes"
