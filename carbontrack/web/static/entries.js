// The forms of energy and tea on a phone with a weak link: what is typed is never lost, a slip is asked about as one
// types, photos are made small, and what cannot be sent waits (outbox.js). Without this script the forms work as forms.

import { number } from "./format.js";
import { dropPhoto, dropWaiting, keepPhoto, photoOf } from "./local.js";
import { Outbox, newKey, send } from "./outbox.js";
import { exchange, shownAt, shrunk } from "./photo.js";
import { gettext } from "./words.js";

const DAY_MS = 86_400_000;
const NEAR = 2.2; // so many times the usual is still near it
const SLIPS = [10, 0.1, 100, 0.01, 1000, 0.001];
const LEAF_FOR_TEA = [3.5, 6];

const root = document.querySelector("[data-entries]");
const { user, factory, offset } = root.dataset;
const mostBytes = Number(root.dataset.mostBytes);
const zone = document.documentElement.dataset.timeZone;
const forms = [...root.querySelectorAll("form[data-entry]")];
const draftNotice = root.querySelector("[data-draft]");

// --- what is typed, as numbers and days

/** "1,250.5" or "1 250"; "12,5" has a decimal comma. NaN for what is no number. */
function typedNumber(text) {
  const plain = text.replace(/[\s\u00a0]/g, "");
  if (plain === "") return NaN;
  return Number(/^\d+,\d{1,2}$/.test(plain) ? plain.replace(",", ".") : plain.replaceAll(",", ""));
}

function localDay(ago) {
  return new Intl.DateTimeFormat("en-CA", { timeZone: zone }).format(new Date(Date.now() - ago * DAY_MS));
}

function value(form, name) {
  return form.elements[name]?.value ?? "";
}

/** First and last day of a form. */
function daysOf(form) {
  const day = value(form, "day");
  if (day) return [day, day];
  const first = value(form, "first_day") || localDay(0);
  return [first, value(form, "last_day") || first];
}

function dayCount(form) {
  const [first, last] = daysOf(form).map((day) => Date.parse(day));
  return Math.max(1, Math.round((last - first) / DAY_MS) + 1 || 1);
}

/** The choices of a day are those of now: a page may be open, or a copy, since yesterday. */
function setDays(form) {
  for (const choice of form.querySelectorAll("[data-day]")) choice.value = localDay(Number(choice.dataset.day));
  for (const input of form.querySelectorAll('[type="date"]')) input.max = localDay(0);
}

function typeOf(form) {
  return form.querySelector('[name="energy_type"]:checked');
}

function unitOf(form) {
  return form.querySelector(`[name="unit_${typeOf(form).value}"]:checked`);
}

// --- the question about a slip

function judged(amount, perDay, usual, unit) {
  if (!usual.usual || !(perDay > 0)) return null;
  const middle = Number(usual.usual);
  if (perDay > Number(usual.below) && perDay < Number(usual.above)) return null;
  const off = (slip) => Math.abs(Math.log(perDay / slip / middle));
  const [slip] = [...SLIPS].sort((a, b) => off(a) - off(b));
  const guess = off(slip) < Math.log(NEAR) ? Number((amount / slip).toPrecision(10)) : null;
  const times = perDay / middle;
  const words = {
    amount: number(perDay, digits(perDay)), unit, low: number(Number(usual.low), digits(Number(usual.low))),
    high: number(Number(usual.high), digits(Number(usual.high))), times: number(times > 1 ? times : 1 / times, 0),
  };
  const text = times > 1
    ? gettext("%(amount)s %(unit)s a day is %(times)s times the usual. Usual here: %(low)s to %(high)s %(unit)s a day.", words)
    : gettext("%(amount)s %(unit)s a day is %(times)s times less than usual. Usual here: %(low)s to %(high)s %(unit)s a day.", words);
  return { text, guess };
}

function digits(amount) {
  return amount >= 100 || Number.isInteger(amount) ? 0 : 1;
}

