// The exchanges that the live view has, newest first: each once, a whole one in the place of its partial record, and no more
// than a bound. No element of the page is touched here.

export const KEPT = 5_000;
// Older ones are loaded on demand, up to here.
export const MOST = 50_000;

export const identity = (exchange) => exchange.trace_id + exchange.span_id;

const newestFirst = (one, other) => other.start_unix_ns - one.start_unix_ns || (identity(one) < identity(other) ? 1 : -1);

export class Feed {
  constructor() {
    this.exchanges = [];
    this.known = new Map();
    this.limit = KEPT;
    // Whether some were let go at the end: a page's cursor no longer continues the list then.
    this.trimmed = false;
  }

  clear() {
    this.exchanges = [];
    this.known.clear();
    this.limit = KEPT;
    this.trimmed = false;
  }

  has(exchange) {
    return this.known.has(identity(exchange));
  }

  // Take what arrived or was loaded, in any order. Returns how many of them were new.
  add(arrived) {
    const fresh = new Map();
    for (const exchange of arrived) {
      const before = fresh.get(identity(exchange)) || this.known.get(identity(exchange));
      if (!before || (before.partial && !exchange.partial)) fresh.set(identity(exchange), exchange);
    }
    if (!fresh.size) return 0;
    const replaced = [...fresh.keys()].some((id) => this.known.has(id));
    const kept = replaced ? this.exchanges.filter((exchange) => !fresh.has(identity(exchange))) : this.exchanges;
    this.exchanges = merged([...fresh.values()].sort(newestFirst), kept);
    for (const [id, exchange] of fresh) this.known.set(id, exchange);
    while (this.exchanges.length > this.limit) {
      this.known.delete(identity(this.exchanges.pop()));
      this.trimmed = true;
    }
    return fresh.size;
  }

  // Take a page of older ones, for which room is made.
  addOlder(page) {
    this.limit = Math.min(MOST, Math.max(this.limit, this.exchanges.length + page.length));
    return this.add(page);
  }

  // Where an exchange stands; -1 where it does not.
  place(id) {
    return this.known.has(id) ? this.exchanges.findIndex((exchange) => identity(exchange) === id) : -1;
  }
}

function merged(fresh, kept) {
  const all = [];
  let next = 0;
  for (const exchange of kept) {
    while (next < fresh.length && newestFirst(fresh[next], exchange) < 0) all.push(fresh[next++]);
    all.push(exchange);
  }
  return all.concat(fresh.slice(next));
}
