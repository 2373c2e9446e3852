// What all charts share: colours and axes by the page's style, the tip beside the cursor, lines that are told apart
// without colour.

import { TIME_ZONE, localDay, localMinute } from "./format.js";

export const COLOURS = 6;
export const DASHES = [[], [8, 4], [2, 3], [10, 3, 2, 3], [5, 5], [14, 4]]; // colour is not the only difference
const NARROW_PX = 560;

/** Measures of a chart that fills `plot`; lower on a phone. */
export function sizeOf(plot, tall) {
  const width = Math.max(200, Math.floor(plot.clientWidth));
  return { width, height: width < NARROW_PX ? Math.round(tall * 0.7) : tall };
}

/** Give a chart the room that there is now. */
export function fit(chart, plot, tall) {
  if (chart && chart.width !== sizeOf(plot, tall).width) chart.setSize(sizeOf(plot, tall));
}

/** Reads the colours of a figure: `colour("ct-line")`. They follow light and dark. */
export function coloursOf(figure) {
  const style = getComputedStyle(figure);
  return (name) => style.getPropertyValue(`--${name}`).trim();
}

/** What the options of all charts have in common. */
export function commonOptions(figure) {
  const colour = coloursOf(figure);
  const axis = {
    stroke: colour("ct-muted"),
    grid: { stroke: colour("ct-line"), width: 1 },
    ticks: { show: false },
    font: `12px ${getComputedStyle(figure).fontFamily}`,
  };
  return {
    axis,
    options: {
      padding: [12, 12, 0, 0],
      tzDate: (seconds) => globalThis.uPlot.tzDate(new Date(seconds * 1000), TIME_ZONE),
      legend: { show: false },
      cursor: { y: false, drag: { x: false, y: false }, points: { size: 8 } },
    },
  };
}

/** "14:00", and the day where one begins, or where days are drawn. */
export function timeLabel(seconds, isLong = false) {
  const at = new Date(seconds * 1000);
  const minute = localMinute(at);
  return isLong || minute === "00:00" ? localDay(at) : minute;
}

/** A short piece of a line as it is drawn, dashes and all. */
export function swatch(colour, dash) {
  const space = "http://www.w3.org/2000/svg";
  const picture = document.createElementNS(space, "svg");
  picture.setAttribute("viewBox", "0 0 28 8");
  picture.setAttribute("class", `swatch ${colour}`);
  picture.setAttribute("aria-hidden", "true");
  const line = document.createElementNS(space, "path");
  line.setAttribute("d", "M0 4h28");
  line.setAttribute("stroke-dasharray", dash.join(" ") || "none");
  picture.append(line);
  return picture;
}

/** An entry of a legend. */
export function legendItem(name, text, colour, dash) {
  const item = document.createElement("li");
  item.append(swatch(colour, dash), Object.assign(document.createElement("strong"), { textContent: name }), ` ${text}`);
  return item;
}

/** The box beside the cursor; a finger that slides along the chart reads it, up and down scrolls the page (app.css). */
export function addTip(chart) {
  chart.over.append(Object.assign(document.createElement("div"), { className: "tip", hidden: true }));
  chart.over.addEventListener("pointermove", (event) => {
    if (event.pointerType !== "touch") return;
    const frame = chart.over.getBoundingClientRect();
    chart.setCursor({ left: event.clientX - frame.left, top: event.clientY - frame.top });
  });
}

/** Fill the box with what `parts(index)` gives of the point under the cursor; null hides it. */
export function moveTip(chart, parts) {
  const tip = chart.over.querySelector(".tip");
  if (!tip) return;
  const { idx, left } = chart.cursor;
  const told = idx === null || idx === undefined || left < 0 ? null : parts(idx);
  tip.hidden = told === null;
  if (told === null) return;
  tip.replaceChildren(...told);
  const room = chart.over.clientWidth - tip.offsetWidth;
  const beside = left > chart.over.clientWidth / 2 ? left - tip.offsetWidth - 12 : left + 12;
  tip.style.left = `${Math.max(0, Math.min(beside, room))}px`;
}

/** uPlot asks which points to draw beside the line: those between two gaps, which have no line. */
export function alone(chart, place) {
  const values = chart.data[place];
  const found = [];
  values.forEach((value, index) => {
    if (value !== null && (values[index - 1] ?? null) === null && (values[index + 1] ?? null) === null) found.push(index);
  });
  return found;
}
