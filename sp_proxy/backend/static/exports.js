// Links that download what is shown: a trace, a session.

import { el } from "./dom.js";

const FORMATS = [["har", "HAR"], ["otlp", "OTLP"], ["jsonl", "JSON lines"], ["curl", "curl"], ["httpie", "HTTPie"]];

// `parameters` are those of the list of exchanges, for example { trace: ID }.
export function exportLinks(parameters) {
  const query = new URLSearchParams(parameters).toString();
  return el(
    "details",
    { class: "exports" },
    el("summary", { class: "button" }, "Export"),
    el("div", { class: "menu" }, FORMATS.map(([format, name]) => el("a", { href: `/api/v1/export/${format}?${query}`, download: true }, name))),
  );
}
