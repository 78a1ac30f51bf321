// The WebSocket client: one connection, kept up while the page is seen.

const FIRST_WAIT_MS = 500;
const LONGEST_WAIT_MS = 30_000;
const STEADY_MS = 10_000; // a connection that held so long was a good one
const ANSWER_MS = 60_000;
const HEALTH_MS = 240_000; // the service closes who asks nothing for five minutes
const SILENT_TICKS = 2.5; // ticks that may be missing before the connection counts as dead

/** What went wrong, as the service told it or as this page saw it. */
export class GatewayError extends Error {
  constructor({ code = "UNAVAILABLE", message = "something went wrong", details, retryable, retryAfterMs }) {
    super(message);
    this.code = code;
    this.details = details ?? {};
    this.retryable = Boolean(retryable);
    this.retryAfterMs = retryAfterMs ?? 0;
  }

  /** Whether another token is needed. */
  get aboutToken() {
    return String(this.details.code ?? "").startsWith("AUTH_");
  }
}

const finished = (text) => text && text[0].toUpperCase() + text.slice(1) + (/[.!?…]$/.test(text) ? "" : ".");

/** Returns an error as sentences that say what to do, too. */
export function sentence(error) {
  const told = [finished(error.message)];
  if (error.retryAfterMs) told.push(`Try again in ${Math.ceil(error.retryAfterMs / 1000)} s.`);
  else if (error.retryable) told.push("Try again.");
  return told.filter(Boolean).join(" ");
}

/**
 * Fires `state` when `state` changes, and each event of the service under its own name, the payload as `detail`.
 * States: off (no token), connecting, connected, waiting (tries again by itself), asleep (hidden), refused (`error`).
 */
export class Gateway extends EventTarget {
  state = "off";
  error = null;
  #token = "";
  #socket = null;
  #asked = new Map();
  #lastId = 0;
  #failures = 0;
  #retryAfterMs = 0;
  #timer = 0;
  #heard = 0;
  #since = 0;
  #tickMs = 30_000;

  constructor() {
    super();
    setInterval(() => this.#stayAwake(), HEALTH_MS);
    setInterval(() => this.#listen(), 15_000);
    addEventListener("online", () => this.#dialAgain());
    document.addEventListener("visibilitychange", () => {
      if (document.hidden) return;
      this.#listen();
      this.#stayAwake();
      this.#dialAgain();
    });
  }

  /** Connects, and again whenever the connection is lost. */
  open(token) {
    this.#token = token;
    this.#failures = 0;
    this.#dial();
  }

  /** Disconnects and forgets the token. */
  close() {
    this.#token = "";
    this.#hangUp();
    this.#become("off");
  }

  /** Sends a request; resolves to the payload, or fails with a GatewayError. */
  request(method, params = {}) {
    if (this.state !== "connected") {
      this.#dialAgain();
      const message = this.#token ? "there is no connection to the service" : "this page has no token yet";
      return Promise.reject(new GatewayError({ message, retryable: Boolean(this.#token) }));
    }
    return this.#ask(method, params);
  }

  #ask(method, params) {
    const id = String(++this.#lastId);
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => {
        this.#asked.delete(id);
        reject(new GatewayError({ message: `no answer came within ${ANSWER_MS / 1000} s`, retryable: true }));
      }, ANSWER_MS);
      this.#asked.set(id, { resolve, reject, timer });
      this.#socket.send(JSON.stringify({ type: "req", id, method, params }));
    });
  }

  #become(state, error = null) {
    this.state = state;
    this.error = error;
    this.dispatchEvent(new Event("state"));
  }

  #dialAgain() {
    if (this.state === "waiting" || this.state === "asleep") this.#dial();
  }

  #dial() {
    this.#hangUp();
    this.#become("connecting");
    const socket = new WebSocket(`${location.protocol === "https:" ? "wss:" : "ws:"}//${location.host}/`);
    this.#socket = socket;
    this.#retryAfterMs = 0;
    socket.onmessage = ({ data }) => socket === this.#socket && this.#take(JSON.parse(data));
    socket.onclose = () => socket === this.#socket && this.#lost();
  }

  #hangUp() {
    clearTimeout(this.#timer);
    const socket = this.#socket;
    this.#socket = null;
    socket?.close();
    const error = new GatewayError({ message: "the connection to the service was lost", retryable: true });
    for (const { reject, timer } of this.#asked.values()) {
      clearTimeout(timer);
      reject(error);
    }
    this.#asked.clear();
  }

  #lost() {
    this.#hangUp();
    if (this.state === "connected" && Date.now() - this.#since > STEADY_MS) this.#failures = 0;
    if (document.hidden) {
      this.#become("asleep");
      return;
    }
    const longest = Math.min(LONGEST_WAIT_MS, FIRST_WAIT_MS * 2 ** this.#failures++);
    // Not all pages at once when the service comes back.
    const wait = Math.max(this.#retryAfterMs, longest * (0.5 + Math.random() / 2));
    this.#timer = setTimeout(() => this.#dial(), wait);
    this.#become("waiting");
  }

  #take(frame) {
    this.#heard = Date.now();
    if (frame.type === "res") this.#answered(frame);
    else if (frame.event === "connect.challenge") this.#introduce();
    else this.dispatchEvent(new CustomEvent(frame.event, { detail: frame.payload }));
  }

  #answered({ id, ok, payload, error }) {
    const asked = this.#asked.get(id);
    if (!asked) return;
    this.#asked.delete(id);
    clearTimeout(asked.timer);
    if (ok) asked.resolve(payload);
    else asked.reject(new GatewayError(error ?? {}));
  }

  async #introduce() {
    const socket = this.#socket;
    try {
      const hello = await this.#ask("connect", {
        minProtocol: 4,
        maxProtocol: 4,
        client: { id: "webchat-ui", version: "1", platform: "web", mode: "webchat" },
        auth: { token: this.#token },
      });
      this.#tickMs = hello.policy?.tickIntervalMs ?? this.#tickMs;
      this.#since = Date.now();
      this.#become("connected");
    } catch (error) {
      if (socket !== this.#socket) return;
      if (error.aboutToken) {
        this.#hangUp();
        this.#become("refused", error);
      } else {
        this.#retryAfterMs = error.retryAfterMs;
        this.#lost();
      }
    }
  }

  #stayAwake() {
    if (this.state === "connected" && !document.hidden) this.#ask("health", {}).catch(() => {});
  }

  #listen() {
    // A computer that slept, or a network that went away, closes nothing.
    if (this.state === "connected" && Date.now() - this.#heard > SILENT_TICKS * this.#tickMs) this.#lost();
  }
}
