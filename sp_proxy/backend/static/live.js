// The live view: a page from the API, then what arrives. The stream is opened before the page is asked for, so nothing falls
// between; when it is opened again, after a break, the page closes the gap, or the list is begun anew. A page can be empty and
// yet go on: a search has its time, and looks further back with the next.

import { bindKeys } from "./keys.js";
import { connection } from "./connection.js";
import { compareWith, markedForCompare, markForCompare } from "./marks.js";
import { count, el, exchangeLink, get, problem } from "./dom.js";
import { Feed, identity, MOST } from "./feed.js";
import { Filter } from "./filter.js";
import { Rows } from "./rows.js";

const PAGE = 200;
const WAITING = 5_000; // exchanges held back while the list is paused
const INTERVAL = 100; // milliseconds between two pictures of what arrived: more often nobody can read
const RETRY = 3_000; // milliseconds until a stream that was refused is asked for again
const NOTHING = "Nothing captured yet that matches. New exchanges appear here by themselves.";
const FILTERS = ["q", "service", "direction", "method", "host", "path", "status", "session", "trace"];

// Where the reader was when the view was left, for the way back.
let left = { values: "", selected: "" };

export function mount(root, { query }) {
  const live = new Live(root, Object.fromEntries(FILTERS.map((name) => [name, query.get(name)]).filter(([, value]) => value)));
  return () => live.close();
}

class Live {
  constructor(root, values) {
    this.feed = new Feed();
    this.rows = new Rows("Exchanges, newest first", () => this.loadOlder());
    this.filter = new Filter(values, (changed) => this.refilter(changed));
    this.waiting = [];
    this.lost = 0;
    this.paused = false;
    this.timer = 0;
    this.next = "";
    this.olderQuery = null; // what `next` continues, where it is not the filter itself
    this.loadingOlder = false;
    this.abort = new AbortController();
    this.stream = null;
    this.retry = 0;
    this.restored = left.values === JSON.stringify(values) ? left.selected : "";
    this.pauseButton = el("button", { type: "button", class: "pause", "aria-pressed": "false", onclick: () => this.togglePause() }, "Pause");
    this.counter = el("span", { class: "dim counter" });
    this.notice = el("p", { class: "notice", role: "status", hidden: true });
    this.empty = el("p", { class: "empty", role: "status", hidden: true }, NOTHING);
    root.append(
      el("div", { class: "toolbar" }, this.filter.element, this.counter, this.pauseButton),
      this.notice,
      this.rows.element,
      this.empty,
    );
    this.rows.element.addEventListener("click", (event) => {
      const row = event.target.closest(".row[data-id]");
      if (row) this.rows.selected = row.dataset.id;
    });
    const marked = markedForCompare();
    if (marked) this.rows.mark(marked.trace + marked.span);
    this.unbind = bindKeys(this.keys());
    this.onVisibility = () => (document.hidden ? this.disconnect() : this.connect());
    document.addEventListener("visibilitychange", this.onVisibility);
    this.begin();
  }

  keys() {
    return [
      { keys: ["j", "ArrowDown"], does: "Next exchange", run: () => this.step(1) },
      { keys: ["k", "ArrowUp"], does: "Previous exchange", run: () => this.step(-1) },
      { keys: ["Enter"], does: "Open the selected exchange", run: () => this.open() },
      { keys: ["c"], does: "Mark the selected exchange, then compare another with it", run: () => this.compare() },
      { keys: ["g", "Escape"], does: "To the newest, nothing selected", run: () => this.rows.toTop() },
      { keys: ["/"], does: "Filter", run: () => { this.filter.query.focus(); this.filter.query.select(); } },
      { keys: ["p"], does: "Pause, go on", run: () => this.togglePause() },
    ];
  }

  // With a query, the API is asked first: a browser does not let a page read why an event stream was refused.
  async begin() {
    this.disconnect();
    this.filter.complain("");
    if (this.filter.values.q) {
      connection("connecting");
      try {
        await get("/api/v1/exchanges", { ...this.filter.values, limit: 1 }, this.abort.signal);
      } catch (error) {
        if (error.name === "AbortError") return;
        if (error instanceof TypeError || error.status >= 500) {
          this.connect(); // nobody answered, or somebody else: the stream goes on trying
          return;
        }
        connection("");
        this.feed.clear();
        this.next = "";
        this.show([]);
        this.empty.hidden = true;
        this.filter.complain(error.message);
        return;
      }
    }
    this.connect();
  }

  connect() {
    if (this.stream || document.hidden) return;
    connection("connecting");
    const stream = new EventSource(`/api/v1/live?${new URLSearchParams(this.filter.values)}`);
    stream.addEventListener("open", () => {
      connection("live");
      this.load();
    });
    stream.addEventListener("error", () => this.broken(stream));
    stream.addEventListener("exchange", (event) => {
      this.waiting.push(JSON.parse(event.data));
      this.schedule();
    });
    stream.addEventListener("dropped", (event) => {
      this.lost += JSON.parse(event.data).count;
      this.schedule();
    });
    this.stream = stream;
  }

  // A browser tries again where nobody answers, but not where what answers is no stream: a proxy's 502, for example.
  broken(stream) {
    if (stream !== this.stream) return;
    if (stream.readyState !== EventSource.CLOSED) {
      connection("reconnecting");
      return;
    }
    connection("off");
    this.retry = setTimeout(() => this.begin(), RETRY);
  }

  disconnect() {
    clearTimeout(this.retry);
    this.stream?.close();
    this.stream = null;
    connection("");
  }

