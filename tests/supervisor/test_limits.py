"""The soft limit on descriptors, in a process of its own because limits cannot be given back."""

import subprocess
import sys

CODE = """
import resource
from sp_proxy.supervisor.limits import raise_descriptor_limit
resource.setrlimit(resource.RLIMIT_NOFILE, (256, 512))
print(*raise_descriptor_limit(), *resource.getrlimit(resource.RLIMIT_NOFILE))
print(*raise_descriptor_limit())
"""


def test_the_soft_limit_is_raised_to_the_hard_one():
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.splitlines() == ["256 512 512 512", "512 512"]
