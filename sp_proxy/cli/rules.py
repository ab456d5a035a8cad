"""``sp-proxy rules``: which rule decides about a request, and what a new configuration would change."""

import json
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sp_proxy.cli.asking import asking, console
from sp_proxy.cli.options import SetOption, load_or_exit, say
from sp_proxy.terminal import safe

if TYPE_CHECKING:
    from sp_proxy.core.explanation import Explanation, Part, Request
    from sp_proxy.settings.model import SettingsModel

NOT_CAPTURED = 1
WRONG_RULES = 2
DIFFERS = 3

app = typer.Typer(add_completion=False, help="Ask which rule decides, or what another configuration would change.")


FileArgument = Annotated[Path, typer.Argument(metavar="FILE", help="YAML or JSON: settings, or WasmPlugin manifests.")]


class Way(StrEnum):
    """Whose traffic it is, seen from the workload."""

    INBOUND = "inbound"
    OUTBOUND = "outbound"


@app.command("test")
def tell(
    file: FileArgument,
    host: Annotated[str, typer.Option("--host", metavar="HOST[:PORT]", help="The authority.")],
    path: Annotated[str, typer.Option("--path", metavar="PATH", help="The request target, with its query.")] = "/",
    method: Annotated[str, typer.Option("--method", metavar="METHOD", help="The request method.")] = "GET",
    direction: Annotated[
        Way | None, typer.Option("--direction", help="Inbound or outbound; without it, both are told.")
    ] = None,
    header: Annotated[
        list[str] | None, typer.Option("--header", "-H", metavar="NAME:VALUE", help="A request header. Repeatable.")
    ] = None,
    response_header: Annotated[
        list[str] | None,
        typer.Option("--response-header", metavar="NAME:VALUE", help="A header of the response. Repeatable."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a direction, one a line.")] = False,
    assignments: SetOption = None,
) -> int:
    """Say whether a request would be captured with FILE, which rule decides, and what was looked at before it, in order.

    Exit codes: 0 when it is captured (in any of the directions asked for), 1 when not, 2 for a wrong FILE or command line.
    """
    from sp_proxy.core.exchange import Direction
    from sp_proxy.core.explanation import Request, explain
    from sp_proxy.patterns import compile_pattern
    from sp_proxy.settings.project import policy_config

    settings = load_or_exit(file, assignments, sends=False).settings
    if not path or not path.isprintable() or " " in path or not method.isascii() or not method.isalpha():
        raise typer.BadParameter("METHOD is letters, PATH is a request target without spaces", param_hint="--path")
    if not path.startswith("/") and "://" not in path and path != "*":
        raise typer.BadParameter(f"found {path!r}; allowed: a request target, which begins with /", param_hint="--path")
    fields = _block("--header", [f"host: {host}", *(header or ())])
    responses = _block("--response-header", response_header) if response_header else None
    captured = False
    for way in [direction] if direction else list(Way):
        request = Request(
            Direction(way.value), method.encode(), path.encode(), host.encode("utf-8", "replace"), fields, responses
        )
        try:
            explanation = explain(policy_config(settings), request, compile_pattern)
        except ValueError as error:
            say(f"{file}: {error}")
            raise typer.Exit(WRONG_RULES) from None
        captured = captured or explanation.decision.capture
        notes = _notes(settings, explanation, fields)
        if as_json:
            print(json.dumps(_as_json(request, explanation, notes)))
        else:
            _print(request, explanation, notes)
    return 0 if captured else NOT_CAPTURED


@app.command("try")
def attempt(
    file: FileArgument,
    url: Annotated[
        str | None, typer.Option("--backend", metavar="URL", help="By default the one at backend.listen of FILE.")
    ] = None,
    query: Annotated[
        str,
        typer.Option(
            "--filter", metavar="QUERY", help="Only these exchanges, for example: 'service:orders time>=-1h'."
        ),
    ] = "",
    current: Annotated[
        Path | None,
        typer.Option("--current", metavar="FILE", help="The one in force: say what it leaves out and FILE does not."),
    ] = None,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, help="The newest so many at most.")] = 10_000,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
    assignments: SetOption = None,
) -> int:
    """Decide about what was captured once more, with FILE: what would no longer be captured, what would be redacted, what stays.

    Exit codes: 0 when nothing would change, 3 when something would, 1 when the backend does not answer, 2 for a wrong FILE or
    query.
    """
    from sp_proxy import regex
    from sp_proxy.core.redact.redactor import Redactor
    from sp_proxy.patterns import compile_pattern
    from sp_proxy.settings.project import admission_config, policy_config, redaction_config
    from sp_proxy.trial.feed import Feed
    from sp_proxy.trial.openings import openings, redaction_openings, sampling_openings
    from sp_proxy.trial.report import as_json as plain
    from sp_proxy.trial.report import lines, table
    from sp_proxy.trial.trial import Trial

    settings = load_or_exit(file, assignments, sends=False).settings
    redaction = redaction_config(settings)
    trial = Trial(
        policy_config(settings),
        admission_config(settings),
        Redactor(redaction, regex),
        compile_pattern,
        redaction.replacement,
    )
    feed = Feed(trial)
    with asking(url, file, assignments) as client:
        client.download("jsonl", query, feed, limit)
    result = trial.result()
    if current is not None:
        before = load_or_exit(current, sends=False).settings
        result.opens = [
            *openings(policy_config(before), policy_config(settings)),
            *sampling_openings(admission_config(before), admission_config(settings)),
            *redaction_openings(redaction_config(before), redaction),
        ]
    if as_json:
        print(json.dumps(plain(result)))
    else:
        out = console()
        if result.looked_at:
            out.print(table(result), soft_wrap=False)
        for line in lines(result):
            out.print(line)
    return DIFFERS if result.differs else 0


