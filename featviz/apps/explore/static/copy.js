// Put text on the clipboard, and say so on the button.

import {announce} from "./dom.js";

const SHOWN = 1600; // ms for which a button says "Copied"

/** Copy a text. Where the browser refuses, the text is selected in a box instead. */
export async function copy(text, button) {
  const usual = (button.dataset.usual ||= button.textContent);
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    if (!copyFromBox(text, button)) {
      button.textContent = "Not allowed";
      announce("The browser does not allow copying.");
      return;
    }
  }
  button.textContent = "Copied";
  announce("Copied");
  setTimeout(() => { button.textContent = usual; }, SHOWN);
}

// The older way, for pages inside of a notebook that may not use the clipboard.
function copyFromBox(text, button) {
  const box = document.createElement("textarea");
  box.value = text;
  box.className = "away";
  button.after(box); // inside of an open dialog only its own elements can be selected
  box.select();
  const copied = document.execCommand("copy");
  box.remove();
  button.focus();
  return copied;
}
