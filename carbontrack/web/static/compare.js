// Factories beside each other: a line for each, told apart by colour and dashes; as a picture as well.

import { localDay, number } from "./format.js";
import { COLOURS, DASHES, addTip, alone, coloursOf, commonOptions, fit, legendItem, moveTip, sizeOf } from "./plot.js";
import { gettext } from "./words.js";

const TALL_PX = 340;

class Comparison {
  #figure;
  #plot;
  #data;
  #chart = null;

  constructor(figure) {
    this.#figure = figure;
    this.#plot = this.#part("[data-chart-plot]");
    this.#data = JSON.parse(this.#part("[data-chart]").textContent);
    this.#draw();
    this.#part("[data-png]").addEventListener("click", () => this.#savePicture());
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.#draw());
    new ResizeObserver(() => fit(this.#chart, this.#plot, TALL_PX)).observe(this.#plot);
  }

  #part(selector) {
    return this.#figure.querySelector(selector);
  }

  #draw() {
    const { series, times } = this.#data;
    const isEmpty = series.every(({ values }) => values.every((value) => value === null));
    const note = this.#part("[data-chart-note]");
    note.hidden = !isEmpty;
    note.textContent = isEmpty ? gettext("Nothing is known of this time.") : "";
    this.#part("[data-png]").hidden = isEmpty;
    this.#drawLegend();
    this.#chart?.destroy();
    this.#chart = isEmpty ? null : new globalThis.uPlot(this.#options(), [times, ...series.map(({ values }) => values)], this.#plot);
  }

  #drawLegend() {
    const { series, unit, digits, title } = this.#data;
    const items = series.map(({ name, values }, place) => {
      const last = values.findLast((value) => value !== null);
      const text = last === undefined ? gettext("nothing known") : gettext("last %(value)s %(unit)s", { value: number(last, digits), unit });
      return legendItem(name, text, `series-${(place % COLOURS) + 1}`, DASHES[place % DASHES.length]);
    });
    this.#part("[data-chart-legend]").replaceChildren(...items);
    this.#plot.setAttribute("role", "img");
    this.#plot.setAttribute("aria-label", `${title}: ${items.map((item) => item.textContent.trim()).join("; ")}`);
  }

  #options() {
    const colour = coloursOf(this.#figure);
    const { axis, options } = commonOptions(this.#figure);
    const { series, digits, times, step } = this.#data;
    const room = Math.max(43_200, (times.at(-1) - times[0]) * 0.03); // around the outermost points, and their labels
    return {
      ...options,
      ...sizeOf(this.#plot, TALL_PX),
      scales: {
        x: { range: () => [times[0] - room, times.at(-1) + room] },
        y: { range: (_, least, most) => [0, (most ?? 0) > 0 ? most * 1.1 : 1] },
      },
      series: [
        {},
        ...series.map(({ name }, place) => {
          const stroke = colour(`series-${(place % COLOURS) + 1}`);
          const points = step === "month" ? { show: true, size: 7, fill: stroke } : { show: true, size: 5, fill: stroke, filter: alone };
          return { label: name, stroke, width: 2, dash: DASHES[place % DASHES.length], points };
        }),
      ],
      axes: [
        { ...axis, grid: { show: false }, size: 28, space: 64, values: (_, splits) => splits.map((at) => this.#label(at)) },
        { ...axis, size: 56, space: 44, values: (_, splits) => splits.map((value) => number(value, value !== 0 && Math.abs(value) < 10 ? Math.max(1, digits) : 0)) },
      ],
      hooks: {
        ready: [addTip],
        setCursor: [(chart) => moveTip(chart, (index) => this.#tipOf(index))],
      },
    };
  }

  #label(seconds) {
    const at = new Date(seconds * 1000);
    return this.#data.step === "month" ? monthOf(at) : localDay(at);
  }

  #tipOf(index) {
    const { series, times, unit, digits } = this.#data;
    const head = Object.assign(document.createElement("strong"), { textContent: this.#label(times[index]) });
    const lines = series.map(({ name, values }) => {
      const text = values[index] === null ? gettext("nothing known") : `${number(values[index], digits)} ${unit}`;
      return Object.assign(document.createElement("span"), { textContent: `${name}: ${text}` });
    });
    return [head, ...lines];
  }

  /** The chart with its title and legend, a line for each factory, on the page's own background. */
  #savePicture() {
    if (!this.#chart) return;
    const source = this.#chart.ctx.canvas;
    const scale = devicePixelRatio;
    const lines = [...this.#part("[data-chart-legend]").children].map((item) => item.textContent.trim());
    const head = (36 + 18 * lines.length) * scale;
    const picture = Object.assign(document.createElement("canvas"), { width: source.width, height: source.height + head });
    const style = getComputedStyle(this.#figure);
    const colour = coloursOf(this.#figure);
    const pen = picture.getContext("2d");
    pen.fillStyle = style.backgroundColor;
    pen.fillRect(0, 0, picture.width, picture.height);
    pen.fillStyle = style.color;
    pen.font = `600 ${15 * scale}px ${style.fontFamily}`;
    pen.fillText(`${document.getElementById("chart-title").textContent} (${this.#data.unit})`, 12 * scale, 22 * scale);
    pen.font = `${12 * scale}px ${style.fontFamily}`;
    lines.forEach((line, place) => {
      const y = (42 + 18 * place) * scale;
      pen.strokeStyle = colour(`series-${(place % COLOURS) + 1}`);
      pen.lineWidth = 3 * scale;
      pen.setLineDash(DASHES[place % DASHES.length].map((length) => length * scale));
      pen.beginPath();
      pen.moveTo(12 * scale, y - 4 * scale);
      pen.lineTo(48 * scale, y - 4 * scale);
      pen.stroke();
      pen.fillText(line, 56 * scale, y);
    });
    pen.drawImage(source, 0, head);
    picture.toBlob((blob) => {
      const link = document.createElement("a");
      link.href = URL.createObjectURL(blob);
      link.download = "carbontrack-compare.png";
      link.click();
      setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
    });
  }
}

const months = new Intl.DateTimeFormat(document.documentElement.lang, {
  timeZone: document.documentElement.dataset.timeZone, month: "short", year: "2-digit",
});

function monthOf(date) {
  return months.format(date);
}

/** No more boxes than may be chosen, and a word on how many are. */
function countPicks(form) {
  const boxes = [...form.querySelectorAll('input[name="factory"]')];
  const most = Number(form.dataset.most);
  function count() {
    const picked = boxes.filter((box) => box.checked).length;
    for (const box of boxes) box.disabled = picked >= most && !box.checked;
    form.querySelector("[data-picked]").textContent = gettext("%(count)s of at most %(most)s chosen", { count: picked, most });
  }
  form.addEventListener("change", count);
  count();
}

const form = document.querySelector("[data-compare-form]");
if (form) countPicks(form);
const figure = document.querySelector("[data-compare]");
if (figure) new Comparison(figure);
