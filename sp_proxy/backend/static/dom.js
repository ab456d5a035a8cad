// Elements and texts. Captured content becomes text nodes here, never markup: nothing in this page parses HTML.

export function el(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (value === null || value === undefined || value === false) continue;
    if (name === "class") element.className = value;
    else if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "data") Object.assign(element.dataset, value);
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
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
  if (ns < 1e6) return `${(ns / 1e3).toFixed(0)} µs`;
  if (ns < 1e9) return `${(ns / 1e6).toFixed(ns < 1e7 ? 1 : 0)} ms`;
  return `${(ns / 1e9).toFixed(2)} s`;
}

export const took = (exchange) => (exchange.partial ? `> ${duration(exchange.duration_ns)}` : duration(exchange.duration_ns));

export function size(bytes) {
  if (bytes < 1024) return `${bytes} B`;
  if (bytes < 1 << 20) return `${(bytes / 1024).toFixed(1)} KiB`;
  if (bytes < 1 << 30) return `${(bytes / (1 << 20)).toFixed(1)} MiB`;
  return `${(bytes / (1 << 30)).toFixed(1)} GiB`;
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

export const exchangeLink = (exchange) => `#/exchange/${exchange.span_id}?trace=${exchange.trace_id}`;
export const traceLink = (traceId) => `#/trace/${traceId}`;
export const sessionLink = (sessionId) => `#/session/${encodeURIComponent(sessionId)}`;

export async function get(path, parameters = {}, signal = undefined) {
  const query = new URLSearchParams(Object.entries(parameters).filter(([, value]) => value)).toString();
  const response = await fetch(query ? `${path}?${query}` : path, { signal });
  const body = await response.json().catch(() => ({ error: `unreadable answer (${response.status})` }));
  if (!response.ok) throw new Error(body.error || `status ${response.status}`);
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
