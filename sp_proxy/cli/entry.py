"""What the console script calls: ``main``, with an interrupt that is quiet from the first moment on.

Reading ``sp_proxy.cli.main`` and what it needs takes a fifth of a second, in which an interrupt would be a traceback.
"""

INTERRUPT_EXIT_CODE = 130
"""128 and the number of SIGINT; ``signal`` is not imported for it."""


def main() -> int:
    """Run the process's own command line and return the exit code."""
    try:
        from sp_proxy.cli.main import main as run

        return run()
    except KeyboardInterrupt:
        return INTERRUPT_EXIT_CODE
