"""``sp-proxy mcp``: the backend's queries as tools for agents and editors, over standard input and output."""

from typing import Annotated

import typer

from sp_proxy.cli.asking import FAILED, UrlOption, asking
from sp_proxy.cli.options import WRONG_SETTINGS, ConfigOption, SetOption, load_or_exit, say


def mcp(
    replay_to: Annotated[
        str | None,
        typer.Option("--replay-to", metavar="URL", help="Offer to replay exchanges, to this address and no other."),
    ] = None,
    unsafe: Annotated[
        bool, typer.Option("--unsafe", help="Let it send methods other than GET, HEAD and OPTIONS too.")
    ] = False,
    url: UrlOption = None,
    config: ConfigOption = None,
    assignments: SetOption = None,
) -> None:
    """Serve the Model Context Protocol on standard input and output, until the input ends (docs/mcp.md).

    Exit codes: 0, 1 when it cannot (the SDK is not installed), 2 for wrong settings or options.
    """
    try:
        from sp_proxy.mcp.server import build
    except ImportError:
        say("the Model Context Protocol's SDK is missing: install sp-proxy[mcp]")
        raise typer.Exit(FAILED) from None
    import os

    from sp_proxy import regex
    from sp_proxy.core.redact.redactor import Redactor
    from sp_proxy.mcp.tools import Replaying, Tools
    from sp_proxy.replay.prepare import changes
    from sp_proxy.replay.problems import ReplayError
    from sp_proxy.replay.rules import File
    from sp_proxy.settings.project import policy_config, redaction_config

    settings = load_or_exit(config, assignments, sends=False).settings
    redaction = redaction_config(settings)
    replaying = None
    if replay_to is not None:
        try:
            wanted = changes(replay_to, unsafe=unsafe)
        except ReplayError as error:
            say(str(error).replace("--to", "--replay-to", 1))
            raise typer.Exit(WRONG_SETTINGS) from None
        words = (redaction.replacement, *(rule.replacement for rule in redaction.rules))
        replaying = Replaying(wanted, File(placeholders=words), Redactor(redaction, regex))
    with asking(url, config, assignments) as client:
        build(Tools(client, policy_config(settings, os.environ), replaying)).run("stdio")
