// Numbers and times as web/present.py writes them, so that a value looks the same before and after its first update.

import { gettext } from "./words.js";

const NO_VALUE = "\u2013";
export const SECONDS_PER_HOUR = 3600;
const TIME_ZONE = document.documentElement.dataset.timeZone;

const LANGUAGE = document.documentElement.lang;
const LOCALE = { en: "en-US", sw: "sw-KE" }[LANGUAGE] ?? LANGUAGE; // of English the months of en-US, as the server has them
const RATES = {
  "kg/h": { title: gettext("kg/h"), factor: 3600, digits: 0 },
  "t/day": { title: gettext("t/day"), factor: 86.4, digits: 2 },
}; // as web/present.py
const RATE = RATES[document.documentElement.dataset.rateUnit] ?? RATES["kg/h"];

const numberFormats = new Map();

export function number(value, digits = 0) {
  if (value === null || value === undefined) return NO_VALUE;
  if (!numberFormats.has(digits)) {
    const options = { minimumFractionDigits: digits, maximumFractionDigits: digits };
    numberFormats.set(digits, new Intl.NumberFormat(LOCALE, options));
  }
  return numberFormats.get(digits).format(value);
}

/** A rate in kg/s as a number in the unit that the reader has chosen, for charts. */
export function rateNumber(kgPerSecond) {
  return kgPerSecond * RATE.factor;
}

/** A rate in kg/s in the unit that the reader has chosen; small ones with a decimal more. */
export function rateText(kgPerSecond) {
  if (kgPerSecond === null || kgPerSecond === undefined) return NO_VALUE;
  return number(kgPerSecond * RATE.factor, RATE.digits + (kgPerSecond >= 0.003 ? 0 : 1));
}

/** What that unit is called. */
export function rateUnit() {
  return RATE.title;
}

const clock = new Intl.DateTimeFormat(LOCALE, {
  timeZone: TIME_ZONE, hourCycle: "h23", month: "short", day: "2-digit", hour: "2-digit", minute: "2-digit", second: "2-digit",
});

function parts(date) {
  return Object.fromEntries(clock.formatToParts(date).map((part) => [part.type, part.value]));
}

/** "14:05:31" */
export function localTime(date) {
  const at = parts(date);
  return `${at.hour}:${at.minute}:${at.second}`;
}

/** "14:05" */
export function localMinute(date) {
  const at = parts(date);
  return `${at.hour}:${at.minute}`;
}

/** "23 Nov" */
export function localDay(date) {
  const at = parts(date);
  return `${at.day} ${at.month}`;
}

/** "23 Nov 14:05" */
export function localDateTime(date) {
  return `${localDay(date)} ${localMinute(date)}`;
}

export { TIME_ZONE };
