// The service worker makes the portal installable, and opens the page of entries without a link (sw.js).

if ("serviceWorker" in navigator) {
  navigator.serviceWorker.register("/sw.js", { updateViaCache: "none" }).then(
    async () => {
      if (navigator.serviceWorker.controller || !/^\/factory\/[^/]+\/entries$/.test(location.pathname)) return;
      const { active } = await navigator.serviceWorker.ready;
      active.postMessage({ keep: location.pathname }); // the first visit was not its own
    },
    () => {}, // no link, or a browser that will not: the pages work without it
  );
}