  refilter(values) {
    const query = new URLSearchParams(values).toString();
    history.pushState(null, "", query ? `#/live?${query}` : "#/live");
    this.abort.abort();
    this.abort = new AbortController();
    this.feed.clear();
    this.waiting = [];
    this.lost = 0;
    this.next = "";
    this.olderQuery = null;
    this.loadingOlder = false;
    this.rows.toTop();
    this.rows.update([]);
    this.begin();
  }

  async load() {
    // What arrives while the page is on its way proves nothing: it is in the page too, whatever was missed before it.
    const before = new Set(this.feed.known.keys());
    try {
      const page = await get("/api/v1/exchanges", { ...this.filter.values, limit: PAGE }, this.abort.signal);
      const gap = before.size && page.next && !page.exchanges.some((exchange) => before.has(identity(exchange)));
      if (gap) {
        const since = this.feed.exchanges.filter((exchange) => !before.has(identity(exchange)));
        this.feed.clear();
        this.feed.add(since);
      }
      if (gap || !before.size || !this.feed.exchanges.length) {
        this.next = page.next;
        this.olderQuery = null;
      }
      this.feed.add(page.exchanges);
      this.lost = 0;
      this.show([]);
      if (this.feed.known.has(this.restored)) this.rows.select(this.restored);
      this.restored = "";
    } catch (error) {
      this.fail(error);
    }
  }

  async loadOlder() {
    const { exchanges, trimmed } = this.feed;
    if (this.loadingOlder || exchanges.length >= MOST || !(this.next || trimmed)) return;
    this.loadingOlder = true;
    const { signal } = this.abort;
    try {
      if (trimmed) {
        // The cursor is behind what was let go: begin at the oldest that is left. JSON's numbers hold no nanoseconds.
        const oldest = BigInt(Math.ceil(exchanges.at(-1).start_unix_ns / 1e6) + 1) * 1_000_000n;
        const { q, ...rest } = this.filter.values;
        this.olderQuery = { ...rest, q: `${q ? `(${q}) ` : ""}time<=${oldest}ns` };
        this.next = "";
        this.feed.trimmed = false;
      }
      const page = await get("/api/v1/exchanges", { ...(this.olderQuery || this.filter.values), before: this.next, limit: PAGE }, signal);
      this.next = page.next;
      this.feed.addOlder(page.exchanges);
      this.loadingOlder = false;
      this.show([]);
    } catch (error) {
      this.fail(error);
    } finally {
      if (!signal.aborted) this.loadingOlder = false;
    }
  }

  fail(error) {
    if (error.name === "AbortError") return;
    this.notice.replaceChildren(problem(error));
    this.notice.hidden = false;
  }

  schedule() {
    if (!this.timer) {
      this.timer = setTimeout(() => {
        this.timer = 0;
        this.take();
      }, INTERVAL);
    }
  }

  take() {
    if (this.waiting.length > WAITING) this.lost += this.waiting.splice(0, this.waiting.length - WAITING).length;
    if (this.paused) {
      this.say();
      return;
    }
    const arrived = this.waiting;
    this.waiting = [];
    const fresh = arrived.filter((exchange) => !this.feed.has(exchange)).map(identity);
    this.feed.add(arrived);
    this.show(fresh);
  }

  show(fresh) {
    this.rows.update(this.feed.exchanges, fresh);
    this.empty.hidden = this.feed.exchanges.length > 0;
    this.empty.textContent = this.next ? "Nothing that matches so far: looking further back" : NOTHING;
    this.rows.element.hidden = !this.feed.exchanges.length;
    this.say();
  }

  say() {
    const { length } = this.feed.exchanges;
    this.counter.textContent = length ? `${count(length, "exchange")}${this.next || this.feed.trimmed ? " and older ones" : ""}` : "";
    const parts = [];
    if (this.paused) parts.push(this.waiting.length ? `Paused: ${count(this.waiting.length, "new exchange")} waiting` : "Paused");
    if (this.lost) parts.push(`${count(this.lost, "exchange")} arrived faster than this page could take them`);
    this.notice.replaceChildren(parts.join(" · "));
    if (this.lost) this.notice.append(" ", el("button", { type: "button", class: "inline", onclick: () => this.reload() }, "Show the newest"));
    this.notice.hidden = !parts.length;
  }

  reload() {
    this.feed.clear();
    this.lost = 0;
    this.load();
  }

  togglePause() {
    this.paused = !this.paused;
    this.pauseButton.textContent = this.paused ? "Go on" : "Pause";
    this.pauseButton.setAttribute("aria-pressed", String(this.paused));
    this.take();
  }

  step(by) {
    const { exchanges } = this.feed;
    if (!exchanges.length) return;
    const place = this.feed.place(this.rows.selected);
    const next = place < 0 ? this.rows.first() : Math.min(exchanges.length - 1, Math.max(0, place + by));
    this.rows.select(identity(exchanges[next]));
  }

  selected() {
    return this.feed.known.get(this.rows.selected) || null;
  }

  open() {
    const exchange = this.selected();
    if (exchange) location.hash = exchangeLink(exchange);
  }

  compare() {
    const exchange = this.selected();
    if (!exchange) return;
    const marked = markedForCompare();
    if (marked && marked.span !== exchange.span_id) {
      location.hash = compareWith(marked, exchange);
      return;
    }
    markForCompare(marked ? null : exchange);
    this.rows.mark(marked ? "" : identity(exchange));
  }

  close() {
    left = { values: JSON.stringify(this.filter.values), selected: this.rows.selected };
    this.disconnect();
    this.abort.abort();
    clearTimeout(this.timer);
    this.unbind();
    this.rows.close();
    document.removeEventListener("visibilitychange", this.onVisibility);
  }
}
