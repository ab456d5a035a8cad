// How the daemons are, and the backend itself: where every captured record went, and what the workers use.

import { count, dateTime, duration, el, get, problem, size } from "./dom.js";

const REFRESH = 2000;

export function mount(root) {
  const abort = new AbortController();
  const box = el("div", { class: "health" }, el("p", { class: "empty" }, "Loading"));
  const before = new Map(); // daemon's address and worker → { at, cpu }
  let timer = 0;
  root.replaceChildren(el("section", { class: "title" }, el("h1", {}, "Health")), box);
  load();

  async function load() {
    try {
      const [{ daemons }, stats] = await Promise.all([get("/api/v1/daemons", {}, abort.signal), get("/api/v1/stats", {}, abort.signal)]);
      box.replaceChildren(
        ...(daemons.length ? daemons.map((daemon) => card(daemon, before)) : [nobody()]),
        backend(stats),
      );
    } catch (error) {
      if (error.name === "AbortError") return;
      box.replaceChildren(problem(error));
    }
    timer = setTimeout(again, REFRESH);
  }

  function again() {
    if (document.hidden) timer = setTimeout(again, REFRESH);
    else load();
  }

  return () => {
    clearTimeout(timer);
    abort.abort();
  };
}

function nobody() {
  return el("p", { class: "notice" }, "No daemon is named in the settings: backend.daemons, or sp-proxy backend --daemon 127.0.0.1:16021.");
}

function card(daemon, before) {
  const { status } = daemon;
  return el(
    "section",
    { class: "daemon", "aria-label": daemon.name },
    el("h2", {}, daemon.name, el("span", { class: "dim" }, daemon.name === daemon.address ? "" : daemon.address, status ? ` · ${status.version}` : ""), el("span", { class: "space" }), badges(daemon)),
    status ? body(daemon, status, before) : el("p", { class: "problem" }, daemon.problem),
  );
}

function badges({ status }) {
  if (!status) return el("span", { class: "pill s5" }, "does not answer");
  const found = [];
  const say = (text, kind) => found.push(el("span", { class: `pill ${kind}` }, text));
  if (!status.balanced) say("records are missing", "s5");
  if (status.failing_open) say("failing open", "s5");
  if (!status.exporter_running) say("the exporter does not run", "s5");
  if (status.workers_ready < status.workers_wanted) say(`${status.workers_ready} of ${status.workers_wanted} workers`, "s4");
  if (status.draining) say("draining", "s4");
  if (status.reload_refused.length) say("new settings were refused", "s4");
  if (status.deliveries.some((delivery) => delivery.breaker !== "closed")) say("a destination is left alone", "s4");
  if (status.deliveries.some((delivery) => delivery.spool.state === "degraded")) say("the disk refuses", "s4");
  return found.length ? found : el("span", { class: "pill s2" }, "well");
}

function body(daemon, status, before) {
  return [
    status.deliveries.map((delivery) => equation(delivery)),
    status.reload_refused.map((line) => el("p", { class: "notice" }, line)),
    el(
      "div",
      { class: "health-parts" },
      part("Workers", workers(daemon, status, before)),
      part("Requests by decision", counts(status.requests)),
      part("Rules", rules(status.rules)),
      part("Lost", lost(status)),
    ),
  ];
}

// captured + recovered = accepted + rejected + waiting + spooled + dropped, and whether it holds.
function equation(delivery) {
  const dropped = Object.values(delivery.dropped).reduce((sum, each) => sum + each, 0);
  const term = (name, value, kind = "") => el("span", { class: `term ${value ? kind : ""}`, data: { term: name } }, el("b", {}, value.toLocaleString("en")), el("span", {}, name));
  const sign = (text) => el("span", { class: "sign", "aria-hidden": "true" }, text);
  const { spool } = delivery;
  return el(
    "div",
    { class: "delivery" },
    el(
      "p",
      { class: "equation", "aria-label": `Delivery to ${delivery.name}` },
      el("span", { class: "destination" }, delivery.name),
      term("captured", delivery.captured),
      delivery.recovered ? [sign("+"), term("recovered", delivery.recovered)] : null,
      sign("="),
      term("accepted", delivery.accepted, "good"),
      sign("+"),
      term("rejected", delivery.rejected, "bad"),
      sign("+"),
      term("waiting", delivery.waiting),
      sign("+"),
      term("spooled", delivery.spooled),
      sign("+"),
      term("dropped", dropped, "bad"),
      delivery.missing ? [sign("+"), term("missing", delivery.missing, "bad")] : null,
      el("span", { class: `pill ${delivery.missing ? "s5" : "s2"}` }, delivery.missing ? "does not hold" : "holds"),
    ),
    el(
      "p",
      { class: "facts" },
      el("span", {}, el("em", {}, "queue"), size(delivery.queue_bytes)),
      el("span", {}, el("em", {}, "spool"), spool.state === "off" ? "off" : `${size(spool.size)} in ${count(spool.entries, "entry").replace("entrys", "entries")}`),
      spool.oldest_unix ? el("span", {}, el("em", {}, "oldest"), dateTime(spool.oldest_unix * 1e9)) : null,
      delivery.last_success_unix ? el("span", {}, el("em", {}, "last accepted"), dateTime(delivery.last_success_unix * 1e9)) : null,
      delivery.breaker !== "closed" ? el("span", { class: "bad" }, "asked by single probes, since it keeps failing") : null,
      delivery.last_error ? el("span", { class: "bad" }, delivery.last_error) : null,
      spool.problem ? el("span", { class: "bad" }, spool.problem) : null,
    ),
    dropped ? counts(delivery.dropped) : null,
  );
}

