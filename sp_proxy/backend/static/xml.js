// XML, read by hand: a browser's own reader makes a document of it, which the content security policy forbids, and rightly.
// Entities of a document's own are not looked up, so none of them can grow. No element of the page is touched here.

const MOST = 50_000; // pieces; a longer document is shown as text only
const PIECE = /<!--(?<comment>.*?)-->|<!\[CDATA\[(?<cdata>.*?)\]\]>|<\?(?<instruction>.*?)\?>|<!DOCTYPE(?<doctype>(?:[^[>]|\[.*?\]\s*(?=>))*)>|<\/(?<close>[^\s<>/]+)\s*>|<(?<open>[^\s<>/!?]+)(?<attributes>(?:\s+[^\s<>=/]+\s*=\s*(?:"[^"<]*"|'[^'<]*'))*)\s*(?<empty>\/?)>|(?<text>[^<]+)/gsy;
const ATTRIBUTE = /([^\s<>=/]+)\s*=\s*(?:"([^"<]*)"|'([^'<]*)')/g;
const NAMED = { lt: "<", gt: ">", amp: "&", quot: '"', apos: "'" };

// The pieces of a document as a flat list, { kind, name, value, attributes, depth }; null where it is not well formed.
function read(text) {
  const pieces = [];
  const open = [];
  let roots = 0;
  PIECE.lastIndex = 0;
  while (PIECE.lastIndex < text.length) {
    const found = PIECE.exec(text)?.groups;
    if (!found || pieces.length > MOST) return null;
    const depth = open.length;
    if (found.text !== undefined) {
      const value = decoded(found.text);
      if (!value.trim()) continue;
      if (!depth) return null;
      pieces.push({ kind: "text", value, depth });
    } else if (found.open !== undefined) {
      if (!depth && roots++) return null;
      const attributes = [...found.attributes.matchAll(ATTRIBUTE)].map(([, name, one, other]) => [name, decoded(one ?? other)]);
      pieces.push({ kind: "element", name: found.open, attributes, depth });
      if (!found.empty) open.push(found.open);
    } else if (found.close !== undefined) {
      if (open.pop() !== found.close) return null;
    } else {
      const [kind, value] = Object.entries(found).find(([, each]) => each !== undefined);
      pieces.push({ kind, value: value.trim(), depth });
    }
  }
  return roots && !open.length ? pieces : null;
}

function decoded(text) {
  return text.replace(/&(?:#x([0-9a-fA-F]{1,6})|#([0-9]{1,7})|([a-z]+));/g, (whole, hex, decimal, name) => {
    if (name) return NAMED[name] ?? whole;
    const code = hex ? parseInt(hex, 16) : Number(decimal);
    return code > 0 && code <= 0x10ffff ? String.fromCodePoint(code) : whole;
  });
}

const WORDS = { comment: "<!-- -->", cdata: "CDATA", instruction: "<? ?>", doctype: "<!DOCTYPE>" };

// The nodes of a document for tree.js; null where the text is no XML.
export function xmlNodes(text) {
  const pieces = read(text.replace(/^\ufeff/, ""));
  return pieces && nodes(pieces, 0, pieces.length, 0);
}

function nodes(pieces, from, to, depth) {
  const found = [];
  for (let at = from; at < to; at++) {
    const piece = pieces[at];
    if (piece.depth !== depth) continue;
    if (piece.kind !== "element") {
      found.push({ label: WORDS[piece.kind] ?? null, kind: piece.kind === "text" ? "string" : "word", text: piece.value });
      continue;
    }
    let end = at + 1;
    while (end < to && pieces[end].depth > depth) end++;
    found.push(element(pieces, piece, at + 1, end));
    at = end - 1;
  }
  return found;
}

function element(pieces, { name, attributes, depth }, from, to) {
  if (!attributes.length && to === from + 1 && pieces[from].kind === "text") return { label: name, kind: "string", text: pieces[from].value };
  if (!attributes.length && from === to) return { label: name, kind: "word", text: "(empty)" };
  let count = attributes.length;
  for (let at = from; at < to; at++) if (pieces[at].depth === depth + 1) count++;
  return {
    label: name, kind: "element", count, note: `<${count}>`,
    children: () => [
      ...attributes.map(([attribute, value]) => ({ label: `@${attribute}`, kind: "string", text: value })),
      ...nodes(pieces, from, to, depth + 1),
    ],
  };
}
