"""``sp-proxy status``: where every captured record went, asked of the running daemon."""

from typing import TYPE_CHECKING, Any

import typer

from sp_proxy.cli.options import ConfigOption, SetOption, load_or_exit, say

if TYPE_CHECKING:
    from sp_proxy.settings.model import Admin

NOT_WELL = 1
TIMEOUT_SECONDS = 5.0


def status(config: ConfigOption = None, assignments: SetOption = None) -> None:
    """Print what the daemon captured and where it is, for each exporter, and whether that adds up.

    Exit code 0 when it does, 1 when a record is missing or the daemon does not answer.
    """
    settings = load_or_exit(config, assignments, sends=False).settings
    if not settings.admin.enabled:
        say("admin.enabled is false: there is nobody to ask")
        raise typer.Exit(NOT_WELL)
    document = _ask(settings.admin)
    for line in report(document):
        print(line)
    raise typer.Exit(0 if document["balanced"] else NOT_WELL)


def _ask(admin: "Admin") -> dict[str, Any]:
    import httpx

    from sp_proxy.settings.types import Address

    host = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}.get(admin.listen.host, admin.listen.host)
    url = f"http://{Address(host, admin.listen.port)}/status"
    try:
        answer = httpx.get(url, timeout=TIMEOUT_SECONDS, trust_env=False)
        document: dict[str, Any] = answer.raise_for_status().json()
        try:
            report(document)
            document["balanced"]
        except (KeyError, TypeError, AttributeError):
            raise ValueError("not the answer of sp-proxy") from None
    except httpx.ConnectError:
        say(f"{url}: nobody answers: no daemon runs, or its admin.listen is another one")
        raise typer.Exit(NOT_WELL) from None
    except (httpx.HTTPError, ValueError) as error:
        say(f"{url}: {str(error).splitlines()[0] if str(error) else type(error).__name__}")
        raise typer.Exit(NOT_WELL) from None
    return document


def report(document: dict[str, Any]) -> list[str]:
    """The lines for a person."""
    lines = [f"sp-proxy {document['version']}: {document['workers_ready']} of {document['workers']} workers ready"]
    lines += [f"  {text}" for key, text in _REMARKS if document[key] is (key != "exporter_running")]
    if document["exporter_faults"]:
        lines.append(f"  faults of the exporter (its log has more): {_reasons(document['exporter_faults'])}")
    lost = document["lost_before_the_exporter"]
    if lost:
        lines.append(f"  lost in the workers: {_reasons(lost)}")
    for each in document["exporters"]:
        dropped = sum(each["dropped"].values())
        left = {key: each[key] for key in ("accepted", "rejected", "waiting", "spooled")} | {"dropped": dropped}
        entered = " + ".join(f"{key} {each[key]}" for key in ("captured", "recovered"))
        lines += [
            f"{each['name']}:",
            f"  {entered} = {' + '.join(f'{key} {count}' for key, count in left.items())}",
            "  it holds" if not each["missing"] else f"  IT DOES NOT HOLD: {each['missing']} records are nowhere",
        ]
        if dropped:
            lines.append(f"  dropped: {_reasons(each['dropped'])}")
        spool = each["spool"]
        if spool["entries"]:
            lines.append(f"  spool: {spool['entries']} entries, {spool['size']} bytes")
        if spool["problem"]:
            lines.append(f"  spool: {spool['problem']}; payloads stay in memory")
        if each["breaker"] != "closed":
            lines.append("  the destination keeps failing and is asked by single probes")
        if each["last_error"]:
            lines.append(f"  last error: {each['last_error']}")
    return lines


_REMARKS = (
    ("draining", "draining"),
    ("failing_open", "failing open: traffic passes without the workers"),
    ("exporter_running", "THE EXPORTER IS NOT RUNNING, or not all of it: see the log"),
)


def _reasons(counts: dict[str, int]) -> str:
    return ", ".join(f"{reason} {count}" for reason, count in sorted(counts.items()))
