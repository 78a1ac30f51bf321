// One session's conversation: its history, the answers that stream in, and the box to write in.

import { byId, element, moment, notify, randomName } from "./dom.js";
import { sentence } from "./gateway.js";
import { message, plain } from "./text.js";

const HISTORY = 100;
const NEAR_PX = 80; // who has scrolled further up reads, and is not moved

export class Chat extends EventTarget {
  key = "";
  #gateway;
  #log = byId("log");
  #box = byId("message");
  #notice = byId("chat-notice");
  #drafts = new Map();
  #runs = new Map();
  #attempt = null;
  #loading = 0;
  #frame = 0;
  #sending = false;

  constructor(gateway) {
    super();
    this.#gateway = gateway;
    gateway.addEventListener("chat", ({ detail }) => this.#told(detail));
    gateway.addEventListener("agent", ({ detail }) => this.#used(detail));
    gateway.addEventListener("state", () => {
      if (gateway.state === "connected") this.load();
    });
    byId("composer").addEventListener("submit", (event) => {
      event.preventDefault();
      this.#send();
    });
    this.#box.addEventListener("keydown", (event) => {
      if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
      event.preventDefault();
      this.#send();
    });
    this.#box.addEventListener("input", () => this.#fit());
    byId("stop").addEventListener("click", () => this.stop());
  }

  /** Whether an answer is under way. */
  get running() {
    return this.#runs.size > 0;
  }

