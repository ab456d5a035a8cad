// The list of sessions: who was there, when, where, and whether it went well.

import { count, dateTime, el, get, problem, sessionLink } from "./dom.js";
import { Filter } from "./filter.js";
import { bindKeys } from "./keys.js";
import { lasting } from "./times.js";

export { mountSession } from "./session.js";

const PAGE = 100;

export function mountSessions(root, { query }) {
  const values = Object.fromEntries(query);
  const abort = new AbortController();
  const filter = new Filter(values, (changed) => {
    const asked = new URLSearchParams(changed).toString();
    location.hash = asked ? `#/sessions?${asked}` : "#/sessions";
  });
  const list = el("div", { class: "rows", role: "rowgroup" });
  const empty = el("p", { class: "empty", hidden: true });
  const more = el("button", { type: "button", class: "older", hidden: true, onclick: () => load(more.value) }, "Load older");
  let selected = -1;
  root.replaceChildren(
    filter.element,
    el("div", { class: "table sessions", role: "table", "aria-label": "Sessions, last seen first" }, head(), list),
    empty,
    more,
  );
  load("");

  async function load(before) {
    more.disabled = true;
    try {
      const page = await get("/api/v1/sessions", { ...values, before, limit: PAGE }, abort.signal);
      list.append(...page.sessions.map(row));
      more.value = page.next;
      more.hidden = !page.next;
      empty.hidden = list.childElementCount > 0 || Boolean(page.next);
      empty.textContent = query.size ? "No session has such an exchange." : "No session yet.";
      // A search takes its time, and goes on behind an empty page.
      if (page.next && !list.childElementCount) await load(page.next);
    } catch (error) {
      if (error.name === "AbortError") return;
      if (error.message.startsWith("q: ")) filter.complain(error.message);
      else empty.after(problem(error));
    }
    more.disabled = false;
  }

  function select(place) {
    const rows = list.children;
    if (!rows.length) return;
    selected = Math.min(rows.length - 1, Math.max(0, place));
    rows[selected].focus();
  }

  const unbind = bindKeys([
    { keys: ["j", "ArrowDown"], does: "Next session", run: () => select(selected + 1) },
    { keys: ["k", "ArrowUp"], does: "Session before", run: () => select(selected - 1) },
    { keys: ["/"], does: "Filter", run: () => filter.query.focus() },
  ]);
  return () => {
    abort.abort();
    unbind();
  };
}

function head() {
  const names = ["Session", "First seen", "Last seen", "For", "Exchanges", "Errors", "Services"];
  return el("div", { class: "row head session-row", role: "row" }, names.map((name) => el("span", { role: "columnheader" }, name)));
}

function row(session) {
  return el(
    "a",
    { class: `row session-row${session.errors ? " failed" : ""}`, role: "row", href: sessionLink(session.session_id) },
    el("code", { role: "cell", title: session.session_id }, session.session_id),
    el("span", { class: "when", role: "cell" }, dateTime(session.first_seen_unix_ns)),
    el("span", { class: "when", role: "cell" }, dateTime(session.last_seen_unix_ns)),
    el("span", { class: "number", role: "cell" }, lasting(session.last_seen_unix_ns - session.first_seen_unix_ns)),
    el("span", { class: "number", role: "cell", title: count(session.exchanges, "exchange") }, session.exchanges.toLocaleString("en")),
    el("span", { class: `number${session.errors ? " bad" : ""}`, role: "cell" }, session.errors.toLocaleString("en")),
    el("span", { class: "services", role: "cell", title: session.services.join(", ") }, session.services.map((service) => el("span", { class: "tag" }, service))),
  );
}
