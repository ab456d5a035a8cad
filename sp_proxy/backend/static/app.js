// The shell: which view is shown, by the address behind the hash.
//
// A view is a module with a function of this shape, which is loaded when it is first asked for:
//
//   mount(root, params) → unmount
//
// `root` is an empty element to fill. `params.ids` is what stands behind the view's name in the address, decoded
// (`#/compare/A/B` gives ["A", "B"]); `params.query` is what stands behind `?`, a URLSearchParams. `unmount()` ends all that
// the view began: requests, streams, timers, keys (`bindKeys` of keys.js). A view is mounted anew when the address changes.
// Captured content reaches the page by `el` of dom.js, which makes text nodes of it.

import { connection } from "./connection.js";
import { count, el, get, problem, size } from "./dom.js";
import { bindKeys, showKeys } from "./keys.js";

const ROUTES = {
  live: { title: "Live", load: () => import("./live.js"), tab: "live" },
  exchange: { title: "Exchange", load: () => import("./exchange.js"), ids: 1 },
  compare: { title: "Compare", load: () => import("./compare.js"), ids: 2 },
  trace: { title: "Trace", load: () => import("./trace.js"), ids: 1 },
  sessions: { title: "Sessions", load: () => import("./sessions.js"), mount: "mountSessions", tab: "sessions" },
  session: { title: "Session", load: () => import("./sessions.js"), mount: "mountSession", tab: "sessions", ids: 1 },
  map: { title: "Map", load: () => import("./map.js"), tab: "map" },
  health: { title: "Health", load: () => import("./health.js"), tab: "health" },
};
const TABS = ["live", "sessions", "map", "health"];

const view = document.getElementById("view");
const totals = document.getElementById("totals");
const themeButton = document.getElementById("theme");
let leave = () => {};
let showing = 0;

// What an address asks for: { name, params }, or null when there is no such view.
function read(address) {
  const [path, query = ""] = address.replace(/^#/, "").split(/\?(.*)/s);
  const [, name = "", ...parts] = path.split("/");
  const known = name || "live";
  if (!Object.hasOwn(ROUTES, known)) return null;
  try {
    const ids = parts.filter(Boolean).map(decodeURIComponent);
    if (ids.length !== (ROUTES[known].ids || 0)) return null;
    return { name: known, params: { ids, query: new URLSearchParams(query) } };
  } catch {
    return null; // a % that begins no character
  }
}

async function show() {
  const mine = ++showing;
  leave();
  leave = () => {};
  connection("");
  const asked = read(location.hash);
  const route = asked && ROUTES[asked.name];
  for (const link of document.querySelectorAll("nav a")) {
    if (route && link.dataset.view === route.tab) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  document.title = route ? `${route.title} · sp_proxy` : "sp_proxy";
  view.className = asked ? `view-${asked.name}` : "";
  if (!route) {
    view.replaceChildren(problem(new Error("There is no such view.")), el("p", {}, el("a", { class: "button", href: "#/live" }, "Live")));
    return;
  }
  try {
    const module = await route.load();
    if (mine !== showing) return;
    view.replaceChildren();
    leave = module[route.mount || "mount"](view, asked.params) || (() => {});
  } catch (error) {
    if (mine === showing) view.replaceChildren(problem(new Error(`This view cannot be shown: ${error.message || error}`)));
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

const THEME_SIGNS = { system: "◐", light: "☀", dark: "☾" };

function showTheme(theme) {
  applyTheme(theme);
  themeButton.textContent = THEME_SIGNS[theme];
  themeButton.title = `Theme: ${theme}`;
  themeButton.setAttribute("aria-label", themeButton.title);
}

function nextTheme() {
  const theme = THEMES[(THEMES.indexOf(storedTheme()) + 1) % THEMES.length];
  try {
    localStorage.setItem("theme", theme);
  } catch {
    return; // no storage: the system's theme stays
  }
  showTheme(theme);
}

bindKeys([
  { keys: ["?"], does: "These keys", run: showKeys },
  ...TABS.map((name, index) => ({ keys: [String(index + 1)], does: ROUTES[name].title, run: () => { location.hash = `#/${name}`; } })),
]);
themeButton.addEventListener("click", nextTheme);
document.getElementById("help").addEventListener("click", showKeys);
document.querySelector(".skip").addEventListener("click", (event) => {
  event.preventDefault();
  view.focus();
});
showTheme(storedTheme());
addEventListener("hashchange", show);
show();
refreshTotals();
setInterval(() => document.hidden || refreshTotals(), 5000);
