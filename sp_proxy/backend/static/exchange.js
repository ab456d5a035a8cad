// One exchange in full: request and response side by side.

import { actions } from "./actions.js";
import { arrow, dateTime, duration, el, get, problem, sessionLink, size, statusPill, took, traceLink } from "./dom.js";
import { bindKeys } from "./keys.js";
import { parseId } from "./marks.js";
import { message } from "./message.js";
import { marked } from "./redacted.js";

const AGAIN = 3_000; // milliseconds after which an exchange that goes on is asked for again

export function mount(root, { ids: [id], query }) {
  const asked = parseId(id);
  if (!asked) {
    root.append(problem(new Error("This is no id of an exchange: 16 hex digits.")));
    return () => {};
  }
  const abort = new AbortController();
  const back = { keys: ["u", "Escape"], does: "Back", run: () => history.back() };
  let unbind = bindKeys([back]);
  let timer = 0;
  const load = async () => {
    try {
      const data = await get(`/api/v1/exchanges/${asked.span}`, { trace: asked.trace || query.get("trace") }, abort.signal);
      const made = actions(data);
      unbind();
      unbind = bindKeys([...keys(data, made), back]);
      root.replaceChildren(...page(data, made));
      if (data.partial) timer = setTimeout(whole, AGAIN);
    } catch (error) {
      if (error.name !== "AbortError") root.replaceChildren(problem(error));
    }
  };
  // Only when it has ended is the page made anew: the reader may have opened something in it.
  const whole = async () => {
    try {
      const data = await get(`/api/v1/exchanges/${asked.span}`, { trace: asked.trace || query.get("trace") }, abort.signal);
      if (!data.partial) {
        await load();
        return;
      }
    } catch (error) {
      if (error.name === "AbortError") return;
    }
    timer = setTimeout(whole, AGAIN);
  };
  root.append(el("p", { class: "empty" }, "Loading"));
  load();
  return () => {
    abort.abort();
    clearTimeout(timer);
    unbind();
  };
}

function keys(data, made) {
  const to = (address) => () => { location.hash = address; };
  return [
    { keys: ["t"], does: "The trace of this exchange", run: to(traceLink(data.trace_id)) },
    ...(data.session_id ? [{ keys: ["s"], does: "Its session", run: to(sessionLink(data.session_id)) }] : []),
    { keys: ["y"], does: "Copy as curl", run: made.copyAsCurl },
    { keys: ["c"], does: "Mark for comparison, or compare with the marked one", run: made.compare },
  ];
}

function page(data, made) {
  const url = `${data.host}${data.path}`;
  return [
    el(
      "section",
      { class: "title" },
      el("h1", {}, statusPill(data), el("span", { class: "method" }, data.method), el("span", { class: "target" }, marked(url))),
      facts(data),
      made.element,
      data.partial ? el("p", { class: "notice" }, `This exchange is still going on: below is what was known of it after ${duration(data.duration_ns)}. When it has ended, the whole of it is shown here.`) : null,
      data.error ? el("p", { class: "problem" }, `This exchange did not end as it should: ${data.error}`) : null,
      timing(data),
    ),
    el("div", { class: "sides" }, message("Request", data.request, data), message("Response", data.response, data)),
    details("Ids", [
      ["trace", el("a", { href: traceLink(data.trace_id) }, data.trace_id)],
      ["span", data.span_id],
      ["parent span", data.parent_span_id || "none: the trace begins here"],
      ["session", data.session_id ? el("a", { href: sessionLink(data.session_id) }, data.session_id) : "none"],
      ["received", dateTime(data.received_unix_ns)],
      ["public key", data.tenant || "none"],
    ], true),
    details("Resource", pairs(data.resource)),
    details("Attributes", pairs(data.attributes)),
    details("Span", [["name", data.name], ["kind", data.kind], ["status", [data.span_status, data.span_status_message].filter(Boolean).join(": ")], ...pairs(data.details)]),
  ];
}

function facts(data) {
  const found = [
    ["", el("span", {}, arrow(data), ` ${data.direction} · ${data.service || "unnamed service"}${data.peer ? ` · ${data.direction === "outbound" ? "to" : "from"} ${data.peer}` : ""}`)],
    ["started", dateTime(data.start_unix_ns)],
    ["took", took(data)],
    ["protocol", [data.scheme, data.attributes["network.protocol.version"]].filter(Boolean).join(" ")],
    ["client", address(data.attributes["client.address"], data.attributes["client.port"])],
    ["server", address(data.attributes["server.address"], data.attributes["server.port"])],
    ["gRPC status", data.attributes["rpc.grpc.status_code"]],
  ];
  return el(
    "p",
    { class: "facts" },
    found.filter(([, value]) => value).map(([name, value]) => el("span", {}, name ? el("em", {}, name) : null, value)),
    el("span", { class: "links" },
      el("a", { class: "button", href: traceLink(data.trace_id) }, "Trace"),
      data.session_id ? el("a", { class: "button", href: sessionLink(data.session_id) }, "Session") : null),
  );
}

const address = (host, port) => (host ? `${host}${port ? `:${port}` : ""}` : "");

function timing(data) {
  if (data.ttfb_ms === null || !(data.ttfb_ms >= 0) || !data.duration_ns) return null;
  const total = data.duration_ns / 1e6;
  const wait = Math.min(data.ttfb_ms, total);
  const waiting = el("span", { class: "wait", title: `until the first byte of the response: ${duration(wait * 1e6)}` });
  const reading = el("span", { class: "read", title: `until its last byte: ${duration((total - wait) * 1e6)} more` });
  waiting.style.width = `${(100 * wait) / total}%`;
  reading.style.width = `${100 - (100 * wait) / total}%`;
  return el(
    "div",
    { class: "timing" },
    el("div", { class: "track" }, waiting, reading),
    el("p", {}, el("span", { class: "key wait" }), `first byte after ${duration(wait * 1e6)}`, el("span", { class: "key read" }),
      `${data.partial ? "recorded" : "complete"} after ${duration(data.duration_ns)}: ${size(data.response.size)} of response`),
  );
}

const LONG = 20_000; // characters of a value: its head and body are shown above

const plain = (value) => {
  const text = typeof value === "string" ? value : JSON.stringify(value);
  return text.length > LONG ? `${text.slice(0, LONG)}… (${text.length} characters)` : text;
};

const pairs = (values) => Object.entries(values).map(([name, value]) => [name, marked(plain(value))]);

function details(name, found, open = false) {
  return el(
    "details",
    { class: "box", open },
    el("summary", {}, name, el("span", { class: "dim" }, String(found.length))),
    el("dl", { class: "headers" }, found.flatMap(([field, value]) => [el("dt", {}, field), el("dd", {}, value)])),
  );
}
