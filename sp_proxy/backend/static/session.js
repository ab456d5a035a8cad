// One session: everything that was done under its id, across traces, in order of time.

import { arrow, count, dateTime, el, exchangeLink, get, problem, statusPill, time, took, traceLink } from "./dom.js";
import { exportLinks } from "./exports.js";
import { bindKeys } from "./keys.js";
import { lasting } from "./times.js";

const PAUSE_NS = 1e9; // a longer one is said
const COLOURS = 8;

export function mountSession(root, { ids: [sessionId] }) {
  const abort = new AbortController();
  let unbind = () => {};
  root.replaceChildren(el("p", { class: "empty" }, "Loading"));
  const ask = (after) => get(`/api/v1/sessions/${encodeURIComponent(sessionId)}`, { after }, abort.signal);
  ask("")
    .then((page) => {
      unbind = show(root, page, ask);
    })
    .catch((error) => error.name !== "AbortError" && root.replaceChildren(problem(error)));
  return () => {
    abort.abort();
    unbind();
  };
}

function show(root, first, ask) {
  const { session } = first;
  const exchanges = [];
  const traces = new Map();
  let hops = [];
  const wanted = { service: "", errors: false };
  const list = el("div", { class: "rows", role: "rowgroup" });
  const lanes = el("div", { class: "lanes" });
  const title = el("section", { class: "title" });
  const more = el("button", { type: "button", class: "older", hidden: true, onclick: loadMore }, "Load more");
  let selected = -1;

  function add(page) {
    exchanges.push(...page.exchanges);
    for (const exchange of page.exchanges) {
      if (!traces.has(exchange.trace_id)) traces.set(exchange.trace_id, traces.size);
    }
    hops = joined(exchanges);
    more.value = page.next;
    more.hidden = !page.next;
    title.replaceChildren(...header(session, exchanges.length, traces.size));
    draw();
  }

  async function loadMore() {
    more.disabled = true;
    try {
      add(await ask(more.value));
    } catch (error) {
      if (error.name !== "AbortError") more.after(problem(error));
    }
    more.disabled = false;
  }

  function draw() {
    const shown = hops.filter((hop) => (!wanted.service || hop.services.includes(wanted.service)) && (!wanted.errors || hop.failed));
    const pieces = [];
    let before = 0;
    for (const hop of shown) {
      const start = hop.exchange.start_unix_ns;
      if (before && start - before > PAUSE_NS) pieces.push(el("p", { class: "pause-line", role: "row" }, el("span", { role: "cell" }, `${lasting(start - before)} later`)));
      before = start;
      pieces.push(row(hop, session, traces));
    }
    list.replaceChildren(...(pieces.length ? pieces : [el("p", { class: "empty" }, "Nothing of this session fits.")]));
    lanes.replaceChildren(...strip(shown, session, exchanges, (hop) => rows()[shown.indexOf(hop)]?.focus()));
    selected = -1;
  }

  const rows = () => [...list.querySelectorAll("a.row")];

  function step(by) {
    const all = rows();
    if (!all.length) return;
    const focused = all.indexOf(document.activeElement);
    selected = Math.min(all.length - 1, Math.max(0, (focused >= 0 ? focused : selected) + by));
    all[selected].focus();
  }

  const service = el("select", { "aria-label": "Service", onchange: () => {
    wanted.service = service.value;
    draw();
  } }, ["", ...session.services].map((name) => el("option", { value: name }, name || "All services")));
  const errors = el("button", { type: "button", "aria-pressed": "false", class: "toggle", onclick: onlyErrors }, "Errors only");
  function onlyErrors() {
    wanted.errors = !wanted.errors;
    errors.setAttribute("aria-pressed", String(wanted.errors));
    draw();
  }

  root.replaceChildren(
    title,
    lanes,
    el("div", { class: "filters" }, service, errors, el("span", { class: "space" }), el("a", { class: "button", href: liveLink(session) }, "As a list"), exportLinks({ session: session.session_id })),
    el("div", { class: "table session", role: "table", "aria-label": "Exchanges in order of time" }, head(), list),
    more,
  );
  add(first);
  return bindKeys([
    { keys: ["j", "ArrowDown"], does: "Next exchange", run: () => step(1) },
    { keys: ["k", "ArrowUp"], does: "Exchange before", run: () => step(-1) },
    { keys: ["e"], does: "Errors only", run: onlyErrors },
  ]);
}

const liveLink = (session) => `#/live?${new URLSearchParams({ session: session.session_id })}`;

