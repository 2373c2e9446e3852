// The chart on an alert's page: what was measured, the limit, and the time in which the alert fired.

import { localDateTime, localTime, number } from "./format.js";
import { gettext } from "./words.js";
import { addTip, coloursOf, commonOptions, fit, moveTip, sizeOf, timeLabel } from "./plot.js";

const TALL_PX = 300;

class AlertChart {
  #figure;
  #plot;
  #found;
  #chart = null;

  constructor(figure, found) {
    this.#figure = figure;
    this.#plot = figure.querySelector("[data-chart-plot]");
    this.#found = found;
    this.#plot.setAttribute("role", "img");
    this.#plot.setAttribute("aria-label", `${this.#told()} ${gettext("The table below has the numbers.")}`);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.#draw());
    new ResizeObserver(() => fit(this.#chart, this.#plot, TALL_PX)).observe(this.#plot);
    this.#draw();
  }

  #told() {
    const { title, unit, digits, points, limit, raised_at, cleared_at } = this.#found;
    const values = points.map((point) => point[1]).filter((value) => value !== null);
    const range = { title, unit, least: number(Math.min(...values), digits), most: number(Math.max(...values), digits) };
    const what = limit === null
      ? gettext("%(title)s: %(least)s to %(most)s %(unit)s.", range)
      : gettext("%(title)s: %(least)s to %(most)s %(unit)s, the limit is %(limit)s %(unit)s.", { ...range, limit: number(limit, digits) });
    const since = localDateTime(new Date(raised_at * 1000));
    if (cleared_at === null) return `${what} ${gettext("The alert fired from %(since)s and still fires.", { since })}`;
    return `${what} ${gettext("The alert fired from %(since)s to %(until)s.", { since, until: localDateTime(new Date(cleared_at * 1000)) })}`;
  }

  #draw() {
    const { points } = this.#found;
    this.#chart?.destroy();
    const columns = [points.map((point) => point[0]), points.map((point) => point[1])];
    this.#chart = new globalThis.uPlot(this.#options(), columns, this.#plot);
  }

  #options() {
    const { digits, limit, from, to, title } = this.#found;
    const colour = coloursOf(this.#figure);
    const { axis, options } = commonOptions(this.#figure);
    const room = (least, most) => {
      const [low, high] = [Math.min(least ?? 0, limit ?? Infinity), Math.max(most ?? 1, limit ?? -Infinity)];
      const margin = (high - low || Math.abs(high) || 1) * 0.1;
      return [Math.max(0, low - margin), high + margin];
    };
    return {
      ...options,
      ...sizeOf(this.#plot, TALL_PX),
      scales: { x: { range: () => [from, to] }, y: { range: (_, least, most) => room(least, most) } },
      series: [{}, { label: title, stroke: colour("series-1"), width: 2, points: { show: false } }],
      axes: [
        { ...axis, grid: { show: false }, size: 28, space: 64, values: (_, splits) => splits.map((at) => timeLabel(at)) },
        { ...axis, size: 64, space: 44, values: (_, splits) => splits.map((value) => number(value, Math.min(digits, 2))) },
      ],
      hooks: {
        drawClear: [(chart) => this.#shade(chart, colour("ct-ember-soft"))],
        draw: [(chart) => this.#limit(chart, colour("ct-ember"))],
        ready: [addTip],
        setCursor: [(chart) => moveTip(chart, (index) => this.#tipOf(chart, index))],
      },
    };
  }

  #shade(chart, colour) {
    const { raised_at, cleared_at, to } = this.#found;
    const { left, top, width, height } = chart.bbox;
    const place = (at) => Math.min(left + width, Math.max(left, chart.valToPos(at, "x", true)));
    const [begin, end] = [place(raised_at), place(cleared_at ?? to)];
    chart.ctx.save();
    chart.ctx.fillStyle = colour;
    chart.ctx.fillRect(begin, top, Math.max(1, end - begin), height);
    chart.ctx.restore();
  }

  #limit(chart, colour) {
    const { limit } = this.#found;
    if (limit === null) return;
    const { left, width } = chart.bbox;
    const at = chart.valToPos(limit, "y", true);
    chart.ctx.save();
    chart.ctx.strokeStyle = colour;
    chart.ctx.lineWidth = 2 * devicePixelRatio;
    chart.ctx.setLineDash([8 * devicePixelRatio, 5 * devicePixelRatio]);
    chart.ctx.beginPath();
    chart.ctx.moveTo(left, at);
    chart.ctx.lineTo(left + width, at);
    chart.ctx.stroke();
    chart.ctx.restore();
  }

  #tipOf(chart, index) {
    const value = chart.data[1][index];
    if (value === null || value === undefined) return null;
    const { digits, unit } = this.#found;
    return [`${localTime(new Date(chart.data[0][index] * 1000))}: ${number(value, digits)} ${unit}`];
  }
}

async function start(figure) {
  try {
    const answer = await fetch(figure.dataset.alertChart, { headers: { Accept: "application/json" } });
    if (!answer.ok) throw new Error(`status ${answer.status}`);
    new AlertChart(figure, await answer.json());
  } catch {
    const note = figure.querySelector("[data-chart-note]");
    note.textContent = gettext("The chart could not be loaded. The table has the numbers.");
    note.hidden = false;
  }
}

const figure = document.querySelector("[data-alert-chart]");
if (figure) start(figure);
