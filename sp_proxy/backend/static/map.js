// Services as a graph: who called whom in a time, how often, how well and how fast.

import { count, duration, el, get, problem, svg, visible } from "./dom.js";
import { bindKeys } from "./keys.js";
import { layers } from "./layout.js";
import { lasting } from "./times.js";

const TIMES = [["-5m", "5 minutes"], ["-15m", "15 minutes"], ["-1h", "1 hour"], ["-6h", "6 hours"], ["-1d", "1 day"], ["-7d", "7 days"]];
const DEFAULT = "-1h";
const REFRESH = 10_000;
const BOX = { width: 168, height: 46, across: 320, down: 104, margin: 40 };
const LABEL = 58; // from its middle to the box that is called
const NAME_LENGTH = 18;
const OUTSIDE = "outside";
const DRAWN = 150; // calls; the table has all of them

export function mount(root, { query }) {
  const since = query.get("since") || DEFAULT;
  const until = query.get("until") || "";
  const abort = new AbortController();
  const drawing = el("div", { class: "map" });
  const table = el("div", {});
  const state = el("p", { class: "dim map-state" });
  let timer = 0;
  let told = "";

  root.replaceChildren(times(since, until), state, drawing, table);
  load();

  async function load() {
    clearTimeout(timer);
    try {
      const answer = await get("/api/v1/map", { since, until }, abort.signal);
      const text = JSON.stringify(answer.edges);
      const seconds = Math.max(1, (answer.until_unix_ns - answer.since_unix_ns) / 1e9);
      if (text !== told) {
        told = text;
        const graph = graphOf(answer.edges, seconds);
        const drawn = graphOf(answer.edges.slice(0, DRAWN), seconds); // busiest first
        const pick = selection(drawing, table);
        drawing.replaceChildren(drawn.nodes.size ? picture(drawn, pick) : el("p", { class: "empty" }, "Nothing was captured in this time."));
        table.replaceChildren(...(graph.calls.length ? [list(graph, { since, until })] : []));
        if (answer.edges.length > DRAWN) table.prepend(el("p", { class: "notice" }, `The picture has the ${DRAWN} busiest calls.`));
      }
      state.textContent = `${count(answer.edges.reduce((sum, edge) => sum + edge.requests, 0), "request")} in ${lasting(seconds * 1e9)}`;
    } catch (error) {
      if (error.name === "AbortError") return;
      drawing.replaceChildren(problem(error));
      table.replaceChildren();
      state.textContent = "";
      told = "";
      if (error.status >= 400 && error.status < 500) return; // a wrong time stays wrong; a backend that is gone may come back
    }
    if (!until) timer = setTimeout(() => (document.hidden ? (timer = setTimeout(load, REFRESH)) : load()), REFRESH);
  }

  const unbind = bindKeys([
    { keys: ["r"], does: "Ask again", run: load },
    ...[["-", 1], ["+", -1]].map(([key, by]) => ({ keys: [key], does: by > 0 ? "A longer time" : "A shorter time", run: () => {
      const place = TIMES.findIndex(([value]) => value === since);
      const [next] = TIMES[Math.min(TIMES.length - 1, Math.max(0, (place < 0 ? 2 : place) + by))];
      location.hash = `#/map?since=${encodeURIComponent(next)}`;
    } })),
  ]);
  return () => {
    clearTimeout(timer);
    abort.abort();
    unbind();
  };
}

function times(since, until) {
  const from = el("input", { name: "since", value: since, "aria-label": "Since", placeholder: "-1h or 2026-01-31T10:30", autocomplete: "off", spellcheck: "false" });
  const to = el("input", { name: "until", value: until, "aria-label": "Until", placeholder: "now", autocomplete: "off", spellcheck: "false" });
  const form = el(
    "form",
    { class: "filters" },
    TIMES.map(([value, name]) => el("a", { class: "button", href: `#/map?since=${encodeURIComponent(value)}`, "aria-current": !until && value === since ? "true" : null }, name)),
    from,
    el("span", { class: "dim" }, "to"),
    to,
    el("button", { type: "submit" }, "Show"),
  );
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    const values = Object.entries({ since: from.value.trim(), until: to.value.trim() }).filter(([, value]) => value);
    location.hash = `#/map?${new URLSearchParams(values)}`;
  });
  return form;
}

// Nodes by key, and calls between them: what one service called another by several host names is one call.
function graphOf(edges, seconds) {
  const nodes = new Map();
  const calls = new Map();
  const node = (key, name, kind) => {
    if (!nodes.has(key)) nodes.set(key, { key, name, kind });
    return key;
  };
  for (const edge of edges) {
    const source = edge.source ? node(`s:${edge.source}`, edge.source, "service") : node("o:", OUTSIDE, "outside");
    const target = edge.target ? node(`s:${edge.target}`, edge.target, "service") : node(`h:${edge.host}`, edge.host || "unknown host", "host");
    const key = JSON.stringify([source, target]);
    if (!calls.has(key)) calls.set(key, { source, target, requests: 0, errors: 0, p50: 0, p95: 0, edges: [] });
    const call = calls.get(key);
    call.requests += edge.requests;
    call.errors += edge.errors;
    // Percentiles cannot be added up: of several hosts the slowest is told, and the table has each.
    call.p50 = Math.max(call.p50, edge.p50_ns);
    call.p95 = Math.max(call.p95, edge.p95_ns);
    call.edges.push(edge);
  }
  return { nodes, calls: [...calls.values()], seconds };
}

