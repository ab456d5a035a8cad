"""Why ``sp-proxy dev`` cannot go on."""

from sp_proxy.demo.errors import DemoError


class DevError(DemoError):
    """One line for a person, with a remedy where there is one. What the demo's tools raise is caught with it."""
