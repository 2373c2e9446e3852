// What the stream does not carry (today's sums, alerts, the ranking) comes from the page itself, once a minute.

const EVERY_MS = 60_000;

const SOON_MS = 1_500; // many alerts may come at once
const HASTY_MS = 2_000;

/**
 * Exchange the elements marked `data-refresh` for those of a new copy of the page; `after` is called when it is done.
 * While `isHasty` says so, every two seconds: somebody waits for an answer.
 */
export function keepFresh(after, isHasty = null) {
  let lastAt = Date.now();
  let soon = 0;

  async function refresh(isDue = false) {
    if (document.hidden || (isDue !== true && Date.now() - lastAt < EVERY_MS - 1_000)) return;
    lastAt = Date.now();
    let answer;
    try {
      answer = await fetch(location.href, { headers: { Accept: "text/html" } });
    } catch {
      return; // no network: the badge says so
    }
    if (answer.redirected) {
      location.reload(); // signed out meanwhile
      return;
    }
    if (!answer.ok) return;
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    for (const old of document.querySelectorAll("[data-refresh]")) {
      const fresh = page.getElementById(old.id);
      // What somebody is using stays as it is; the next copy comes in a minute.
      if (!fresh || old.contains(document.activeElement) || old.querySelector("details[open]")) continue;
      old.className = fresh.className;
      old.toggleAttribute("data-under-way", fresh.hasAttribute("data-under-way"));
      old.replaceChildren(...fresh.childNodes);
    }
    after();
  }

  setInterval(refresh, EVERY_MS);
  if (isHasty) setInterval(() => isHasty() && refresh(true), HASTY_MS);
  addEventListener("carbontrack-alert", () => {
    clearTimeout(soon);
    soon = setTimeout(() => refresh(true), SOON_MS);
  });
  document.addEventListener("visibilitychange", refresh);
}