const health = (call) => (call.errors * 20 >= call.requests ? "bad" : call.errors ? "warn" : "good");
const percent = (call) => {
  const part = (100 * call.errors) / Math.max(1, call.requests);
  return part === 0 ? "0 %" : part < 0.1 ? "< 0.1 %" : `${part.toFixed(part < 10 ? 1 : 0)} %`;
};
const rate = (requests, seconds) => {
  const each = requests / seconds;
  if (each >= 1) return `${each.toLocaleString("en", { maximumFractionDigits: each < 10 ? 1 : 0 })}/s`;
  return each * 60 >= 1 ? `${(each * 60).toFixed(0)}/min` : `${(each * 3600).toFixed(0)}/h`;
};
const shortened = (name) => {
  const characters = [...visible(name)];
  return characters.length > NAME_LENGTH ? `${characters.slice(0, NAME_LENGTH - 1).join("")}…` : characters.join("");
};

function picture({ nodes, calls, seconds }, pick) {
  const places = layers([...nodes.keys()], calls);
  const heights = new Map();
  for (const { layer } of places.values()) heights.set(layer, (heights.get(layer) || 0) + 1);
  const tallest = Math.max(...heights.values());
  const at = (key) => {
    const { layer, place } = places.get(key);
    return { x: BOX.margin + layer * BOX.across, y: BOX.margin + (place + (tallest - heights.get(layer)) / 2) * BOX.down };
  };
  const width = 2 * BOX.margin + (Math.max(...heights.keys())) * BOX.across + BOX.width;
  const height = 2 * BOX.margin + (tallest - 1) * BOX.down + BOX.height + 30;
  const busiest = Math.max(...calls.map((call) => call.requests), 1);
  const marker = (kind) => svg("marker", { id: `arrow-${kind}`, viewBox: "0 0 8 8", refX: "7", refY: "4", markerWidth: "7", markerHeight: "7", markerUnits: "userSpaceOnUse", orient: "auto" }, svg("path", { d: "M0 0 L8 4 L0 8 z", class: `map-arrow ${kind}` }));
  return svg(
    "svg",
    { class: "map-svg", width, height, viewBox: `0 0 ${width} ${height}`, role: "group", "aria-label": "Services and their calls" },
    svg("defs", {}, ["good", "warn", "bad"].map(marker)),
    calls.map((call) => line(call, at(call.source), at(call.target), seconds, busiest, nodes, pick)),
    [...nodes.values()].map((node) => box(node, at(node.key), calls, pick)),
  );
}

function line(call, from, to, seconds, busiest, nodes, pick) {
  const kind = health(call);
  const { d, x, y } = curve(from, to, call.source === call.target);
  const name = `${nodes.get(call.source).name} → ${nodes.get(call.target).name}: ${count(call.requests, "request")}, ${percent(call)} errors, p95 ${duration(call.p95)}`;
  return svg(
    "g",
    { class: `map-call ${kind}`, tabindex: "0", role: "button", "aria-label": name, data: { source: call.source, target: call.target }, onclick: () => pick.call(call), onkeydown: (event) => (event.key === "Enter" || event.key === " ") && (event.preventDefault(), pick.call(call)) },
    svg("title", {}, name),
    svg("path", { class: "map-hit", d }),
    svg("path", { class: "map-line", d, "stroke-width": (1.2 + 3 * Math.sqrt(call.requests / busiest)).toFixed(2), "marker-end": `url(#arrow-${kind})` }),
    svg("rect", { class: "map-tag", x: x - 47, y: y - 19, width: 94, height: 35, rx: "6" }),
    svg("text", { class: "map-label", x, y: y - 6, "text-anchor": "middle" }, `${rate(call.requests, seconds)} · ${percent(call)}`),
    svg("text", { class: "map-label dim", x, y: y + 10, "text-anchor": "middle" }, `p95 ${duration(call.p95)}`),
  );
}

