// The live list: a page from the API, then what arrives. The stream is opened first, so nothing falls between.

import { connection } from "./connection.js";
import { count, el, exchangeHead, exchangeRow, get, problem } from "./dom.js";

const SHOWN = 500;
const WAITING = 5000;
const TEXT_FILTERS = [["q", "Query: text, status>=500, duration>1s …"], ["service", "Service"], ["method", "Method"], ["host", "Host"], ["path", "Path contains"], ["status", "Status, 200 or 5xx"]];

export function mount(view, { query: parameters }) {
  const filters = Object.fromEntries(parameters);
  const rows = el("div", { class: "rows", role: "rowgroup" });
  const notice = el("p", { class: "notice", hidden: true });
  const older = el("button", { class: "older", hidden: true, onclick: loadOlder }, "Load older");
  const pause = el("button", { class: "pause", "aria-pressed": "false", onclick: togglePause }, "Pause");
  const empty = el("p", { class: "empty", hidden: true }, "Nothing captured yet that matches. New exchanges appear here by themselves.");
  const abort = new AbortController();
  const known = new Map();
  let exchanges = [];
  let waiting = [];
  let lost = 0;
  let paused = false;
  let frame = 0;
  let next = "";
  let loading = true;
  let trimmed = false;

  view.replaceChildren(
    filterForm(filters, pause),
    notice,
    el("div", { class: "table", role: "table", "aria-label": "Exchanges, newest first" }, exchangeHead(), rows),
    empty,
    older,
  );

  const query = new URLSearchParams(Object.entries(filters).filter(([, value]) => value)).toString();
  const stream = new EventSource(query ? `/api/v1/live?${query}` : "/api/v1/live");
  stream.addEventListener("open", () => connection("live"));
  stream.addEventListener("error", () => connection(stream.readyState === EventSource.CLOSED ? "off" : "reconnecting"));
  stream.addEventListener("exchange", (event) => {
    waiting.push(JSON.parse(event.data));
    if (waiting.length > WAITING) {
      waiting.shift();
      lost += 1;
    }
    schedule();
  });
  stream.addEventListener("dropped", (event) => {
    lost += JSON.parse(event.data).count;
    schedule();
  });
  load();

  async function load() {
    try {
      const page = await get("/api/v1/exchanges", { ...filters, limit: 200 }, abort.signal);
      next = page.next;
      page.exchanges.forEach((exchange) => known.set(identity(exchange), exchange));
      exchanges = page.exchanges;
      rows.replaceChildren(...exchanges.map(exchangeRow));
      loading = false;
      schedule();
      render();
    } catch (error) {
      if (error.name !== "AbortError") rows.replaceChildren(problem(error));
    }
  }

  async function loadOlder() {
    if (trimmed) {
      // The cursor is behind what was taken off the end: begin again.
      trimmed = false;
      known.clear();
      await load();
      return;
    }
    older.disabled = true;
    try {
      const page = await get("/api/v1/exchanges", { ...filters, before: next, limit: 200 }, abort.signal);
      next = page.next;
      const fresh = page.exchanges.filter((exchange) => !known.has(identity(exchange)));
      fresh.forEach((exchange) => known.set(identity(exchange), exchange));
      exchanges.push(...fresh);
      rows.append(...fresh.map(exchangeRow));
      older.hidden = !next;
    } catch (error) {
      if (error.name !== "AbortError") view.append(problem(error));
    }
    older.disabled = false;
  }

  function schedule() {
    if (!frame) frame = requestAnimationFrame(() => {
      frame = 0;
      render();
    });
  }

  function render() {
    if (loading) return;
    if (!paused) {
      const fresh = waiting.filter((exchange) => known.get(identity(exchange))?.partial ?? true);
      waiting = [];
      for (const exchange of fresh) {
        const partial = known.get(identity(exchange));
        if (partial) remove(partial);
        insert(exchange);
      }
      while (exchanges.length > SHOWN && fresh.length) {
        known.delete(identity(exchanges.pop()));
        rows.lastElementChild.remove();
        trimmed = true;
      }
    }
    const parts = [];
    if (paused && waiting.length) parts.push(`${count(waiting.length, "new exchange")} waiting`);
    if (lost) parts.push(`${count(lost, "exchange")} arrived faster than this page could show; reload to see them`);
    notice.textContent = parts.join(" · ");
    notice.hidden = parts.length === 0;
    empty.hidden = exchanges.length > 0;
    older.hidden = !next && !trimmed;
  }

  function remove(exchange) {
    const place = exchanges.indexOf(exchange);
    exchanges.splice(place, 1);
    rows.children[place].remove();
  }

  function insert(exchange) {
    known.set(identity(exchange), exchange);
    let place = 0;
    while (place < exchanges.length && exchanges[place].start_unix_ns > exchange.start_unix_ns) place += 1;
    exchanges.splice(place, 0, exchange);
    const row = exchangeRow(exchange);
    row.classList.add("new");
    rows.insertBefore(row, rows.children[place] || null);
  }

  function togglePause() {
    paused = !paused;
    pause.textContent = paused ? "Resume" : "Pause";
    pause.setAttribute("aria-pressed", String(paused));
    schedule();
  }

  return () => {
    stream.close();
    abort.abort();
    cancelAnimationFrame(frame);
    connection("");
  };
}

const identity = (exchange) => exchange.trace_id + exchange.span_id;

function filterForm(filters, pause) {
  const form = el("form", { class: "filters", role: "search" });
  let timer = 0;
  const apply = () => {
    clearTimeout(timer);
    const values = [...new FormData(form)].map(([name, value]) => [name, value.trim()]).filter(([, value]) => value);
    const query = new URLSearchParams(values).toString();
    location.hash = query ? `#/?${query}` : "#/";
  };
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    apply();
  });
  form.addEventListener("change", apply);
  for (const [name, label] of TEXT_FILTERS) {
    form.append(el("input", { name, class: `f-${name}`, placeholder: label, "aria-label": label, value: filters[name] || "", autocomplete: "off", spellcheck: "false" }));
  }
  form.append(
    el(
      "select",
      { name: "direction", "aria-label": "Direction" },
      ["", "inbound", "outbound"].map((value) => el("option", { value, selected: (filters.direction || "") === value }, value || "Both directions")),
    ),
  );
  for (const name of ["session", "trace"]) {
    if (filters[name]) {
      const clear = el("button", { type: "button", class: "chip", title: `Remove the filter on this ${name}` }, `${name} ${filters[name].slice(0, 24)} ✕`);
      const field = el("input", { type: "hidden", name, value: filters[name] });
      clear.addEventListener("click", () => {
        field.remove();
        apply();
      });
      form.append(field, clear);
    }
  }
  if (Object.values(filters).some(Boolean)) form.append(el("a", { class: "clear", href: "#/" }, "Clear"));
  form.append(el("span", { class: "space" }), pause);
  return form;
}
