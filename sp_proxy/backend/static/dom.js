// Elements and texts. Captured content becomes text nodes here, never markup: nothing in this page parses HTML.

// Controls, what has no width, and what changes the order of the letters around it (bidi). Not the joiners of U+200C and
// U+200D, without which some scripts cannot be written, nor tabs and ends of lines.
const UNSEEN = /[\u0000-\u0008\u000b\u000c\u000e-\u001f\u007f-\u009f\u00ad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\u{e0000}-\u{e007f}]|\r(?!\n)/gu;

// The text with the number of every character that would not be seen, or would make others be seen elsewhere, in its place.
// Not the pictures that Unicode has of controls: many fonts have none of them.
export function visible(text) {
  return String(text).replace(UNSEEN, (character) => `⟨U+${character.codePointAt(0).toString(16).toUpperCase().padStart(4, "0")}⟩`);
}

const SHOWN_ATTRIBUTES = new Set(["title", "aria-label", "placeholder"]);
// A link leads into this page or to this origin, or to bytes that the page made.
const LINK = /^(#|\/(?!\/)|blob:)/;

// An element. Properties: `class`; `data` for data attributes; `onNAME` for listeners; all others are attributes, left out
// where null, undefined or false. Children: elements, and texts, which are made visible.
export function el(tag, properties = {}, ...children) {
  return filled(document.createElement(tag), properties, children);
}

// The same in SVG.
export function svg(tag, properties = {}, ...children) {
  return filled(document.createElementNS("http://www.w3.org/2000/svg", tag), properties, children);
}

function filled(element, properties, children) {
  for (const [name, value] of Object.entries(properties)) {
    if (value === null || value === undefined || value === false) continue;
    if (name === "class") element.setAttribute("class", value);
    else if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "data") Object.assign(element.dataset, value);
    else if (name === "href" && !LINK.test(value)) continue;
    else if (SHOWN_ATTRIBUTES.has(name)) element.setAttribute(name, visible(value));
    else element.setAttribute(name, value === true ? "" : value);
  }
  for (const child of children.flat(Infinity)) {
    if (child === null || child === undefined || child === false) continue;
    element.append(child instanceof Node ? child : visible(child));
  }
  return element;
}

export function time(ns) {
  if (!ns) return "–";
  const date = new Date(ns / 1e6);
  const pad = (number, width = 2) => String(number).padStart(width, "0");
  return `${pad(date.getHours())}:${pad(date.getMinutes())}:${pad(date.getSeconds())}.${pad(date.getMilliseconds(), 3)}`;
}

export function dateTime(ns) {
  if (!ns) return "–";
  const date = new Date(ns / 1e6);
  const pad = (number) => String(number).padStart(2, "0");
  return `${date.getFullYear()}-${pad(date.getMonth() + 1)}-${pad(date.getDate())} ${time(ns)}`;
}

export function duration(ns) {
  // What would be rounded to a thousand of a unit is one of the next.
  if (ns < 999_500) return `${(ns / 1e3).toFixed(0)} µs`;
  if (ns < 999_500_000) return `${(ns / 1e6).toFixed(ns < 9_950_000 ? 1 : 0)} ms`;
  return `${(ns / 1e9).toFixed(2)} s`;
}

export const took = (exchange) => (exchange.partial ? `> ${duration(exchange.duration_ns)}` : duration(exchange.duration_ns));

const UNITS = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];

export function size(bytes) {
  if (bytes < 1024) return `${bytes} B`;
  const unit = Math.min(UNITS.length, Math.floor(Math.log2(bytes) / 10));
  return `${(bytes / 1024 ** unit).toFixed(1)} ${UNITS[unit - 1]}`;
}

export function count(number, noun) {
  return `${number.toLocaleString("en")} ${noun}${number === 1 ? "" : "s"}`;
}

export function statusClass(exchange) {
  if (!exchange.status) return "s0";
  return `s${Math.floor(exchange.status / 100)}`;
}

export function statusPill(exchange) {
  const text = exchange.status ? String(exchange.status) : exchange.error || (exchange.partial ? "open" : "none");
  return el("span", { class: `pill ${statusClass(exchange)}`, title: exchange.error || null }, text);
}

export function arrow(exchange) {
  const symbols = { inbound: "↘", outbound: "↗" };
  return el("span", { class: `arrow ${exchange.direction}`, title: exchange.direction }, symbols[exchange.direction] || "·");
}

export const exchangeLink = (exchange) => `#/exchange/${encodeURIComponent(exchange.span_id)}?trace=${encodeURIComponent(exchange.trace_id)}`;
export const traceLink = (traceId) => `#/trace/${encodeURIComponent(traceId)}`;
export const sessionLink = (sessionId) => `#/session/${encodeURIComponent(sessionId)}`;

export async function get(path, parameters = {}, signal = undefined) {
  const query = new URLSearchParams(Object.entries(parameters).filter(([, value]) => value)).toString();
  const response = await fetch(query ? `${path}?${query}` : path, { signal });
  const body = await response.json().catch(() => ({ error: `unreadable answer (${response.status})` }));
  if (!response.ok) throw Object.assign(new Error(body.error || `status ${response.status}`), { status: response.status });
  return body;
}

export function problem(error) {
  return el("p", { class: "problem", role: "alert" }, error.message || String(error));
}

export function exchangeRow(exchange) {
  return el(
    "a",
    { class: `row${exchange.failed ? " failed" : ""}${exchange.partial ? " partial" : ""}`, href: exchangeLink(exchange), role: "row" },
    el("span", { class: "c-time", role: "cell" }, time(exchange.start_unix_ns)),
    el("span", { class: "c-status", role: "cell" }, statusPill(exchange)),
    el("span", { class: "c-method", role: "cell" }, exchange.method),
    el(
      "span",
      { class: "c-url", role: "cell", title: `${exchange.host}${exchange.path}` },
      el("span", { class: "host" }, exchange.host),
      el("span", { class: "path" }, exchange.path),
    ),
    el("span", { class: "c-service", role: "cell", title: exchange.service }, arrow(exchange), exchange.service),
    el("span", { class: "c-duration", role: "cell", title: exchange.partial ? "still going on" : null }, took(exchange)),
    el("span", { class: "c-size", role: "cell" }, size(exchange.response_size)),
  );
}

export function exchangeHead() {
  const names = [["c-time", "Time"], ["c-status", "Status"], ["c-method", "Method"], ["c-url", "Host and path"],
    ["c-service", "Service"], ["c-duration", "Duration"], ["c-size", "Size"]];
  return el("div", { class: "row head", role: "row" }, names.map(([name, text]) => el("span", { class: name, role: "columnheader" }, text)));
}
