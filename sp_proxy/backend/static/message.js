// A request or a response: its header fields and its body.

import { body } from "./body.js";
import { el, size } from "./dom.js";
import { marked } from "./redacted.js";

const LONG = 4_000; // characters of a field that are shown until the reader asks for all
const NEVER = "Never among them: authorization, cookies and keys, which sp_proxy does not send.";

// `part` is the request or the response of `data`, the exchange.
export function message(name, part, data) {
  const fields = new Map(part.headers);
  return el(
    "section",
    { class: "side", "aria-label": name },
    el("h2", {}, name, el("span", { class: "dim" }, part.size ? size(part.size) : "")),
    el("dl", { class: "headers", tabindex: "0" }, part.headers.flatMap(([field, value]) => [el("dt", {}, field), el("dd", {}, long(value))])),
    part.headers.length ? null : el("p", { class: "dim" }, "No header fields."),
    name === "Request" ? el("p", { class: "never" }, NEVER) : null,
    part.body
      ? body(part.body, { fields, name: `${name.toLowerCase()}-${data.span_id}`, truncated: isCut(part, data), whole: part.size })
      : el("p", { class: part.size ? "notice" : "dim" }, part.size ? `The body, ${size(part.size)}, was not captured.` : "No body."),
  );
}

// The span says that a body was cut, not which: the shorter one; a decoded one (content-encoding) cannot be measured so.
function isCut(part, data) {
  if (!data.truncated) return false;
  const length = lengthOf(part.body);
  return length < part.size || (part.headers.some(([name]) => name === "content-encoding") && !isShort(data));
}

const isShort = (data) => [data.request, data.response].some((part) => part.body && lengthOf(part.body) < part.size);

function lengthOf({ encoding, data }) {
  if (encoding !== "base64") return new TextEncoder().encode(data).length;
  return Math.floor((data.length * 3) / 4) - (data.endsWith("==") ? 2 : data.endsWith("=") ? 1 : 0);
}

function long(value) {
  if (value.length <= LONG) return marked(value);
  const more = el("button", { type: "button", class: "more" }, `${value.length - LONG} characters more`);
  const shown = el("span", {}, marked(value.slice(0, LONG)), more);
  more.addEventListener("click", () => shown.replaceChildren(el("span", {}, marked(value))));
  return shown;
}
