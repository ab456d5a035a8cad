// Dark or light, before anything is drawn: as the system has it, unless the reader chose. Not a module, which would come late.
"use strict";

const THEMES = ["system", "light", "dark"];

function storedTheme() {
  try {
    const stored = localStorage.getItem("theme");
    return THEMES.includes(stored) ? stored : "system";
  } catch {
    return "system"; // the browser allows this page no storage
  }
}

function applyTheme(theme) {
  if (theme === "system") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = theme;
}

applyTheme(storedTheme());
