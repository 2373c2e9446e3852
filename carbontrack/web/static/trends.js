// The trends of a factory: any period, zoomed and moved, compared with the time before it, as a picture or as CSV.
// uPlot draws; the platform chooses the tier, so that there are never more points than a screen shows.

import { localDateTime, number } from "./format.js";
import { gettext } from "./words.js";
import { COLOURS, DASHES, addTip, alone, coloursOf, commonOptions, fit, legendItem, moveTip, sizeOf, timeLabel } from "./plot.js";

const TALL_PX = 380;
const WELL_MEASURED = 0.8;
const SHORTEST_S = 1800;
const LONGEST_S = 6 * 366 * 86_400;
const TITLES = { "5min": gettext("5-minute means"), hour: gettext("hours"), day: gettext("days"), month: gettext("months") };
const [MEAN, LEAST, MOST, COVERAGE, SUBSTITUTED] = [1, 2, 3, 4, 5];

class Trends {
  #figure;
  #plot;
  #chart = null;
  #data = null;
  #before = null; // the same length of time before, while it is compared
  #from;
  #to;
  #step = null; // as the form chose it, until somebody zooms
  #isCompared = false;
  #asked = 0;

  constructor(figure) {
    this.#figure = figure;
    this.#plot = this.#part("[data-chart-plot]");
    this.#from = Number(figure.dataset.from);
    this.#to = Number(figure.dataset.to);
    this.#step = new URLSearchParams(location.search).get("step") || null;
    for (const part of ["[data-tools]", "[data-hint]"]) this.#part(part).hidden = false;
    this.#part("[data-tools]").addEventListener("click", (event) => this.#do(event.target.closest("[data-do]")?.dataset.do));
    this.#plot.addEventListener("keydown", (event) => this.#key(event));
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.#draw());
    new ResizeObserver(() => fit(this.#chart, this.#plot, TALL_PX)).observe(this.#plot);
    this.#load();
  }

  #part(selector) {
    return this.#figure.querySelector(selector);
  }

  // --- what is shown

  async #load() {
    const asked = ++this.#asked;
    this.#say(this.#data ? "" : gettext("Loading …"));
    this.#figure.setAttribute("aria-busy", "true");
    try {
      const [now, before] = await Promise.all([
        this.#fetch(this.#from, this.#to),
        this.#isCompared ? this.#fetch(2 * this.#from - this.#to, this.#from) : null,
      ]);
      if (asked !== this.#asked) return; // somebody has moved on meanwhile
      [this.#data, this.#before] = [now, before];
      this.#tell();
      this.#draw();
    } catch {
      if (asked === this.#asked) this.#say(gettext("The chart could not be loaded. Check the connection and try again."));
    } finally {
      if (asked === this.#asked) this.#figure.removeAttribute("aria-busy");
    }
  }

  async #fetch(from, to) {
    const query = new URLSearchParams({ from: iso(from), to: iso(to) });
    if (this.#step) query.set("step", this.#step);
    const answer = await fetch(`${this.#figure.dataset.trends}?${query}`, { headers: { Accept: "application/json" } });
    if (answer.redirected) location.reload(); // signed out meanwhile
    if (!answer.ok) throw new Error(`status ${answer.status}`);
    return answer.json();
  }

  #say(text) {
    const note = this.#part("[data-chart-note]");
    note.textContent = text;
    note.hidden = text === "";
  }

  /** Everything beside the chart: the period, the unit, the file, the table. */
  #tell() {
    const { unit, step } = this.#data;
    this.#part("[data-period]").textContent = gettext("%(first)s to %(last)s", { first: when(this.#from), last: when(this.#to) });
    this.#part("[data-unit]").textContent = unit;
    this.#part("[data-step-title]").textContent = TITLES[step];
    const link = this.#part("[data-csv-link]");
    const query = new URLSearchParams({ resolution: step === "month" ? "day" : step, from: iso(this.#from), to: iso(this.#to), format: "csv" });
    link.href = `${this.#figure.dataset.csv}&${query}`;
    this.#fillTable();
  }

  #fillTable() {
    const { stacks } = this.#data;
    const byTime = stacks.map((stack) => new Map(stack.points.map((point) => [point[0], point])));
    const rows = this.#times().map((at) => {
      const row = document.createElement("tr");
      const head = Object.assign(document.createElement("th"), { scope: "row", textContent: localDateTime(new Date(at * 1000)) });
      const cells = byTime.flatMap((points) => {
        const point = points.get(at);
        const value = point?.[MEAN] ?? point?.[SUBSTITUTED] ?? null;
        const mark = point && point[MEAN] === null && point[SUBSTITUTED] !== null ? " *" : "";
        const coverage = point ? `${Math.round(point[COVERAGE] * 100)} %` : "–";
        return [`${number(value, 2)}${mark}`, coverage].map((text) => Object.assign(document.createElement("td"), { className: "num", textContent: text }));
      });
      row.append(head, ...cells);
      return row;
    });
    this.#part("[data-table] tbody").replaceChildren(...rows);
  }

  #times() {
    return [...new Set(this.#data.stacks.flatMap((stack) => stack.points.map((point) => point[0])))].sort((a, b) => a - b);
  }

  // --- what people do

  #do(what) {
    const length = this.#to - this.#from;
    const middle = this.#from + length / 2;
    if (what === "back") this.#show(this.#from - length / 2, this.#to - length / 2);
    else if (what === "forth") this.#show(this.#from + length / 2, this.#to + length / 2);
    else if (what === "in") this.#show(middle - length / 4, middle + length / 4);
    else if (what === "out") this.#show(middle - length, middle + length);
    else if (what === "compare") this.#compare();
    else if (what === "png") this.#savePicture();
  }

  #key(event) {
    const what = { ArrowLeft: "back", ArrowRight: "forth", "+": "in", "=": "in", "-": "out" }[event.key];
    if (!what || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    this.#do(what);
  }

  #compare() {
    this.#isCompared = !this.#isCompared;
    this.#part('[data-do="compare"]').setAttribute("aria-pressed", String(this.#isCompared));
    this.#load();
  }

  /** Another period: never into the future, never shorter or longer than makes sense. */
  #show(from, to) {
    const now = Date.now() / 1000;
    const length = Math.min(LONGEST_S, Math.max(SHORTEST_S, to - from));
    const end = Math.min(now, (from + to) / 2 + length / 2);
    [this.#from, this.#to, this.#step] = [Math.round(end - length), Math.round(end), null];
    this.#load();
  }

  /** The chart with a title and its legend, on the page's own background. */
  #savePicture() {
    if (!this.#chart) return;
    const source = this.#chart.ctx.canvas;
    const scale = devicePixelRatio;
    const head = 56 * scale;
    const picture = Object.assign(document.createElement("canvas"), { width: source.width, height: source.height + head });
    const style = getComputedStyle(this.#figure);
    const pen = picture.getContext("2d");
    pen.fillStyle = style.backgroundColor;
    pen.fillRect(0, 0, picture.width, picture.height);
    pen.fillStyle = style.color;
    pen.font = `600 ${15 * scale}px ${style.fontFamily}`;
    pen.fillText(`${document.querySelector("h1").textContent}: CO2, ${this.#data.unit}`, 12 * scale, 22 * scale);
    pen.font = `${12 * scale}px ${style.fontFamily}`;
    const legend = [...this.#part("[data-chart-legend]").children].map((item) => item.textContent.trim()).join("   ");
    pen.fillText(`${this.#part("[data-period]").textContent}   ${legend}`, 12 * scale, 42 * scale);
    pen.drawImage(source, 0, head);
    picture.toBlob((blob) => {
      const link = document.createElement("a");
      link.href = URL.createObjectURL(blob);
      link.download = `${this.#figure.dataset.name}-co2-${iso(this.#from).slice(0, 10)}-${iso(this.#to).slice(0, 10)}.png`;
      link.click();
      setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
    });
  }

  // --- drawing

  /** Of each chimney: mean, most, least, and what was substituted; then all together of the time before. */
  #columns() {
    const times = this.#times();
    const columns = [times];
    for (const stack of this.#data.stacks) {
      const byTime = new Map(stack.points.map((point) => [point[0], point]));
      for (const place of [MEAN, MOST, LEAST, SUBSTITUTED]) columns.push(times.map((at) => byTime.get(at)?.[place] ?? null));
    }
    if (this.#before) columns.push(this.#sumBefore(times));
    return columns;
  }

  #sumBefore(times) {
    const shift = this.#to - this.#from;
    const step = this.#data.step_s;
    const sums = new Map();
    for (const stack of this.#before.stacks) {
      for (const point of stack.points) {
        if (point[MEAN] === null) continue;
        const at = Math.round((point[0] + shift - times[0]) / step);
        sums.set(at, (sums.get(at) ?? 0) + point[MEAN]);
      }
    }
    return times.map((at) => sums.get(Math.round((at - times[0]) / step)) ?? null);
  }

  #draw() {
    if (!this.#data) return;
    const columns = this.#columns();
    const isEmpty = columns.slice(1).every((column) => column.every((value) => value === null));
    this.#drawLegend(columns);
    this.#chart?.destroy();
    this.#chart = null;
    this.#say(isEmpty ? gettext("Nothing was measured in this time.") : "");
    if (!isEmpty) this.#chart = new globalThis.uPlot(this.#options(columns[0]), columns, this.#plot);
  }

  #drawLegend(columns) {
    const { stacks, unit } = this.#data;
    const items = stacks.map((stack, place) => {
      const means = columns[1 + place * 4].filter((value) => value !== null);
      const mean = means.length ? means.reduce((sum, value) => sum + value) / means.length : null;
      const filled = columns[4 + place * 4].filter((value) => value !== null).length;
      const text = mean === null ? gettext("not measured") : gettext("mean %(mean)s %(unit)s", { mean: number(mean, 1), unit });
      const more = filled ? gettext(", %(count)s substituted", { count: filled }) : "";
      return legendItem(stack.name, text + more, `series-${(place % COLOURS) + 1}`, DASHES[place % DASHES.length]);
    });
    if (this.#before) items.push(legendItem(gettext("The time before"), gettext("all chimneys"), "before", [3, 3]));
    this.#part("[data-chart-legend]").replaceChildren(...items);
    this.#plot.setAttribute("role", "img");
    this.#plot.setAttribute("aria-label", `${this.#part("[data-period]").textContent}. ${items.map((item) => item.textContent.trim()).join("; ")}`);
  }

  #options(times) {
    const colour = coloursOf(this.#figure);
    const { axis, options } = commonOptions(this.#figure);
    const series = [{}];
    const bands = [];
    this.#data.stacks.forEach((stack, place) => {
      const name = `series-${(place % COLOURS) + 1}`;
      const first = series.length;
      const edge = { stroke: "transparent", width: 0, points: { show: false } };
      series.push(
        { label: stack.name, stroke: colour(name), width: 2, dash: DASHES[place % DASHES.length], points: { show: true, size: 5, fill: colour(name), filter: alone } },
        { ...edge, label: "most" },
        { ...edge, label: "least" },
        { label: "substituted", stroke: "transparent", width: 0, points: { show: true, size: 7, stroke: colour(name), fill: colour("ct-card"), width: 1.5 } },
      );
      bands.push({ series: [first + 1, first + 2], fill: colour(`${name}-band`) });
    });
    if (this.#before) series.push({ label: "before", stroke: colour("ct-muted"), width: 1.5, dash: [3, 3], points: { show: false } });
    const isLong = this.#data.step_s >= 86_400;
    return {
      ...options,
      ...sizeOf(this.#plot, TALL_PX),
      cursor: { ...options.cursor, drag: { x: true, y: false, setScale: false } },
      scales: { x: { range: () => [this.#from, this.#to] }, y: { range: (_, least, most) => [0, Math.max(isLong ? 0.1 : 10, (most ?? 0) * 1.1)] } },
      series,
      bands,
      axes: [
        { ...axis, grid: { show: false }, size: 28, space: 64, values: (_, splits) => splits.map((at) => timeLabel(at, isLong)) },
        { ...axis, size: 56, space: 44, values: (_, splits) => splits.map((value) => number(value, value !== 0 && Math.abs(value) < 10 ? 1 : 0)) },
      ],
      hooks: {
        drawClear: [(chart) => this.#shade(chart, times, colour("ct-warn-soft"))],
        setSelect: [(chart) => this.#select(chart)],
        ready: [addTip],
        setCursor: [(chart) => moveTip(chart, (index) => this.#tipOf(chart, index))],
      },
    };
  }

  /** Where a chimney was not well measured, behind the lines. */
  #shade(chart, times, colour) {
    const step = this.#data.step_s;
    const worst = new Map();
    for (const stack of this.#data.stacks) {
      for (const point of stack.points) worst.set(point[0], Math.min(worst.get(point[0]) ?? 1, point[COVERAGE]));
    }
    const { left, top, width, height } = chart.bbox;
    const place = (at) => Math.min(left + width, Math.max(left, chart.valToPos(at, "x", true)));
    chart.ctx.save();
    chart.ctx.fillStyle = colour;
    for (const at of times) {
      if ((worst.get(at) ?? 1) >= WELL_MEASURED) continue;
      const begin = place(at);
      chart.ctx.fillRect(begin, top, Math.max(1, place(at + step) - begin), height);
    }
    chart.ctx.restore();
  }

  #select(chart) {
    const { left, width } = chart.select;
    if (width < 8) return; // a click
    this.#show(chart.posToVal(left, "x"), chart.posToVal(left + width, "x"));
  }

  #tipOf(chart, index) {
    const head = document.createElement("strong");
    head.textContent = when(chart.data[0][index]);
    const lines = this.#data.stacks.map((stack, place) => {
      const [mean, most, least, substituted] = [0, 1, 2, 3].map((offset) => chart.data[1 + place * 4 + offset][index]);
      const range = mean === null || least === null ? "" : ` (${number(least, 1)}–${number(most, 1)})`;
      const other = substituted !== null ? gettext("substituted by %(value)s", { value: number(substituted, 1) }) : gettext("not measured");
      const text = mean !== null ? `${number(mean, 1)}${range}` : other;
      return Object.assign(document.createElement("span"), { textContent: `${stack.name}: ${text}` });
    });
    if (this.#before) {
      const value = chart.data.at(-1)[index];
      lines.push(Object.assign(document.createElement("span"), { textContent: gettext("All, the time before: %(value)s", { value: number(value, 1) }) }));
    }
    return [head, ...lines];
  }
}

function iso(seconds) {
  return new Date(seconds * 1000).toISOString();
}

function when(seconds) {
  return localDateTime(new Date(seconds * 1000));
}

const figure = document.querySelector("[data-trends]");
if (figure) new Trends(figure);
