// One exchange in full: request and response side by side.

import { arrow, dateTime, duration, el, get, problem, sessionLink, size, statusPill, took, traceLink } from "./dom.js";

const HIGHLIGHTED = 200_000;

export function mount(view, { ids: [spanId], query: parameters }) {
  const abort = new AbortController();
  view.replaceChildren(el("p", { class: "empty" }, "Loading"));
  get(`/api/v1/exchanges/${encodeURIComponent(spanId)}`, { trace: parameters.get("trace") }, abort.signal)
    .then((data) => view.replaceChildren(...page(data)))
    .catch((error) => error.name !== "AbortError" && view.replaceChildren(problem(error)));
  return () => abort.abort();
}

function page(data) {
  return [
    el(
      "section",
      { class: "title" },
      el("h1", {}, statusPill(data), el("span", { class: "method" }, data.method), el("span", { class: "target" }, `${data.host}${data.path}`)),
      facts(data),
      data.partial ? el("p", { class: "notice" }, `This exchange is still going on: below is what was known of it after ${duration(data.duration_ns)}. When it has ended, the whole of it is shown here.`) : null,
      data.error ? el("p", { class: "problem" }, `This exchange did not end as it should: ${data.error}`) : null,
      data.truncated ? el("p", { class: "notice" }, "A body was longer than the capture limit: its beginning is shown, with its true size.") : null,
      timing(data),
    ),
    el(
      "div",
      { class: "sides" },
      side("Request", data.request, data.trace_id),
      side("Response", data.response, data.trace_id),
    ),
    details("Ids", [
      ["trace", el("a", { href: traceLink(data.trace_id) }, data.trace_id)],
      ["span", data.span_id],
      ["parent span", data.parent_span_id || "none: the trace begins here"],
      ["session", data.session_id ? el("a", { href: sessionLink(data.session_id) }, data.session_id) : "none"],
      ["received", dateTime(data.received_unix_ns)],
      ["public key", data.tenant || "none"],
    ], true),
    details("Resource", Object.entries(data.resource).map(([name, value]) => [name, plain(value)])),
    details("Attributes", Object.entries(data.attributes).map(([name, value]) => [name, plain(value)])),
  ];
}

function facts(data) {
  const pairs = [
    ["", el("span", {}, arrow(data), ` ${data.direction} · ${data.service || "unnamed service"}`)],
    ["started", dateTime(data.start_unix_ns)],
    ["took", took(data)],
    ["protocol", [data.scheme, data.attributes["network.protocol.version"]].filter(Boolean).join(" ")],
    ["client", peer(data.attributes["client.address"], data.attributes["client.port"])],
    ["server", peer(data.attributes["server.address"], data.attributes["server.port"])],
  ];
  return el(
    "p",
    { class: "facts" },
    pairs.filter(([, value]) => value).map(([name, value]) => el("span", {}, name ? el("em", {}, name) : null, value)),
    el("span", { class: "links" },
      el("a", { class: "button", href: traceLink(data.trace_id) }, "Trace"),
      data.session_id ? el("a", { class: "button", href: sessionLink(data.session_id) }, "Session") : null),
  );
}

const peer = (address, port) => (address ? `${address}${port ? `:${port}` : ""}` : "");

function timing(data) {
  if (data.ttfb_ms === null || !data.duration_ns) return null;
  const total = data.duration_ns / 1e6;
  const wait = Math.min(data.ttfb_ms, total);
  const waiting = el("span", { class: "wait", title: `until the first byte of the response: ${wait.toFixed(1)} ms` });
  const reading = el("span", { class: "read", title: `until its last byte: ${(total - wait).toFixed(1)} ms more` });
  waiting.style.width = `${(100 * wait) / total}%`;
  reading.style.width = `${100 - (100 * wait) / total}%`;
  return el(
    "div",
    { class: "timing" },
    el("div", { class: "track" }, waiting, reading),
    el("p", {}, el("span", { class: "key wait" }), `first byte after ${duration(wait * 1e6)}`, el("span", { class: "key read" }), data.partial ? `recorded after ${duration(data.duration_ns)}` : `complete after ${duration(data.duration_ns)}`),
  );
}

function side(name, message) {
  return el(
    "section",
    { class: "side" },
    el("h2", {}, name, el("span", { class: "dim" }, message.size ? size(message.size) : "no body")),
    el(
      "dl",
      { class: "headers" },
      message.headers.flatMap(([field, value]) => [el("dt", {}, field), el("dd", {}, value)]),
    ),
    message.headers.length ? null : el("p", { class: "dim" }, "No header fields."),
    body(message.body),
  );
}

function body(content) {
  if (!content) return null;
  const bar = el("div", { class: "bodybar" }, el("span", {}, content.content_type || "no content type"));
  const block = el("pre", { class: "body", tabindex: "0" });
  if (content.encoding === "base64") {
    bar.append(el("span", { class: "dim" }, "binary, as base64"));
    block.textContent = content.data;
    return el("div", { class: "bodybox" }, bar, block);
  }
  const pretty = prettyJson(content);
  if (!pretty) {
    block.textContent = content.data;
    return el("div", { class: "bodybox" }, bar, block);
  }
  const toggle = el("button", { type: "button" }, "Raw");
  let raw = false;
  const show = () => {
    toggle.textContent = raw ? "Formatted" : "Raw";
    if (raw || pretty.length > HIGHLIGHTED) block.textContent = raw ? content.data : pretty;
    else block.replaceChildren(...highlighted(pretty));
  };
  toggle.addEventListener("click", () => {
    raw = !raw;
    show();
  });
  bar.append(toggle);
  show();
  return el("div", { class: "bodybox" }, bar, block);
}

function prettyJson(content) {
  if (!/json/i.test(content.content_type)) return null;
  try {
    return JSON.stringify(JSON.parse(content.data), null, 2);
  } catch {
    return null;
  }
}

function highlighted(text) {
  const pieces = [];
  const token = /("(?:\\.|[^"\\])*")(\s*:)?|\b(true|false|null)\b|-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?/g;
  let end = 0;
  for (const match of text.matchAll(token)) {
    pieces.push(text.slice(end, match.index));
    const kind = match[1] ? (match[2] ? "key" : "string") : match[3] ? "word" : "number";
    pieces.push(el("span", { class: `j-${kind}` }, match[1] || match[0]), match[2] || "");
    end = match.index + match[0].length;
  }
  pieces.push(text.slice(end));
  return pieces;
}

const plain = (value) => (typeof value === "string" ? value : JSON.stringify(value));

function details(name, pairs, open = false) {
  return el(
    "details",
    { class: "box", open },
    el("summary", {}, name, el("span", { class: "dim" }, String(pairs.length))),
    el("dl", { class: "headers" }, pairs.flatMap(([field, value]) => [el("dt", {}, field), el("dd", {}, value)])),
  );
}