  /** Shows another session; what was typed and not sent waits in the one before. */
  open(key, title) {
    byId("chat-title").textContent = title;
    if (key === this.key) return;
    // What is typed before the first session is there belongs to it.
    if (this.key) {
      this.#drafts.set(this.key, this.#box.value);
      this.#box.value = this.#drafts.get(key) ?? "";
    }
    this.key = key;
    this.#fit();
    this.#runs.clear();
    this.#log.replaceChildren();
    notify(this.#notice);
    this.#busy();
    this.load();
  }

  /** Reads the history anew, keeping what streams in meanwhile. */
  async load() {
    if (this.#gateway.state !== "connected" || !this.key) return;
    const turn = ++this.#loading;
    const before = new Set([...this.#log.children, ...this.#runs.keys()]);
    try {
      const history = await this.#gateway.request("chat.history", { sessionKey: this.key, limit: HISTORY });
      if (turn !== this.#loading) return;
      this.#show(history, before);
    } catch (error) {
      // Without a connection it is read again as soon as there is one.
      if (turn === this.#loading && this.#gateway.state === "connected") notify(this.#notice, sentence(error));
    }
  }

  /** Empties the view after its session was emptied. */
  clear() {
    this.#runs.clear();
    this.#loading++;
    this.#log.replaceChildren();
    this.#busy();
  }

  /** Stops every answer of the session. */
  async stop() {
    if (!this.running) return;
    try {
      await this.#gateway.request("chat.abort", { sessionKey: this.key });
      // A run that ended while nobody was connected sends no event any more.
      this.load();
    } catch (error) {
      notify(this.#notice, sentence(error));
    }
  }

  #show({ messages, running }, before) {
    // What ended while nobody was connected sent no event here.
    if (!running) for (const runId of this.#runs.keys()) if (before.has(runId)) this.#runs.delete(runId);
    const known = new Set();
    const shown = [];
    for (const { role, content, runId, name, stopReason, errorMessage, ...more } of messages) {
      const text = plain(content);
      if (errorMessage) shown.push(failure(errorMessage));
      else if (role === "tool" || stopReason === "tool_calls") {
        if (this.#runs.has(runId)) continue; // it is in the answer that is under way
        if (role === "tool") shown.push(note("tool", "used ", element("code", {}, name)));
        else if (text) shown.push(this.#turn(role, text, more));
      } else if (text) {
        if (role === "assistant") this.#runs.delete(runId);
        known.add(role + runId);
        shown.push(this.#turn(role, text, { ...more, runId, stopReason }));
      }
    }
    // The history does not have what was said while it was on its way.
    const newer = [...this.#log.children].filter((turn) => {
      const { role, run } = turn.dataset;
      if (known.has(role + run) || turn.classList.contains("live")) return false;
      return !before.has(turn) || this.#runs.has(run) || run === this.#attempt?.id;
    });
    this.#log.replaceChildren(...shown, ...newer);
    for (const [runId, run] of this.#runs) this.#place(run.turn, runId);
    const last = messages.at(-1);
    const open = last && (last.role === "user" || last.role === "tool");
    if (running && open && !this.running) this.#run(""); // it began before this page looked
    this.#busy();
    this.#log.scrollTop = this.#log.scrollHeight;
  }

  #turn(role, text, { runId, timestamp, stopReason } = {}) {
    const who = role === "user" ? "You" : "Pinch";
    const body = element("div", { class: "body" }, message(text));
    const turn = element("article", { class: `turn ${role}`, "aria-label": who, "data-role": role }, body);
    if (runId) turn.dataset.run = runId;
    if (stopReason === "aborted") turn.append(note("", "stopped"));
    if (timestamp) turn.title = moment(timestamp);
    return turn;
  }

  #place(turn, runId) {
    const question = this.#log.querySelector(`.user[data-run="${CSS.escape(runId)}"]`);
    if (question && runId) question.after(turn);
    else this.#log.append(turn);
  }

  /** Returns the answer of a run, made when it is new; one without a name becomes the first that speaks. */
  #run(runId) {
    if (!this.#runs.has(runId)) {
      const nameless = this.#runs.get("");
      this.#runs.delete("");
      const turn = nameless?.turn ?? this.#turn("assistant", "", { runId });
      turn.dataset.run = runId;
      turn.classList.add("live");
      turn.setAttribute("aria-busy", "true");
      this.#runs.set(runId, { turn, text: "", heard: false, tools: new Map() });
      this.#keepDown(() => this.#place(turn, runId));
      this.#busy();
    }
    return this.#runs.get(runId);
  }

  #told({ sessionKey, runId, state, seq, deltaText, message: final, stopReason, errorMessage }) {
    // Where the history was quicker with the whole answer, there is nothing to add.
    if (sessionKey === this.key && !this.#answered(runId)) {
      // Somebody else asked in this session: the question is in the history only.
      if (!this.#runs.has(runId) && !this.#runs.has("") && !this.#asked(runId)) this.load();
      const run = this.#run(runId);
      if (state === "delta") this.#grow(run, seq, deltaText ?? "");
      else this.#end(run, runId, state, { final, stopReason, errorMessage });
    }
    if (state !== "delta") this.dispatchEvent(new Event("change"));
  }

  #asked(runId) {
    return this.#log.querySelector(`[data-run="${CSS.escape(runId)}"]`) !== null;
  }

  #answered(runId) {
    return !this.#runs.has(runId) && this.#log.querySelector(`.assistant[data-run="${CSS.escape(runId)}"]`) !== null;
  }

  #grow(run, seq, text) {
    // After a reconnection the beginning is missing; the final message brings it.
    if (!run.heard && seq > 0 && !run.tools.size) run.text = "… ";
    run.heard = true;
    run.text += text;
    if (!this.#frame) this.#frame = requestAnimationFrame(() => this.#paint());
  }

  #paint() {
    this.#frame = 0;
    this.#keepDown(() => {
      for (const run of this.#runs.values()) {
        if (run.heard) run.turn.querySelector(".body").replaceChildren(message(run.text));
      }
    });
  }

  #end({ turn, text, tools }, runId, state, { final, stopReason, errorMessage }) {
    this.#runs.delete(runId);
    turn.classList.remove("live");
    turn.removeAttribute("aria-busy");
    const whole = final ? plain(final.content) : text;
    this.#keepDown(() => {
      turn.querySelector(".body").replaceChildren(message(whole));
      if (state === "aborted") turn.append(note("", "stopped"));
      else if (state === "error") turn.append(failure(errorMessage));
      else if (stopReason === "length") turn.append(note("", "cut off: it became too long"));
    });
    this.#busy();
    if (tools.size) this.load(); // what was said between the tools is in the history
  }

  #used({ sessionKey, runId, stream, data }) {
    if (stream !== "tool" || sessionKey !== this.key) return;
    const { turn, tools } = this.#run(runId);
    const call = data.toolCallId ?? data.name;
    this.#keepDown(() => {
      if (!tools.has(call)) {
        tools.set(call, note("tool"));
        turn.insertBefore(tools.get(call), turn.querySelector(".body"));
      }
      tools.get(call).replaceChildren(data.phase === "result" ? "used " : "uses ", element("code", {}, data.name));
    });
  }

  async #send() {
    const text = this.#box.value;
    if (!text.trim() || this.#sending) return;
    const sessionKey = (this.key ||= "main");
    // The same text again after a failure carries the same key: what arrived after all is not asked twice.
    if (this.#attempt?.text !== text || this.#attempt.sessionKey !== sessionKey) {
      this.#attempt = { text, sessionKey, id: randomName() };
    }
    const { id } = this.#attempt;
    this.#sending = this.#box.readOnly = true;
    notify(this.#notice);
    const params = { sessionKey, message: text, idempotencyKey: id };
    const question = this.#asked(id) ? null : this.#turn("user", text, { runId: id });
    if (question) this.#log.append(question);
    this.#log.scrollTop = this.#log.scrollHeight;
    try {
      const { status } = await this.#gateway.request("chat.send", params);
      this.#attempt = null;
      this.#drafts.delete(sessionKey);
      if (sessionKey === this.key) {
        this.#box.value = "";
        this.#fit();
        if (status === "ok") this.load();
        else if (!this.#answered(id)) this.#run(id);
      }
      this.dispatchEvent(new Event("change"));
    } catch (error) {
      question?.remove();
      if (sessionKey === this.key) notify(this.#notice, sentence(error));
    } finally {
      this.#sending = this.#box.readOnly = false;
    }
  }

  #busy() {
    byId("stop").hidden = !this.running;
  }

  #fit() {
    // As high as its text; the style sheet has the limit.
    this.#box.rows = Math.min(8, this.#box.value.split("\n").length);
  }

  #keepDown(change) {
    const log = this.#log;
    const down = log.scrollHeight - log.scrollTop - log.clientHeight < NEAR_PX;
    change();
    if (down) log.scrollTop = log.scrollHeight;
  }
}

function note(kind, ...content) {
  return element("p", { class: `note ${kind}` }, ...content);
}

function failure(message) {
  return note("wrong", sentence({ message: message ?? "the answer failed" }));
}