function judgedEnergy(form) {
  const type = typeOf(form).dataset;
  const amount = typedNumber(value(form, "amount"));
  const inUnit = Number(unitOf(form).dataset.factor) || typedNumber(value(form, "stack_density_kg_per_m3"));
  const base = amount * inUnit;
  const told = form.querySelector("[data-comes-to]");
  told.textContent = base > 0 && (inUnit !== 1 || base >= 1000) ? gettext("= %(amount)s %(unit)s", { amount: number(base, digits(base)), unit: type.baseTitle }) : "";
  const found = judged(amount, base / dayCount(form), type, type.baseTitle);
  return found && { ...found, input: form.elements.amount };
}

function judgedTea(form) {
  for (const name of ["green_leaf_kg", "made_tea_kg"]) {
    const input = form.elements[name];
    const amount = typedNumber(input.value);
    const found = judged(amount, amount / dayCount(form), input.dataset, "kg");
    if (found) return { ...found, input };
  }
  const ratio = typedNumber(value(form, "green_leaf_kg")) / typedNumber(value(form, "made_tea_kg"));
  if (!Number.isFinite(ratio) || ratio === 0 || (ratio >= LEAF_FOR_TEA[0] && ratio <= LEAF_FOR_TEA[1])) return null;
  return { text: gettext("%(ratio)s kg of leaf for a kg of tea; 4 to 5 are usual.", { ratio: number(ratio, 1) }), guess: null };
}

function showGuard(form, found) {
  const guard = form.querySelector("[data-guard]");
  const use = guard.querySelector("[data-guard-use]");
  const confirm = guard.querySelector('[name="confirmed"]');
  if (found) form.querySelector("[data-asked]")?.remove(); // the server's own question, in a page that it sent back
  if (guard.hidden === !found && guard.dataset.of === (found?.text ?? "")) return;
  guard.hidden = !found;
  guard.dataset.of = found?.text ?? "";
  confirm.disabled = !found;
  confirm.checked = false;
  use.hidden = !found?.guess;
  if (!found) return;
  const didYouMean = found.guess ? gettext("Did you mean %(amount)s?", { amount: number(found.guess, digits(found.guess)) }) : gettext("Is it right?");
  guard.querySelector("[data-guard-text]").textContent = `${found.text} ${didYouMean}`;
  use.textContent = found.guess ? gettext("Use %(amount)s", { amount: number(found.guess, digits(found.guess)) }) : "";
  use.onclick = () => {
    found.input.value = String(found.guess);
    found.input.focus();
    changed(form);
  };
}

function judge(form) {
  showGuard(form, form.dataset.entry === "energy" ? judgedEnergy(form) : judgedTea(form));
}

// --- filling in, and drafts

function fieldsOf(form) {
  const fields = {};
  for (const [name, given] of new FormData(form)) {
    if (typeof given === "string" && name !== "confirmed") fields[name] = given;
  }
  return fields;
}

function fill(form, fields) {
  const { day, unit, ...others } = fields;
  if (others.energy_type) form.elements.energy_type.value = others.energy_type;
  if (unit) others[`unit_${others.energy_type}`] = unit;
  for (const [name, given] of Object.entries(others)) {
    if (form.elements[name] && form.elements[name].type !== "file") form.elements[name].value = given;
  }
  showOrigin(form);
  if (day !== undefined) {
    const isThere = [...form.querySelectorAll('[name="day"]')].some((choice) => choice.value === day);
    form.elements.day.value = isThere ? day : "";
    if (!isThere) form.elements.first_day.value = day;
  }
}

/** Where the wood comes from is seen as soon as something is said of it. */
function showOrigin(form) {
  const place = form.querySelector("[data-origin]");
  if (place && ORIGIN.some((name) => value(form, name) !== "" && value(form, name) !== "unknown")) place.open = true;
}

function draftName(form) {
  return `carbontrack-draft:${user}:${factory}:${form.dataset.entry}`;
}

const ORIGIN = ["wood_origin", "supplier", "species", "plot", "harvested_on", "permit"];
const TYPED = ["amount", "evidence", "green_leaf_kg", "made_tea_kg"];
const OF_ONE_DELIVERY = [...TYPED, "supplier", "plot", "harvested_on", "permit"];

