// The exchange that another one is to be compared with, while the reader looks for that one; it lives as long as the tab.

const KEY = "compare";
const ID = /^(?:([0-9a-f]{32})-)?([0-9a-f]{16})$/;

// { trace, span, title } of the marked exchange, or null.
export function markedForCompare() {
  try {
    return JSON.parse(sessionStorage.getItem(KEY));
  } catch {
    return null;
  }
}

// Mark an exchange; null takes the mark away.
export function markForCompare(exchange) {
  try {
    if (!exchange) sessionStorage.removeItem(KEY);
    else {
      const title = `${exchange.method} ${exchange.host}${exchange.path}`.slice(0, 120);
      sessionStorage.setItem(KEY, JSON.stringify({ trace: exchange.trace_id, span: exchange.span_id, title }));
    }
  } catch {
    // The browser allows no storage: nothing is marked.
  }
}

// Both ids of an exchange in one, as the address of a view has it: span ids alone may be those of several traces.
export const fullId = (exchange) => `${exchange.trace_id}-${exchange.span_id}`;

// The address of the comparison of the marked exchange with another.
export const compareWith = (marked, exchange) => `#/compare/${marked.trace}-${marked.span}/${fullId(exchange)}`;

// { trace, span } of an id like that, or of a span id alone; null of anything else.
export function parseId(id) {
  const match = ID.exec(id.toLowerCase());
  return match ? { trace: match[1] || "", span: match[2] } : null;
}
