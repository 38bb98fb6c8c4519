// Conversations in the browser's IndexedDB. They never leave the browser but as requests to the server.

const NAME = "llamahome";
const TABLE = "conversations";
let base = null;
let memory = null;

function asked(request) {
  return new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });
}

/** Opens it. Returns why conversations will not outlive the page, if they will not. */
export async function open() {
  try {
    const request = indexedDB.open(NAME, 1);
    request.onupgradeneeded = () => request.result.createObjectStore(TABLE, { keyPath: "id" });
    base = await asked(request);
    return null;
  } catch (error) {
    memory = new Map();
    return `This browser does not let pages store anything (${error?.message ?? error}): chats are lost when the page closes.`;
  }
}

function table(mode) {
  return base.transaction(TABLE, mode).objectStore(TABLE);
}

/** All conversations, the newest first. */
export async function all() {
  const found = memory ? [...memory.values()] : await asked(table("readonly").getAll());
  return found.sort((a, b) => b.updated - a.updated);
}

export async function put(talk) {
  if (memory) memory.set(talk.id, talk);
  // A copy by JSON: what is being changed meanwhile is not half stored.
  else await asked(table("readwrite").put(JSON.parse(JSON.stringify(talk))));
}

export async function remove(id) {
  if (memory) memory.delete(id);
  else await asked(table("readwrite").delete(id));
}
