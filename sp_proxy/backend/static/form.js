// Forms: URL-encoded, and multipart (RFC 7578). No element of the page is touched here.

import { textOf } from "./bytes.js";

const MOST = 1_000; // parts

// The nodes of an URL-encoded form for tree.js.
export function formNodes(text) {
  return [...new URLSearchParams(text)].map(([name, value]) => ({ label: name, kind: "string", text: value }));
}

// The nodes of a multipart body; null where the content type names no boundary, or it is nowhere in the body.
export function multipartNodes(bytes, contentType) {
  const [, quoted, plain] = /;\s*boundary=(?:"([^"]{1,70})"|([^\s;"]{1,70}))/i.exec(contentType) || [];
  if (!(quoted || plain)) return null;
  // As Latin-1, so that every byte is one character and keeps its place.
  const body = Array.from({ length: Math.ceil(bytes.length / 8192) }, (_, index) =>
    String.fromCharCode(...bytes.subarray(index * 8192, (index + 1) * 8192))).join("");
  const parts = `\r\n${body}`.split(`\r\n--${quoted || plain}`).slice(1, MOST + 1);
  if (!parts.length) return null;
  return parts.filter((part) => !part.startsWith("--")).map(partNode);
}

function partNode(part) {
  const end = part.indexOf("\r\n\r\n");
  const head = latin(end < 0 ? part : part.slice(0, end)).trim();
  const bytes = Uint8Array.from(end < 0 ? "" : part.slice(end + 4), (character) => character.charCodeAt(0));
  const text = textOf(bytes);
  const name = /\bname="([^"]*)"/i.exec(head)?.[1] ?? "part";
  const fields = head.split(/\r\n/).filter(Boolean);
  const value = { label: "content", kind: text === null ? "word" : "string", text: text ?? `${bytes.length} bytes` };
  if (fields.length <= 1 && !/filename/i.test(head)) return { ...value, label: name };
  return {
    label: name, kind: "object", count: fields.length + 1, note: `${bytes.length} bytes`,
    children: () => [...fields.map((field) => {
      const [title, ...rest] = field.split(":");
      return { label: title, kind: "word", text: rest.join(":").trim() };
    }), value],
  };
}

function latin(text) {
  const bytes = Uint8Array.from(text, (character) => character.charCodeAt(0));
  return textOf(bytes) ?? text;
}
