// One trace: the call tree across services as a waterfall, where its time went, what one row is, and what was logged.

import { count, dateTime, duration, el, exchangeLink, get, problem, sessionLink } from "./dom.js";
import { exportLinks } from "./exports.js";
import { bindKeys } from "./keys.js";
import { panel } from "./span.js";
import { severityClass, Waterfall } from "./waterfall.js";

const LOGS = 1000;

export function mount(root, { ids: [traceId] }) {
  const abort = new AbortController();
  let unbind = () => {};
  root.replaceChildren(el("p", { class: "empty" }, "Loading"));
  Promise.all([
    get(`/api/v1/traces/${encodeURIComponent(traceId)}`, {}, abort.signal),
    get("/api/v1/logs", { trace: traceId, limit: LOGS }, abort.signal),
  ])
    .then(([tree, page]) => {
      unbind = show(root, tree, page, abort.signal);
    })
    .catch((error) => error.name !== "AbortError" && root.replaceChildren(problem(error)));
  return () => {
    abort.abort();
    unbind();
  };
}

function show(root, tree, page, signal) {
  const logs = [...page.logs].reverse();
  const side = el("aside", { class: "span-panel", "aria-live": "polite" });
  const lines = logRows(logs, tree, (log) => waterfall.reveal(log.span_id));
  const waterfall = new Waterfall(tree, logs, chosen, open);

  function chosen(index) {
    const row = waterfall.rows[index];
    const ids = [row.span_id, row.inbound_span_id];
    logs.forEach((log, place) => lines[place].classList.toggle("selected", ids.includes(log.span_id)));
    side.replaceChildren(...panel(row, tree, logs.filter((log) => ids.includes(log.span_id)), signal));
  }

  function open(index) {
    const exchange = waterfall.rows[index]?.outer.exchange;
    if (exchange) location.hash = exchangeLink(exchange);
  }

  root.replaceChildren(
    header(tree, waterfall),
    spent(tree, waterfall),
    el("div", { class: "trace-sides" }, waterfall.element, side),
    ...(logs.length ? [el("section", { class: "title" }, el("h2", {}, "Log records"), page.next ? el("p", { class: "notice" }, `Only the newest ${LOGS} are shown.`) : null), el("div", { class: "table logs", role: "table", "aria-label": "Log records" }, lines)] : []),
  );
  waterfall.select(0);
  scrollTo(0, 0);
  return bindKeys([
    { keys: ["j", "ArrowDown"], does: "Next row", run: () => waterfall.step(1) },
    { keys: ["k", "ArrowUp"], does: "Row before", run: () => waterfall.step(-1) },
    { keys: ["l", "ArrowRight"], does: "Show what is below", run: () => waterfall.toggle(waterfall.selected, true) },
    { keys: ["h", "ArrowLeft"], does: "Hide what is below, or go to the caller", run: () => {
      const row = waterfall.rows[waterfall.selected];
      if (row?.below && !waterfall.closed.has(waterfall.selected)) waterfall.toggle(waterfall.selected, false);
      else waterfall.above();
    } },
    { keys: ["c"], does: "Next row on the critical path", run: () => waterfall.step(1, (row) => row.critical_ns > 0) },
    { keys: ["e"], does: "Next row with an error", run: () => waterfall.step(1, (row) => row.outer.failed || row.inner?.failed) },
    { keys: ["Enter", "o"], does: "Open the exchange", run: () => open(waterfall.selected) },
  ]);
}

function header(tree, waterfall) {
  const sessions = new Set(waterfall.rows.flatMap((row) => [row.outer, row.inner]).map((span) => span?.exchange?.session_id).filter(Boolean));
  return el(
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
      tree.services.map((service) => el("span", { class: "service" }, el("i", { class: `dot ${waterfall.colour(service)}` }), service)),
      el(
        "span",
        { class: "links" },
        [...sessions].slice(0, 3).map((session) => el("a", { class: "button", href: sessionLink(session) }, "Session")),
        el("a", { class: "button", href: `#/live?trace=${encodeURIComponent(tree.trace_id)}` }, "As a list"),
        exportLinks({ trace: tree.trace_id }),
      ),
    ),
    tree.truncated ? el("p", { class: "notice" }, `This trace has more spans than these ${tree.spans}.`) : null,
  );
}

// The critical path added up: what to make faster to have the answer sooner.
function spent(tree, waterfall) {
  const total = tree.spent.reduce((sum, share) => sum + share.duration_ns, 0);
  if (!total) return null;
  const texts = {
    service: (share) => share.service || "unnamed",
    network: (share) => `${share.service || "unnamed"} → ${share.peer || "unnamed"}, between them`,
    elsewhere: (share) => `${share.peer || "a host without a name"}, where nothing was captured`,
    nowhere: () => "nothing ran",
  };
  const parts = tree.spent.map((share) => {
    const colour = share.spent === "service" ? waterfall.colour(share.service) : share.spent;
    const bar = el("span", { class: `spent-bar ${colour}`, title: `${texts[share.spent](share)}: ${duration(share.duration_ns)}` });
    bar.style.width = `${(100 * share.duration_ns) / total}%`;
    const label = el("li", {}, el("i", { class: `dot ${colour}` }), texts[share.spent](share), el("b", {}, duration(share.duration_ns)), el("span", { class: "dim" }, `${Math.round((100 * share.duration_ns) / total)} %`));
    return { bar, label };
  });
  return el(
    "section",
    { class: "spent", "aria-label": "Where the time went" },
    el("h2", {}, "Critical path", el("span", { class: "dim" }, `what ${duration(total)} were waited for`)),
    el("div", { class: "spent-track" }, parts.map(({ bar }) => bar)),
    el("ul", {}, parts.map(({ label }) => label)),
  );
}

function logRows(logs, tree, chosen) {
  return logs.map((log) =>
    el(
      "button",
      { type: "button", class: "log-row", role: "row", onclick: () => chosen(log) },
      el("span", { class: "log-time", role: "cell", title: dateTime(log.time_unix_ns) }, `${log.time_unix_ns < tree.start_unix_ns ? "−" : "+"}${duration(Math.abs(log.time_unix_ns - tree.start_unix_ns))}`),
      el("span", { class: `log-severity ${severityClass(log)}`, role: "cell" }, log.severity_text || String(log.severity)),
      el("span", { class: "log-service", role: "cell" }, log.service),
      el("span", { class: "log-body", role: "cell", title: log.body }, log.body),
    ),
  );
}
