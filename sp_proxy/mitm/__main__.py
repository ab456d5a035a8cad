"""``python -m sp_proxy.mitm FD``: a mitm worker, whose encoded ``MitmConfig`` is read from that descriptor.

``python -m sp_proxy.mitm check``: see ``check.py``.
"""

import sys

from sp_proxy.mitm import lean

lean.install()

from sp_proxy import logs  # noqa: E402
from sp_proxy.mitm.ca import CaError  # noqa: E402
from sp_proxy.mitm.config import decode_config  # noqa: E402
from sp_proxy.mitm.worker import log, main  # noqa: E402

if __name__ == "__main__":
    if sys.argv[1] == "check":
        from sp_proxy.mitm.check import answer

        answer()
    with open(int(sys.argv[1]), "rb") as source:  # noqa: PTH123  # a descriptor, not a path
        config = decode_config(source.read())
    logs.configure(config.log_level, config.log_format, process="mitm")
    try:
        sys.exit(main(config))
    except (CaError, ValueError) as error:
        log.error("mitm_worker_cannot_start", reason=str(error))  # one line for a person
        sys.exit(1)
