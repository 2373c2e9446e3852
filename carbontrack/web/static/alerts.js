// Alerts as they come: a note in the corner of the page, the count in the menu, and a sound for who has asked for it.

import { gettext } from "./words.js";

const SHOWN_MS = 20_000;
const MOST_SHOWN = 3;
const SOUND = "carbontrack-sound"; // off unless somebody has turned it on, in this browser
const TONES = { critical: [880, 660, 880], warning: [660, 550], info: [550] };
const TITLES = { critical: gettext("Critical"), warning: gettext("Warning"), info: gettext("Note") }; // as web/present.py

let audio = null;

/** Show what the stream says of alerts: `source` is an EventSource. */
export function hear(source) {
  source.addEventListener("alert", (event) => show(JSON.parse(event.data)));
}

function show(told) {
  const isOver = told.event === "cleared";
  if (told.event === "raised") {
    bump(1);
    ring(told.severity);
  }
  const note = document.createElement("a");
  note.href = `/alerts/${told.id}/`;
  note.className = "toast";
  note.dataset.severity = isOver ? "over" : told.severity;
  const head = document.createElement("strong");
  const title = gettext(told.title); // the page brings the rules' titles along
  head.textContent = isOver ? gettext("Over: %(title)s", { title }) : `${TITLES[told.severity] ?? told.severity}: ${title}`;
  const text = document.createElement("span");
  if (document.documentElement.lang !== "en") text.lang = "en"; // a message is as its rule wrote it
  text.textContent = told.message;
  note.append(head, text);
  const place = corner();
  place.append(note);
  while (place.children.length > MOST_SHOWN) place.firstElementChild.remove();
  setTimeout(() => note.remove(), SHOWN_MS);
}

/** Where notes are shown; screen readers say what comes in it. */
function corner() {
  let place = document.querySelector(".toasts");
  if (!place) {
    place = document.createElement("div");
    place.className = "toasts";
    place.setAttribute("role", "status");
    place.setAttribute("aria-live", "polite");
    document.body.append(place);
  }
  return place;
}

function bump(by) {
  const link = document.querySelector('.menu a[href="/alerts/"]');
  if (!link) return;
  let count = link.querySelector(".waiting");
  if (!count) {
    count = document.createElement("span");
    count.className = "waiting";
    count.append("0", Object.assign(document.createElement("span"), { className: "hide", textContent: ` ${gettext("not acknowledged")}` }));
    link.append(" ", count);
  }
  count.firstChild.textContent = String(Number.parseInt(count.firstChild.textContent, 10) + by);
}

// --- sound

function isOn() {
  try {
    return localStorage.getItem(SOUND) === "on";
  } catch {
    return false; // the browser keeps nothing
  }
}

/** A few soft tones. Browsers make none before somebody has touched the page: then it stays quiet. */
function ring(severity) {
  if (!isOn()) return;
  audio ??= new AudioContext();
  (TONES[severity] ?? TONES.info).forEach((pitch, place) => {
    const begin = audio.currentTime + place * 0.22;
    const tone = new OscillatorNode(audio, { frequency: pitch });
    const loudness = new GainNode(audio, { gain: 0 });
    loudness.gain.setValueAtTime(0, begin);
    loudness.gain.linearRampToValueAtTime(0.2, begin + 0.02);
    loudness.gain.exponentialRampToValueAtTime(0.001, begin + 0.2);
    tone.connect(loudness).connect(audio.destination);
    tone.start(begin);
    tone.stop(begin + 0.2);
  });
}

/** The button that turns the sound on and off, where the page has one. */
const button = document.querySelector("[data-sound]");
if (button) {
  const say = () => {
    button.setAttribute("aria-pressed", String(isOn()));
    button.textContent = isOn() ? gettext("Sound is on") : gettext("Sound is off");
  };
  button.hidden = false;
  say();
  button.addEventListener("click", () => {
    try {
      localStorage.setItem(SOUND, isOn() ? "off" : "on");
    } catch {
      return;
    }
    say();
    ring("warning"); // how it sounds
  });
}
