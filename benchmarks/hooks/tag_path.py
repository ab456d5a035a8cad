"""The capture hook that is measured: one tag for every exchange."""


def exchange(ex):
    ex.tag("measured", ex.path)
