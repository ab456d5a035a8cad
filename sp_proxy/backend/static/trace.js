// The call tree of one trace, as a waterfall.

import { arrow, count, dateTime, duration, el, exchangeLink, get, problem, statusPill, took } from "./dom.js";

export function mount(view, { ids: [traceId] }) {
  const abort = new AbortController();
  view.replaceChildren(el("p", { class: "empty" }, "Loading"));
  Promise.all([
    get(`/api/v1/traces/${encodeURIComponent(traceId)}`, {}, abort.signal),
    get("/api/v1/logs", { trace: traceId, limit: 1000 }, abort.signal),
  ])
    .then(([tree, { logs }]) => view.replaceChildren(...page(tree), ...records(logs)))
    .catch((error) => error.name !== "AbortError" && view.replaceChildren(problem(error)));
  return () => abort.abort();
}

function page(tree) {
  const colours = new Map(tree.services.map((service, index) => [service, index % 8]));
  const rows = [];
  const walk = (node, depth) => {
    rows.push(row(node.span, depth, tree, colours));
    node.children.forEach((child) => walk(child, depth + 1));
  };
  tree.roots.forEach((root) => walk(root, 0));
  return [
    el(
      "section",
      { class: "title" },
      el("h1", {}, "Trace ", el("code", {}, tree.trace_id)),
      el(
        "p",
        { class: "facts" },
        el("span", {}, el("em", {}, "started"), dateTime(tree.start_unix_ns)),
        el("span", {}, el("em", {}, "took"), duration(tree.duration_ns)),
        el("span", {}, count(tree.spans, "span")),
        el("span", { class: tree.errors ? "bad" : null }, count(tree.errors, "error")),
        tree.services.map((service) => el("span", { class: "service" }, el("i", { class: `dot d${colours.get(service)}` }), service)),
        el("span", { class: "links" }, el("a", { class: "button", href: `#/?trace=${tree.trace_id}` }, "As a list")),
      ),
      tree.truncated ? el("p", { class: "notice" }, "This trace has more spans than are shown.") : null,
    ),
    el("div", { class: "waterfall", role: "table", "aria-label": "Spans" }, rows),
  ];
}

function records(logs) {
  if (!logs.length) return [];
  const lines = [...logs].reverse().map((log) =>
    el(
      "div",
      { class: "row", role: "row" },
      el("span", { class: "c-time", role: "cell" }, dateTime(log.time_unix_ns).slice(-12)),
      el("span", { class: "c-status", role: "cell" }, log.severity_text || String(log.severity)),
      el("span", { class: "c-method", role: "cell" }),
      el("span", { class: "c-url", role: "cell", title: log.body }, log.body),
      el("span", { class: "c-service", role: "cell" }, log.service),
    ),
  );
  return [el("section", { class: "title" }, el("h1", {}, "Log records")), el("div", { class: "table", role: "table", "aria-label": "Log records" }, lines)];
}

function row(span, depth, tree, colours) {
  const exchange = span.exchange;
  const total = Math.max(tree.duration_ns, 1);
  const bar = el("span", { class: `span-bar d${colours.get(span.service) ?? 7}${span.failed ? " failed" : ""}` });
  bar.style.left = `${(100 * (span.start_unix_ns - tree.start_unix_ns)) / total}%`;
  bar.style.width = `max(3px, ${(100 * span.duration_ns) / total}%)`;
  const label = el(
    "span",
    { class: "w-label" },
    exchange ? arrow(exchange) : el("span", { class: "arrow other", title: `${span.kind} span` }, "•"),
    el("b", {}, span.service || "unnamed"),
    exchange ? statusPill(exchange) : null,
    el("span", { class: "w-name", title: exchange ? `${exchange.host}${exchange.path}` : span.name }, exchange ? `${exchange.method} ${exchange.path}` : span.name),
  );
  label.style.paddingLeft = `${Math.min(depth, 30) * 18}px`;
  const cells = [label, el("span", { class: "w-track" }, bar), el("span", { class: "w-duration" }, exchange ? took(exchange) : duration(span.duration_ns))];
  return exchange
    ? el("a", { class: "w-row", role: "row", href: exchangeLink(exchange) }, cells)
    : el("div", { class: "w-row", role: "row" }, cells);
}
