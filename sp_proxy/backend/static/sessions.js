// The list of sessions, and one session.

import { count, dateTime, duration, el, exchangeHead, exchangeRow, get, problem, sessionLink, traceLink } from "./dom.js";

export function mountSessions(view) {
  const abort = new AbortController();
  const list = el("div", { class: "cards" });
  const more = el("button", { class: "older", hidden: true, onclick: () => load(more.value) }, "Load older");
  view.replaceChildren(el("section", { class: "title" }, el("h1", {}, "Sessions")), list, more);
  load("");

  async function load(before) {
    try {
      const page = await get("/api/v1/sessions", { before, limit: 100 }, abort.signal);
      list.append(...page.sessions.map(card));
      if (!list.children.length) list.append(el("p", { class: "empty" }, "No session yet."));
      more.value = page.next;
      more.hidden = !page.next;
    } catch (error) {
      if (error.name !== "AbortError") view.append(problem(error));
    }
  }
  return () => abort.abort();
}

function card(session) {
  return el(
    "a",
    { class: "card", href: sessionLink(session.session_id) },
    el("code", {}, session.session_id),
    el("span", { class: "services" }, session.services.map((service) => el("span", { class: "tag" }, service))),
    el(
      "span",
      { class: "dim" },
      `${dateTime(session.first_seen_unix_ns)} · ${duration(session.last_seen_unix_ns - session.first_seen_unix_ns)} · ${count(session.exchanges, "exchange")}`,
      session.errors ? el("span", { class: "bad" }, ` · ${count(session.errors, "error")}`) : null,
    ),
  );
}

export function mountSession(view, { ids: [sessionId] }) {
  const abort = new AbortController();
  view.replaceChildren(el("p", { class: "empty" }, "Loading"));
  get(`/api/v1/sessions/${encodeURIComponent(sessionId)}`, {}, abort.signal)
    .then((data) => view.replaceChildren(...page(data)))
    .catch((error) => error.name !== "AbortError" && view.replaceChildren(problem(error)));
  return () => abort.abort();
}

function page({ session: summary, exchanges, truncated }) {
  const traces = new Map();
  for (const exchange of exchanges) {
    if (!traces.has(exchange.trace_id)) traces.set(exchange.trace_id, []);
    traces.get(exchange.trace_id).push(exchange);
  }
  return [
    el(
      "section",
      { class: "title" },
      el("h1", {}, "Session ", el("code", {}, summary.session_id)),
      el(
        "p",
        { class: "facts" },
        el("span", {}, el("em", {}, "first"), dateTime(summary.first_seen_unix_ns)),
        el("span", {}, el("em", {}, "last"), dateTime(summary.last_seen_unix_ns)),
        el("span", {}, count(summary.exchanges, "exchange")),
        el("span", {}, count(traces.size, "trace")),
        el("span", { class: summary.errors ? "bad" : null }, count(summary.errors, "error")),
        summary.services.map((service) => el("span", { class: "tag" }, service)),
      ),
      truncated ? el("p", { class: "notice" }, `Only the first ${exchanges.length} exchanges are shown.`) : null,
    ),
    ...[...traces].map(([traceId, list]) =>
      el(
        "section",
        { class: "group" },
        el("h2", {}, el("a", { href: traceLink(traceId) }, "Trace ", el("code", {}, traceId)), el("span", { class: "dim" }, count(list.length, "exchange"))),
        el("div", { class: "table", role: "table" }, exchangeHead(), el("div", { class: "rows", role: "rowgroup" }, list.map(exchangeRow))),
      ),
    ),
  ];
}
