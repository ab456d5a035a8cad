"""Descriptor limits: every relayed connection takes two, so the soft limit is raised to the hard one at start.

Workers inherit it. The soft limit of 1,024 that many systems give exists for programs that use select(2).
"""

import resource


def raise_descriptor_limit() -> tuple[int, int]:
    """Raise the soft limit on open descriptors to the hard limit. Returns the soft limit before and after; a kernel
    that refuses leaves it as it was.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == hard:
        return soft, soft
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    except (OSError, ValueError):
        # "Unlimited" as a hard limit cannot be had where it exceeds fs.nr_open.
        return soft, soft
    return soft, resource.getrlimit(resource.RLIMIT_NOFILE)[0]
