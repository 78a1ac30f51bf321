// The memory: search it, add to it, forget.

import { byId, confirmed, element, focus, iconButton, moment, notify } from "./dom.js";
import { sentence } from "./gateway.js";
import { excerpt, marked, matches } from "./text.js";

const HITS = 12;

export class Memory {
  #gateway;
  #query = byId("query");
  #hits = byId("hits");
  #found = byId("found");
  #notice = byId("memory-notice");
  #turn = 0;

  constructor(gateway) {
    this.#gateway = gateway;
    byId("search").addEventListener("submit", (event) => {
      event.preventDefault();
      this.#search();
    });
    byId("remember-form").addEventListener("submit", (event) => {
      event.preventDefault();
      this.#remember();
    });
  }

  async #search() {
    const query = this.#query.value.trim();
    if (!query) return;
    const turn = ++this.#turn;
    notify(this.#notice);
    this.#found.textContent = "Searching…";
    try {
      const found = await this.#gateway.request("memory.search", { query, k: HITS, mode: byId("mode").value });
      if (turn !== this.#turn) return;
      this.#found.textContent = summary(found);
      this.#hits.replaceChildren(...found.hits.map((hit) => this.#hit(hit, query)));
    } catch (error) {
      if (turn !== this.#turn) return;
      this.#found.textContent = "";
      notify(this.#notice, sentence(error));
    }
  }

  #hit(hit, query) {
    const places = matches(hit.text, query);
    const [begin, end] = excerpt(hit.text, places);
    const text = element("p", { class: "text" });
    const show = (from, to) => {
      const within = places.filter(([a, b]) => a >= from && b <= to).map(([a, b]) => [a - from, b - from]);
      text.replaceChildren(from > 0 ? "… " : "", marked(hit.text.slice(from, to), within));
      if (to < hit.text.length) text.append(" …");
    };
    show(begin, end);
    const item = element("li", { class: "hit" }, text);
    if (begin > 0 || end < hit.text.length) {
      const all = element("button", { type: "button", class: "quiet", onclick: () => {
        show(0, hit.text.length);
        all.remove();
      } }, "Show all of it");
      item.append(all);
    }
    const about = element("p", { class: "about" }, ...facts(hit).map((fact) => element("span", {}, fact)));
    item.append(about);
    if (hit.kind === "memory") {
      const name = hit.text.length > 40 ? `${hit.text.slice(0, 40)}…` : hit.text;
      item.append(iconButton("bin", `Forget: ${name}`, () => this.#forget(hit, item)));
    }
    return item;
  }

  async #forget({ id, text }, item) {
    const short = text.length > 200 ? `${text.slice(0, 200)}…` : text;
    if (!(await confirmed("Forget this memory?", short, "Forget"))) return;
    try {
      await this.#gateway.request("memory.forget", { id });
      item.remove();
      notify(this.#notice, "Forgotten.", true);
      focus(this.#query);
    } catch (error) {
      notify(this.#notice, sentence(error));
    }
  }

  async #remember() {
    const [text, tags] = [byId("text"), byId("tags")];
    if (!text.value.trim()) return;
    const wanted = { text: text.value, source: "web page" };
    const listed = tags.value.split(",").map((tag) => tag.trim()).filter(Boolean);
    if (listed.length) wanted.tags = listed;
    try {
      const { created } = await this.#gateway.request("memory.remember", wanted);
      text.value = tags.value = "";
      notify(this.#notice, created ? "Remembered." : "It was remembered already.", true);
    } catch (error) {
      notify(this.#notice, sentence(error));
    }
  }
}

function summary({ hits, mode, degraded }) {
  const count = hits.length === 1 ? "1 hit" : `${hits.length || "No"} hits`;
  const how = { keyword: "by word", semantic: "by meaning", hybrid: "by word and meaning" }[mode] ?? mode;
  return `${count}, ${how}${degraded ? "; the search by meaning is missing at this moment" : ""}`;
}

function facts({ score, why, path, lines, source, tags, at }) {
  const told = [];
  if (path) told.push(lines ? `${path}:${lines[0]}–${lines[1]}` : path);
  else if (source) told.push(source);
  if (why.keyword_rank) told.push(`no. ${why.keyword_rank} by word`);
  if (why.semantic_rank) told.push(`no. ${why.semantic_rank} by meaning`);
  if (why.similarity != null) told.push(`similarity ${why.similarity.toFixed(2)}`);
  told.push(`score ${score.toPrecision(2)}`);
  if (tags?.length) told.push(tags.map((tag) => `#${tag}`).join(" "));
  if (at) told.push(moment(at));
  return told;
}
