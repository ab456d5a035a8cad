"""``sp-proxy doctor``: one report of all that a working daemon needs."""

import os
from typing import Annotated

import typer

from sp_proxy.cli.options import ConfigOption, SetOption, source_or_exit

NOT_WELL = 1
WIDTH = 13
"""Of the column of areas."""

JsonOption = Annotated[bool, typer.Option("--json", help="Write the report as JSON.")]


def doctor(config: ConfigOption = None, assignments: SetOption = None, as_json: JsonOption = False) -> None:
    """Look at configuration, daemon, users, ports, kernel, rules, heartbeat, disk and backends, with advice for what is not well.

    Changes nothing. As root it sees everything; without, it says what it could not see. Exit code 0 when nothing fails, else 1.
    """
    from sp_proxy.doctor.examine import examine
    from sp_proxy.doctor.findings import Verdict, document, lines, worst

    source = source_or_exit(config, assignments)
    found = []
    for finding in examine(source, os.environ):
        found.append(finding)
        if not as_json:
            print("\n".join(lines(finding, WIDTH)), flush=True)
    if as_json:
        print(document(found))
    raise typer.Exit(NOT_WELL if worst(found) is Verdict.FAIL else 0)
