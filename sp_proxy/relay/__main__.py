"""``python -m sp_proxy.relay FD``: a relay worker, whose encoded ``WorkerConfig`` is read from that descriptor."""

import sys

# msgspec would import it for a name that typing has too: 30 ms and 2 MB of every worker (measured).
sys.modules.setdefault("typing_extensions", None)  # type: ignore[arg-type]

from sp_proxy.relay import logs  # noqa: E402
from sp_proxy.relay.config import decode_config  # noqa: E402
from sp_proxy.relay.worker import main  # noqa: E402

if __name__ == "__main__":
    with open(int(sys.argv[1]), "rb") as source:  # noqa: PTH123  # a descriptor, not a path
        config = decode_config(source.read())
    logs.configure(config.worker_id, config.log_format)
    sys.exit(main(config))
