// What becomes of texts: messages with blocks of code, and hits with the words that were looked for.

import { element } from "./dom.js";

const FENCE = /^ {0,3}(`{3,}|~{3,})[ \t]*([^\s`]*)[^`]*$/;

/** Returns a message as elements: lines as they are, fenced blocks as code. */
export function message(text) {
  const made = document.createDocumentFragment();
  let lines = [];
  let fence = "";
  let language = "";
  const flush = () => {
    const content = lines.join("\n");
    lines = [];
    if (fence) {
      const label = language ? `Code, ${language}` : "Code";
      made.append(element("pre", { tabindex: 0, "aria-label": label }, element("code", {}, content)));
    } else if (content.trim()) made.append(element("p", {}, content.replace(/^\s*\n|\s+$/g, "")));
  };
  for (const line of text.split("\n")) {
    const found = FENCE.exec(line);
    if (!fence && found) {
      flush();
      [, fence, language] = found;
    } else if (fence && found && !found[2] && found[1].startsWith(fence)) {
      flush();
      fence = "";
    } else lines.push(line);
  }
  // While a message streams in, its last block has no end yet.
  flush();
  return made;
}

/** Returns the text of a message's content, which is a string or a list of parts. */
export function plain(content) {
  if (typeof content === "string") return content;
  return (content ?? []).filter((part) => part.type === "text").map((part) => part.text).join("");
}

const UNSPACED = "\\u0e00-\\u0eff\\u1000-\\u109f\\u1780-\\u17ff\\u2e80-\\u9fff\\uac00-\\ud7af";
const WORD = `(?:(?![${UNSPACED}])[\\p{L}\\p{N}\\p{M}])+`;
const COMMON = new Set(
  ("a an and any are as at be been but by can did do does for from had has have he her his how i if in is it its me my " +
    "not of on or our she so that the their them there they this to us was we were what when where which who why will " +
    "with you your").split(" "),
);

/** Returns a word without its ending, nearly as the index keeps it: close enough to say what matched. */
export function stem(word) {
  let left = word.normalize("NFD").replace(/\p{M}/gu, "").toLowerCase();
  if (left.length < 4 || !/^[a-z]+$/.test(left)) return left;
  left = left.replace(/ie[sd]$/, "y");
  const cut = left.replace(/(?:ing|edly|ed|es|ly|(?<!s)s)$/, "");
  if (cut.length > 2) left = cut;
  return left.replace(/(?<=..)e$/, "").replace(/([bdfgmnprst])\1$/, "$1").replace(/(?<=..)y$/, "i");
}

/** Returns where `text` has words of `query`, as pairs of begin and end. */
export function matches(text, query) {
  const literals = (query.match(new RegExp(`[${UNSPACED}]+`, "gu")) ?? []).sort((a, b) => b.length - a.length);
  const words = (query.match(new RegExp(WORD, "gu")) ?? []).map((word) => word.toLowerCase());
  const telling = words.filter((word) => !COMMON.has(word));
  const stems = new Set((telling.length || literals.length ? telling : words).map(stem));
  const looked = new RegExp([...literals, WORD].join("|"), "gu");
  const found = [];
  for (const { 0: piece, index } of text.matchAll(looked)) {
    if (literals.includes(piece) || stems.has(stem(piece))) found.push([index, index + piece.length]);
  }
  return found;
}

/** Returns `text` as text and marks. */
export function marked(text, places) {
  const made = document.createDocumentFragment();
  let at = 0;
  for (const [begin, end] of places) {
    made.append(text.slice(at, begin), element("mark", {}, text.slice(begin, end)));
    at = end;
  }
  made.append(text.slice(at));
  return made;
}

const SHORT = 480;

/** Returns the part of a long text where its first match is: begin and end. */
export function excerpt(text, places) {
  if (text.length <= SHORT) return [0, text.length];
  const first = places[0]?.[0] ?? 0;
  const begin = first < SHORT / 2 ? 0 : text.lastIndexOf(" ", first - SHORT / 4) + 1;
  const end = text.indexOf(" ", begin + SHORT);
  return [begin, end < 0 || end > begin + SHORT + 40 ? Math.min(begin + SHORT, text.length) : end];
}