function saveDraft(form) {
  const fields = fieldsOf(form);
  if (TYPED.some((name) => fields[name])) localStorage.setItem(draftName(form), JSON.stringify(fields));
  else localStorage.removeItem(draftName(form));
}

async function dropDraft(form) {
  localStorage.removeItem(draftName(form));
  await dropPhoto(draftName(form)).catch(() => {});
}

async function offerDraft(form) {
  if (root.querySelector("[aria-invalid]") || location.search) return; // the server has filled it in
  const held = localStorage.getItem(draftName(form));
  const photo = await photoOf(draftName(form)).catch(() => null);
  if (held) fill(form, JSON.parse(held));
  if (photo) await showPhoto(form, photo);
  if (held || photo) draftNotice.hidden = false;
}

function changed(form) {
  judge(form);
  saveDraft(form);
}

async function clear(form) {
  const unit = form.dataset.entry === "energy" ? [typeOf(form).value, unitOf(form).value] : null;
  form.reset();
  for (const input of form.querySelectorAll("input:not([type=radio]):not([type=checkbox])")) {
    if (OF_ONE_DELIVERY.includes(input.name)) input.value = "";
  }
  if (unit) fill(form, { energy_type: unit[0], unit: unit[1] });
  setDays(form);
  form.elements.day.value = localDay(0);
  sayErrors(form, []);
  await showPhoto(form, null);
  await dropDraft(form);
  draftNotice.hidden = true;
  judge(form);
}

// --- the photo

async function showPhoto(form, file, before = 0, size = "") {
  const input = form.elements.photo;
  if (!input) return;
  const place = form.querySelector("[data-photo]");
  exchange(input, file && (file instanceof File ? file : new File([file], "delivery-note.jpg", { type: file.type })));
  place.hidden = !file;
  if (!file) return;
  place.querySelector("[data-photo-shown]").src = await shownAt(file);
  const words = { size: kB(file.size), before: kB(before), pixels: size };
  place.querySelector("[data-photo-told]").textContent = before
    ? gettext("%(size)s kB instead of %(before)s kB, %(pixels)s.", words)
    : gettext("%(size)s kB.", words);
}

function kB(bytes) {
  return number(bytes / 1000, 0);
}

async function takePhoto(input, shown) {
  const [chosen] = input.files;
  if (!chosen) return;
  sayErrors(input.form, []);
  try {
    const { file, width, height } = await shrunk(chosen, mostBytes);
    exchange(input, file);
    await shown(file, chosen.size, `${width} × ${height}`);
  } catch {
    exchange(input, null);
    sayErrors(input.form, [{ field: "photo", message: gettext("This is no photo that can be read. Choose another.") }]);
  }
}

// --- keeping

function sayErrors(form, errors) {
  for (const old of form.querySelectorAll("[data-said]")) old.remove();
  for (const input of form.querySelectorAll("[aria-invalid]")) {
    input.removeAttribute("aria-invalid");
    input.removeAttribute("aria-describedby");
  }
  let first = null;
  for (const { field, message } of errors) {
    const name = /^(period|timestamp)/.test(field) ? "first_day" : field;
    const input = form.querySelector(`[name="${name}"]:not([type=radio])`) ?? form.querySelector("input");
    const said = document.createElement("small");
    said.className = "field-error";
    said.dataset.said = "";
    said.id = `said-${form.dataset.entry ?? "photo"}-${name}`;
    said.textContent = message;
    input.after(said);
    const part = input.closest("details");
    if (part) part.open = true;
    input.setAttribute("aria-invalid", "true");
    input.setAttribute("aria-describedby", said.id);
    first ??= input;
  }
  first?.focus();
}

