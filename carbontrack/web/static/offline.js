// Without a link: the forms that open all the same.

const list = document.querySelector("[data-forms-list]");
for (const name of "caches" in window ? await caches.keys() : []) {
  if (!name.startsWith("ct-pages-")) continue;
  for (const request of await (await caches.open(name)).keys()) {
    const link = document.createElement("a");
    link.href = new URL(request.url).pathname;
    link.setAttribute("role", "button");
    link.textContent = document.querySelector("[data-forms]").dataset.title;
    list.append(link);
    list.parentElement.hidden = false;
  }
}