// The line from one box to another, and where its label stands.
function curve(from, to, itself) {
  const middle = BOX.height / 2;
  if (itself) {
    const { x, y } = { x: from.x + BOX.width / 2, y: from.y + BOX.height };
    return { d: `M${x - 30} ${y} C${x - 30} ${y + 38} ${x + 30} ${y + 38} ${x + 30} ${y + 2}`, x, y: y + 44 };
  }
  if (to.x > from.x) {
    const start = { x: from.x + BOX.width, y: from.y + middle };
    const end = { x: to.x, y: to.y + middle };
    const bend = Math.max(50, (end.x - start.x) / 2);
    const part = 1 - LABEL / (end.x - start.x); // of the way, where it is nearly level again
    return { d: `M${start.x} ${start.y} C${start.x + bend} ${start.y} ${end.x - bend} ${end.y} ${end.x - 1} ${end.y}`, x: start.x + (end.x - start.x) * part, y: start.y + (end.y - start.y) * part * part * (3 - 2 * part) };
  }
  // Back to an earlier layer, or within one: around below.
  const start = { x: from.x + BOX.width / 2, y: from.y + BOX.height };
  const end = { x: to.x + BOX.width / 2, y: to.y + BOX.height };
  const low = Math.max(start.y, end.y) + 50;
  return { d: `M${start.x} ${start.y} C${start.x} ${low} ${end.x} ${low} ${end.x} ${end.y + 2}`, x: (start.x + end.x) / 2, y: low - 8 };
}

function box(node, { x, y }, calls, pick) {
  const asked = calls.filter((call) => call.target === node.key).reduce((sum, call) => sum + call.requests, 0);
  const failed = calls.filter((call) => call.target === node.key).reduce((sum, call) => sum + call.errors, 0);
  const texts = { service: count(asked, "request"), host: "nothing captured there", outside: "not captured" };
  const name = `${node.name}: ${texts[node.kind]}`;
  return svg(
    "g",
    { class: `map-node ${node.kind}${failed * 20 >= Math.max(1, asked) ? " bad" : ""}`, tabindex: "0", role: "button", "aria-label": name, transform: `translate(${x} ${y})`, data: { key: node.key }, onclick: () => pick.node(node), onkeydown: (event) => (event.key === "Enter" || event.key === " ") && (event.preventDefault(), pick.node(node)) },
    svg("title", {}, name),
    svg("rect", { width: BOX.width, height: BOX.height, rx: "9" }),
    svg("text", { class: "map-name", x: BOX.width / 2, y: "20", "text-anchor": "middle" }, shortened(node.name)),
    svg("text", { class: "map-label dim", x: BOX.width / 2, y: "36", "text-anchor": "middle" }, texts[node.kind]),
  );
}

// What was chosen stands out, in the picture and in the table; chosen again, everything does.
function selection(drawing, table) {
  let chosen = "";
  const mark = (key, fits) => {
    chosen = chosen === key ? "" : key;
    for (const element of [...drawing.querySelectorAll("[data-source]"), ...table.querySelectorAll("[data-source]")]) {
      element.classList.toggle("faded", Boolean(chosen) && !fits(element.dataset));
    }
  };
  return {
    call: (call) => mark(JSON.stringify([call.source, call.target]), ({ source, target }) => source === call.source && target === call.target),
    node: (node) => mark(node.key, ({ source, target }) => source === node.key || target === node.key),
  };
}

function list({ nodes, calls, seconds }, { since, until }) {
  const names = ["Caller", "Called", "Host", "Requests", "Rate", "Errors", "p50", "p95", ""];
  const edges = calls.flatMap((call) => call.edges.map((edge) => [call, edge])).sort(([, one], [, other]) => other.requests - one.requests);
  return el(
    "div",
    { class: "table calls", role: "table", "aria-label": "Calls" },
    el("div", { class: "row head call-row", role: "row" }, names.map((name) => el("span", { role: "columnheader" }, name))),
    edges.map(([call, edge]) =>
      el(
        "div",
        { class: "row call-row", role: "row", data: { source: call.source, target: call.target } },
        el("span", { role: "cell", title: nodes.get(call.source).name }, nodes.get(call.source).name),
        el("span", { role: "cell", title: edge.target }, edge.target || el("span", { class: "dim" }, "nothing captured")),
        el("span", { class: "host", role: "cell", title: edge.host }, edge.host),
        el("span", { class: "number", role: "cell" }, edge.requests.toLocaleString("en")),
        el("span", { class: "number", role: "cell" }, rate(edge.requests, seconds)),
        el("span", { class: `number ${edge.errors ? "bad" : ""}`, role: "cell" }, percent(edge)),
        el("span", { class: "number", role: "cell" }, duration(edge.p50_ns)),
        el("span", { class: "number", role: "cell" }, duration(edge.p95_ns)),
        el("span", { role: "cell" }, el("a", { class: "more", href: exchangesLink(edge, since, until) }, "Exchanges")),
      ),
    ),
  );
}

// The exchanges behind a call: the caller's halves, or the called one's where the caller is not known.
function exchangesLink(edge, since, until) {
  const values = edge.source ? { service: edge.source, direction: "outbound", host: edge.host } : { service: edge.target, direction: "inbound", host: edge.host };
  const q = [`time>=${since}`, until ? `time<=${until}` : ""].filter(Boolean).join(" ");
  return `#/live?${new URLSearchParams(Object.entries({ ...values, q }).filter(([, value]) => value))}`;
}
