// A trace's rows over time: the tree on the left, on the right what ran when, with the critical path along it.
//
// The server says what is a row, which two halves are one, and what is missing (`rows` of /api/v1/traces/ID).

import { arrow, duration, el, statusPill } from "./dom.js";

const TICKS = 5;
const INDENT = 16;
const DEEPEST = 24; // further levels are not indented any more
const COLOURS = 8;

export class Waterfall {
  // `onSelect(index)` is called when a row is chosen, `onOpen(index)` when it is to be opened.
  constructor(tree, logs, onSelect, onOpen) {
    this.rows = joined(tree);
    this.colours = new Map(tree.services.map((service, index) => [service, index % COLOURS]));
    this.tree = tree;
    this.total = Math.max(tree.duration_ns, 1);
    this.closed = new Set();
    this.selected = -1;
    this.onSelect = onSelect;
    this.onOpen = onOpen;
    const path = groupedBy(tree.critical_path, (part) => part.span_id);
    const said = groupedBy(logs, (log) => log.span_id);
    this.elements = this.rows.map((row, index) => this.draw(row, index, path, said));
    this.element = el("div", { class: "waterfall", role: "treegrid", "aria-label": "Spans", tabindex: "0" }, this.scale(), this.elements);
  }

  colour(service) {
    return `d${this.colours.get(service) ?? COLOURS - 1}`;
  }

  scale() {
    const ticks = Array.from({ length: TICKS }, (_, index) => {
      const tick = el("span", { class: "w-tick" }, duration((this.tree.duration_ns * index) / (TICKS - 1)));
      tick.style.left = `${(100 * index) / (TICKS - 1)}%`;
      return tick;
    });
    return el(
      "div",
      { class: "w-row w-head", role: "row" },
      el("span", { class: "w-label", role: "columnheader" }, "Service and request"),
      el("span", { class: "w-scale", role: "columnheader", "aria-label": "When" }, ticks),
      el("span", { class: "w-network", role: "columnheader", title: "Between the two services" }, "Network"),
      el("span", { class: "w-duration", role: "columnheader" }, "Took"),
    );
  }

  draw(row, index, path, said) {
    const { outer, inner } = row;
    const exchange = outer.exchange;
    const twisty = el("button", { type: "button", class: "w-twisty", tabindex: "-1", hidden: !row.below, "aria-label": "Show or hide what is below", onclick: (event) => {
      event.stopPropagation();
      this.toggle(index);
    } }, "▾");
    const label = el(
      "span",
      { class: "w-label", role: "gridcell" },
      twisty,
      exchange ? arrow(exchange) : el("span", { class: "arrow other", title: `${outer.kind} span` }, "•"),
      el("b", {}, outer.service || "unnamed"),
      inner ? [el("span", { class: "dim" }, "→"), el("b", {}, inner.service || "unnamed")] : null,
      exchange ? statusPill(exchange) : null,
      el("span", { class: "w-name", title: title(outer) }, exchange ? `${exchange.method} ${exchange.path}` : outer.name),
    );
    label.style.paddingLeft = `${Math.min(row.depth, DEEPEST) * INDENT + (row.below ? 0 : 20)}px`;
    const bars = [this.bar(outer, `span-bar ${this.colour(outer.service)}${inner ? " outer" : ""}${outer.failed ? " failed" : ""}`)];
    if (inner) bars.push(this.bar(inner, `span-bar inner ${this.colour(inner.service)}${inner.failed ? " failed" : ""}`));
    const ids = inner ? [outer.span_id, inner.span_id] : [outer.span_id];
    for (const id of ids) {
      for (const part of path.get(id) || []) bars.push(this.bar({ start: part.start_unix_ns, duration_ns: part.duration_ns }, "w-critical"));
      for (const log of said.get(id) || []) bars.push(this.mark(log, id === outer.span_id ? outer : inner));
    }
    const partial = [outer, inner].some((span) => span?.exchange?.partial);
    const element = el(
      "div",
      {
        class: `w-row${outer.failed || inner?.failed ? " failed" : ""}`, role: "row", id: `span-${index}`, data: { index: String(index), span: outer.span_id },
        "aria-level": String(row.depth + 1), "aria-expanded": row.below ? "true" : null, "aria-selected": "false",
        onclick: () => this.select(index), ondblclick: () => this.onOpen(index),
      },
      label,
      el("span", { class: "w-track", role: "gridcell" }, bars),
      el("span", { class: "w-network dim", role: "gridcell" }, row.network_ns === null ? "" : duration(row.network_ns)),
      el("span", { class: "w-duration", role: "gridcell" }, `${partial ? "> " : ""}${duration(outer.duration_ns)}`),
      row.notes.length ? el("span", { class: "w-notes", role: "gridcell" }, row.notes.map((note) => el("span", { class: "w-note" }, note))) : null,
    );
    if (row.notes.length) element.lastChild.style.paddingLeft = label.style.paddingLeft;
    return element;
  }

