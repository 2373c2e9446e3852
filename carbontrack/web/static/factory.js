// The factory page: live values of each device, and the chart of the last hours.

import { TrendChart } from "./chart.js";
import { localDateTime, localTime, number, rateText } from "./format.js";
import { follow, write } from "./live.js";
import { keepFresh } from "./refresh.js";
import { gettext } from "./words.js";

const TREND_EVERY_MS = 60_000;

const FIELDS = {
  co2_kg_per_h: (row) => rateText(row.co2_kg_per_s),
  co2_percent: (row) => number(row.co2_percent, 2),
  temperature_c: (row) => number(row.temperature_c, 0),
  velocity_ms: (row) => number(row.velocity_ms, 1),
  flow_rate_m3s: (row) => number(row.flow_rate_m3s, 2),
};

function seen(row) {
  if (row.measured_at === null) return "Nothing received yet";
  const at = new Date(row.measured_at);
  return row.online ? `Measured ${localTime(at)}` : `Last ${localDateTime(at)}`;
}

function showDevice(element, row) {
  const field = (name) => element.querySelector(`[data-field="${name}"]`);
  for (const [name, text] of Object.entries(FIELDS)) write(field(name), text(row));
  write(field("seen"), seen(row), { quiet: true });
  const state = field("state");
  state.dataset.state = row.state;
  write(state.querySelector("[data-text]"), gettext(row.state_title), { quiet: true });
  const flags = field("flags");
  if (row.flag_texts.join("\n") !== [...flags.children].map((item) => item.textContent.trim()).join("\n")) {
    flags.replaceChildren(...row.flag_texts.map((text) => Object.assign(document.createElement("li"), { textContent: text })));
    flags.hidden = row.flag_texts.length === 0;
  }
}

function show(rows, changed) {
  for (const element of document.querySelectorAll("[data-device-id]")) {
    const row = rows.get(element.dataset.deviceId);
    if (row && changed.has(row.device_id)) showDevice(element, row);
  }
  // The stream of somebody who sees the whole network has other factories' devices too.
  const own = [...document.querySelectorAll("[data-device-id]")].map((element) => rows.get(element.dataset.deviceId));
  const rates = own.filter((row) => row?.online && row.co2_kg_per_s !== null).map((row) => row.co2_kg_per_s);
  const sum = rates.length ? rates.reduce((total, rate) => total + rate) : null;
  write(document.querySelector('[data-tile="kg_per_h"]'), rateText(sum));
}

function startChart(figure) {
  const chart = new TrendChart(figure);
  let lastAt = 0;

  async function load() {
    if (document.hidden || Date.now() - lastAt < TREND_EVERY_MS - 1_000) return;
    lastAt = Date.now();
    try {
      const answer = await fetch(figure.dataset.chartUrl, { headers: { Accept: "application/json" } });
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

const figure = document.querySelector("[data-chart-url]");
if (figure) startChart(figure);
follow(show);
keepFresh(() => {});
