// What can be done with an exchange: copied as a command, saved in a format of the API, compared with another.

import { el } from "./dom.js";
import { compareWith, markedForCompare, markForCompare } from "./marks.js";

const COPIED = [["curl", "Copy as curl"], ["httpie", "Copy as HTTPie"]];
const SAVED = [["har", "HAR"], ["jsonl", "JSON"], ["otlp", "OTLP"]];

const exportAddress = (format, exchange) =>
  `/api/v1/export/${format}?${new URLSearchParams({ q: `span:${exchange.span_id} trace:${exchange.trace_id}` })}`;

// { element, copyAsCurl(), compare() } for an exchange.
export function actions(exchange) {
  const said = el("span", { class: "said", role: "status" });
  const copyAs = async (format) => {
    said.textContent = "";
    try {
      const response = await fetch(exportAddress(format, exchange));
      if (!response.ok) throw new Error(`status ${response.status}`);
      said.textContent = await copied(await response.text(), format);
    } catch (error) {
      said.textContent = `That did not work: ${error.message}`;
    }
  };
  const compareSlot = el("span", {});
  const showCompare = () => compareSlot.replaceChildren(...compareButtons(exchange, showCompare));
  showCompare();
  const compare = () => {
    const marked = markedForCompare();
    if (marked && marked.span !== exchange.span_id) location.hash = compareWith(marked, exchange);
    else {
      markForCompare(marked ? null : exchange);
      showCompare();
    }
  };
  const element = el(
    "p",
    { class: "actions" },
    COPIED.map(([format, title]) => el("button", { type: "button", onclick: () => copyAs(format) }, title)),
    SAVED.map(([format, title]) => el("a", { class: "button", href: exportAddress(format, exchange), download: true, title: `Save as ${title}` }, title)),
    compareSlot,
    said,
  );
  return { element, compare, copyAsCurl: () => copyAs("curl") };
}

function compareButtons(exchange, changed) {
  const marked = markedForCompare();
  const mark = (value) => () => {
    markForCompare(value);
    changed();
  };
  if (!marked) return [el("button", { type: "button", onclick: mark(exchange), title: "Mark this one; then open another and compare" }, "Compare…")];
  if (marked.span === exchange.span_id && marked.trace === exchange.trace_id) {
    return [el("button", { type: "button", class: "chip", onclick: mark(null), title: "Take the mark away" }, "Marked: now open another one ✕")];
  }
  const title = `Compare with ${marked.title}`;
  return [
    el("a", { class: "button chip", href: compareWith(marked, exchange), title }, title.length > 60 ? `${title.slice(0, 60)}…` : title),
    el("button", { type: "button", onclick: mark(null), title: "Take the mark away" }, "✕"),
  ];
}

// Copy a text; where the browser does not allow it (no secure context), show it for the reader to copy.
async function copied(text, name) {
  try {
    await navigator.clipboard.writeText(text);
    return `Copied as ${name}`;
  } catch {
    const area = el("textarea", { readonly: true, "aria-label": name });
    area.value = text;
    const dialog = el("dialog", { class: "manual-copy" }, el("h2", {}, "Copy this"), area,
      el("p", {}, el("button", { type: "button", onclick: () => dialog.close() }, "Close")));
    dialog.addEventListener("close", () => dialog.remove());
    document.body.append(dialog);
    dialog.showModal();
    area.select();
    return "";
  }
}
