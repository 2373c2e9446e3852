// The chart of a factory's last hours: a line for each chimney, a band from its least to its most, gaps where nothing
// was measured. uPlot draws; colours come from app.css, so that they follow light and dark.

import { SECONDS_PER_HOUR, TIME_ZONE, localDay, localMinute, number } from "./format.js";

const COLOURS = 6;
const DASHES = [[], [8, 4], [2, 3], [10, 3, 2, 3], [5, 5], [14, 4]]; // colour is not the only difference
const PER_STACK = 3; // mean, most, least
const NARROW_PX = 560;

export class TrendChart {
  #figure;
  #plot;
  #note;
  #legend;
  #tip;
  #chart = null;
  #data = null;
  #hours = 24;

  constructor(figure) {
    this.#figure = figure;
    this.#plot = figure.querySelector("[data-chart-plot]");
    this.#note = figure.querySelector("[data-chart-note]");
    this.#legend = figure.querySelector("[data-chart-legend]");
    const choice = figure.querySelector("[data-chart-choice]");
    choice.hidden = false;
    for (const button of choice.querySelectorAll("button")) {
      button.addEventListener("click", () => this.#choose(Number(button.dataset.hours)));
    }
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.#draw());
    new ResizeObserver(() => this.#resize()).observe(this.#plot);
    this.#say("Loading …");
  }

  show(trend) {
    this.#data = trend;
    this.#draw();
  }

  failed() {
    if (!this.#data) this.#say("The chart could not be loaded. It is tried again every minute.");
  }

  #say(text) {
    this.#note.textContent = text;
    this.#note.hidden = text === "";
  }

  #choose(hours) {
    this.#hours = hours;
    for (const button of this.#figure.querySelectorAll("[data-hours]")) {
      button.setAttribute("aria-pressed", String(Number(button.dataset.hours) === hours));
    }
    this.#figure.querySelector("[data-chart-hours]").textContent = String(hours);
    this.#draw();
  }

  /** The buckets of the chosen hours, as uPlot wants them: the times, then three columns a stack. */
  #columns() {
    const until = Date.parse(this.#data.to) / 1000;
    const since = until - this.#hours * 3600;
    const times = (this.#data.stacks[0]?.points ?? []).map((point) => point[0]).filter((at) => at >= since);
    const columns = [times];
    for (const stack of this.#data.stacks) {
      const byTime = new Map(stack.points.map((point) => [point[0], point]));
      for (const place of [1, 3, 2]) columns.push(times.map((at) => perHour(byTime.get(at)?.[place])));
    }
    return columns;
  }

  #draw() {
    if (!this.#data) return;
    const columns = this.#columns();
    this.#drawLegend(columns);
    const isEmpty = columns.slice(1).every((column) => column.every((value) => value === null));
    this.#chart?.destroy();
    this.#chart = null;
    this.#plot.hidden = isEmpty;
    this.#say(isEmpty ? "Nothing was measured in this time. As soon as a device sends, it shows here." : "");
    if (!isEmpty) this.#chart = new globalThis.uPlot(this.#options(), columns, this.#plot);
  }

  #drawLegend(columns) {
    const items = this.#data.stacks.map((stack, place) => {
      const means = columns[1 + place * PER_STACK].filter((value) => value !== null);
      const mean = means.length ? means.reduce((sum, value) => sum + value) / means.length : null;
      const most = columns[2 + place * PER_STACK].reduce((top, value) => (value !== null && value > (top ?? -1) ? value : top), null);
      const item = document.createElement("li");
      const name = document.createElement("strong");
      name.textContent = stack.name;
      const text = mean === null ? "not measured" : `mean ${number(mean)}, highest ${number(most)} kg/h`;
      item.append(this.#swatch(place), name, ` ${text}`);
      return item;
    });
    this.#legend.replaceChildren(...items);
    const told = items.map((item) => item.textContent.trim()).join("; ");
    this.#plot.setAttribute("role", "img");
    this.#plot.setAttribute("aria-label", `Last ${this.#hours} hours. ${told}`);
  }

