// gRPC: length-prefixed messages, and in them protobuf, read without its schema: by numbers of fields, and by what their
// bytes look like. No element of the page is touched here.

import { fromBase64, textOf } from "./bytes.js";
import { jsonNodes } from "./json.js";

const PREFIX = 5;
const COMPRESSED = 1;
const TRAILERS = 0x80; // of gRPC-Web
const MOST_MESSAGES = 10_000;
const MOST_INFLATED = 4 << 20;
const MOST_FIELDS = 20_000;
const DEPTH = 32;

// The messages of a body: [{ flags, data, missing }], `missing` bytes having been cut off.
export function frames(bytes) {
  const found = [];
  let at = 0;
  while (at < bytes.length && found.length < MOST_MESSAGES) {
    if (bytes.length - at < PREFIX) {
      found.push({ flags: bytes[at], data: new Uint8Array(), missing: PREFIX - (bytes.length - at) });
      break;
    }
    const length = new DataView(bytes.buffer, bytes.byteOffset + at + 1, 4).getUint32(0);
    const data = bytes.subarray(at + PREFIX, Math.min(at + PREFIX + length, bytes.length));
    found.push({ flags: bytes[at], data, missing: length - data.length });
    at += PREFIX + length;
  }
  return found;
}

// The nodes of a gRPC body for tree.js. `encoding` is the call's `grpc-encoding`.
export async function grpcNodes(body, contentType, encoding) {
  let bytes = body;
  if (/^application\/grpc-web-text/i.test(contentType)) {
    try {
      bytes = fromBase64(new TextDecoder().decode(body).trim());
    } catch {
      return null;
    }
  }
  const json = /\+json\b/i.test(contentType);
  return Promise.all(frames(bytes).map((frame, index) => messageNode(frame, index, json, encoding)));
}

async function messageNode({ flags, data, missing }, index, json, encoding) {
  const notes = [`${data.length} bytes`];
  let content = data;
  let readable = true;
  if (missing) notes.push(`${missing} more were not captured`);
  if (flags & COMPRESSED) {
    content = await inflated(data, encoding).catch(() => null);
    readable = content !== null;
    notes.push(readable ? `${encoding}, ${content.length} bytes inflated` : `compressed (${encoding || "unknown"}), cannot be read`);
  }
  const label = flags & TRAILERS ? "trailers" : `message ${index + 1}`;
  const nodes = readable ? contentNodes(content, flags, json) : [blob(null, data)];
  return { label, kind: "object", note: notes.join(", "), count: nodes.length, children: () => nodes };
}

function contentNodes(content, flags, json) {
  if (flags & TRAILERS) {
    return new TextDecoder().decode(content).split("\r\n").filter(Boolean).map((line) => {
      const [name, ...rest] = line.split(":");
      return { label: name, kind: "string", text: rest.join(":").trim() };
    });
  }
  if (json) {
    const nodes = jsonNodes(new TextDecoder().decode(content));
    if (nodes) return nodes;
  }
  const fields = message(content, { left: MOST_FIELDS }, 0);
  return fields ? fields.map((field) => fieldNode(field)) : [blob(null, content)];
}

async function inflated(data, encoding) {
  const format = { gzip: "gzip", deflate: "deflate" }[encoding];
  if (!format) throw new Error("no such coding");
  const reader = new Blob([data]).stream().pipeThrough(new DecompressionStream(format)).getReader();
  const pieces = [];
  let size = 0;
  for (let piece = await reader.read(); !piece.done; piece = await reader.read()) {
    size += piece.value.length;
    if (size > MOST_INFLATED) {
      reader.cancel();
      throw new Error("too large");
    }
    pieces.push(piece.value);
  }
  const all = new Uint8Array(size);
  let at = 0;
  for (const piece of pieces) {
    all.set(piece, at);
    at += piece.length;
  }
  return all;
}

// The fields of a protobuf message, [{ number, wire, value }]; null where the bytes are none. `budget.left` fields may be made.
export function message(bytes, budget, depth) {
  const fields = [];
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  let at = 0;
  const varint = () => {
    let value = 0n;
    for (let shift = 0n; shift < 70n; shift += 7n) {
      if (at >= bytes.length) return null;
      const byte = bytes[at++];
      value |= BigInt(byte & 0x7f) << shift;
      if (byte < 0x80) return BigInt.asUintN(64, value);
    }
    return null;
  };
  while (at < bytes.length) {
    const key = varint();
    if (key === null || budget.left-- <= 0) return null;
    const number = Number(key >> 3n);
    const wire = Number(key & 7n);
    if (number < 1 || number > 0x1fffffff) return null;
    if (wire === 0) {
      const value = varint();
      if (value === null) return null;
      fields.push({ number, wire, value });
    } else if (wire === 1 || wire === 5) {
      const width = wire === 1 ? 8 : 4;
      if (bytes.length - at < width) return null;
      fields.push({ number, wire, value: wire === 1 ? [view.getBigUint64(at, true), view.getFloat64(at, true)] : [view.getUint32(at, true), view.getFloat32(at, true)] });
      at += width;
    } else if (wire === 2) {
      const length = varint();
      if (length === null || length > BigInt(bytes.length - at)) return null;
      fields.push({ number, wire, value: guessed(bytes.subarray(at, at + Number(length)), budget, depth) });
      at += Number(length);
    } else return null; // groups are of another age
  }
  return fields;
}

// Text, message or bytes: nothing in the bytes says which. Text that begins with a line feed is more likely a message.
function guessed(bytes, budget, depth) {
  const text = textOf(bytes);
  if (text !== null && bytes[0] !== 0x0a) return { text };
  const fields = bytes.length && depth < DEPTH ? message(bytes, budget, depth + 1) : null;
  if (fields) return { fields };
  return text !== null ? { text } : { bytes };
}

function fieldNode({ number, wire, value }) {
  const label = String(number);
  if (wire === 0) return { label, kind: "number", text: String(value) };
  if (wire !== 2) return { label, kind: "number", text: `${value[1]} (${value[0]})` };
  if (value.fields) {
    return { label, kind: "object", count: value.fields.length, note: `{${value.fields.length}}`, children: () => value.fields.map((field) => fieldNode(field)) };
  }
  return value.text === undefined ? blob(label, value.bytes) : { label, kind: "string", text: JSON.stringify(value.text) };
}

function blob(label, bytes) {
  const shown = Array.from(bytes.subarray(0, 64), (byte) => byte.toString(16).padStart(2, "0")).join(" ");
  return { label, kind: "word", text: `${bytes.length} bytes: ${shown}${bytes.length > 64 ? " …" : ""}` };
}
