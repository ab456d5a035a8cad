"""``sp-proxy config``: what is wrong with a configuration, and what is in force."""

import json
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sp_proxy.cli.options import WRONG_SETTINGS, ConfigOption, SetOption, load_or_exit, say, warn

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sp_proxy.settings.model import SettingsModel

app = typer.Typer(help="Check a configuration, or show what is in force.", add_completion=False)


class Format(StrEnum):
    """How ``config show`` writes."""

    TEXT = "text"
    JSON = "json"
    YAML = "yaml"


@app.command()
def check(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="YAML or JSON: settings, or WasmPlugin manifests.")],
    assignments: SetOption = None,
) -> None:
    """Say whether the daemon would start with FILE and the environment as it is.

    Every problem is one line on standard error, and the exit code is 2; warnings do not change the exit code. Keys and
    certificates that FILE names and that are not here are warnings: they may be where the daemon is.
    """
    settings = load_or_exit(file, assignments).settings
    from sp_proxy.addons.check import read_and_check

    try:
        read_and_check(settings.addons)
    except ValueError as error:
        say(str(error))
        raise typer.Exit(WRONG_SETTINGS) from None
    for missing in _missing(settings):
        warn(f"{missing}; the daemon does not start without it")
    print(f"{file}: ok")


@app.command()
def show(
    config: ConfigOption = None,
    assignments: SetOption = None,
    style: Annotated[Format, typer.Option("--format", help="How to write it.")] = Format.TEXT,
) -> None:
    """Show the settings in force and where each one came from. Secrets are masked."""
    loaded = load_or_exit(config, assignments, sends=False)
    from sp_proxy.settings.masking import flat, masked

    if style is Format.TEXT:
        for line in _table(flat(loaded.settings), loaded.origins):
            print(line)
        return
    data = {"settings": masked(loaded.settings), "origins": loaded.origins}
    if style is Format.JSON:
        print(json.dumps(data, indent=2, ensure_ascii=False))
        return
    import yaml

    print(yaml.safe_dump(data, sort_keys=False, allow_unicode=True, width=120), end="")


def _missing(settings: "SettingsModel") -> "Iterator[str]":
    """What a start would look for and not find here: the authority for TLS, certificates for uploads."""
    from sp_proxy.settings.engine import tls_config
    from sp_proxy.supervisor.authority import check_authority

    try:
        check_authority(tls_config(settings))
    except ValueError as error:
        yield str(error)
    if settings.upload.ca_file or settings.upload.client_cert_file:
        from sp_proxy.exporter.pools import tls_context

        try:
            tls_context(settings.upload)
        except ValueError as error:
            yield str(error)


def _table(values: dict[str, Any], origins: dict[str, str]) -> list[str]:
    """One line a setting: key, value as JSON, origin."""
    rows = [(key, json.dumps(value, ensure_ascii=False), origins[key]) for key, value in values.items()]
    keys = max(len(key) for key, _, _ in rows)
    width = min(max(len(value) for _, value, _ in rows), 40)  # a longer value moves only its own origin
    return [f"{key:{keys}}  {value:{width}}  {origin}" for key, value, origin in rows]
