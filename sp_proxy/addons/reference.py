"""``docs/addons.md``, from the docstrings of what hooks are called with: ``python -m sp_proxy.addons.reference > docs/addons.md``."""

import ast
import inspect
import sys
from collections.abc import Iterator
from pathlib import Path
from textwrap import fill
from typing import Final

from sp_proxy.addons import exchange, head, headers, message
from sp_proxy.addons.source import FLOW_EVENTS, read
from sp_proxy.addons.template import TEMPLATES

EXAMPLES: Final = Path(__file__).parents[2] / "addons"
_NOT_FOR_HOOKS: Final = frozenset(
    ("place", "is_changed", "changed", "parts", "block", "lines", "saved", "restore", "edit")
)
_KINDS: Final = {"exchange": "capture hook", "request": "request hook", "flow": "flow script"}

_BEGINNING: Final = """# Addons

Operators' scripts: one file of plain Python each. A file may define

| in the file | it is a | runs | may |
|---|---|---|---|
| `def exchange(ex)` | capture hook | in a process of its own, after the exchange | tag, mask, rename, drop, split, count |
| `def request(head)` | request hook | in the relay, before the request goes on | change header fields, tag, decide on capture |
| `def response(flow)`, … | flow script | in mitmproxy, for hosts that it claims | all that mitmproxy's addons may |

```yaml
addons:
  directory: /etc/sp-proxy/addons        # each *.py in it; or by name:
  files: [/etc/sp-proxy/more/tenant.py]
  flows:
    - {file: /etc/sp-proxy/flows/fault.py, hosts: ['^inventory\\.']}
    - {file: /etc/sp-proxy/flows/delay.py, hosts: [.], options: {delay_ms: "50"}}   # values in quotes
```

`sp-proxy addon new NAME --kind capture|request|flow` writes one to begin with, `sp-proxy addon check NAME` runs it once and says
what it does with a sample, `sp-proxy addon bench NAME` says what it costs. All settings: [configuration.md](configuration.md).

The daemon looks at the files as it looks at its configuration: other files come into force without a restart, and a file that is no
Python, or fails when it is run once in a process of its own, is refused with everything else as it was, in one line with its place
(`tenant.py:7: NameError: name 'jso' is not defined`). So are options that a flow script does not declare, or not so
(`addons.flows: fault.py: options.delay_ms: found 'soon'; allowed: a whole number`). `sp-proxy config check` says the same. The text that
was checked is the text that is run.

## Capture hooks

Each file has a process of its own, started with its first records: with the daemon's user, at lower priority, with
`addons.max_memory` of address space, without the daemon's settings in its environment. Records go there in batches and come back
changed; what comes back is read as foreign data, and only what is settable below is taken from it. A hook may be `async` (trio):
then many records wait at the same time. `print` writes into the daemon's log (`addon_says`, 20 lines for some 64 records).

- **Redaction has the last word.** Hooks see what was captured as it was; whatever they add or leave goes through the rules and
  detectors of [redaction](redaction.md) afterwards, names of spans, services and tags, and labels of metrics, included. A hook that
  writes or sends somewhere by itself is out of its reach.
- **It costs its own effect, never the traffic.** A call that raises, or takes longer than `addons.call_budget`, leaves its record as it
  was; the line is named in the log once, without what the exception says. After `addons.batch_budget` the rest of a batch goes on
  without the hook. A process that dies, hangs or talks nonsense is ended with all that it has started, and begun again after
  growing pauses; fifty failed calls in a row are a pause too. When workers have to wait for the exporter for more than a second,
  hooks are left out until they need not.
- **`required = True`** in the file turns that round: a record that the hook could not see is not sent, and counted as
  `addon_failed`. That is for hooks that mask.
- Order: `addons.files`, then the folder by name; each sees what the one before has left. Records of workers with earlier
  settings are seen by the hooks of these settings and then by the present ones.

"""

