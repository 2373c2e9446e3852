// The service worker: static files out of the cache, and the page of entries without a link. The server puts VERSION
// and SHELL (the files to keep) before it. What it never keeps: answers of the API, the live stream, what is sent, and
// any page but that of entries, of which it has one person's copy at a time.

const STATIC = `ct-static-${VERSION}`;
const PAGES = "ct-pages-"; // and whose
const OFFLINE = "/offline";
const PATIENCE_MS = 6_000; // with the network, where there is a copy
const ENTRIES = /^\/factory\/[^/]+\/entries$/;

let signedOut = 0; // grows with every sign-in and sign-out: what was on its way then is not kept

addEventListener("install", (event) => {
  event.waitUntil(prepare());
});
addEventListener("activate", (event) => {
  event.waitUntil(clients.claim());
});
addEventListener("message", (event) => {
  const path = event.data?.keep;
  if (typeof path === "string" && ENTRIES.test(path)) event.waitUntil(fetch(path).then((answer) => keepCopy(path, answer, signedOut)));
});
addEventListener("fetch", (event) => {
  const { request } = event;
  const url = new URL(request.url);
  if (url.origin !== location.origin) return;
  if (request.method === "POST" && (url.pathname === "/logout" || url.pathname === "/login")) {
    event.waitUntil(forgetPages());
    return;
  }
  if (request.method !== "GET") return;
  if (url.pathname.startsWith("/static/")) {
    event.respondWith(url.pathname.startsWith("/static/~") ? fromCache(request) : fromNetwork(request));
  } else if (ENTRIES.test(url.pathname) && isPage(request)) {
    event.respondWith(entriesPage(event, url));
  } else if (request.mode === "navigate") {
    event.respondWith(fetch(request).catch(() => caches.match(OFFLINE)));
  }
});

async function prepare() {
  const cache = await caches.open(STATIC);
  await cache.addAll(SHELL.map((url) => new Request(url, { cache: "no-cache" })));
  await cache.put(OFFLINE, await fetch(OFFLINE, { credentials: "omit" })); // nobody's
  await skipWaiting(); // the files have their versions in their addresses, so open pages go on as they are
}

function isPage(request) {
  return request.mode === "navigate" || (request.headers.get("Accept") ?? "").includes("text/html");
}

async function fromCache(request) {
  const kept = await caches.match(request);
  if (kept) return kept;
  const answer = await fetch(request);
  if (answer.ok) await (await caches.open(STATIC)).put(request, answer.clone());
  return answer;
}

async function fromNetwork(request) {
  try {
    return await fetch(request);
  } catch (error) {
    const kept = (await (await caches.open(STATIC)).match(request)) ?? (await caches.match(request));
    if (kept) return kept;
    throw error;
  }
}

async function entriesPage(event, url) {
  const copy = await copyOf(url.pathname);
  const since = signedOut;
  const answering = fetch(event.request).then(async (answer) => {
    if (answer.type === "opaqueredirect" || answer.redirected) await forgetPages(); // the session has ended
    else if (!url.search) event.waitUntil(keepCopy(url.pathname, answer.clone(), since));
    return answer;
  });
  if (!copy) return answering.catch(() => caches.match(OFFLINE));
  answering.catch(() => {});
  const late = new Promise((resolve) => setTimeout(resolve, PATIENCE_MS, copy));
  return Promise.race([answering.catch(() => copy), late]);
}

async function keepCopy(path, answer, since) {
  const person = answer.headers.get("Carbontrack-Person");
  if (!answer.ok || answer.redirected || !person) return;
  const text = await answer.text();
  if (text.includes('id="notice"') || since !== signedOut) return; // a notice is shown once
  const mine = PAGES + person;
  for (const name of await caches.keys()) {
    // What an older version kept was for the copy that goes now.
    if ((name.startsWith(PAGES) && name !== mine) || (name.startsWith("ct-static-") && name !== STATIC)) await caches.delete(name);
  }
  const headers = {};
  for (const name of ["Content-Type", "Content-Security-Policy", "X-Content-Type-Options", "Referrer-Policy"]) {
    if (answer.headers.has(name)) headers[name] = answer.headers.get(name);
  }
  await (await caches.open(mine)).put(path, new Response(text, { headers }));
}

/** The copy of a page, which says of itself that it is one. */
async function copyOf(path) {
  for (const name of await caches.keys()) {
    const found = name.startsWith(PAGES) && (await (await caches.open(name)).match(path));
    if (found) return new Response((await found.text()).replace("<html ", "<html data-copy "), { headers: found.headers });
  }
  return null;
}

async function forgetPages() {
  signedOut += 1;
  for (const name of await caches.keys()) {
    if (name.startsWith(PAGES)) await caches.delete(name);
  }
}
