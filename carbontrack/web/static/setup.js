// Setting up a factory: each device's first reading shows as soon as it is there.

import { kgPerHour, localTime } from "./format.js";
import { follow } from "./live.js";

function show(rows) {
  for (const element of document.querySelectorAll("[data-device]")) {
    const row = rows.get(element.dataset.device);
    if (!row || row.measured_at === null) continue;
    const isFirst = element.dataset.heard === "no";
    element.dataset.heard = "yes";
    const text = element.querySelector("[data-first]");
    text.textContent = `${isFirst ? "Its first reading is there: " : ""}${row.state_title}, ${kgPerHour(row.co2_kg_per_s)} kg/h, measured ${localTime(new Date(row.measured_at))}`;
    if (isFirst) {
      text.setAttribute("role", "status");
      text.classList.add("arrived");
    }
  }
  const devices = [...document.querySelectorAll("[data-device]")];
  if (devices.length && devices.every((element) => element.dataset.heard === "yes")) {
    document.querySelector("[data-heard][data-done]").dataset.done = "yes";
  }
}

follow(show, { pauseMs: 500 });
