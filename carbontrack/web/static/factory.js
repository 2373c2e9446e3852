// The factory page: live values of each device, how old they are, and the chart of the last hours.

import { TrendChart } from "./chart.js";
import { SECONDS_PER_HOUR, localDateTime, localTime, number, rateText } from "./format.js";
import { follow, write } from "./live.js";
import { keepFresh } from "./refresh.js";
import { gettext } from "./words.js";

const TREND_EVERY_MS = 60_000;
const TREND_HOURS = 24;
const AGE_EVERY_MS = 1_000;

const FIELDS = {
  co2_kg_per_h: (row) => rateText(row.co2_kg_per_s),
  co2_percent: (row) => number(row.co2_percent, 2),
  temperature_c: (row) => number(row.temperature_c, 0),
  velocity_ms: (row) => number(row.velocity_ms, 1),
  flow_rate_m3s: (row) => number(row.flow_rate_m3s, 2),
};
const BOILER = { running: gettext("Runs"), off: gettext("Off"), unknown: gettext("Not known") };
const SENSORS = { fit: gettext("Fit"), unfit: gettext("Unfit"), fault: gettext("Faulty"), unknown: gettext("Not known") };

const section = document.querySelector("[data-stale-after]");
const STALE_AFTER_S = Number(section.dataset.staleAfter);
// A phone's clock may be minutes off: ages are by the platform's.
const AHEAD_MS = Number(section.dataset.now) * 1000 - Date.now();

const devices = () => [...document.querySelectorAll("[data-device-id]")];

function seen(row) {
  if (row.measured_at === null) return gettext("Nothing received yet");
  const at = new Date(row.measured_at);
  return row.online ? gettext("Measured %(time)s", { time: localTime(at) }) : gettext("Last %(time)s", { time: localDateTime(at) });
}

function showDevice(element, row) {
  const field = (name) => element.querySelector(`[data-field="${name}"]`);
  for (const [name, text] of Object.entries(FIELDS)) write(field(name), text(row));
  write(field("seen"), seen(row), { quiet: true });
  write(field("boiler"), BOILER[row.boiler], { quiet: true });
  write(field("sensors"), SENSORS[row.sensors], { quiet: true });
  const state = field("state");
  state.dataset.state = row.state;
  write(state.querySelector("[data-text]"), gettext(row.state_title), { quiet: true });
  const flags = field("flags");
  const texts = row.flag_texts.map((text) => gettext(text));
  if (texts.join("\n") !== [...flags.children].map((item) => item.textContent.trim()).join("\n")) {
    flags.replaceChildren(...texts.map((text) => Object.assign(document.createElement("li"), { textContent: text })));
    flags.hidden = texts.length === 0;
  }
  if (row.measured_at === null) return;
  element.dataset.measuredAt = Date.parse(row.measured_at) / 1000;
  field("waiting")?.remove();
}

function show(rows, changed) {
  for (const element of devices()) {
    const row = rows.get(element.dataset.deviceId);
    if (row && changed.has(row.device_id)) showDevice(element, row);
  }
  // The stream of somebody who sees the whole network has other factories' devices too.
  const own = devices().map((element) => rows.get(element.dataset.deviceId));
  const rates = own.filter((row) => row?.online && row.co2_kg_per_s !== null).map((row) => row.co2_kg_per_s);
  const sum = rates.length ? rates.reduce((total, rate) => total + rate) : null;
  write(document.querySelector('[data-tile="kg_per_h"]'), rateText(sum));
  showAges();
}

// --- how old it is

function ageText(seconds) {
  if (seconds < 60) return gettext("%(seconds)s s", { seconds: Math.floor(seconds) });
  const minutes = Math.floor(seconds / 60);
  if (minutes < 60) return gettext("%(minutes)s min", { minutes });
  const hours = Math.floor(minutes / 60);
  if (hours < 24) return gettext("%(hours)s h %(minutes)s min", { hours, minutes: minutes % 60 });
  return gettext("%(days)s d %(hours)s h", { days: Math.floor(hours / 24), hours: hours % 24 });
}

/** Every second: what is too old to be "now" is grey, and says for how long. */
function showAges() {
  const now = (Date.now() + AHEAD_MS) / 1000;
  const ages = [];
  for (const element of devices()) {
    if (!element.dataset.measuredAt) continue;
    const age = now - Number(element.dataset.measuredAt);
    const isStale = age > STALE_AFTER_S;
    ages.push(age);
    element.toggleAttribute("data-stale", isStale);
    const old = element.querySelector('[data-field="old"]');
    old.hidden = !isStale;
    if (isStale) write(old, gettext("These values are %(age)s old.", { age: ageText(age) }), { quiet: true });
  }
  const newest = Math.min(...ages);
  const isStale = ages.length > 0 && newest > STALE_AFTER_S;
  const line = document.querySelector('[data-tile="age"]');
  document.querySelector("[data-tile-now]").toggleAttribute("data-stale", isStale);
  line.hidden = !isStale;
  if (isStale) write(line, gettext("Nothing newer for %(age)s", { age: ageText(newest) }), { quiet: true });
}

// --- the chart

function startChart(figure) {
  const chart = new TrendChart(figure);
  let lastAt = 0;

  async function load() {
    if (document.hidden || Date.now() - lastAt < TREND_EVERY_MS - 1_000) return;
    lastAt = Date.now();
    const to = Date.now() + AHEAD_MS;
    const from = to - TREND_HOURS * SECONDS_PER_HOUR * 1000;
    const query = new URLSearchParams({ from: new Date(from).toISOString(), to: new Date(to).toISOString(), step: "5min" });
    try {
      const answer = await fetch(`${figure.dataset.chart}?${query}`, { headers: { Accept: "application/json" } });
      if (!answer.ok) throw new Error(`status ${answer.status}`);
      chart.show(await answer.json());
    } catch {
      chart.failed();
    }
  }

  load();
  setInterval(load, TREND_EVERY_MS);
  document.addEventListener("visibilitychange", load);
}

const figure = document.querySelector("[data-chart]");
if (figure) startChart(figure);
follow(show);
keepFresh(() => {});
showAges();
setInterval(showAges, AGE_EVERY_MS);
