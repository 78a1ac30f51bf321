// The page: joins its parts, keeps the token, and knows the keys.

import { Chat } from "./chat.js";
import { byId, focus, notify } from "./dom.js";
import { Gateway, sentence } from "./gateway.js";
import { Memory } from "./memory.js";
import { Sessions } from "./sessions.js";

const TOKEN = "pinch.token";
const VIEWS = ["chat", "sessions", "memory"];
const STATES = {
  off: "Not connected",
  connecting: "Connecting…",
  connected: "Connected",
  waiting: "No connection, trying again…",
  asleep: "Asleep",
  refused: "Token refused",
};

const gateway = new Gateway();
const chat = new Chat(gateway);
const sessions = new Sessions(gateway, chat, () => show("chat"));
new Memory(gateway);

const dialog = byId("token-dialog");
const field = byId("token");
let offered = "";

function ask(why = "") {
  notify(byId("token-notice"), why);
  if (!dialog.open) dialog.showModal();
  field.focus();
  field.select();
}

function connect(token) {
  offered = token;
  gateway.open(token);
}

function disconnect() {
  localStorage.removeItem(TOKEN);
  field.value = "";
  gateway.close();
  ask();
}

gateway.addEventListener("state", () => {
  const { state, error } = gateway;
  byId("state").dataset.state = state;
  byId("state-text").textContent = STATES[state];
  if (state === "connected") localStorage.setItem(TOKEN, offered);
  byId("token-text").textContent = localStorage.getItem(TOKEN) ? "Forget token" : "Enter token";
  if (state === "connected") {
    field.value = "";
    if (dialog.open) {
      dialog.close();
      focus(byId("message"));
    }
  } else if (state === "refused") ask(sentence(error));
  else if (state === "waiting" && dialog.open) {
    notify(byId("token-notice"), "The service does not answer. The page tries again by itself.");
  }
});

byId("token-form").addEventListener("submit", (event) => {
  event.preventDefault();
  const token = field.value.trim();
  if (!token) return;
  notify(byId("token-notice"));
  connect(token);
});
byId("token-cancel").addEventListener("click", () => dialog.close());
byId("token-button").addEventListener("click", () => (localStorage.getItem(TOKEN) ? disconnect() : ask()));
addEventListener("storage", ({ key, newValue }) => {
  // Forgotten or entered in another tab.
  if (key === TOKEN && !newValue) disconnect();
  else if (key === TOKEN && gateway.state !== "connected") connect(newValue);
});

function show(view) {
  if (location.hash !== `#${view}`) location.hash = view;
  route(); // at once: the event comes later, and who focuses a field needs it shown
}

function route() {
  const view = VIEWS.find((name) => location.hash === `#${name}`) ?? "chat";
  document.body.dataset.view = view;
  for (const link of document.querySelectorAll("nav a")) {
    if (link.hash === `#${view}`) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  if (!dialog.open && view !== "sessions") focus(byId(view === "memory" ? "query" : "message"));
}

const typing = (target) => target.closest?.("input, textarea, select") !== null;

document.addEventListener("keydown", (event) => {
  if (event.isComposing || document.querySelector("dialog[open]")) return;
  const { key, ctrlKey, metaKey, altKey, code } = event;
  if (key === "Escape") chat.stop();
  else if (key === "/" && !ctrlKey && !metaKey && !altKey && !typing(event.target)) {
    show("memory");
    byId("query").focus();
    event.preventDefault();
  } else if (((ctrlKey || metaKey) && key.toLowerCase() === "k") || (altKey && code === "KeyN")) {
    sessions.begin();
    byId("message").focus();
    event.preventDefault();
  }
});
byId("skip").addEventListener("click", () => {
  show("chat");
  byId("message").focus();
});
addEventListener("hashchange", route);

route();
const kept = localStorage.getItem(TOKEN);
if (kept) connect(kept);
else ask();