def _block(option: str, lines: list[str]) -> bytes:
    r"""Fields as ``core/rules.py`` wants them: lower case, each line ended by CRLF, with a leading CRLF."""
    for line in lines:
        name, colon, value = line.partition(":")
        if not colon or not name.strip() or not name.strip().isascii() or not value.isprintable():
            raise typer.BadParameter(f"found {safe(line)!r}; allowed: NAME:VALUE", param_hint=option)
    named = [line.partition(":") for line in lines]
    return ("\r\n" + "".join(f"{name.strip()}: {value.strip()}\r\n" for name, _, value in named)).lower().encode()


def _notes(settings: "SettingsModel", explanation: "Explanation", fields: bytes) -> list[str]:
    """What may still keep a captured exchange from becoming a record."""
    if not explanation.decision.capture:
        return []
    from sp_proxy.core.admission import Admission
    from sp_proxy.core.trace_context import parse_traceparent
    from sp_proxy.settings.project import admission_config

    config = admission_config(settings)
    notes = []
    if config.sampling_ratio < 1.0:
        given = fields.partition(b"\r\ntraceparent: ")[2].partition(b"\r\n")[0]
        ids = parse_traceparent(given)
        if ids is None:
            notes.append(
                f"sampling.ratio is {config.sampling_ratio:g}: its trace id decides (--header 'traceparent: …')"
            )
        else:
            kept = "kept" if Admission(config).samples(ids[0]) else "not kept, unless it fails or is slow by setting"
            notes.append(f"sampling.ratio is {config.sampling_ratio:g}: its trace is {kept}")
    limit = config.rule_limits.get(explanation.decision.rule)
    if limit is not None and (limit.exchanges or limit.bytes):
        notes.append(f"{explanation.decision.rule} has limits: what is over them is not captured")
    if config.limit.exchanges or config.limit.bytes:
        notes.append("there are limits: what is over them is not captured")
    return notes


def _as_json(request: "Request", explanation: "Explanation", notes: list[str]) -> dict[str, Any]:
    from msgspec import to_builtins

    return {
        "direction": request.direction.value,
        "method": request.method.decode(),
        "host": request.authority.decode("utf-8", "replace"),
        "path": request.target.decode("utf-8", "replace"),
        **to_builtins(explanation),
        "notes": notes,
    }


def _print(request: "Request", explanation: "Explanation", notes: list[str]) -> None:
    words = (request.method, request.authority + request.target)
    line = " ".join(safe(word.decode("utf-8", "replace")) for word in words)
    print(f"{request.direction.value}  {line}")
    wide = max(len(step.place) for step in explanation.steps)
    marks = {"decides": "=>", "passes": "  ", "not_asked": "  "}
    for step in explanation.steps:
        why = "not asked" if step.verdict == "not_asked" else step.why
        print(f"  {marks[step.verdict]} {step.place:{wide}}  {why}")
        for part in step.parts if step.verdict != "not_asked" else ():
            print(f"     {'':{wide}}    {part.name:6} {_part(part)}")
    decision = explanation.decision
    said = "captured" if decision.capture else f"not captured ({decision.reason})"
    by = f", by {decision.rule}" if decision.rule else ""
    headers = "" if decision.inject else "; no headers are added"
    print(f"  {said}{by}{headers}")
    for note in notes:
        print(f"  note: {note}")


def _part(part: "Part") -> str:
    texts = " and ".join(repr(safe(text)) for text in part.texts)
    if part.matched is not None:
        return f"matched: {part.matched!r} in {texts}"
    return f"did not match: {', '.join(repr(pattern) for pattern in part.patterns)} in {texts}"
