// Entries that wait for a connection, and their way to the server: each is sent with a key of its own, so that one whose
// answer was lost is not kept twice.

import { dropWaiting, keepWaiting, waiting } from "./local.js";
import { gettext, ngettext } from "./words.js";

const UNUSUAL = "urn:carbontrack:problem:unusual-amount";
const PATIENCE_MS = 25_000;
const KEY_LASTS_MS = 20 * 3600_000; // the server knows a key for a day
const FIRST_PAUSE_MS = 5_000;
const LONGEST_PAUSE_MS = 300_000;
const PATHS = { energy: "/api/energy-entries/", production: "/api/production-entries/" };

/** A key that nobody else has; `randomUUID` is there by https only. */
export function newKey() {
  return [...crypto.getRandomValues(new Uint8Array(16))].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}

async function post(path, key, type, body) {
  let answer;
  try {
    answer = await fetch(path, {
      method: "POST",
      headers: { "Content-Type": type, Accept: "application/json", "Idempotency-Key": key },
      body,
      signal: AbortSignal.timeout(PATIENCE_MS),
    });
  } catch {
    return { state: "later" };
  }
  if (answer.status === 401) return { state: "sign-in" };
  if (answer.status === 429 || answer.status === 409 || answer.status >= 500) return { state: "later" };
  let said;
  try {
    said = await answer.json();
  } catch {
    return { state: "later" }; // cut off, or not our server: a hotel's page of its own
  }
  if (answer.ok) return { state: "kept", entry: said };
  const errors = said.errors ?? [];
  const text = errors.map((error) => error.message).join(" ") || said.detail || said.title;
  return { state: said.type === UNUSUAL ? "question" : "wrong", errors, text };
}

/** Send an entry, and its photo after it. What becomes of it is the answer; it stays in the outbox unless it is kept. */
export async function send(item) {
  if (item.tried && Date.now() - item.tried > KEY_LASTS_MS) {
    return { state: "doubt", text: gettext("It was on its way when the connection broke, long ago. Look whether it is in the list below; if it is not, send it again.") };
  }
  item.tried ??= Date.now();
  await keepWaiting(item);
  if (!item.entryId) {
    const found = await post(PATHS[item.kind], item.key, "application/json", JSON.stringify(item.body));
    if (found.state === "question" || found.state === "wrong") item.tried = null; // the server has it not
    if (found.state !== "kept") return found;
    item.entryId = found.entry.id;
    await keepWaiting(item);
  }
  if (item.photo) {
    const found = await post(`${PATHS.energy}${item.entryId}/photos/`, `${item.key}-photo`, item.photo.type, item.photo);
    if (found.state !== "kept") return found;
  }
  await dropWaiting(item.key);
  return { state: "kept", entry: { id: item.entryId } };
}

function button(text, act, isMain = false) {
  const made = document.createElement("button");
  made.type = "button";
  made.className = isMain ? "small" : "secondary outline small";
  made.textContent = text;
  made.addEventListener("click", act);
  return made;
}

/** The outbox of a person and a factory, as the page shows it. `edit` gets an item back into its form. */
export class Outbox {
  constructor(element, { user, factory, edit, kept }) {
    Object.assign(this, { element, user, factory, edit, kept, pause: FIRST_PAUSE_MS, timer: 0, isSending: false });
    this.find("send").addEventListener("click", () => this.sendAll());
    addEventListener("online", () => this.sendSoon());
    document.addEventListener("visibilitychange", () => document.hidden || this.sendSoon());
  }

  find(name) {
    return this.element.querySelector(`[data-outbox-${name}]`);
  }

  /** What is mine here; of others it is only said that there is something. */
  async mine() {
    return (await waiting()).filter((item) => item.user === this.user && item.factory === this.factory);
  }

  async add(item) {
    await keepWaiting(item);
  }

  async show(told = "") {
    const all = await waiting();
    const mine = all.filter((item) => item.user === this.user && item.factory === this.factory);
    this.element.hidden = all.length === 0;
    this.find("title").textContent = ngettext("%(num)s entry waits for a connection", "%(num)s entries wait for a connection", mine.length);
    const others = all.length - mine.length;
    const ofOthers = others ? ngettext("%(num)s entry of somebody else, or for another factory, waits here too: it is sent when they open this page.", "%(num)s entries of somebody else, or for another factory, wait here too: they are sent when they open this page.", others) : "";
    this.find("told").textContent = [told, ofOthers].filter(Boolean).join(" ");
    this.find("send").hidden = mine.length === 0;
    this.find("list").replaceChildren(...mine.map((item) => this.row(item)));
  }

  row(item) {
    const row = document.createElement("li");
    const text = document.createElement("div");
    const what = document.createElement("strong");
    what.textContent = item.what;
    text.append(what);
    if (item.text || item.tried) {
      const said = document.createElement("p");
      said.className = item.state === "wrong" ? "field-error" : "small";
      said.textContent = item.text || gettext("It may have reached the server already: look at the list below before you change or remove it.");
      text.append(said);
    }
    const acts = document.createElement("div");
    acts.className = "tools";
    if (item.state === "question") acts.append(button(gettext("Yes, it is right"), () => this.again(item, { confirmed: true }), true));
    if (item.state === "doubt") acts.append(button(gettext("Send it again"), () => this.again(item, {}), true));
    if (!item.entryId) acts.append(button(gettext("Change"), () => this.change(item)));
    acts.append(button(gettext("Remove"), () => this.remove(item)));
    row.append(text, acts);
    return row;
  }

  async again(item, changed) {
    Object.assign(item, { key: newKey(), state: "", text: "", tried: null, body: { ...item.body, ...changed } });
    // The key is new, so the old one goes.
    await this.replace(item);
  }

  async replace(item) {
    for (const old of await this.mine()) {
      if (old.at === item.at) await dropWaiting(old.key);
    }
    await keepWaiting(item);
    await this.sendAll();
  }

  async change(item) {
    await dropWaiting(item.key);
    this.edit(item);
    await this.show();
  }

  async remove(item) {
    await dropWaiting(item.key);
    await this.show(gettext("Removed."));
  }

  sendSoon() {
    this.pause = FIRST_PAUSE_MS;
    this.sendAll();
  }

  later() {
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.sendAll(), this.pause);
    this.pause = Math.min(this.pause * 2, LONGEST_PAUSE_MS);
  }

  /** Send what waits, one after the other, as long as the link holds. */
  async sendAll() {
    if (this.isSending) return;
    this.isSending = true;
    let told = "";
    try {
      for (const item of await this.mine()) {
        if (["question", "wrong", "doubt"].includes(item.state)) continue; // it waits for a person
        if (!navigator.onLine) {
          told = gettext("There is no connection. They are sent by themselves.");
          break;
        }
        const found = await send(item);
        if (found.state === "kept") {
          this.kept(item, found.entry);
        } else if (found.state === "later") {
          told = gettext("The server does not answer. They are sent by themselves.");
          this.later();
          break;
        } else if (found.state === "sign-in") {
          told = gettext("You are signed out. Sign in again: nothing is lost.");
          break;
        } else {
          await keepWaiting(Object.assign(item, { state: found.state, text: found.text }));
        }
      }
    } finally {
      this.isSending = false;
      await this.show(told);
    }
  }
}
