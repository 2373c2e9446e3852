// A report that is being made: the page looks every two seconds how far it is, and goes to the report when it is there.

const EVERY_MS = 2_000;

async function look() {
  try {
    const answer = await fetch(location.href, { headers: { Accept: "text/html" } });
    if (answer.redirected) {
      location.replace(answer.url);
      return;
    }
    if (answer.ok) {
      const page = new DOMParser().parseFromString(await answer.text(), "text/html");
      document.querySelector("[data-job]").replaceWith(page.querySelector("[data-job]"));
    }
  } catch {
    // There is no connection just now: it is looked again.
  }
  watch();
}

function watch() {
  if (document.querySelector("[data-job]").dataset.job === "working") setTimeout(look, EVERY_MS);
}

watch();
