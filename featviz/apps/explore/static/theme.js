// Light or dark: as the system says, until the button is pressed; the choice is kept for this browser.

import {at} from "./dom.js";

const KEY = "featviz-theme";

function kept() {
  try {
    return localStorage.getItem(KEY);
  } catch {
    return null; // storage is switched off
  }
}

export function setTheme() {
  const root = document.documentElement, theme = kept();
  if (theme === "light" || theme === "dark") root.dataset.theme = theme;
  at("theme").addEventListener("click", () => {
    const dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
    root.dataset.theme = dark ? "light" : "dark";
    try {
      localStorage.setItem(KEY, root.dataset.theme);
    } catch {
      // the choice holds until the page is closed
    }
  });
}
