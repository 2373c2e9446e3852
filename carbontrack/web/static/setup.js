// Setting up a factory: each device's first reading shows as soon as it is there.

import { localTime, rateText, rateUnit } from "./format.js";
import { follow } from "./live.js";
import { gettext } from "./words.js";

function show(rows) {
  for (const element of document.querySelectorAll("[data-device]")) {
    const row = rows.get(element.dataset.device);
    if (!row || row.measured_at === null) continue;
    const isFirst = element.dataset.heard === "no";
    element.dataset.heard = "yes";
    const text = element.querySelector("[data-first]");
    const told = gettext("%(state)s, %(rate)s %(unit)s, measured %(time)s", {
      state: gettext(row.state_title), rate: rateText(row.co2_kg_per_s), unit: rateUnit(), time: localTime(new Date(row.measured_at)),
    });
    text.textContent = isFirst ? gettext("Its first reading is there: %(reading)s", { reading: told }) : told;
    if (isFirst) {
      text.setAttribute("role", "status");
      text.classList.add("arrived");
    } else {
      text.removeAttribute("role"); // said once: what comes every few seconds is no news
    }
  }
  const devices = [...document.querySelectorAll("[data-device]")];
  if (devices.length && devices.every((element) => element.dataset.heard === "yes")) {
    document.querySelector("[data-heard][data-done]").dataset.done = "yes";
  }
}

follow(show, { pauseMs: 500 });
