"""``sp-proxy dev``: a developer's application, with its traffic captured and the dashboard open."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sp_proxy.cli.options import SetOption, load_or_exit, say

if TYPE_CHECKING:
    from sp_proxy.dev.project import Project

CANNOT_GO_ON = 1
_PLAIN_WIDTH = 160


# Options behind the command are the command's own, with or without a `--` before it.
app = typer.Typer(add_completion=False)


@app.command("dev", context_settings={"allow_interspersed_args": False})
def dev(
    command: Annotated[
        list[str] | None,
        typer.Argument(metavar="COMMAND", help="What to run; without it, the services of --file."),
    ] = None,
    file: Annotated[
        Path | None,
        typer.Option("--file", "-f", metavar="FILE", help="TOML with the services; by default sp-dev.toml."),
    ] = None,
    port: Annotated[
        int | None,
        typer.Option("--port", min=1, max=65535, metavar="PORT", help="Where the application is called, and captured."),
    ] = None,
    to: Annotated[
        int | None,
        typer.Option(
            "--to",
            min=1,
            max=65535,
            metavar="PORT",
            help="Where it listens; by default on a free port, which it finds in PORT.",
        ),
    ] = None,
    name: Annotated[
        str, typer.Option("--name", metavar="NAME", help="The service's name; by default that of the command.")
    ] = "",
    explicit: Annotated[
        bool, typer.Option("--proxy", help="As root too: by proxy variables, without network namespaces.")
    ] = False,
    user: Annotated[
        str, typer.Option("--user", metavar="USER", help="As root: who runs the command; by default who called sudo.")
    ] = "",
    host_port: Annotated[
        list[int] | None,
        typer.Option(
            "--host-port",
            metavar="PORT",
            min=1,
            max=65535,
            help="As root: a port of this host's loopback to be reached too. Repeatable.",
        ),
    ] = None,
    dashboard_port: Annotated[
        int | None,
        typer.Option(
            "--dashboard-port",
            min=1,
            max=65535,
            metavar="PORT",
            help="By default 4318, or a free one if that is taken.",
        ),
    ] = None,
    open_browser: Annotated[
        bool | None,
        typer.Option(
            "--open/--no-open", help="Open the dashboard in a browser; by default on a terminal with a desktop."
        ),
    ] = None,
    database: Annotated[
        Path | None,
        typer.Option("--database", metavar="FILE", help="Keep what is captured; by default it is forgotten."),
    ] = None,
    mock: Annotated[
        str | None,
        typer.Option(
            "--mock",
            metavar="QUERY",
            help="FOR TESTS: answer outbound requests from what --database has of earlier runs, as the query narrows it.",
        ),
    ] = None,
    mock_host: Annotated[
        list[str] | None,
        typer.Option(
            "--mock-host",
            metavar="REGEX",
            help="Answer only requests to such hosts; by default to all. Repeatable.",
        ),
    ] = None,
    intercept: Annotated[bool, typer.Option("--https/--no-https", help="Open and capture HTTPS.")] = True,
    stay: Annotated[bool, typer.Option("--stay", help="Keep the dashboard after the end, until Ctrl-C.")] = False,
    config: Annotated[
        Path | None,
        typer.Option("--config", "-c", metavar="FILE", help="Rules and redaction; by default all is captured."),
    ] = None,
    assignments: SetOption = None,
) -> int:
    """Run an application with all of its HTTP traffic captured, and show it on a page.

    As root on Linux in a network namespace of its own, by redirect rules; else by an explicit proxy and the variables for
    it. Exit code: the command's own; with several services that of the first that fails, or 130 after Ctrl-C; 1 when it
    cannot be run, 2 for a wrong command line.
    """
    from rich.console import Console

    from sp_proxy.demo.errors import DemoError
    from sp_proxy.dev.errors import DevError
    from sp_proxy.dev.run import Options, run

    if command and file:
        raise typer.BadParameter("either a COMMAND or a --file", param_hint="--file")
    if not command and (port or to or name or host_port):
        raise typer.BadParameter("--port, --to, --name and --host-port are for one COMMAND; a file has its own")
    if to and not port:
        raise typer.BadParameter("needs --port, where the application is called", param_hint="--to")
    mocked = _mocked(mock, mock_host or [], database)
    if config or assignments or mocked:
        from sp_proxy.settings.flags import Flag

        flags = {key: Flag("--mock-host" if key == "inject.hosts" else "--mock", each) for key, each in mocked.items()}
        flags.pop("inject.enabled", None)  # for the warning names who would be asked, which only the run knows
        load_or_exit(config, assignments, flags, sends=False)
    try:
        project = _project(command, file, name, port, to, tuple(host_port or ()))
    except DevError as error:
        say(str(error))
        return 2
    console = Console(stderr=bool(command))
    if not console.is_terminal:
        console = Console(stderr=bool(command), width=_PLAIN_WIDTH)
    options = Options(
        project,
        single=bool(command),
        explicit=explicit,
        user=user,
        backend_port=dashboard_port,
        open_browser=open_browser,
        database=database,
        config=config,
        assignments=tuple(assignments or ()),
        intercept=intercept,
        stay=stay,
        mocked=mocked,
    )
    try:
        return run(options, console)
    except DemoError as error:
        say(str(error))
        return CANNOT_GO_ON


def _mocked(query: str | None, hosts: list[str], database: Path | None) -> dict[str, Any]:
    """The settings that ``--mock`` stands for."""
    from sp_proxy.mock.daemon import daemon_settings
    from sp_proxy.replay.problems import ReplayError

    if query is None:
        if hosts:
            raise typer.BadParameter("needs --mock, which says what is answered from", param_hint="--mock-host")
        return {}
    if database is None or not os.access(database, os.R_OK):
        raise typer.BadParameter("needs --database FILE, in which an earlier run has kept answers", param_hint="--mock")
    try:
        return daemon_settings(query, hosts)
    except ReplayError as error:
        raise typer.BadParameter(f"no query: {error}", param_hint="--mock") from None


def _project(
    command: list[str] | None,
    file: Path | None,
    name: str,
    port: int | None,
    to: int | None,
    host_ports: tuple[int, ...],
) -> "Project":
    from sp_proxy.dev.errors import DevError
    from sp_proxy.dev.project import DEFAULT_FILE, read_project, single

    if command:
        return single(tuple(command), name, port, to, host_ports)
    path = file or Path(DEFAULT_FILE)
    if file is None and not path.exists():
        raise DevError(f"nothing to run: give a command (sp-proxy dev -- npm start), or a file ({DEFAULT_FILE})")
    return read_project(path)
