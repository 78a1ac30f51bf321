// The list of sessions: open, begin, empty and delete them.

import { byId, confirmed, element, iconButton, moment, notify, randomName } from "./dom.js";
import { sentence } from "./gateway.js";

const LISTED = 200;
const LAST = "pinch.session";

export class Sessions {
  #gateway;
  #chat;
  #list = byId("sessions");
  #notice = byId("sessions-notice");
  #known = [];
  #fresh = "";
  #timer = 0;
  #onOpen;

  /** Fills the list; `onOpen` hears that the user chose a session. */
  constructor(gateway, chat, onOpen) {
    this.#gateway = gateway;
    this.#chat = chat;
    this.#onOpen = onOpen;
    byId("new-session").addEventListener("click", () => this.begin());
    chat.addEventListener("change", () => this.#refreshSoon());
    gateway.addEventListener("state", () => {
      if (gateway.state === "connected") this.refresh();
    });
  }

  /** Opens a session that has no message yet. */
  begin() {
    this.#fresh = `web-${randomName().slice(0, 12)}`;
    this.open(this.#fresh);
  }

  /** Shows a session in the chat. */
  open(key) {
    localStorage.setItem(LAST, key);
    this.#select(key);
    this.#onOpen();
  }

  /** Reads the list anew. */
  async refresh() {
    try {
      const { sessions } = await this.#gateway.request("sessions.list", { limit: LISTED });
      this.#known = sessions;
      notify(this.#notice);
      const current = this.#chat.key || localStorage.getItem(LAST) || sessions[0]?.key || "main";
      const entry = this.#entry(current);
      // A session that nobody has spoken in yet is known to this page only.
      if (entry) this.#fresh = this.#fresh === current ? "" : this.#fresh;
      else if (!this.#fresh) this.#fresh = current;
      this.#select(current);
    } catch (error) {
      if (this.#gateway.state === "connected") notify(this.#notice, sentence(error));
    }
  }

  #entry(key) {
    return this.#known.find((one) => one.key === key);
  }

  #select(key) {
    this.#chat.open(key, this.#title(key));
    this.#render();
  }

  #title(key) {
    const entry = this.#entry(key);
    return entry?.title || (!entry && key.startsWith("web-") ? "New session" : key);
  }

  #refreshSoon() {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.refresh(), 150);
  }

  #render() {
    const focused = document.activeElement?.closest?.("#sessions li")?.dataset.key;
    const keys = this.#known.map((one) => one.key);
    if (this.#fresh && !keys.includes(this.#fresh)) keys.unshift(this.#fresh);
    this.#list.replaceChildren(...keys.map((key) => this.#row(key)));
    if (focused !== undefined) {
      const row = [...this.#list.children].find((one) => one.dataset.key === focused);
      (row ?? this.#list).querySelector("button")?.focus();
    }
  }

  #row(key) {
    const entry = this.#entry(key);
    const title = this.#title(key);
    const about = entry ? `${entry.messages} message${entry.messages === 1 ? "" : "s"}` : "nothing said yet";
    const when = entry ? moment(entry.updatedAt) : "";
    const choose = element(
      "button",
      { type: "button", class: "choose", "aria-current": key === this.#chat.key && "true", onclick: () => this.open(key) },
      element("span", { class: "title" }, title),
      element("span", { class: "about" }, entry?.running ? "answering…" : [when, about].filter(Boolean).join(" · ")),
    );
    if (!entry) return element("li", { "data-key": key }, choose);
    return element(
      "li",
      { "data-key": key },
      choose,
      iconButton("again", `Reset ${title}`, () => this.#reset(key, title)),
      iconButton("bin", `Delete ${title}`, () => this.#delete(key, title)),
    );
  }

  async #reset(key, title) {
    if (!(await confirmed(`Reset “${title}”?`, "It begins anew. What was said in it is gone.", "Reset"))) return;
    await this.#change("sessions.reset", key, () => {
      if (key === this.#chat.key) this.#chat.clear();
    });
  }

  async #delete(key, title) {
    if (!(await confirmed(`Delete “${title}”?`, "The session and all that was said in it are gone.", "Delete"))) return;
    await this.#change("sessions.delete", key, () => {
      this.#known = this.#known.filter((one) => one.key !== key);
      if (key !== this.#chat.key) return;
      this.#chat.clear();
      localStorage.removeItem(LAST);
      this.#select(this.#known[0]?.key ?? "main");
    });
  }

  async #change(method, key, then) {
    try {
      await this.#gateway.request(method, { key });
      then();
      await this.refresh();
    } catch (error) {
      notify(this.#notice, sentence(error));
    }
  }
}
