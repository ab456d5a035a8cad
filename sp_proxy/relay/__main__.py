"""``python -m sp_proxy.relay FD``: a relay worker, whose encoded ``WorkerConfig`` is read from that descriptor."""

import sys

from sp_proxy.relay.config import decode_config
from sp_proxy.relay.worker import main

if __name__ == "__main__":
    with open(int(sys.argv[1]), "rb") as source:  # noqa: PTH123  # a descriptor, not a path
        config = decode_config(source.read())
    sys.exit(main(config))
