// The chart of a factory's last hours: a line for each chimney, a band from its least to its most, gaps where nothing
// was measured. uPlot draws; colours come from app.css, so that they follow light and dark.

import { SECONDS_PER_HOUR, localDay, localMinute, number, rateNumber, rateText, rateUnit } from "./format.js";
import { COLOURS, DASHES, addTip, alone, coloursOf, commonOptions, fit, legendItem, moveTip, sizeOf, swatch, timeLabel } from "./plot.js";
import { gettext } from "./words.js";

const PER_STACK = 3; // mean, most, least
const TALL_PX = 320;

export class TrendChart {
  #figure;
  #plot;
  #note;
  #legend;
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
    new ResizeObserver(() => fit(this.#chart, this.#plot, TALL_PX)).observe(this.#plot);
    this.#say(gettext("Loading …"));
  }

  show(trend) {
    this.#data = trend;
    this.#draw();
  }

  failed() {
    if (!this.#data) this.#say(gettext("The chart could not be loaded. It is tried again every minute."));
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
    this.#draw();
  }

  /** The buckets of the chosen hours, as uPlot wants them: the times, then three columns a stack. */
  #columns() {
    const since = this.#data.to - this.#hours * SECONDS_PER_HOUR;
    const times = (this.#data.stacks[0]?.points ?? []).map((point) => point[0]).filter((at) => at >= since);
    const columns = [times];
    for (const stack of this.#data.stacks) {
      const byTime = new Map(stack.points.map((point) => [point[0], point]));
      for (const place of [1, 3, 2]) columns.push(times.map((at) => shown(byTime.get(at)?.[place])));
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
    this.#say(isEmpty ? gettext("Nothing was measured in this time. As soon as a device sends, it shows here.") : "");
    if (!isEmpty) this.#chart = new globalThis.uPlot(this.#options(), columns, this.#plot);
  }

  #drawLegend(columns) {
    const items = this.#data.stacks.map((stack, place) => {
      const means = columns[1 + place * PER_STACK].filter((value) => value !== null);
      const mean = means.length ? means.reduce((sum, value) => sum + value) / means.length : null;
      const most = columns[2 + place * PER_STACK].reduce((top, value) => (value !== null && value > (top ?? -1) ? value : top), null);
      const text =
        mean === null
          ? gettext("not measured")
          : gettext("mean %(mean)s, highest %(most)s %(unit)s", { mean: this.#told(mean), most: this.#told(most), unit: rateUnit() });
      return legendItem(stack.name, text, `series-${(place % COLOURS) + 1}`, DASHES[place % DASHES.length]);
    });
    this.#legend.replaceChildren(...items);
    const told = items.map((item) => item.textContent.trim()).join("; ");
    this.#plot.setAttribute("role", "img");
    const period = gettext("Last %(hours)s hours.", { hours: this.#hours });
    this.#plot.setAttribute("aria-label", `${period} ${told}`);
  }

  #told(value) {
    return rateText(value / rateNumber(1));
  }

  #options() {
    const colour = coloursOf(this.#figure);
    const { axis, options } = commonOptions(this.#figure);
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
      ...options,
      ...sizeOf(this.#plot, TALL_PX),
      scales: { y: { range: (_, least, most) => [0, Math.max(shown(10), (most ?? 0) * 1.1)] } },
      series,
      bands,
      axes: [
        { ...axis, grid: { show: false }, size: 28, space: 64, values: (_, splits) => splits.map((at) => timeLabel(at)) },
        { ...axis, size: 52, space: 44, values: (_, splits) => splits.map((value) => number(value, value !== 0 && value < 10 ? 1 : 0)) },
      ],
      hooks: { ready: [addTip], setCursor: [(chart) => moveTip(chart, (index) => this.#tipOf(chart, index))] },
    };
  }

  #tipOf(chart, index) {
    const at = new Date(chart.data[0][index] * 1000);
    const head = document.createElement("strong");
    head.textContent = `${localDay(at)} ${localMinute(at)}`;
    const lines = this.#data.stacks.map((stack, place) => {
      const [mean, most, least] = [0, 1, 2].map((offset) => chart.data[1 + place * PER_STACK + offset][index]);
      const line = document.createElement("span");
      const range = mean === null || least === null ? "" : ` (${this.#told(least)}–${this.#told(most)})`;
      const text = mean === null ? gettext("not measured") : `${this.#told(mean)} ${rateUnit()}${range}`;
      line.append(swatch(`series-${(place % COLOURS) + 1}`, DASHES[place % DASHES.length]), `${stack.name}: ${text}`);
      return line;
    });
    return [head, ...lines];
  }
}

/** What the platform gives is in kg/h, and shown in the unit that was chosen; what was not measured is a gap. */
function shown(kgPerHour) {
  return kgPerHour === null || kgPerHour === undefined ? null : rateNumber(kgPerHour / SECONDS_PER_HOUR);
}