function bodyOf(form) {
  const [first, last] = daysOf(form);
  const after = new Date(Date.parse(last) + DAY_MS).toISOString().slice(0, 10);
  const body = { factory_id: Number(factory), period_start: `${first}T00:00:00${offset}`, period_end: `${after}T00:00:00${offset}`, evidence: value(form, "evidence") };
  const give = (name, number) => Number.isNaN(number) || (body[name] = number);
  if (form.querySelector('[name="confirmed"]:checked')) body.confirmed = true;
  if (form.dataset.entry === "production") {
    for (const name of ["green_leaf_kg", "made_tea_kg"]) give(name, typedNumber(value(form, name)));
    return body;
  }
  Object.assign(body, { energy_type: typeOf(form).value, unit: unitOf(form).value });
  body.amount = typedNumber(value(form, "amount"));
  give("stack_id", value(form, "stack_id") ? Number(value(form, "stack_id")) : NaN);
  if (body.energy_type === "firewood") {
    give("moisture", typedNumber(value(form, "moisture")) / 100);
    body.sustainability = value(form, "sustainability");
    for (const name of ORIGIN) if (value(form, name)) body[name] = value(form, name);
    if (body.unit === "m3_stacked") give("stack_density_kg_per_m3", typedNumber(value(form, "stack_density_kg_per_m3")));
  }
  return body;
}

function whatOf(form, body) {
  const [first, last] = daysOf(form);
  const days = first === last ? first : `${first} – ${last}`;
  if (form.dataset.entry === "production") {
    const parts = [[body.made_tea_kg, gettext("kg made tea")], [body.green_leaf_kg, gettext("kg green leaf")]];
    return `${parts.filter(([mass]) => mass !== undefined).map(([mass, unit]) => `${number(mass, digits(mass))} ${unit}`).join(", ")}, ${days}`;
  }
  const titles = [typeOf(form), unitOf(form)].map((input) => input.parentElement.textContent.trim());
  return `${titles[0]}: ${number(body.amount, digits(body.amount))} ${titles[1]}, ${days}`;
}

/** What can be seen without the server. */
function missing(form, body) {
  if (form.dataset.entry === "energy" && !(body.amount > 0)) return [{ field: "amount", message: gettext("Write a number of more than 0, such as 1250.") }];
  if (form.dataset.entry === "production" && body.green_leaf_kg === undefined && body.made_tea_kg === undefined) {
    return [{ field: "made_tea_kg", message: gettext("Write how much leaf, how much tea, or both.") }];
  }
  return [];
}

async function keep(form) {
  const body = bodyOf(form);
  const wrong = missing(form, body);
  sayErrors(form, wrong);
  if (wrong.length) return;
  const guard = form.querySelector("[data-guard]");
  if (!guard.hidden && !body.confirmed) {
    guard.querySelector('[name="confirmed"]').focus();
    return;
  }
  const item = {
    key: newKey(), user, factory, kind: form.dataset.entry, body, fields: fieldsOf(form), what: whatOf(form, body),
    photo: form.elements.photo?.files[0] ?? null, entryId: null, state: "", text: "", tried: null, at: Date.now(),
  };
  await outbox.add(item);
  const found = navigator.onLine ? await send(item) : { state: "later" };
  if ((found.state === "question" || found.state === "wrong") && !item.entryId) {
    await dropWaiting(item.key);
    if (found.state === "question") showGuard(form, { text: found.text, guess: null });
    else sayErrors(form, found.errors.length ? found.errors : [{ field: "amount", message: found.text }]);
    if (found.state === "question") guard.querySelector('[name="confirmed"]').focus();
    return;
  }
  await clear(form);
  if (found.state === "kept") {
    sayKept(item, found.entry);
    return;
  }
  if (found.state === "later") outbox.later();
  const told = {
    later: gettext("It is kept in this phone and sent by itself as soon as there is a connection."),
    "sign-in": gettext("You are signed out. Sign in again: nothing is lost."),
  };
  await outbox.show(told[found.state] ?? found.text);
  root.querySelector("[data-outbox]").scrollIntoView({ block: "nearest" });
}

function sayKept(item, entry) {
  const place = document.querySelector("[data-kept]");
  const toast = document.createElement("div");
  toast.className = "toast";
  toast.dataset.severity = "over";
  const text = document.createElement("strong");
  text.textContent = gettext("Kept: %(what)s", { what: item.what });
  const undo = document.createElement("button");
  undo.type = "button";
  undo.className = "secondary outline small";
  undo.textContent = gettext("Undo");
  undo.addEventListener("click", () => takeBack(item, entry, toast));
  toast.append(text, undo);
  place.replaceChildren(toast);
  refreshList();
}