_REQUESTS: Final = """## Request hooks

The function runs in the relay worker's own loop, between the request's head and its way to the server. All connections of that
worker wait meanwhile: it must not wait for anything, and should take microseconds. What can be done later is better done in a
capture hook.

- `pure = True` in the file says that the same head always gets the same answer. When all request hooks are pure, answers are remembered
  with the head, and heads that come again cost nothing.
- A call that raises costs its own effect (counted, its line in the log once); after fifty in a row, and after five
  that take longer than `addons.request_budget` (a thousand quick calls make up for one), the hook is left out for 30 s, then for twice
  as long.
- One that does not return within `addons.stuck_after`, or takes more than `addons.max_memory` in a call, is interrupted, costs its own
  effect, and is left out at once. The connections of its worker have waited as long.
- One that goes on all the same (in a loop in C, or swallowing everything), or ends the process, costs the connections of its
  worker, each worker's at most once. The next worker is started without it, until its file or the settings change; the log names it
  (`addon_switched_off`). When nobody can be named (a hook has closed what is the relay's) and workers die twice within a minute, hooks are left
  out one after the other until workers live. A hook that takes memory little by little is nobody's to tell from the relay.
- Adding a field costs least. In HTTP/2, replacing or removing one has the client's later header blocks encoded anew.
- In the mitmproxy worker (opened TLS, flows), which hears the same hooks, a call is interrupted after `addons.stuck_after` too.
- A head of which a part had to go on before it was whole (a client that took longer than `detect_timeout` to send it) is left alone.
- Requests that nothing is injected into (from Istio's ingress gateway) are left alone too, and so is what passes unread.

"""

_FLOWS: Final = """## Flow scripts

mitmproxy's own addon API, so scripts from its documentation run as they are: functions in the file or objects in its list `addons`,
`load(loader)` with options, `configure`, `running`, `done`, `@command.command`, `ctx`, `flowfilter`, async hooks. Options get their values
in the settings. Events: {events}.

- **Which connections.** A connection in clear text goes to the [mitmproxy worker](tls.md) when the `Host` of its first request, in
  HTTP/1, is one that a script claims; TLS when `tls.intercept` opens it and its server name is claimed. Cleartext HTTP/2 is claimed by
  nobody: many of its clients (gRPC's) name no host before the server has spoken, and then it is too late to lead the connection elsewhere.
  With `data_path: mitmproxy` all HTTP is there, HTTP/2 too. Each script is called with flows to its own hosts only.
- **What it costs** is what mitmproxy costs ([performance.md](performance.md)), for these connections only. The first of them waits for its
  worker to start, a second or two; with `engine: eager` it runs from the beginning.
- Bodies are held whole for scripts up to 16 MiB; event streams, longer bodies, and requests with `Expect: 100-continue` pass as they
  come, and a script sees them without a body. What is recorded is what was forwarded, or what a script has answered.
- With a script that has a `websocket_…` event, WebSocket connections in the mitmproxy worker pass through mitmproxy's own layer, and
  their messages are not recorded.
- A call that raises costs its own effect; one that blocks is interrupted after `addons.stuck_after`, and after three in a row the
  script is called no more. One that ends the process costs its connections and those beside it: the worker is started again after
  growing pauses, and the relay serves new connections meanwhile, without scripts.

"""

_ENDING: Final = """## What is counted

Of each capture hook, in `/metrics` with the label `addon`: `sp_proxy_addon_calls_total`, `_faults_`, `_skipped_`, `_dropped_`, `_added_`,
`_restarts_`, `_seconds_`, `_series_lost_total`, and `sp_proxy_addon_paused`. Its own metrics are `sp_proxy_addon_NAME`, at most 1000
series. Of each request hook: `sp_proxy_worker_addon_requests_total`, `_request_ns_`, `_request_faults_`, `_switched_off_total`. Of each flow
script: `sp_proxy_worker_script_calls_total` and `_script_faults_total`. Records that a hook drops are `addon_dropped` in the books, and
records that it splits off count as captured.

## What they cost

Without addons nothing is asked, and no process is started. `sp-proxy addon bench` measures an addon by itself; `make bench` has one of each
kind beside the daemon without (`sp-add-header`, `sp-add-header-pure`, `sp-tag-path`). CPU for a request, 16 kept
connections, GET of 1 KiB, everything exported; one run on a machine with two busy cores, so the differences count, not the sums. The
process of a capture hook takes some 20 MB.

{costs}
"""

