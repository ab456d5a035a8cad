// What sp_proxy put in the place of a value that must not leave: its usual text, or a keyed hash (docs/configuration.md,
// redaction). Another text of a configuration's own is shown as it is.

import { el } from "./dom.js";

const REDACTED = /\[REDACTED\]|\bhash:[a-z2-7]{16}(?![a-z2-7])/g;

// The text as children for `el`, with redactions marked.
export function marked(text) {
  const pieces = [];
  let end = 0;
  for (const match of text.matchAll(REDACTED)) {
    pieces.push(text.slice(end, match.index), mark(match[0]));
    end = match.index + match[0].length;
  }
  pieces.push(text.slice(end));
  return pieces.filter((piece) => piece !== "");
}

function mark(text) {
  const title = text.startsWith("hash:") ? "Redacted: a keyed hash, the same for the same value" : "Redacted before it was sent";
  return el("mark", { class: "redacted", title }, text);
}
