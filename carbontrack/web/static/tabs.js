// Tabs that do not fit on a phone move sideways: the current one is brought into sight, without moving the page.

for (const tabs of document.querySelectorAll("nav.tabs.sideways")) {
  const current = tabs.querySelector("[aria-current]");
  if (!current) continue;
  const room = (tabs.clientWidth - current.offsetWidth) / 2;
  tabs.scrollLeft += current.getBoundingClientRect().left - tabs.getBoundingClientRect().left - room;
}