  place(start) {
    return Math.min(100, Math.max(0, (100 * (start - this.tree.start_unix_ns)) / this.total));
  }

  bar(span, classes) {
    const left = this.place(span.start);
    const bar = el("span", { class: classes });
    bar.style.left = `${left}%`;
    bar.style.width = `${Math.min(100 - left, (100 * span.duration_ns) / this.total)}%`;
    return bar;
  }

  mark(log, span) {
    const mark = el("span", { class: `w-log ${severityClass(log)}`, title: log.body });
    mark.style.left = `${this.place(log.time_unix_ns + span.shift)}%`;
    return mark;
  }

  // Whether a row can be seen: nothing above it is closed.
  seen(index) {
    return !this.elements[index].hidden;
  }

  toggle(index, open = this.closed.has(index)) {
    if (!this.rows[index]?.below) return;
    if (open) this.closed.delete(index);
    else this.closed.add(index);
    this.elements[index].setAttribute("aria-expanded", String(open));
    let until = -1;
    this.rows.forEach((row, place) => {
      this.elements[place].hidden = place <= until;
      if (place > until && this.closed.has(place)) until = place + row.below;
    });
    if (this.selected >= 0 && !this.seen(this.selected)) this.select(index);
  }

  select(index) {
    if (!this.rows[index]) return;
    if (this.selected >= 0) this.elements[this.selected].setAttribute("aria-selected", "false");
    this.selected = index;
    const element = this.elements[index];
    element.setAttribute("aria-selected", "true");
    this.element.setAttribute("aria-activedescendant", element.id);
    element.scrollIntoView({ block: "nearest" });
    this.onSelect(index);
  }

  // Select the row with this span, and open what hides it.
  reveal(spanId) {
    const index = this.rows.findIndex((row) => row.span_id === spanId || row.inbound_span_id === spanId);
    if (index < 0) return;
    for (const place of [...this.closed]) {
      if (place < index && index <= place + this.rows[place].below) this.toggle(place, true);
    }
    this.select(index);
  }

  // The next row that can be seen and fits, in a direction; none: it stays.
  step(by, fits = () => true) {
    for (let index = this.selected + by; index >= 0 && index < this.rows.length; index += by) {
      if (this.seen(index) && fits(this.rows[index])) {
        this.select(index);
        return;
      }
    }
  }

  above() {
    const depth = this.rows[this.selected]?.depth;
    for (let index = this.selected - 1; index >= 0; index -= 1) {
      if (this.rows[index].depth < depth) {
        this.select(index);
        return;
      }
    }
  }
}

// Each row of the answer with its spans, on the clock of the root: `start` and `shift`.
function joined(tree) {
  const spans = new Map();
  const waiting = [...tree.roots];
  while (waiting.length) {
    const node = waiting.pop();
    spans.set(node.span.span_id, { ...node.span, shift: node.shift_ns, start: node.span.start_unix_ns + node.shift_ns });
    for (const child of node.children) waiting.push(child);
  }
  return tree.rows.map((row) => ({ ...row, outer: spans.get(row.span_id), inner: spans.get(row.inbound_span_id) || null }));
}

function groupedBy(values, key) {
  const groups = new Map();
  for (const value of values) {
    if (!groups.has(key(value))) groups.set(key(value), []);
    groups.get(key(value)).push(value);
  }
  return groups;
}

const title = (span) => (span.exchange ? `${span.exchange.method} ${span.exchange.host}${span.exchange.path}` : span.name);

export const severityClass = (log) => (log.severity >= 17 ? "severe" : log.severity >= 13 ? "warning" : "plain");