  /** A short piece of the stack's line, dashes and all. */
  #swatch(place) {
    const space = "http://www.w3.org/2000/svg";
    const picture = document.createElementNS(space, "svg");
    picture.setAttribute("viewBox", "0 0 28 8");
    picture.setAttribute("class", `swatch series-${(place % COLOURS) + 1}`);
    picture.setAttribute("aria-hidden", "true");
    const line = document.createElementNS(space, "path");
    line.setAttribute("d", "M0 4h28");
    line.setAttribute("stroke-dasharray", DASHES[place % DASHES.length].join(" ") || "none");
    picture.append(line);
    return picture;
  }

  #width() {
    return Math.max(200, Math.floor(this.#plot.clientWidth));
  }

  #height() {
    return this.#width() < NARROW_PX ? 220 : 320;
  }

  #resize() {
    if (!this.#chart || this.#chart.width === this.#width()) return;
    this.#chart.setSize({ width: this.#width(), height: this.#height() });
  }

  #options() {
    const style = getComputedStyle(this.#figure);
    const colour = (name) => style.getPropertyValue(`--${name}`).trim();
    const axis = {
      stroke: colour("ct-muted"),
      grid: { stroke: colour("ct-line"), width: 1 },
      ticks: { show: false },
      font: `12px ${style.fontFamily}`,
    };
    const series = [{}];
    const bands = [];
    this.#data.stacks.forEach((stack, place) => {
      const name = `series-${(place % COLOURS) + 1}`;
      const first = series.length;
      const edge = { stroke: "transparent", width: 0, points: { show: false } };
      series.push(
        {
          label: stack.name,
          stroke: colour(name),
          width: 2,
          dash: DASHES[place % DASHES.length],
          points: { show: true, size: 5, fill: colour(name), filter: alone },
        },
        { ...edge, label: `${stack.name}, most` },
        { ...edge, label: `${stack.name}, least` },
      );
      bands.push({ series: [first + 1, first + 2], fill: colour(`${name}-band`) });
    });
    return {
      width: this.#width(),
      height: this.#height(),
      padding: [12, 12, 0, 0],
      tzDate: (seconds) => globalThis.uPlot.tzDate(new Date(seconds * 1000), TIME_ZONE),
      legend: { show: false },
      cursor: { y: false, drag: { x: false, y: false }, points: { size: 8 } },
      scales: { y: { range: (_, least, most) => [0, Math.max(10, (most ?? 0) * 1.1)] } },
      series,
      bands,
      axes: [
        { ...axis, grid: { show: false }, size: 28, space: 64, values: (_, splits) => splits.map(timeLabel) },
        { ...axis, size: 52, space: 44, values: (_, splits) => splits.map((value) => number(value)) },
      ],
      hooks: { ready: [(chart) => this.#addTip(chart)], setCursor: [(chart) => this.#moveTip(chart)] },
    };
  }

  #addTip(chart) {
    this.#tip = document.createElement("div");
    this.#tip.className = "tip";
    this.#tip.hidden = true;
    chart.over.append(this.#tip);
    // A finger that slides along the chart reads it; one that slides up or down scrolls the page (see app.css).
    chart.over.addEventListener("pointermove", (event) => {
      if (event.pointerType !== "touch") return;
      const frame = chart.over.getBoundingClientRect();
      chart.setCursor({ left: event.clientX - frame.left, top: event.clientY - frame.top });
    });
  }

  #moveTip(chart) {
    if (!this.#tip) return;
    const { idx, left } = chart.cursor;
    this.#tip.hidden = idx === null || idx === undefined || left < 0;
    if (this.#tip.hidden) return;
    const at = new Date(chart.data[0][idx] * 1000);
    const head = document.createElement("strong");
    head.textContent = `${localDay(at)} ${localMinute(at)}`;
    const lines = this.#data.stacks.map((stack, place) => {
      const [mean, most, least] = [0, 1, 2].map((offset) => chart.data[1 + place * PER_STACK + offset][idx]);
      const line = document.createElement("span");
      const range = mean === null || least === null ? "" : ` (${number(least)}–${number(most)})`;
      line.append(this.#swatch(place), `${stack.name}: ${mean === null ? "not measured" : `${number(mean)} kg/h${range}`}`);
      return line;
    });
    this.#tip.replaceChildren(head, ...lines);
    const room = chart.over.clientWidth - this.#tip.offsetWidth;
    const beside = left > chart.over.clientWidth / 2 ? left - this.#tip.offsetWidth - 12 : left + 12;
    this.#tip.style.left = `${Math.max(0, Math.min(beside, room))}px`;
  }
}

/** "14:00", and the day where one begins. */
function timeLabel(seconds) {
  const at = new Date(seconds * 1000);
  const minute = localMinute(at);
  return minute === "00:00" ? localDay(at) : minute;
}

/** What the platform gives is in kg/s; what was not measured is null, and a gap in the line. */
function perHour(kgPerSecond) {
  return kgPerSecond === null || kgPerSecond === undefined ? null : kgPerSecond * SECONDS_PER_HOUR;
}

/** uPlot asks which points to draw beside the line: those between two gaps, which have no line. */
function alone(chart, place) {
  const values = chart.data[place];
  const found = [];
  values.forEach((value, index) => {
    if (value !== null && (values[index - 1] ?? null) === null && (values[index + 1] ?? null) === null) found.push(index);
  });
  return found;
}