async function takeBack(item, entry, toast) {
  const kind = item.kind === "energy" ? "energy-entries" : "production-entries";
  let answer = null;
  try {
    answer = await fetch(`/api/${kind}/${entry.id}/?reason=${encodeURIComponent("undone right after it was entered")}`, { method: "DELETE" });
  } catch {
    // said below
  }
  toast.replaceChildren(answer?.ok ? gettext("Undone. It is in the form again.") : gettext("It could not be undone now. Withdraw it in the list below."));
  if (!answer?.ok) return;
  backToForm(item);
  refreshList();
}

function backToForm(item) {
  const form = forms.find((it) => it.dataset.entry === item.kind);
  fill(form, item.fields);
  if (item.photo) showPhoto(form, item.photo);
  changed(form);
  form.querySelector("input[inputmode]").focus();
}

async function refreshList() {
  let answer;
  try {
    answer = await fetch(location.pathname, { headers: { Accept: "text/html" } });
  } catch {
    return;
  }
  if (!answer.ok || answer.redirected) return;
  const page = new DOMParser().parseFromString(await answer.text(), "text/html");
  for (const id of ["recent", "last-values"]) {
    const [old, fresh] = [document.getElementById(id), page.getElementById(id)];
    if (old && fresh) old.replaceChildren(...fresh.childNodes);
  }
  for (const form of forms) {
    for (const input of form.querySelectorAll("[data-usual], [name=energy_type], [inputmode]")) {
      const fresh = page.querySelector(`form[data-entry="${form.dataset.entry}"] [name="${input.name}"]${input.type === "radio" ? `[value="${input.value}"]` : ""}`);
      for (const name of ["usual", "low", "high", "below", "above"]) {
        if (fresh?.dataset[name]) input.dataset[name] = fresh.dataset[name];
      }
    }
  }
}

// --- the page

const outbox = new Outbox(root.querySelector("[data-outbox]"), { user, factory, edit: backToForm, kept: sayKept });

function sayOffline() {
  const isOffline = !navigator.onLine || document.documentElement.dataset.copy !== undefined;
  document.querySelector("[data-offline]").hidden = !isOffline;
}

for (const form of forms) {
  form.noValidate = true;
  setDays(form);
  form.addEventListener("input", (event) => event.target.name !== "confirmed" && changed(form));
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const button = form.querySelector("[type=submit]");
    if (button.getAttribute("aria-busy") === "true") return;
    button.setAttribute("aria-busy", "true");
    try {
      await keep(form);
    } catch {
      form.submit(); // this browser keeps nothing: as a form, then
    } finally {
      button.removeAttribute("aria-busy");
    }
  });
  await offerDraft(form);
  judge(form);
}
root.addEventListener("click", (event) => {
  const chip = event.target.closest("[data-fill]");
  if (!chip) return;
  event.preventDefault();
  const form = chip.closest("form");
  fill(form, JSON.parse(chip.dataset.fill));
  changed(form);
  form.elements.amount.focus();
});
document.addEventListener("change", (event) => {
  const input = event.target;
  if (input.name !== "photo" || !input.files?.length) return;
  const main = input.closest("form[data-entry]");
  takePhoto(input, async (file, before, size) => {
    if (!main) return;
    await showPhoto(main, file, before, size);
    await keepPhoto(draftName(main), file).catch(() => {});
  });
});
root.querySelector("[data-photo-drop]").addEventListener("click", async () => {
  const form = forms[0];
  await showPhoto(form, null);
  await dropPhoto(draftName(form)).catch(() => {});
  form.elements.photo.focus();
});
root.querySelector("[data-draft-drop]").addEventListener("click", async () => {
  for (const form of forms) await clear(form);
  forms[0].elements.amount.focus();
});
document.addEventListener("visibilitychange", () => document.hidden || forms.forEach(setDays));
addEventListener("online", () => {
  delete document.documentElement.dataset.copy;
  sayOffline();
});
addEventListener("offline", sayOffline);
sayOffline();
root.dataset.ready = "";
outbox.sendAll();
