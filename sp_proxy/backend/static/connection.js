// How the page hears of new exchanges, in the bar at the top.

const TEXTS = { live: "live", connecting: "connecting", reconnecting: "reconnecting", off: "not connected" };

// Show one of the states above; nothing for "".
export function connection(state) {
  const indicator = document.getElementById("connection");
  indicator.textContent = TEXTS[state] || "";
  indicator.dataset.state = state;
}
