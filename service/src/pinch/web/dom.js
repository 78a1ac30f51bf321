// Elements, built one by one: what a user or a model wrote only ever becomes text.

const SVG = "http://www.w3.org/2000/svg";
const ICONS = {
  bin: "M5 7h14M10 7V4h4v3M7 7l1 13h8l1-13M10.5 11v5M13.5 11v5",
  again: "M5 12a7 7 0 1 0 2.4-5.3M5 4v4h4",
};

export const byId = (id) => document.getElementById(id);

/** Returns a new element; `on…` are listeners, the rest are attributes, false and null ones left out. */
export function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else if (value !== false && value != null) made.setAttribute(name, value === true ? "" : value);
  }
  made.append(...children.filter((child) => child != null));
  return made;
}

/** Returns a button that shows a sign; `label` says what it does. */
export function iconButton(name, label, onclick) {
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("viewBox", "0 0 24 24");
  svg.setAttribute("aria-hidden", "true");
  const path = document.createElementNS(SVG, "path");
  path.setAttribute("d", ICONS[name]);
  svg.append(path);
  return element("button", { type: "button", class: "icon", "aria-label": label, title: label, onclick }, svg);
}

/** Shows a sentence in one of the page's notices, or hides it where there is none. */
export function notify(notice, text = "", good = false) {
  notice.textContent = text;
  notice.hidden = !text;
  notice.classList.toggle("good", good);
}

/** Asks before something is lost; resolves to whether to go on. */
export function confirmed(question, explanation, action) {
  const dialog = byId("confirm");
  byId("confirm-title").textContent = question;
  byId("confirm-text").textContent = explanation;
  byId("confirm-yes").textContent = action;
  byId("confirm-yes").onclick = () => dialog.close("yes");
  byId("confirm-no").onclick = () => dialog.close("no");
  dialog.returnValue = "no";
  dialog.showModal();
  return new Promise((resolve) => {
    dialog.addEventListener("close", () => resolve(dialog.returnValue === "yes"), { once: true });
  });
}

/** Puts the cursor somewhere, unless that would open a phone's keyboard unasked. */
export function focus(field) {
  if (!matchMedia("(pointer: fine)").matches) return;
  // A closing dialog gives the focus back without the cursor: Chromium then takes keys and writes nothing.
  field.blur();
  field.focus();
}

/** Returns when something happened, as short as it is clear. */
export function moment(time) {
  const at = new Date(time);
  if (Number.isNaN(at.getTime())) return "";
  if (at.toDateString() === new Date().toDateString()) {
    return at.toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" });
  }
  return at.toLocaleDateString([], { day: "numeric", month: "short", year: "numeric" });
}

/** Returns a new random name. Not randomUUID: over plain HTTP in a home network browsers do not have it. */
export function randomName() {
  return Array.from(crypto.getRandomValues(new Uint8Array(12)), (byte) => byte.toString(16).padStart(2, "0")).join("");
}
