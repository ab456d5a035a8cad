// JSON as a tree, and as text with line breaks. Numbers are kept as they were written. No element of the page is touched here.

class Written {
  constructor(source) {
    this.source = source;
  }
}

// The nodes of a JSON text for tree.js; null where it is none.
export function jsonNodes(text) {
  const value = parse(text);
  if (value === undefined) return null;
  const root = node(null, value);
  return root.children && root.count ? root.children() : [root];
}

function parse(text) {
  try {
    // Where the browser tells a number's text (the third argument), one that JavaScript cannot hold is shown as written.
    return JSON.parse(text, (_, value, context) =>
      typeof value === "number" && context?.source !== undefined && String(value) !== context.source ? new Written(context.source) : value);
  } catch {
    return undefined;
  }
}

function node(label, value) {
  if (value instanceof Written) return { label, kind: "number", text: value.source };
  if (Array.isArray(value)) {
    return {
      label, kind: "array", count: value.length, note: value.length ? `[${value.length}]` : "[]",
      children: () => value.map((item, index) => node(String(index), item)),
    };
  }
  if (value !== null && typeof value === "object") {
    const names = Object.keys(value);
    return {
      label, kind: "object", count: names.length, note: names.length ? `{${names.length}}` : "{}",
      children: () => names.map((name) => node(name, value[name])),
    };
  }
  if (typeof value === "string") return { label, kind: "string", text: JSON.stringify(value) };
  return { label, kind: typeof value === "number" ? "number" : "word", text: String(value) };
}

const TOKEN = /"(?:\\.|[^"\\])*"|[{}[\],:]|[^\s{}[\],:"]+/gs;
const DEEPEST = 60; // indented no further

// A JSON text with a line for each value; null where it is none. Only space changes: no number, no escape, no repeated name.
export function indented(text) {
  if (parse(text) === undefined) return null;
  const pieces = [];
  let depth = 0;
  let last = "";
  const line = () => pieces.push("\n", "  ".repeat(Math.min(depth, DEEPEST)));
  for (const [token] of text.matchAll(TOKEN)) {
    if (token === "}" || token === "]") {
      depth -= 1;
      if (last !== "{" && last !== "[") line();
    } else if (last === "{" || last === "[" || last === ",") line();
    pieces.push(token === ":" ? ": " : token);
    if (token === "{" || token === "[") depth += 1;
    last = token;
  }
  return pieces.join("");
}
