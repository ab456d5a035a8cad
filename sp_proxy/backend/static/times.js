// Long times in words: what lasts for minutes and days, where dom.js has seconds.

import { duration } from "./dom.js";

const UNITS = [[86400, "d"], [3600, "h"], [60, "min"], [1, "s"]];

// "2 min 5 s", "3 d 4 h"; below a minute as `duration`.
export function lasting(ns) {
  if (ns < 6e10) return duration(ns);
  const seconds = Math.round(ns / 1e9);
  const first = UNITS.findIndex(([unit]) => seconds >= unit);
  const [large, name] = UNITS[first];
  const [small, below] = UNITS[first + 1];
  const rest = Math.floor((seconds % large) / small);
  return `${Math.floor(seconds / large).toLocaleString("en")} ${name}${rest ? ` ${rest} ${below}` : ""}`;
}
