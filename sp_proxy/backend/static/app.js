// Which view is shown, by the address after the hash; each view returns how to leave it.

import { count, get, size } from "./dom.js";
import { exchange } from "./exchange.js";
import { live } from "./live.js";
import { session, sessions } from "./sessions.js";
import { trace } from "./trace.js";

const view = document.getElementById("view");
const indicator = document.getElementById("connection");
const totals = document.getElementById("totals");
let leave = () => {};

function connection(state) {
  const texts = { live: "live", reconnecting: "reconnecting", off: "not connected" };
  indicator.textContent = texts[state] || "";
  indicator.dataset.state = state;
}

function show() {
  const [path, query] = location.hash.replace(/^#/, "").split(/\?(.*)/s);
  const [, name = "", id = ""] = path.match(/^\/([^/]*)\/?(.*)$/s) || [];
  const parameters = new URLSearchParams(query || "");
  leave();
  connection("");
  const views = {
    "": () => live(view, parameters, connection),
    exchange: () => exchange(view, decodeURIComponent(id), parameters),
    trace: () => trace(view, decodeURIComponent(id)),
    sessions: () => sessions(view),
    session: () => session(view, decodeURIComponent(id)),
  };
  const known = Object.hasOwn(views, name) ? name : "";
  leave = views[known]();
  const current = known.startsWith("session") ? "sessions" : known === "" ? "live" : "";
  for (const link of document.querySelectorAll("nav a")) {
    if (link.dataset.view === current) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  scrollTo(0, 0);
}

async function refreshTotals() {
  try {
    const stats = await get("/api/v1/stats");
    totals.textContent = `${count(stats.exchanges, "exchange")} · ${count(stats.spans, "span")} · ${size(stats.bytes)}`;
  } catch {
    totals.textContent = "";
  }
}

addEventListener("hashchange", show);
show();
refreshTotals();
setInterval(() => document.hidden || refreshTotals(), 5000);
