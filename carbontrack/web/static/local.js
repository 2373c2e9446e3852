// What this browser keeps: entries that wait, and the photos of drafts (IndexedDB).

function done(request) {
  return new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });
}

let opened;

function database() {
  if (!opened) {
    const request = indexedDB.open("carbontrack", 1);
    request.onupgradeneeded = () => {
      request.result.createObjectStore("waiting", { keyPath: "key" });
      request.result.createObjectStore("photos");
    };
    opened = done(request);
  }
  return opened;
}

async function run(store, mode, work) {
  const transaction = (await database()).transaction(store, mode);
  const found = await done(work(transaction.objectStore(store)));
  if (mode === "readwrite" && transaction.commit) transaction.commit();
  return found;
}

/** Entries that wait, the oldest first. */
export async function waiting() {
  return (await run("waiting", "readonly", (store) => store.getAll())).sort((a, b) => a.at - b.at);
}

export const keepWaiting = (item) => run("waiting", "readwrite", (store) => store.put(item));
export const dropWaiting = (key) => run("waiting", "readwrite", (store) => store.delete(key));
export const keepPhoto = (draft, blob) => run("photos", "readwrite", (store) => store.put(blob, draft));
export const photoOf = (draft) => run("photos", "readonly", (store) => store.get(draft));
export const dropPhoto = (draft) => run("photos", "readwrite", (store) => store.delete(draft));
