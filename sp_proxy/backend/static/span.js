// What one row of a trace is: beside the waterfall. Of a span that is no exchange its attributes and events, which are asked for.

import { duration, el, exchangeLink, get, problem, statusPill, time } from "./dom.js";
import { severityClass } from "./waterfall.js";

export function panel(row, tree, logs, signal) {
  const { outer, inner } = row;
  const spans = inner ? [outer, inner] : [outer];
  return [
    el("h2", {}, outer.service || "unnamed", inner ? ` → ${inner.service || "unnamed"}` : ""),
    el("p", { class: "span-name" }, outer.exchange ? [statusPill(outer.exchange), ` ${outer.exchange.method} ${outer.exchange.host}${outer.exchange.path}`] : outer.name),
    row.notes.map((note) => el("p", { class: "notice" }, note)),
    el(
      "dl",
      { class: "headers" },
      facts(row, tree).flatMap(([name, value]) => [el("dt", {}, name), el("dd", {}, value)]),
    ),
    el(
      "p",
      { class: "span-links" },
      spans.filter((span) => span.exchange).map((span) => el("a", { class: "button", href: exchangeLink(span.exchange) }, inner ? `${span.exchange.direction} exchange` : "Exchange")),
    ),
    logs.length ? el("ul", { class: "span-logs" }, logs.map((log) => el("li", {}, el("span", { class: `log-severity ${severityClass(log)}` }, log.severity_text || String(log.severity)), " ", time(log.time_unix_ns), " ", log.body))) : null,
    outer.exchange ? null : attributes(outer, signal),
  ].flat().filter(Boolean);
}

function facts({ outer, inner, network_ns: network, critical_ns: critical }, tree) {
  const after = (span) => `${duration(span.start - tree.start_unix_ns)} after the start`;
  const found = [["began", after(outer)], ["took", duration(outer.duration_ns)]];
  if (inner) found.push(["arrived", after(inner)], ["took there", duration(inner.duration_ns)]);
  if (network !== null) found.push(["between", duration(network)]);
  if (critical) found.push(["waited for", duration(critical)]);
  found.push(["span", outer.span_id]);
  if (inner) found.push(["inbound half", inner.span_id]);
  if (!outer.exchange) found.push(["kind", outer.kind]);
  return found;
}

function attributes(span, signal) {
  const box = el("div", {}, el("p", { class: "dim" }, "Loading"));
  get(`/api/v1/spans/${encodeURIComponent(span.span_id)}`, { trace: span.trace_id }, signal)
    .then((record) => {
      const events = Array.isArray(record.details.events) ? record.details.events : [];
      box.replaceChildren(
        list("Attributes", record.attributes),
        ...events.map((event) => list(`Event ${plain(event.name ?? "")}`, event.attributes || {})),
        list("Resource", record.resource),
      );
    })
    .catch((error) => error.name !== "AbortError" && box.replaceChildren(problem(error)));
  return box;
}

function list(name, values) {
  const pairs = Object.entries(values);
  return el("details", { class: "box", open: pairs.length > 0 && pairs.length < 13 }, el("summary", {}, name, el("span", { class: "dim" }, String(pairs.length))), el("dl", { class: "headers" }, pairs.flatMap(([key, value]) => [el("dt", {}, key), el("dd", {}, plain(value))])));
}

const plain = (value) => (typeof value === "string" ? value : JSON.stringify(value));
