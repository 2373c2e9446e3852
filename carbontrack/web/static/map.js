// The map of the network: live states of the factories, and moving about by buttons, keys and dragging.

import { rateText, rateUnit } from "./format.js";
import { follow, write } from "./live.js";
import { gettext } from "./words.js";

const DRAW_EVERY_MS = 250;
const CLOSEST = 12; // times as close as at first
const NAMED_FROM = 3; // so close that there is room for the names
const DRAG_PX = 5;
const FULL_SIZE_KG_PER_H = 1000;
const STATES = { firing: gettext("Firing"), idle: gettext("Idle"), trouble: gettext("Trouble"), offline: gettext("Offline"), none: gettext("No device") };

// --- what the stream says, as network_map.py says it of the page as it was loaded

function stateOf(devices, states) {
  if (!devices) return "none";
  const silent = states.filter((state) => state === "offline" || state === "no_data").length;
  if (states.some((state) => state === "fault" || state === "unfit") || (silent > 0 && silent < states.length)) return "trouble";
  return ["firing", "idle"].find((state) => states.includes(state)) ?? "offline";
}

function sizeOf(kgPerSecond) {
  const share = Math.min(1, ((kgPerSecond ?? 0) * 3600) / FULL_SIZE_KG_PER_H);
  return 0.7 + 0.7 * Math.sqrt(Math.max(0, share));
}

function byFactory(rows) {
  const found = new Map();
  for (const row of rows.values()) {
    const key = String(row.factory_id);
    const sum = found.get(key) ?? { rate: null, states: [] };
    sum.states.push(row.state);
    if (row.online && row.co2_kg_per_s !== null) sum.rate = (sum.rate ?? 0) + row.co2_kg_per_s;
    found.set(key, sum);
  }
  return found;
}

const NOTHING = { rate: null, states: [] };

function show(rows) {
  const factories = byFactory(rows);
  const counts = Object.fromEntries(Object.keys(STATES).map((name) => [name, 0]));
  let total = null;
  for (const row of document.querySelectorAll("[data-row]")) {
    const { rate, states } = factories.get(row.dataset.row) ?? NOTHING;
    const state = stateOf(Number(row.dataset.devices), states);
    counts[state] += 1;
    if (rate !== null) total = (total ?? 0) + rate;
    write(row.querySelector('[data-field="state"]'), STATES[state]);
    write(row.querySelector('[data-field="kg_per_h"]'), rateText(rate));
    const sign = row.querySelector("svg");
    if (sign.dataset.state !== state) {
      sign.dataset.state = state;
      sign.querySelector("use").setAttribute("href", `#sign-${state}`);
    }
  }
  for (const marker of document.querySelectorAll("a.factory")) {
    const { rate, states } = factories.get(marker.dataset.factoryId) ?? NOTHING;
    const state = stateOf(Number(marker.dataset.devices), states);
    const use = marker.querySelector("use");
    if (marker.dataset.state !== state) {
      marker.dataset.state = state;
      use.setAttribute("href", `#sign-${state}`);
    }
    use.setAttribute("transform", `scale(${sizeOf(rate).toFixed(2)})`);
    marker.setAttribute("aria-label", `${marker.dataset.name}: ${STATES[state]}, ${rateText(rate)} ${rateUnit()}`);
  }
  for (const [name, count] of Object.entries(counts)) write(document.querySelector(`[data-count="${name}"]`), String(count));
  write(document.querySelector("[data-total]"), rateText(total));
}

// --- moving about

class MapView {
  #map;
  #frame;
  #tip;
  #first;
  #box;
  #drag = null;

