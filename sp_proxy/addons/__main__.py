"""``python -m sp_proxy.addons FD``: the process of a capture hook. ``python -m sp_proxy.addons check``: see ``check.py``."""

import sys

if __name__ == "__main__":
    if sys.argv[1] == "check":
        from sp_proxy.addons.check import answer

        answer()
    from sp_proxy.addons.host import main

    main(int(sys.argv[1]))
