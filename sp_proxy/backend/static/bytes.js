// Bytes of a captured body: from what the API answers, and as a hex dump. No element of the page is touched here.

const LINE = 16;

// The bytes of a body as the API has it, { encoding, data }.
export function bytesOf({ encoding, data }) {
  if (encoding !== "base64") return new TextEncoder().encode(data);
  try {
    return fromBase64(data);
  } catch {
    return new TextEncoder().encode(data); // not base64 after all: shown as it is
  }
}

export function fromBase64(text) {
  const binary = atob(text);
  const bytes = new Uint8Array(binary.length);
  for (let at = 0; at < binary.length; at++) bytes[at] = binary.charCodeAt(at);
  return bytes;
}

// The text that the bytes are in UTF-8; null where they are none, or have characters that no text has.
export function textOf(bytes) {
  try {
    const text = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
    return /[\u0000-\u0008\u000e-\u001a\u001c-\u001f\u007f]/.test(text) ? null : text;
  } catch {
    return null;
  }
}

// A hex dump of bytes[from:to], as hexdump -C has it.
export function hexDump(bytes, from, to) {
  const lines = [];
  for (let at = from; at < to; at += LINE) {
    const row = bytes.subarray(at, Math.min(at + LINE, to));
    const cells = Array.from(row, (byte) => byte.toString(16).padStart(2, "0"));
    const hex = `${cells.slice(0, 8).join(" ").padEnd(23)}  ${cells.slice(8).join(" ").padEnd(23)}`;
    const signs = Array.from(row, (byte) => (byte >= 0x20 && byte < 0x7f ? String.fromCharCode(byte) : ".")).join("");
    lines.push(`${at.toString(16).padStart(8, "0")}  ${hex}  |${signs}|`);
  }
  return lines.join("\n");
}

const MAGIC = [
  ["image/png", [0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a]],
  ["image/jpeg", [0xff, 0xd8, 0xff]],
  ["image/gif", [0x47, 0x49, 0x46, 0x38]],
  ["image/bmp", [0x42, 0x4d]],
  ["image/webp", [0x52, 0x49, 0x46, 0x46, -1, -1, -1, -1, 0x57, 0x45, 0x42, 0x50]],
  ["image/avif", [-1, -1, -1, -1, 0x66, 0x74, 0x79, 0x70, 0x61, 0x76, 0x69, 0x66]],
];

// The type of the picture that the bytes are, by their first ones and not by what a header says; "" where they are none.
// SVG is no picture here but a document.
export function imageType(bytes) {
  const found = MAGIC.find(([, magic]) => magic.every((byte, at) => byte < 0 || bytes[at] === byte));
  return found ? found[0] : "";
}