  constructor(map) {
    this.#map = map;
    this.#frame = map.parentElement;
    this.#tip = this.#frame.querySelector("[data-map-tip]");
    this.#first = map.getAttribute("viewBox").split(" ").map(Number);
    this.#box = [...this.#first];
    map.tabIndex = 0;
    const tools = this.#frame.querySelector("[data-map-tools]");
    tools.hidden = false;
    tools.addEventListener("click", (event) => this.#do(event.target.closest("[data-do]")?.dataset.do));
    this.#frame.addEventListener("keydown", (event) => this.#key(event));
    map.addEventListener("pointerdown", (event) => this.#begin(event));
    map.addEventListener("pointermove", (event) => this.#move(event));
    for (const end of ["pointerup", "pointercancel"]) map.addEventListener(end, () => this.#end());
    map.addEventListener("click", (event) => this.#click(event), true);
    map.addEventListener("dragstart", (event) => event.preventDefault());
    map.addEventListener("focusin", (event) => event.target.closest("a.factory") && this.#bringIntoView(event.target.closest("a.factory")));
    for (const type of ["pointerover", "focusin"]) map.addEventListener(type, (event) => this.#point(event.target.closest("a.factory")));
    for (const type of ["pointerleave", "focusout"]) map.addEventListener(type, () => this.#point(null));
    for (const row of document.querySelectorAll("[data-row]")) {
      for (const type of ["pointerenter", "focusin"]) row.addEventListener(type, () => this.#mark(row.dataset.row));
    }
    new ResizeObserver(() => this.#draw()).observe(map);
    this.#draw();
  }

  #draw() {
    const [x, y, width, height] = this.#box;
    this.#map.setAttribute("viewBox", this.#box.map((value) => value.toFixed(1)).join(" "));
    const frame = this.#map.getBoundingClientRect();
    if (!frame.width) return;
    const unit = Math.max(width / frame.width, height / frame.height); // what of the map a pixel is
    const onPhone = frame.width < 480 ? 0.6 : 1;
    const closeness = this.#first[2] / width;
    for (const part of this.#map.querySelectorAll(".fixed")) {
      const [px, py] = this.#placeOf(part);
      part.setAttribute("transform", `translate(${px.toFixed(2)} ${py.toFixed(2)}) scale(${(unit * onPhone).toFixed(4)})`);
      const leash = part.parentElement.dataset.factoryId && this.#map.querySelector(`[data-leash="${part.parentElement.dataset.factoryId}"]`);
      leash?.setAttribute("d", `M${part.dataset.x} ${part.dataset.y}L${px.toFixed(2)} ${py.toFixed(2)}`);
    }
    this.#map.toggleAttribute("data-close", closeness >= NAMED_FROM);
    this.#map.toggleAttribute("data-zoomed", closeness > 1.05);
    this.#map.dataset.closeness = closeness.toFixed(2);
    this.#map.dataset.centre = `${Math.round(x + width / 2)} ${Math.round(y + height / 2)}`;
    this.#tip.hidden = true;
  }

  /** Where something is drawn: the closer one looks, the less it has to give way to its neighbours. */
  #placeOf(part) {
    const { x, y, dx = 0, dy = 0 } = part.dataset;
    const closeness = Math.max(1, this.#first[2] / this.#box[2]);
    return [Number(x) + dx / closeness, Number(y) + dy / closeness];
  }

  /** Who goes from factory to factory by keyboard sees each. */
  #bringIntoView(marker) {
    const [px, py] = this.#placeOf(marker.querySelector(".fixed"));
    const [x, y, width, height] = this.#box;
    if (px >= x && px <= x + width && py >= y && py <= y + height) return;
    this.#box = [px - width / 2, py - height / 2, width, height];
    this.#draw();
  }

  #do(what) {
    if (what === "in") this.#zoom(1.6);
    else if (what === "out") this.#zoom(1 / 1.6);
    else if (what === "all") this.#box = [...this.#first];
    else if (what === "left") this.#shift(-0.2, 0);
    else if (what === "right") this.#shift(0.2, 0);
    else if (what === "up") this.#shift(0, -0.2);
    else if (what === "down") this.#shift(0, 0.2);
    this.#draw();
  }

  #key(event) {
    const keys = { ArrowLeft: "left", ArrowRight: "right", ArrowUp: "up", ArrowDown: "down", "+": "in", "=": "in", "-": "out", 0: "all" };
    const what = keys[event.key];
    if (!what || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    this.#do(what);
  }

  #zoom(factor) {
    const [x, y, width, height] = this.#box;
    const closeness = Math.min(CLOSEST, Math.max(0.4, (this.#first[2] / width) * factor));
    const [wide, high] = [this.#first[2] / closeness, this.#first[3] / closeness];
    this.#box = [x + (width - wide) / 2, y + (height - high) / 2, wide, high];
  }

  #shift(right, down) {
    const [x, y, width, height] = this.#box;
    this.#box = [x + right * width, y + down * height, width, height];
  }

  // --- dragging, which is no click

  #begin(event) {
    if (event.button !== 0) return;
    this.#drag = { x: event.clientX, y: event.clientY, box: [...this.#box], moved: false };
  }

  #move(event) {
    if (!this.#drag || !event.buttons) return;
    const [dx, dy] = [event.clientX - this.#drag.x, event.clientY - this.#drag.y];
    if (!this.#drag.moved && Math.hypot(dx, dy) < DRAG_PX) return;
    if (!this.#drag.moved) this.#map.setPointerCapture(event.pointerId);
    this.#drag.moved = true;
    this.#map.dataset.moving = "";
    const frame = this.#map.getBoundingClientRect();
    const [x, y, width, height] = this.#drag.box;
    const unit = Math.max(width / frame.width, height / frame.height);
    this.#box = [x - dx * unit, y - dy * unit, width, height];
    this.#draw();
  }

  #end() {
    delete this.#map.dataset.moving;
    if (this.#drag && !this.#drag.moved) this.#drag = null;
  }

  #click(event) {
    if (this.#drag?.moved) {
      event.preventDefault();
      event.stopPropagation();
    }
    this.#drag = null;
  }

  // --- which factory it is

  #mark(id) {
    for (const element of document.querySelectorAll(".near")) element.classList.remove("near");
    if (id === null) return null;
    const marker = this.#map.querySelector(`a.factory[data-factory-id="${id}"]`);
    for (const element of [marker, document.querySelector(`[data-row="${id}"]`)]) element?.classList.add("near");
    return marker;
  }

  #point(marker) {
    this.#mark(marker?.dataset.factoryId ?? null);
    this.#tip.hidden = !marker;
    if (!marker) return;
    const [name, ...rest] = marker.getAttribute("aria-label").split(": ");
    const head = Object.assign(document.createElement("strong"), { textContent: name });
    this.#tip.replaceChildren(head, Object.assign(document.createElement("span"), { textContent: rest.join(": ") }));
    const frame = this.#frame.getBoundingClientRect();
    const spot = marker.querySelector("use").getBoundingClientRect();
    const left = Math.min(Math.max(0, spot.left - frame.left - this.#tip.offsetWidth / 2 + spot.width / 2), frame.width - this.#tip.offsetWidth);
    const above = spot.top - frame.top - this.#tip.offsetHeight - 6;
    this.#tip.style.left = `${left}px`;
    this.#tip.style.top = `${above < 0 ? spot.bottom - frame.top + 6 : above}px`;
  }
}

const map = document.querySelector("[data-map]");
if (map) new MapView(map);
if (document.querySelector("[data-row]")) follow((rows) => show(rows), { pauseMs: DRAW_EVERY_MS });
