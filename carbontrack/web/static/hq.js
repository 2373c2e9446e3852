// The network page: sums of the live rows by factory and region, and the search.

import { rateText } from "./format.js";
import { follow, write } from "./live.js";
import { keepFresh } from "./refresh.js";
import { gettext } from "./words.js";

const DRAW_EVERY_MS = 250; // hundreds of devices change all the time: four looks a second are enough, and easy on a phone

let latest = new Map();

/** Rates of the connected devices add up; where none gives one the sum is null. Keys are texts, as in the page. */
function sums(rows) {
  const found = new Map();
  for (const row of rows.values()) {
    const key = String(row.factory_id);
    const sum = found.get(key) ?? { rate: null, online: 0 };
    if (row.online) {
      sum.online += 1;
      if (row.co2_kg_per_s !== null) sum.rate = (sum.rate ?? 0) + row.co2_kg_per_s;
    }
    found.set(key, sum);
  }
  return found;
}

function show(rows, { quiet = false } = {}) {
  latest = rows;
  const factories = sums(rows);
  const regions = new Map();
  let rate = null;
  let online = 0;
  for (const element of document.querySelectorAll("tr[data-factory-id]")) {
    const sum = factories.get(element.dataset.factoryId) ?? { rate: null, online: 0 };
    write(element.querySelector('[data-field="kg_per_h"]'), rateText(sum.rate), { quiet });
    write(element.querySelector('[data-field="online"]'), String(sum.online), { quiet });
    const devices = Number(element.querySelector('[data-field="devices"]').textContent);
    const reach = sum.online === 0 ? "none" : sum.online < devices ? "some" : "all";
    element.querySelector("[data-reach]").dataset.reach = reach;
    const region = element.dataset.regionOf;
    regions.set(region, (regions.get(region) ?? 0) + (sum.rate ?? 0));
  }
  for (const sum of factories.values()) {
    online += sum.online;
    if (sum.rate !== null) rate = (rate ?? 0) + sum.rate;
  }
  write(document.querySelector('[data-tile="kg_per_h"]'), rateText(rate), { quiet });
  write(document.querySelector('[data-tile="devices_online"]'), String(online), { quiet });
  showRegions(regions, quiet);
}

function showRegions(regions, quiet) {
  const most = Math.max(...regions.values(), 0) * 3600 || 1;
  for (const element of document.querySelectorAll("li[data-region]")) {
    const rate = regions.get(element.dataset.region) ?? 0;
    write(element.querySelector('[data-field="region_kg_per_h"]'), rateText(rate), { quiet });
    const meter = element.querySelector("meter");
    meter.max = most;
    meter.value = rate * 3600;
  }
}

function search() {
  const box = document.querySelector("[data-search-box]");
  if (!document.querySelector("tr[data-factory-id]")) return () => {};
  const input = box.querySelector("input");
  const count = box.querySelector("[data-search-count]");
  const empty = document.querySelector("[data-search-empty]");
  box.hidden = false;

  function filter() {
    const words = input.value.toLowerCase().split(/\s+/).filter(Boolean);
    const elements = document.querySelectorAll("tr[data-factory-id]");
    let shown = 0;
    for (const element of elements) {
      const text = element.querySelector("th").textContent.toLowerCase();
      element.hidden = !words.every((word) => text.includes(word));
      shown += element.hidden ? 0 : 1;
    }
    empty.hidden = shown > 0;
    count.textContent = words.length ? gettext("%(count)s of %(all)s", { count: shown, all: elements.length }) : "";
  }

  input.addEventListener("input", filter);
  filter(); // the browser may have kept what was typed before a reload
  return filter;
}

const filter = search();
follow((rows) => show(rows), { pauseMs: DRAW_EVERY_MS });
keepFresh(() => {
  if (latest.size) show(latest, { quiet: true });
  filter();
});
