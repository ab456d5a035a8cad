// Keys: each view binds its own, and `?` shows those that hold where one is. No key is taken from a field one types in, nor
// from the browser (with Ctrl, Alt or Meta).

import { el } from "./dom.js";

const bound = [];

// bindings: [{ keys: ["j", "ArrowDown"], does: "Next exchange", run(event) }]. Returns how to unbind them.
export function bindKeys(bindings) {
  bound.push(bindings);
  return () => {
    const place = bound.indexOf(bindings);
    if (place >= 0) bound.splice(place, 1);
  };
}

// Show all keys that hold now.
export function showKeys() {
  const open = document.querySelector("dialog.keys");
  if (open) {
    open.close();
    return;
  }
  const dialog = el(
    "dialog",
    { class: "keys", "aria-label": "Keys" },
    el("h2", {}, "Keys"),
    el(
      "dl",
      {},
      bound.flat().flatMap(({ keys, does }) => [
        el("dt", {}, keys.map((key) => el("kbd", {}, NAMES[key] || key))),
        el("dd", {}, does),
      ]),
    ),
    el("button", { type: "button", onclick: () => dialog.close() }, "Close"),
  );
  dialog.addEventListener("close", () => dialog.remove());
  dialog.addEventListener("click", (event) => event.target === dialog && dialog.close());
  document.body.append(dialog);
  dialog.showModal();
}

const NAMES = { ArrowDown: "↓", ArrowUp: "↑", ArrowLeft: "←", ArrowRight: "→", Escape: "Esc" };
const TYPING = "input, textarea, select, [contenteditable]";

addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.altKey || event.metaKey || event.isComposing) return;
  if (event.target instanceof Element && event.target.closest(TYPING)) {
    if (event.key === "Escape") event.target.blur();
    return;
  }
  const dialog = document.querySelector("dialog[open]");
  if (dialog) {
    if (event.key === "?" && dialog.classList.contains("keys")) {
      dialog.close();
      dialog.remove(); // at once: until its event comes, its button has the focus and would take the next Enter
    }
    return;
  }
  for (const { keys, run } of bound.flat()) {
    // Enter and the space bar belong to the button or link that has the focus.
    if (!keys.includes(event.key) || (event.key === "Enter" && event.target instanceof Element && event.target.closest("a, button, summary"))) continue;
    event.preventDefault();
    run(event);
    return;
  }
});