COSTS: Final = """| with | relay worker | all processes |
|---|---|---|
| no addon | 41 µs | 86 µs |
| one request hook (sets one header) | 59 µs | 113 µs |
| the same, `pure` | 48 µs | 100 µs |
| one capture hook (adds one tag) | 43 µs | 135 µs |"""
"""Measured (``make bench``)."""


def document() -> str:
    """The whole page."""
    events = ", ".join(f"`{event}`" for event in FLOW_EVENTS)
    parts = [
        _BEGINNING,
        "```python\n" + TEMPLATES["capture"].format(name="errors", header="") + "```\n\n",
        *_class("ex", exchange.CapturedExchange),
        *_class("ex.request, ex.response", message.Message),
        *_class("headers", headers.Headers),
        _REQUESTS,
        "```python\n" + TEMPLATES["request"].format(name="internal", header="internal") + "```\n\n",
        *_class("head", head.Head),
        *_class("head.headers", head.RequestHeaders),
        _FLOWS.format(events=events),
        "```python\n" + TEMPLATES["flow"].format(name="seen", header="seen") + "```\n\n",
        "## Examples\n\nIn the folder `addons/`, each tried with real traffic in the tests.\n\n",
        *_examples(),
        "\n",
        _ENDING.format(costs=COSTS),
    ]
    return "".join(parts)


def _class(title: str, kind: type) -> Iterator[str]:
    yield f"### `{title}`\n\n{_wrapped(inspect.getdoc(kind) or '')}\n\n"
    body = ast.parse(inspect.getsource(kind)).body[0]
    assert isinstance(body, ast.ClassDef)
    found = list(_members(body))
    for name, text in found:
        yield _wrapped(f"- `{name}`: {text}", "  ") + "\n"
    if found:
        yield "\n"


def _members(body: ast.ClassDef) -> Iterator[tuple[str, str]]:
    for node in body.body:
        if not isinstance(node, ast.FunctionDef):
            continue
        if node.name == "__init__":
            yield from _attributes(node)
        text = ast.get_docstring(node)
        if node.name.startswith("_") or node.name in _NOT_FOR_HOOKS or not text:
            continue
        is_property = any(isinstance(each, ast.Name) and each.id == "property" for each in node.decorator_list)
        yield (node.name if is_property else f"{node.name}({_arguments(node.args)})"), text


def _attributes(init: ast.FunctionDef) -> Iterator[tuple[str, str]]:
    """``self.name = …`` with a docstring behind it."""
    for node, after in zip(init.body, init.body[1:], strict=False):
        if isinstance(node, ast.Assign) and isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant):
            target = node.targets[0]
            if isinstance(target, ast.Attribute) and not target.attr.startswith("_"):
                yield target.attr, str(after.value.value)


def _arguments(given: ast.arguments) -> str:
    plain = [each.arg for each in given.args if each.arg != "self"]
    defaults = [f"={ast.unparse(each)}" for each in given.defaults]
    plain = [
        name + default for name, default in zip(plain, [""] * (len(plain) - len(defaults)) + defaults, strict=True)
    ]
    return ", ".join([*plain, *([f"**{given.kwarg.arg}"] if given.kwarg else [])])


def _examples() -> Iterator[str]:
    for path in sorted(EXAMPLES.glob("*.py")):
        file = read(str(path))
        text = (ast.get_docstring(ast.parse(file.text)) or "").split("\n\n")[0]
        kinds = ", ".join(_KINDS[hook] for hook in file.hooks)
        yield _wrapped(f"- [`{path.name}`](../addons/{path.name}) ({kinds}): {text}", "  ") + "\n"


def _wrapped(text: str, indent: str = "") -> str:
    return fill(
        " ".join(text.replace("``", "`").split()),
        118,
        subsequent_indent=indent,
        break_long_words=False,
        break_on_hyphens=False,
    )


if __name__ == "__main__":
    sys.stdout.write(document())
