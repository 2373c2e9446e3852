// The words of scripts in the reader's language: the page brings them along, unless it is English.

const held = document.getElementById("words");
const WORDS = held ? JSON.parse(held.textContent) : {};
const plurals = new Intl.PluralRules(document.documentElement.lang);

function filled(text, values) {
  return text.replace(/%\((\w+)\)s|%%/g, (all, name) => (name ? values[name] : "%"));
}

/** A text with its values put in: gettext("%(count)s of them", { count: 2 }). */
export function gettext(text, values = {}) {
  return filled(WORDS[text] ?? text, values);
}

/** A text whose form depends on a number, which it has as %(num)s. */
export function ngettext(one, many, num, values = {}) {
  const forms = WORDS[one] ?? [one, many];
  return filled(plurals.select(num) === "one" ? forms[0] : forms[1], { num, ...values });
}