// Exchanges in order of time, the inbound half with its outbound half where both are here.
function joined(exchanges) {
  const calls = new Map();
  for (const exchange of exchanges) {
    if (exchange.direction === "outbound") calls.set(exchange.trace_id + exchange.span_id, { exchange, inbound: null });
  }
  const found = [];
  for (const exchange of exchanges) {
    const call = exchange.direction === "inbound" && calls.get(exchange.trace_id + exchange.parent_span_id);
    if (call && !call.inbound) call.inbound = exchange;
    else found.push(calls.get(exchange.trace_id + exchange.span_id) || { exchange, inbound: null });
  }
  return found.map((hop) => ({
    ...hop,
    failed: hop.exchange.failed || Boolean(hop.inbound?.failed),
    services: [hop.exchange.service, hop.inbound?.service].filter(Boolean),
  }));
}

function header(session, shown, traces) {
  return [
    el("h1", {}, "Session ", el("code", {}, session.session_id)),
    el(
      "p",
      { class: "facts" },
      el("span", {}, el("em", {}, "first seen"), dateTime(session.first_seen_unix_ns)),
      el("span", {}, el("em", {}, "last seen"), dateTime(session.last_seen_unix_ns)),
      el("span", {}, count(session.exchanges, "exchange")),
      shown < session.exchanges ? el("span", {}, `the first ${shown.toLocaleString("en")} are shown`) : null,
      el("span", {}, count(traces, "trace")),
      el("span", { class: session.errors ? "bad" : null }, count(session.errors, "error")),
      session.services.map((service) => el("span", { class: "tag" }, service)),
    ),
  ];
}

// What ran when, a lane for each service.
function strip(hops, session, exchanges, chosen) {
  const start = session.first_seen_unix_ns;
  const end = exchanges.reduce((latest, exchange) => Math.max(latest, exchange.start_unix_ns + exchange.duration_ns), start + 1);
  return session.services.map((service, lane) => {
    const bars = hops.filter((hop) => hop.services.includes(service)).map((hop) => {
      const bar = el("button", { type: "button", tabindex: "-1", class: `lane-bar d${lane % COLOURS}${hop.failed ? " failed" : ""}`, title: `${hop.exchange.method} ${hop.exchange.path}`, onclick: () => chosen(hop) });
      const left = Math.min(100, Math.max(0, (100 * (hop.exchange.start_unix_ns - start)) / (end - start)));
      bar.style.left = `min(${left}%, 100% - 4px)`;
      bar.style.width = `${Math.min(100 - left, (100 * hop.exchange.duration_ns) / (end - start))}%`;
      return bar;
    });
    return el("div", { class: "lane" }, el("span", { class: "lane-name", title: service }, service), el("div", { class: "lane-track" }, bars));
  });
}

function head() {
  const names = [["Time"], ["After", "number"], ["Status"], ["Method"], ["Host and path"], ["Service"], ["Took", "c-duration"], ["Trace"]];
  return el("div", { class: "row head time-row", role: "row" }, names.map(([name, kind = ""]) => el("span", { class: kind, role: "columnheader" }, name)));
}

function row({ exchange, inbound, failed }, session, traces) {
  const number = traces.get(exchange.trace_id);
  return el(
    "a",
    { class: `row time-row${failed ? " failed" : ""}${exchange.partial ? " partial" : ""}`, role: "row", href: exchangeLink(exchange) },
    el("span", { class: "c-time", role: "cell", title: dateTime(exchange.start_unix_ns) }, time(exchange.start_unix_ns)),
    el("span", { class: "number dim", role: "cell" }, `+${lasting(exchange.start_unix_ns - session.first_seen_unix_ns)}`),
    el("span", { class: "c-status", role: "cell" }, statusPill(exchange)),
    el("span", { class: "c-method", role: "cell" }, exchange.method),
    el("span", { class: "c-url", role: "cell", title: `${exchange.host}${exchange.path}` }, el("span", { class: "host" }, exchange.host), el("span", { class: "path" }, exchange.path)),
    el("span", { class: "c-service", role: "cell" }, arrow(exchange), exchange.service || "unnamed", inbound ? ` → ${inbound.service || "unnamed"}` : null),
    el("span", { class: "c-duration", role: "cell" }, took(exchange)),
    el("span", { role: "cell" }, traceChip(exchange, number)),
  );
}

// A link inside the row's link is not possible in HTML, so this one goes by a script.
function traceChip(exchange, number) {
  const go = (event) => {
    event.preventDefault();
    event.stopPropagation();
    location.hash = traceLink(exchange.trace_id);
  };
  return el("button", { type: "button", class: `trace-chip t${number % COLOURS}`, title: `Trace ${exchange.trace_id}`, onclick: go }, `trace ${number + 1}`);
}
