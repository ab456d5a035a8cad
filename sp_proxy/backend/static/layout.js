// Where the services of a map stand: in layers from left to right, callers before those they call (pure).
//
// As in Sugiyama's method, made small: edges that close a circle are turned around for the layers, a node stands one layer
// behind the last of its callers, and within the layers nodes are ordered by where their neighbours stand.

const SWEEPS = 8;

// names: of the nodes; edges: [{ source, target }] by name. Returns a Map of name → { layer, place }: places count from 0 in
// each layer. The same input gives the same answer.
export function layers(names, edges) {
  const known = new Set(names);
  const used = edges.filter(({ source, target }) => source !== target && known.has(source) && known.has(target));
  const forward = withoutCircles(names, used);
  const layerOf = longestPaths(names, forward);
  const columns = [];
  for (const name of names) (columns[layerOf.get(name)] ||= []).push(name);
  order(columns, used);
  const found = new Map();
  columns.forEach((column, layer) => column.forEach((name, place) => found.set(name, { layer, place })));
  return found;
}

// The edges as { source, target } without a circle: those that lead back are turned around.
function withoutCircles(names, edges) {
  const next = new Map(names.map((name) => [name, []]));
  const called = new Set();
  for (const edge of edges) {
    next.get(edge.source).push(edge.target);
    called.add(edge.target);
  }
  const state = new Map();
  const back = new Set();
  // Beginning where nobody calls, so that what leads back there is what is turned around.
  for (const start of [...names.filter((name) => !called.has(name)), ...names]) {
    if (state.has(start)) continue;
    const stack = [[start, 0]];
    state.set(start, "open");
    while (stack.length) {
      const here = stack[stack.length - 1];
      const target = next.get(here[0])[here[1]];
      here[1] += 1;
      if (target === undefined) {
        state.set(here[0], "done");
        stack.pop();
      } else if (!state.has(target)) {
        state.set(target, "open");
        stack.push([target, 0]);
      } else if (state.get(target) === "open") back.add(`${here[0]}\u0000${target}`);
    }
  }
  return edges.map(({ source, target }) => (back.has(`${source}\u0000${target}`) ? { source: target, target: source } : { source, target }));
}

function longestPaths(names, edges) {
  const next = new Map(names.map((name) => [name, []]));
  const missing = new Map(names.map((name) => [name, 0]));
  for (const { source, target } of edges) {
    next.get(source).push(target);
    missing.set(target, missing.get(target) + 1);
  }
  const layer = new Map(names.map((name) => [name, 0]));
  const ready = names.filter((name) => !missing.get(name));
  while (ready.length) {
    const name = ready.shift();
    for (const target of next.get(name)) {
      layer.set(target, Math.max(layer.get(target), layer.get(name) + 1));
      missing.set(target, missing.get(target) - 1);
      if (!missing.get(target)) ready.push(target);
    }
  }
  return layer;
}

// Sort each layer by the middle of its neighbours in the others, forth and back.
function order(columns, edges) {
  const neighbours = new Map();
  for (const { source, target } of edges) {
    for (const [one, other] of [[source, target], [target, source]]) {
      if (!neighbours.has(one)) neighbours.set(one, []);
      neighbours.get(one).push(other);
    }
  }
  const position = new Map();
  const number = () => columns.forEach((column) => column.forEach((name, place) => position.set(name, (place + 0.5) / column.length)));
  number();
  for (let sweep = 0; sweep < SWEEPS; sweep += 1) {
    for (const column of sweep % 2 ? [...columns].reverse() : columns) {
      const middle = new Map(column.map((name) => {
        const near = neighbours.get(name);
        return [name, near ? near.reduce((sum, other) => sum + position.get(other), 0) / near.length : position.get(name)];
      }));
      column.sort((one, other) => middle.get(one) - middle.get(other));
      number();
    }
  }
}
