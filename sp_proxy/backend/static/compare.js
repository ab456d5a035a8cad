// Two exchanges beside each other: what is the same in them and what is not, in their facts, header fields and bodies.

import { decoded } from "./body.js";
import { hexDump } from "./bytes.js";
import { diff, sideBySide } from "./diff.js";
import { dateTime, el, exchangeLink, get, problem, size, statusPill, took } from "./dom.js";
import { indented } from "./json.js";
import { bindKeys } from "./keys.js";
import { markForCompare, parseId } from "./marks.js";
import { marked } from "./redacted.js";

const CONTEXT = 3; // lines shown around a change
const ROWS = 2_000; // lines shown at most
const BYTES = 64 << 10; // of a binary body that are compared

export function mount(root, { ids }) {
  const asked = ids.map(parseId);
  if (asked.includes(null)) {
    root.append(problem(new Error("Two ids of exchanges are needed: SPAN or TRACE-SPAN, in hex.")));
    return () => {};
  }
  const abort = new AbortController();
  const unbind = bindKeys([
    { keys: ["x"], does: "Change sides", run: () => { location.hash = `#/compare/${[...ids].reverse().join("/")}`; } },
    { keys: ["u", "Escape"], does: "Back", run: () => history.back() },
  ]);
  root.append(el("p", { class: "empty" }, "Loading"));
  Promise.all(asked.map(({ trace, span }) => get(`/api/v1/exchanges/${span}`, { trace }, abort.signal)))
    .then(page)
    .then((made) => abort.signal.aborted || root.replaceChildren(...made))
    .catch((error) => error.name !== "AbortError" && root.replaceChildren(problem(error)));
  return () => {
    abort.abort();
    unbind();
  };
}

async function page([one, other]) {
  // Once they are compared, the mark has done its work.
  markForCompare(null);
  return [
    el("section", { class: "title" }, el("h1", {}, "Compare")),
    el("div", { class: "sides heads" }, head(one), head(other)),
    table("Facts", facts(one), facts(other)),
    table("Request header fields", one.request.headers, other.request.headers),
    await bodies("Request body", one.request, other.request),
    table("Response header fields", one.response.headers, other.response.headers),
    await bodies("Response body", one.response, other.response),
  ];
}

function head(data) {
  return el("a", { class: "side", href: exchangeLink(data) },
    el("p", { class: "facts" }, statusPill(data), el("b", { class: "method" }, data.method), el("span", { class: "target" }, `${data.host}${data.path}`.slice(0, 300))),
    el("p", { class: "dim" }, `${dateTime(data.start_unix_ns)} · ${data.service}`));
}

const facts = (data) => [
  ["method", data.method], ["host", data.host], ["target", data.path], ["status", String(data.status || "none")], ["error", data.error],
  ["service", data.service], ["direction", data.direction], ["took", took(data)], ["request body", size(data.request.size)],
  ["response body", size(data.response.size)], ["session", data.session_id], ["trace", data.trace_id],
];

// Pairs of names and values, by name in order of appearance.
function table(title, one, other) {
  const [left, right] = [new Map(one), new Map(other)];
  const names = [...new Set([...left.keys(), ...right.keys()])];
  let changes = 0;
  const rows = names.map((name) => {
    const [before, after] = [left.get(name) ?? null, right.get(name) ?? null];
    const changed = before !== after;
    changes += changed;
    return el("div", { class: `diff-row${changed ? " changed" : ""}` }, el("span", { class: "name" }, name), ...cells(before, after, changed));
  });
  return section(title, changes ? `${changes} differ` : "the same", rows);
}

const cells = (one, other, changed) => [
  el("span", { class: changed && one !== null ? "removed" : null }, one === null ? "" : marked(one)),
  el("span", { class: changed && other !== null ? "added" : null }, other === null ? "" : marked(other)),
];

function section(title, note, rows, kind = "") {
  return el("section", { class: "diff", "aria-label": title }, el("h2", {}, title, el("span", { class: "dim" }, note)), el("div", { class: kind }, rows));
}

async function bodies(title, one, other) {
  if (!one.body && !other.body) return section(title, "none", []);
  const [left, right] = await Promise.all([linesOf(one), linesOf(other)]);
  const rows = sideBySide(diff(left, right));
  const changes = rows.filter((row) => row.changed).length;
  if (!changes) return section(title, "the same", []);
  return section(title, `${changes} ${changes === 1 ? "line differs" : "lines differ"}`, shown(rows), "diff-lines");
}

// The lines of a body: JSON with a line for each value, other text as it is, other bytes as a hex dump.
async function linesOf({ body, headers }) {
  if (!body) return [];
  const { bytes, text, kind } = await decoded(body, new Map(headers));
  if (text === null || kind === "image") return hexDump(bytes, 0, Math.min(bytes.length, BYTES)).split("\n");
  return ((kind === "json" && indented(text)) || text).split(/\r?\n/);
}

// What is near a change; the rest as how much it is.
function shown(rows) {
  const near = new Set();
  rows.forEach((row, index) => {
    if (row.changed) for (let at = index - CONTEXT; at <= index + CONTEXT; at++) near.add(at);
  });
  const made = [];
  for (let at = 0; at < rows.length && made.length < ROWS; at++) {
    if (near.has(at)) {
      const { one, other, changed } = rows[at];
      made.push(el("div", { class: `diff-row${changed ? " changed" : ""}` }, ...cells(one, other, changed)));
      continue;
    }
    let end = at;
    while (end < rows.length && !near.has(end)) end++;
    const text = `${end - at} ${end - at === 1 ? "line is" : "lines are"} the same`;
    made.push(el("div", { class: "diff-row skipped" }, el("span", {}, text), el("span", {}, text)));
    at = end - 1;
  }
  if (made.length >= ROWS) made.push(el("p", { class: "dim" }, "More differences are not shown."));
  return made;
}
