// The live stream: keeps the newest row of every device, and says how the connection is.

import { hear } from "./alerts.js";
import { localMinute } from "./format.js";
import { gettext } from "./words.js";

const STREAM = "/api/live/";
const SLOW_MS = 1_500; // only a connection that takes longer than this is worth a word
const GIVE_UP_MS = 15_000; // after this long without a connection it says "Offline"
const SILENCE_MS = 60_000; // a connection can be dead without anybody knowing: ask again
const HIDDEN_MS = 60_000; // nobody looks: stop, it costs the phone data and battery
const FIRST_PAUSE_MS = 2_000;
const LONGEST_PAUSE_MS = 30_000;

const WORDS = { live: gettext("Live"), connecting: gettext("Connecting"), offline: gettext("Offline") };

/**
 * Follow the stream. `show(rows, changed)` gets a Map of all devices' rows by id, and a Set of the ids that came since
 * the last call; it is called at most once in `pauseMs`, but at once after a quiet time.
 */
export function follow(show, { pauseMs = 0 } = {}) {
  const rows = new Map();
  const changed = new Set();
  const badge = document.querySelector("[data-live-badge]");
  let source = null;
  let place = ""; // how far this page has heard: who comes back gets what has changed since
  let retryMs = FIRST_PAUSE_MS;
  let lostAt = Date.now();
  let lastAt = null;
  let drawnAt = -Infinity;
  let isDue = false;
  const timers = { slow: 0, giveUp: 0, silence: 0, retry: 0, hidden: 0 };

  function say(state) {
    document.documentElement.dataset.live = state;
    if (!badge) return;
    badge.hidden = false;
    badge.dataset.liveBadge = state;
    write(badge.querySelector("[data-text]"), WORDS[state], { quiet: true });
    const since = state === "offline" && lastAt ? gettext("since %(time)s", { time: localMinute(lastAt) }) : "";
    write(badge.querySelector("[data-since]"), since, { quiet: true });
  }

  function restart(name, afterMs, action) {
    clearTimeout(timers[name]);
    timers[name] = setTimeout(action, afterMs);
  }

  function draw() {
    isDue = false;
    drawnAt = performance.now();
    const fresh = new Set(changed);
    changed.clear();
    show(rows, fresh);
  }

  function receive(event) {
    if (event.type === "all") {
      for (const id of rows.keys()) changed.add(id); // who is not in it is gone
      rows.clear();
    }
    for (const row of JSON.parse(event.data)) {
      rows.set(row.device_id, row);
      changed.add(row.device_id);
    }
    connected();
    if (isDue) return;
    isDue = true;
    setTimeout(() => requestAnimationFrame(draw), Math.max(0, drawnAt + pauseMs - performance.now()));
  }

  function connected() {
    clearTimeout(timers.slow);
    clearTimeout(timers.giveUp);
    timers.giveUp = 0;
    retryMs = FIRST_PAUSE_MS;
    lastAt = new Date();
    say("live");
    restart("silence", SILENCE_MS, connect);
  }

  function lost() {
    if (timers.giveUp) return;
    lostAt = Date.now();
    clearTimeout(timers.slow);
    timers.slow = setTimeout(() => say("connecting"), SLOW_MS);
    timers.giveUp = setTimeout(() => say("offline"), GIVE_UP_MS);
  }

  function connect() {
    stop();
    lost();
    const opened = new EventSource(place ? `${STREAM}?after=${encodeURIComponent(place)}` : STREAM);
    source = opened;
    opened.addEventListener("open", connected);
    opened.addEventListener("place", (event) => (place = event.lastEventId));
    opened.addEventListener("all", receive);
    opened.addEventListener("reading", receive);
    opened.addEventListener("alert", () => dispatchEvent(new Event("carbontrack-alert")));
    hear(opened);
    opened.addEventListener("error", () => {
      clearTimeout(timers.silence);
      lost();
      if (opened.readyState !== EventSource.CLOSED) return; // the browser tries again by itself
      if (!navigator.onLine || Date.now() - lostAt > GIVE_UP_MS) say("offline");
      restart("retry", retryMs, connect);
      retryMs = Math.min(retryMs * 2, LONGEST_PAUSE_MS);
    });
  }

  function stop() {
    clearTimeout(timers.silence);
    clearTimeout(timers.retry);
    source?.close();
    source = null;
  }

  addEventListener("online", connect);
  addEventListener("offline", () => say("offline"));
  addEventListener("pagehide", stop);
  addEventListener("pageshow", (event) => event.persisted && connect());
  document.addEventListener("visibilitychange", () => {
    clearTimeout(timers.hidden);
    if (document.hidden) timers.hidden = setTimeout(stop, HIDDEN_MS);
    else if (!source) connect();
  });
  say("connecting");
  connect();
}

const CHANGED_MS = 500;

/** Write a text where it differs, and let the change be seen for a moment. */
export function write(element, text, { quiet = false } = {}) {
  if (!element || element.textContent === text) return;
  element.textContent = text;
  if (quiet || element.classList.contains("changed")) return;
  element.classList.add("changed");
  setTimeout(() => element.classList.remove("changed"), CHANGED_MS);
}