function workers(daemon, status, before) {
  const rows = status.workers.map((worker) => {
    const key = `${daemon.address} ${worker.worker}`;
    const last = before.get(key);
    const now = { at: daemon.asked_unix_ns, cpu: worker.cpu_seconds };
    if (!last || now.at > last.at) before.set(key, { ...now, part: last && now.cpu >= last.cpu ? (now.cpu - last.cpu) / ((now.at - last.at) / 1e9) : null });
    const { part: busy } = before.get(key);
    return [
      worker.worker >= 64 ? `mitm ${worker.worker - 64}` : `relay ${worker.worker}`,
      worker.connected ? size(worker.resident_memory_bytes) : "gone",
      busy === null ? duration(worker.cpu_seconds * 1e9) : `${(100 * busy).toFixed(1)} %`,
      worker.connections_open.toLocaleString("en"),
      worker.requests.toLocaleString("en"),
      worker.captured.toLocaleString("en"),
    ];
  });
  return grid(["Worker", "Memory", "CPU", "Connections", "Requests", "Captured"], rows, "There is none.");
}

function rules(found) {
  return grid(["Rule", "Requests", ""], found.map((rule) => [rule.rule, rule.requests.toLocaleString("en"), rule.text]), "Without rules everything is collected.");
}

function lost(status) {
  const all = { ...status.not_captured };
  for (const [reason, number] of Object.entries(status.lost_before_the_exporter)) all[`${reason} (in the worker)`] = number;
  for (const [stage, number] of Object.entries(status.exporter_faults)) all[`fault of the exporter: ${stage}`] = number;
  for (const delivery of status.deliveries) {
    for (const [reason, number] of Object.entries(delivery.dropped)) all[`${reason} (${delivery.name})`] = number;
  }
  return counts(all, "Nothing.");
}

function counts(values, none = "None yet.") {
  const pairs = Object.entries(values).filter(([, number]) => number).sort(([, one], [, other]) => other - one);
  return grid(["Reason", "Count"], pairs.map(([reason, number]) => [reason, number.toLocaleString("en")]), none);
}

function part(name, content) {
  return el("section", { class: "health-part" }, el("h3", {}, name), content);
}

function grid(names, rows, none) {
  if (!rows.length) return el("p", { class: "dim" }, none);
  return el(
    "table",
    { class: "numbers" },
    el("thead", {}, el("tr", {}, names.map((name) => el("th", { scope: "col" }, name)))),
    el("tbody", {}, rows.map((row) => el("tr", {}, row.map((cell) => el("td", {}, cell))))),
  );
}

function backend(stats) {
  const pairs = [
    ["exchanges", stats.exchanges.toLocaleString("en")], ["spans", stats.spans.toLocaleString("en")], ["log records", stats.logs.toLocaleString("en")],
    ["traces", stats.traces.toLocaleString("en")], ["sessions", stats.sessions.toLocaleString("en")], ["data", size(stats.bytes)],
    ["appended since the database was made", stats.appended.toLocaleString("en")], ["duplicates ignored", stats.duplicates.toLocaleString("en")],
    ["expired", stats.expired.toLocaleString("en")], ["damaged databases set aside", stats.databases_set_aside.toLocaleString("en")],
    ["live pages", stats.live_subscribers.toLocaleString("en")], ["not shown to slow live pages", stats.live_dropped.toLocaleString("en")],
  ];
  return el("section", { class: "daemon", "aria-label": "Backend" }, el("h2", {}, "Backend"), el("dl", { class: "headers" }, pairs.flatMap(([name, value]) => [el("dt", {}, name), el("dd", {}, value)])));
}
