// A long list of which only what can be seen is in the page: rows of one height, placed where they belong in a box as tall as
// all of them. What the reader looks at stays where it is when others arrive above it.

import { el, exchangeHead, exchangeRow } from "./dom.js";
import { identity } from "./feed.js";

const HEIGHT = 34; // of a row, in style.css too
const BEYOND = 8; // rows that are made above and below what is seen
const NEW_FOR = 1200; // milliseconds that a new row is marked as such
const MANY = 30; // more at a time are not marked: everything would be

export class Rows {
  // `onEnd()` is called when the end of the list comes into sight.
  constructor(label, onEnd) {
    this.box = el("div", { class: "rows virtual", role: "rowgroup" });
    this.element = el("div", { class: "table scroller", role: "table", "aria-label": label, tabindex: "0" }, exchangeHead(), this.box);
    this.exchanges = [];
    this.selected = "";
    this.marked = "";
    this.shown = new Map(); // identity → { exchange, row }
    this.arrived = new Map();
    this.onEnd = onEnd;
    this.frame = 0;
    this.element.addEventListener("scroll", () => this.schedule(), { passive: true });
    this.observer = new ResizeObserver(() => this.schedule());
    this.observer.observe(this.element);
  }

  // Show this list instead. `fresh` are the identities that have just arrived.
  update(exchanges, fresh = []) {
    const anchor = this.anchor();
    const before = anchor ? this.exchanges.findIndex((exchange) => identity(exchange) === anchor) : -1;
    this.exchanges = exchanges;
    this.box.style.height = `${exchanges.length * HEIGHT}px`;
    this.element.setAttribute("aria-rowcount", exchanges.length + 1);
    if (before >= 0) {
      const after = exchanges.findIndex((exchange) => identity(exchange) === anchor);
      if (after >= 0 && after !== before) this.element.scrollTop += (after - before) * HEIGHT;
    }
    if (fresh.length && fresh.length <= MANY) {
      const now = performance.now();
      fresh.forEach((id) => this.arrived.set(id, now));
    }
    this.draw();
  }

  // What must not move: the selected row, or the first in sight unless the reader is at the top, where news is awaited.
  anchor() {
    if (this.selected) return this.selected;
    if (this.element.scrollTop < HEIGHT) return "";
    const first = this.exchanges[this.first()];
    return first ? identity(first) : "";
  }

  // The place of the first row in sight.
  first() {
    return Math.min(Math.max(0, this.exchanges.length - 1), Math.floor(this.element.scrollTop / HEIGHT));
  }

  select(id) {
    this.selected = id;
    const place = this.exchanges.findIndex((exchange) => identity(exchange) === id);
    if (place >= 0) {
      const head = this.element.firstChild.offsetHeight;
      const top = place * HEIGHT;
      const room = this.element.clientHeight - head - HEIGHT;
      if (top < this.element.scrollTop) this.element.scrollTop = top;
      else if (top > this.element.scrollTop + room) this.element.scrollTop = top - room;
    }
    this.draw();
    this.shown.get(id)?.row.focus({ preventScroll: true });
  }

  mark(id) {
    this.marked = id;
    this.draw();
  }

  toTop() {
    this.selected = "";
    this.element.scrollTop = 0;
    this.draw();
  }

  schedule() {
    if (!this.frame) this.frame = requestAnimationFrame(() => this.draw());
  }

  draw() {
    cancelAnimationFrame(this.frame);
    this.frame = 0;
    const first = Math.max(0, Math.floor(this.element.scrollTop / HEIGHT) - BEYOND);
    const last = Math.min(this.exchanges.length, Math.ceil((this.element.scrollTop + this.element.clientHeight) / HEIGHT) + BEYOND);
    const wanted = this.exchanges.slice(first, last);
    const now = performance.now();
    const keep = new Set(wanted.map(identity));
    for (const [id, { row }] of this.shown) {
      if (!keep.has(id)) {
        row.remove();
        this.shown.delete(id);
      }
    }
    // In the page they stand in the order in which they are seen: so they are read out, and so the Tab key goes.
    let next = this.box.firstChild;
    wanted.forEach((exchange, index) => {
      const id = identity(exchange);
      let row = this.shown.get(id)?.exchange === exchange ? this.shown.get(id).row : null;
      let focused = false;
      if (!row) {
        const before = this.shown.get(id)?.row;
        row = exchangeRow(exchange);
        if (before && before === next) next = before.nextSibling;
        focused ||= Boolean(before) && before === document.activeElement;
        before?.remove();
        row.dataset.id = id;
        if (now - (this.arrived.get(id) ?? -NEW_FOR) < NEW_FOR) row.classList.add("new");
        this.shown.set(id, { exchange, row });
      }
      if (row === next) next = row.nextSibling;
      else this.box.insertBefore(row, next);
      if (focused) row.focus({ preventScroll: true });
      row.style.transform = `translateY(${(first + index) * HEIGHT}px)`;
      row.setAttribute("aria-rowindex", first + index + 2);
      row.classList.toggle("selected", id === this.selected);
      if (id === this.selected) row.setAttribute("aria-current", "true");
      else row.removeAttribute("aria-current");
      row.classList.toggle("marked", id === this.marked);
    });
    for (const [id, since] of this.arrived) if (now - since > NEW_FOR) this.arrived.delete(id);
    if (last === this.exchanges.length) this.onEnd();
  }

  close() {
    cancelAnimationFrame(this.frame);
    this.observer.disconnect();
  }
}
