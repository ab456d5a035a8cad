// A captured body, in the ways in which its content can be shown: decoded as a tree, as text, as it was sent, as a hex dump,
// as a picture. Nothing of it becomes markup, and each way shows a part first where there is much.

import { bytesOf, hexDump, imageType, textOf } from "./bytes.js";
import { el, size } from "./dom.js";
import { formNodes, multipartNodes } from "./form.js";
import { grpcNodes } from "./grpc.js";
import { indented, jsonNodes } from "./json.js";
import { marked } from "./redacted.js";
import { tree } from "./tree.js";
import { xmlNodes } from "./xml.js";

const TEXT_STEP = 200_000; // characters shown at a time
const HEX_STEP = 16 << 10; // bytes
const DECODED = 8 << 20; // a longer text is not decoded
const PIXELS = 40_000_000; // a larger picture is not drawn: its bytes may be few and its points many

// What a body holds: { bytes, text, kind, nodes }. `nodes` are tree.js's, null where nothing could be decoded; the kind is
// "json", "form", "multipart", "xml", "grpc", "image" or "".
export async function decoded(content, fields) {
  const plain = undecoded(content);
  const { bytes, text } = plain;
  const type = content.content_type.toLowerCase();
  const found = (kind, nodes) => ({ ...plain, kind: nodes ? kind : "", nodes });
  if (type.startsWith("application/grpc")) return found("grpc", await grpcNodes(bytes, type, fields.get("grpc-encoding")));
  if (type.startsWith("multipart/")) return found("multipart", multipartNodes(bytes, content.content_type));
  if (imageType(bytes)) return { ...plain, kind: "image" };
  if (text === null || text.length > DECODED) return plain;
  if (type.startsWith("application/x-www-form-urlencoded")) return found("form", formNodes(text));
  if (type.includes("json") || /^\s*[[{]/.test(text)) {
    const nodes = jsonNodes(text);
    if (nodes) return found("json", nodes);
  }
  return found("xml", /^\s*(\ufeff)?</.test(text) && !type.includes("html") ? xmlNodes(text) : null);
}

function undecoded(content) {
  const bytes = bytesOf(content);
  return { bytes, text: content.encoding === "base64" ? textOf(bytes) : content.data, kind: "", nodes: null };
}

// The body of a message as an element. `name` is that of a file it may be saved under, without its end.
export function body(content, { fields, name, truncated, whole }) {
  const box = el("div", { class: "bodybox" });
  decoded(content, fields)
    .catch(() => undecoded(content)) // a mistake of a decoder hides no body
    .then((found) => box.append(...parts(content, found, { name, truncated, whole })));
  return box;
}

function parts(content, found, { name, truncated, whole }) {
  const ways = waysOf(found);
  const panel = el("div", { class: "panel" });
  const tabs = el("div", { class: "tabs", role: "tablist" }, ways.map(([title, show]) =>
    el("button", { type: "button", role: "tab", "aria-selected": "false", onclick: (event) => choose(event.currentTarget, show) }, title)));
  const choose = (tab, show) => {
    for (const each of tabs.children) each.setAttribute("aria-selected", String(each === tab));
    panel.replaceChildren(show());
  };
  choose(tabs.firstChild, ways[0][1]);
  return [
    el("div", { class: "bodybar" },
      el("span", { class: "type", title: content.content_type }, content.content_type || "no content type"),
      tabs,
      el("button", { type: "button", title: "Save the captured bytes", onclick: () => save(found.bytes, `${name}.${ENDS[found.kind] || "bin"}`) }, "Save")),
    panel,
    truncated ? el("p", { class: "cut", role: "note" }, `Cut here: ${size(found.bytes.length)} were captured${whole > found.bytes.length ? ` of ${size(whole)}` : ""}.`) : null,
  ].filter(Boolean);
}

const ENDS = { json: "json", xml: "xml", form: "txt" };

// Ways to show what was found, the best first: [title, () => element].
function waysOf({ bytes, text, kind, nodes }) {
  const ways = [];
  if (kind === "image") ways.push(["Image", () => picture(bytes)]);
  if (nodes) ways.push(["Tree", () => el("div", { class: "body", tabindex: "0" }, nodes.length ? tree(nodes) : el("span", { class: "dim" }, "empty"))]);
  if (kind === "json") ways.push(["Text", () => longText(indented(text) ?? text, highlighted)]);
  if (text !== null) ways.push(["Raw", () => longText(text, marked)]);
  ways.push(["Hex", () => hex(bytes)]);
  return ways;
}

function longText(text, made) {
  const block = el("pre", { class: "body", tabindex: "0" });
  const more = el("button", { type: "button", class: "more" });
  let at = 0;
  const step = () => {
    let end = Math.min(text.length, at + TEXT_STEP);
    if (end < text.length && text.charCodeAt(end - 1) >> 10 === 0x36) end -= 1; // not within a pair of surrogates
    more.before(el("span", {}, made(text.slice(at, end))));
    at = end;
    more.textContent = `${(text.length - at).toLocaleString("en")} characters more`;
    if (at >= text.length) more.remove();
  };
  more.addEventListener("click", step);
  block.append(more);
  step();
  return block;
}

function hex(bytes) {
  const block = el("pre", { class: "body hex", tabindex: "0" });
  const more = el("button", { type: "button", class: "more" });
  let at = 0;
  const step = () => {
    const end = Math.min(bytes.length, at + HEX_STEP);
    more.before(`${hexDump(bytes, at, end)}\n`);
    at = end;
    more.textContent = `${size(bytes.length - at)} more`;
    if (at >= bytes.length) more.remove();
  };
  more.addEventListener("click", step);
  block.append(more);
  step();
  return block;
}

// Drawn, not linked: a picture's bytes are decoded and painted, and no address of anything is made of them.
function picture(bytes) {
  const box = el("div", { class: "body picture" }, el("span", { class: "dim" }, "Decoding"));
  draw(bytes).then((made) => box.replaceChildren(...made), () => box.replaceChildren(el("span", { class: "dim" }, "This picture cannot be decoded; its bytes are under Hex.")));
  return box;
}

async function draw(bytes) {
  const type = imageType(bytes);
  const [declaredWidth, declaredHeight] = declaredSize(bytes, type);
  if (declaredWidth * declaredHeight > PIXELS) {
    return [el("span", { class: "dim" }, `${type} of ${declaredWidth} × ${declaredHeight}: too large to be drawn here; its bytes are under Hex.`)];
  }
  const bitmap = await createImageBitmap(new Blob([bytes], { type }));
  const { width, height } = bitmap;
  const scale = Math.min(1, 1200 / width, 1200 / height);
  const canvas = el("canvas", { width: Math.max(1, Math.round(width * scale)), height: Math.max(1, Math.round(height * scale)), role: "img", "aria-label": `${type}, ${width} × ${height}` });
  canvas.getContext("2d").drawImage(bitmap, 0, 0, canvas.width, canvas.height);
  bitmap.close();
  return [canvas, el("span", { class: "dim" }, `${type} · ${width} × ${height} · ${size(bytes.length)}`)];
}

// Width and height as the head says them, where they stand at a fixed place; else 0.
function declaredSize(bytes, type) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  if (type === "image/png" && bytes.length >= 24) return [view.getUint32(16), view.getUint32(20)];
  if (type === "image/gif" && bytes.length >= 10) return [view.getUint16(6, true), view.getUint16(8, true)];
  if (type === "image/bmp" && bytes.length >= 26) return [Math.abs(view.getInt32(18, true)), Math.abs(view.getInt32(22, true))];
  return [0, 0];
}

// As a file of no type: whatever it says it is, the browser saves it and runs nothing.
function save(bytes, name) {
  const address = URL.createObjectURL(new Blob([bytes], { type: "application/octet-stream" }));
  el("a", { href: address, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(address), 10_000);
}

const TOKEN = /("(?:\\.|[^"\\])*")(\s*:)?|\b(true|false|null)\b|-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?/g;

function highlighted(text) {
  const pieces = [];
  let end = 0;
  for (const match of text.matchAll(TOKEN)) {
    pieces.push(text.slice(end, match.index));
    const kind = match[1] ? (match[2] ? "key" : "string") : match[3] ? "word" : "number";
    pieces.push(el("span", { class: `j-${kind}` }, marked(match[1] || match[0])), match[2] || "");
    end = match.index + match[0].length;
  }
  pieces.push(text.slice(end));
  return pieces;
}
