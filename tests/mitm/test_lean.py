"""That the worker does not load what it never uses, and that single addons can still be imported."""

import subprocess
import sys

PROGRAM = """
import sys
from sp_proxy.mitm import lean
lean.install()
lean.install()
import sp_proxy.mitm.worker
from mitmproxy.addons.modifyheaders import ModifyHeaders
print(*sorted({"ldap3", "flask", "werkzeug", "trio", "pydantic", "mitmproxy.addons.proxyserver"} & set(sys.modules)))
"""


def test_only_what_is_needed_is_imported():
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", PROGRAM], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.strip() == ""


def test_too_late_it_does_nothing():
    program = "import mitmproxy.addons\nfrom sp_proxy.mitm import lean\nlean.install()\nmitmproxy.addons.default_addons"
    subprocess.run([sys.executable, "-W", "ignore", "-c", program], timeout=60, check=True)
