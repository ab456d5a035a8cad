"""Why the demo cannot go on."""


class DemoError(Exception):
    """One line for a person, with a remedy where there is one."""


class NotPermittedError(DemoError):
    """There are no network namespaces to be had here, although we are root: a container without the right."""


class StoppedError(Exception):
    """Ctrl-C, or a signal that means the same, while the demo was being built up."""
