"""``sp-proxy addon``: write, check and measure an addon."""

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sp_proxy.cli.options import say

if TYPE_CHECKING:
    from sp_proxy.addons.source import AddonFile

app = typer.Typer(help="Write, check or measure an addon.", add_completion=False)

WRONG = 1
"""Exit code for an addon that is none, or fails."""

NameArgument = Annotated[str, typer.Argument(metavar="NAME", help="The addon's file, or its name in --directory.")]
DirectoryOption = Annotated[Path, typer.Option("--directory", "-d", metavar="DIR", help="Where addons are.")]
HERE = Path("addons")


class Kind(StrEnum):
    """What an addon may be."""

    CAPTURE = "capture"
    REQUEST = "request"
    FLOW = "flow"


@app.command()
def new(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The addon's name: letters, digits and _.")],
    kind: Annotated[Kind, typer.Option("--kind", help="Called with captured exchanges, request heads, or flows.")] = (
        Kind.CAPTURE
    ),
    directory: DirectoryOption = HERE,
) -> None:
    """Write a small addon that works as it is, to begin with. An existing file is left alone (exit code 1)."""
    from sp_proxy.addons.template import written

    if not name.isidentifier() or name.startswith("_"):
        raise typer.BadParameter(f"found {name!r}; allowed: letters, digits and _", param_hint="NAME")
    path = directory / f"{name}.py"
    try:
        directory.mkdir(parents=True, exist_ok=True)
        with path.open("x", encoding="utf-8") as file:
            file.write(written(kind.value, name))
    except OSError as error:
        say(f"{path}: {(error.strerror or str(error)).lower()}")
        raise typer.Exit(WRONG) from None
    print(f"{path}: written; sp-proxy addon check {path}")
    if kind is Kind.FLOW:
        print(
            f"in force with addons.flows: [{{file: {path}, hosts: ['^NAME$']}}], and in no folder that is addons.directory"
        )
    else:
        print(f"in force with addons.files: [{path}], or addons.directory: {directory}")


@app.command()
def check(name: NameArgument, directory: DirectoryOption = HERE) -> None:
    """Run the file once, and each hook once with a sample; say what it does. Exit code 1 for one that fails."""
    file = _read(name, directory)
    from sp_proxy.addons.check import check as run_once
    from sp_proxy.addons.flows import check_flows
    from sp_proxy.addons.source import AddonError
    from sp_proxy.mitm.config import FlowScriptConfig

    try:
        if "flow" in file.hooks:
            check_flows([FlowScriptConfig(file.name, file.path, file.text, (".",))])
        else:
            run_once([file])
    except AddonError as error:
        say(str(error))
        raise typer.Exit(WRONG) from None
    said = [f"{file.path}: {', '.join(_KINDS[hook] for hook in file.hooks)}"]
    said += ["required: what it could not see is not sent"] if file.required else []
    said += ["pure: its answers are remembered"] if file.pure else []
    import trio

    from sp_proxy import logs
    from sp_proxy.addons.trial import TOLD, try_capture, try_request

    logs.configure("error", "console")
    said += [TOLD] if "flow" not in file.hooks else []
    if "exchange" in file.hooks:
        said += trio.run(try_capture, file)
    if "request" in file.hooks:
        said += try_request(file)
    print("\n".join(said))
    if any("failed with the sample" in line for line in said):
        raise typer.Exit(WRONG)


@app.command()
def bench(
    name: NameArgument,
    directory: DirectoryOption = HERE,
    seconds: Annotated[float, typer.Option("--seconds", min=0.1, max=60, help="How long, for each hook.")] = 2.0,
) -> None:
    """Call each hook with a sample again and again; say what a call costs."""
    file = _read(name, directory)
    from sp_proxy import logs
    from sp_proxy.addons.trial import UselessError

    logs.configure("error", "console")
    try:
        _measure(file, seconds)
    except UselessError as error:
        say(f"{file.path}: {error}: see sp-proxy addon check")
        raise typer.Exit(WRONG) from None


def _measure(file: "AddonFile", seconds: float) -> None:
    import trio

    from sp_proxy.addons.trial import bench_capture, bench_request

    if "flow" in file.hooks:
        say(f"{file.path}: a flow script costs what mitmproxy costs (see docs/performance.md); nothing to measure here")
    if "exchange" in file.hooks:
        capture = trio.run(bench_capture, file, seconds)
        print(
            f"exchange(ex): {capture.hook:.1f} µs in the hook's process, {capture.whole:.1f} µs with the way to it and back"
        )
        _tell_failed(capture.failed)
    if "request" in file.hooks:
        request = bench_request(file, seconds)
        again = "; nothing for a head that came before (pure)" if request.remembered else ""
        print(f"request(head): {request.hook:.1f} µs of the relay's time for each request{again}")
        _tell_failed(request.failed)


_KINDS = {"exchange": "capture hook", "request": "request hook", "flow": "flow script"}


def _tell_failed(count: int) -> None:
    if count:
        say(f"{count} calls failed: see sp-proxy addon check")


def _read(name: str, directory: Path) -> "AddonFile":
    from sp_proxy.addons.source import AddonError, read

    path = Path(name) if name.endswith(".py") else directory / f"{name}.py"
    try:
        return read(str(path))
    except AddonError as error:
        say(str(error))
        raise typer.Exit(WRONG) from None
