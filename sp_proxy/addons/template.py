"""What ``sp-proxy addon new`` writes: a small addon of each kind that works as it is."""

from typing import Final

TEMPLATES: Final = {
    "capture": '''"""{name}: say in a line what it is for."""


def exchange(ex):
    """Called with each captured exchange, after it has ended. See docs/addons.md for all that ``ex`` has."""
    if ex.status >= 500:
        ex.tag("{name}", "server error")
''',
    "request": '''"""{name}: say in a line what it is for."""

pure = True  # the same head gets the same answer, so answers may be remembered


def request(head):
    """Called with each request's head, in the relay: it must not wait. See docs/addons.md for all that ``head`` has."""
    if head.path.startswith("/internal/"):
        head.headers["x-{header}"] = "yes"
''',
    "flow": '''"""{name}: say in a line what it is for."""

from mitmproxy import http


def response(flow: http.HTTPFlow) -> None:
    """Called by mitmproxy with each response of the hosts that addons.flows names for this script."""
    flow.response.headers["x-{header}"] = "seen"
''',
}
"""By kind."""


def written(kind: str, name: str) -> str:
    """The text for an addon of this name."""
    return TEMPLATES[kind].format(name=name, header=name.replace("_", "-").lower())
