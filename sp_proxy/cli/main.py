"""The console script ``sp-proxy``. It knows its subcommands by name only and imports one when it is called.

To add a subcommand, add one line to ``COMMANDS``: its module and the line that the help shows. The module has either

- ``app``, a ``typer.Typer`` (one command in it becomes the subcommand itself, several become its subcommands), or
- a function of the subcommand's name, which typer makes a subcommand of.

Options which several subcommands share are in ``options.py``. A command returns its exit code (None is 0) or raises
``typer.Exit``. A subcommand whose module does not exist is not offered. A wrong command line is one line on standard error
and exit code 2; an interrupt is 130; a reader that went away ends the program quietly, as SIGPIPE would (141). Standard
output that cannot be written is one line, too, and exit code 1.
"""

import errno
import importlib
import importlib.util
import os
import signal
import sys
from collections.abc import Sequence
from typing import Annotated, Any, NamedTuple, override

import typer
from typer.core import TyperGroup

from sp_proxy import __version__


class Subcommand(NamedTuple):
    """Where a subcommand is, and what it does, in a line."""

    module: str
    help: str


COMMANDS = {
    "run": Subcommand("sp_proxy.cli.run", "Run the daemon."),
    "netfilter": Subcommand("sp_proxy.cli.netfilter", "Write, apply, verify or remove redirect rules."),
    "backend": Subcommand("sp_proxy.cli.backend", "Run the embedded backend alone, or export what it has."),
    "ca": Subcommand("sp_proxy.cli.ca", "The certificate authority for intercepted TLS."),
    "demo": Subcommand("sp_proxy.cli.demo", "See it work: a small application, captured live."),
    "dev": Subcommand("sp_proxy.cli.dev", "Run an application with its traffic captured."),
    "status": Subcommand("sp_proxy.cli.status", "Ask the daemon where every captured record went."),
    "ready": Subcommand("sp_proxy.cli.ready", "Ask whether the daemon is ready, or wait until it is."),
    "doctor": Subcommand("sp_proxy.cli.doctor", "Look for what is not well, with advice for each finding."),
    "tail": Subcommand("sp_proxy.cli.tail", "Print exchanges as the embedded backend gets them."),
    "query": Subcommand("sp_proxy.cli.query", "Print the exchanges that a query asks for."),
    "show": Subcommand("sp_proxy.cli.show", "Print an exchange, a trace or a session in full."),
    "rules": Subcommand("sp_proxy.cli.rules", "Ask which rule decides, or what another configuration would change."),
    "replay": Subcommand("sp_proxy.cli.replay", "Send captured requests again, and compare the answers."),
    "mock": Subcommand("sp_proxy.cli.mock", "Give captured answers again, for tests."),
    "mcp": Subcommand("sp_proxy.cli.mcp", "Serve the backend's queries as tools for agents and editors."),
    "spool": Subcommand("sp_proxy.cli.spool", "Look at the sending queue on disk, check, send or export it."),
    "inject": Subcommand("sp_proxy.cli.inject", "Add the sidecar to Kubernetes manifests, or take it away."),
    "addon": Subcommand("sp_proxy.cli.addon", "Write, check or measure an addon."),
    "config": Subcommand("sp_proxy.cli.config", "Check a configuration, or show what is in force."),
}

FAILED_EXIT_CODE = 1
USAGE_EXIT_CODE = 2
INTERRUPT_EXIT_CODE = 128 + signal.SIGINT
PIPE_EXIT_CODE = 128 + signal.SIGPIPE
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO})
"""What a write to a file says that cannot grow: where no file is named, it is standard output."""


def _exists(name: str) -> bool:
    return importlib.util.find_spec(COMMANDS[name].module) is not None


class LazyGroup(TyperGroup):
    """A group that imports the module of the subcommand that is called, and of no other."""

    @override
    def list_commands(self, ctx: Any) -> list[str]:
        return [name for name in COMMANDS if _exists(name)]

    @override
    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        if cmd_name not in COMMANDS or not _exists(cmd_name):
            return None
        module = importlib.import_module(COMMANDS[cmd_name].module)
        app: typer.Typer | None = getattr(module, "app", None)
        if app is None:
            app = typer.Typer(add_completion=False)
            app.command(cmd_name)(getattr(module, cmd_name))
        app.rich_markup_mode = None  # boxes are neither one line nor readable in a log
        command = typer.main.get_command(app)
        command.name = cmd_name
        return command

    @override
    def format_commands(self, ctx: Any, formatter: Any) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, COMMANDS[name].help) for name in self.list_commands(ctx)])

    @override
    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        # The one of click imports every subcommand to suggest a name.
        command = self.get_command(ctx, args[0])
        if command is None:
            ctx.fail(f"no such command: {args[0]!r}; commands: {', '.join(self.list_commands(ctx))}")
        return args[0], command, args[1:]


def _version(wanted: bool) -> None:
    if wanted:
        print(f"sp-proxy {__version__}")
        raise typer.Exit


app = typer.Typer(
    cls=LazyGroup,
    name="sp-proxy",
    add_completion=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_enable=False,
)


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and exit.", callback=_version, is_eager=True)
    ] = False,
) -> None:
    """Transparent traffic-capture proxy."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command line and return the exit code; ``arguments`` are the process's own by default."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    if not words:
        print("sp-proxy: a command is missing; see sp-proxy --help", file=sys.stderr)
        return USAGE_EXIT_CODE
    try:
        # Not through the command's own main(): it has other ideas of exit codes and of how many lines an error has.
        code = _run(words)
        if sys.stdout is not None and not sys.stdout.closed:  # MCP's SDK closes it
            sys.stdout.flush()
    except typer.TyperException as error:
        context = getattr(error, "ctx", None)
        command = context.command_path if context else "sp-proxy"
        said = " ".join(error.format_message().split()).replace(": Value error, ", ": ")  # that is for programmers
        print(f"{command}: {said} (see {command} --help)", file=sys.stderr)
        return USAGE_EXIT_CODE
    except (KeyboardInterrupt, typer.Abort):
        return INTERRUPT_EXIT_CODE
    except BrokenPipeError:
        _silence()
        return PIPE_EXIT_CODE
    except OSError as error:
        if error.errno not in _FULL or error.filename is not None:
            raise
        _silence()
        print(f"sp-proxy: standard output: {(error.strerror or str(error)).lower()}", file=sys.stderr)
        return FAILED_EXIT_CODE
    return code


def _silence() -> None:
    """The interpreter flushes once more at its end: let that go nowhere."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _run(words: list[str]) -> int:
    command = typer.main.get_command(app)
    try:
        with command.make_context("sp-proxy", words) as context:
            code = command.invoke(context)
    except typer.Exit as end:
        return end.exit_code
    return code if isinstance(code, int) else 0


if __name__ == "__main__":
    sys.exit(main())
