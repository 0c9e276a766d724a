// What the page asks of the server: its models, and predictions of any number of pictures, in parts below its limits.

const PART = {files: 40, bytes: 25e6};
const OPEN = 3; // parts on the server at a time: enough for its workers, few to cancel
const POLL = 500; // milliseconds
const TRIES = 6; // of a request that gets no answer, after 1, 2, 4, … seconds
const LATER = [429, 502, 503, 504]; // a proxy's, too

export class Unreachable extends Error {}

let token = "";
let askForToken = async () => "";
export function onToken(ask) {
  askForToken = ask;
}

const headers = () => (token ? {authorization: `Bearer ${token}`} : {});

function pause(milliseconds, signal) {
  return new Promise((go, stop) => {
    const timer = setTimeout(go, milliseconds);
    signal?.addEventListener("abort", () => (clearTimeout(timer), stop(signal.reason)), {once: true});
  });
}

async function detail(answer) {
  const body = await answer.json().catch(() => ({}));
  return body.detail ?? `HTTP ${answer.status}`;
}

// Ask until there is an answer that is not "later"; `note` is told why one waits, and "" when that has ended. A stop
// breaks off a wait and a GET; a POST goes on until its answer, which names the task that is to be cancelled.
async function ask(path, options = {}, {note = () => {}, signal} = {}) {
  for (let failed = 0, refused = false; ; ) {
    signal?.throwIfAborted();
    let answer;
    try {
      answer = await fetch(path, {...options, headers: headers(), signal: options.method === "POST" ? undefined : signal});
    } catch (error) {
      signal?.throwIfAborted();
      if (++failed === TRIES) throw new Unreachable("the server does not answer");
      note("The server does not answer; trying again.");
      await pause(500 * 2 ** failed, signal);
      continue;
    }
    if (answer.status === 401) {
      token = await askForToken(refused);
      refused = true;
    } else if (LATER.includes(answer.status)) {
      const seconds = Number(answer.headers.get("retry-after")) || 5;
      note(`The server says: ${await detail(answer)} (in ${seconds} s).`);
      await pause(seconds * 1000, signal);
    } else {
      note("");
      return answer;
    }
  }
}

async function answered(answer) {
  if (!answer.ok) throw new Error(await detail(answer));
  return answer.json();
}

export async function models(note) {
  return answered(await ask("public_models", {}, {note}));
}

export function parts(pictures, limits) {
  const found = [];
  let size = Infinity;
  for (const picture of pictures) {
    size += picture.file.size + 1000; // and the form's lines around it
    const last = found.at(-1);
    const full = last?.length === Math.min(PART.files, limits.request_images);
    if (size > Math.min(PART.bytes, limits.request_mb * 1e6) || full) {
      found.push([picture]);
      size = picture.file.size + 1000;
    } else last.push(picture);
  }
  return found;
}

// Say why a picture cannot be sent, or null. A file that was moved or changed after it was chosen cannot be read.
async function obstacle({file}, limits) {
  if (file.size > limits.image_mb * 1e6) return `more than ${limits.image_mb} MB`;
  try {
    await file.slice(0, 1).arrayBuffer();
    return null;
  } catch {
    return "the file can no longer be read: moved, changed or deleted";
  }
}

// Send a part, and give each picture's result to `tell` as it comes. Returns, once the part has been sent, the promise
// `ended` of all its results.
async function send(model, part, {tell, note, signal}) {
  const form = new FormData();
  for (const picture of part) form.append("files", picture.file, picture.name);
  const path = `predict_bulk?model_id=${encodeURIComponent(model)}`;
  const {task_uuid: task} = await answered(await ask(path, {method: "POST", body: form}, {note, signal}));
  const follow = async () => {
    const told = new Set();
    for (;;) {
      const answer = await ask(`from_task/${task}`, {}, {note, signal});
      const body = await answered(answer);
      for (const item of answer.status === 202 ? body.results : body) {
        if (!told.has(item.index)) tell(part[item.index], item);
        told.add(item.index);
      }
      if (answer.status === 200) return;
      await pause(POLL, signal);
    }
  };
  const forget = () => fetch(`from_task/${task}`, {method: "DELETE", keepalive: true, headers: headers()}).catch(() => {});
  return {ended: follow().finally(forget)}; // the page has what it wants; nothing stays on the server
}

// Predict pictures ({file, name}); `tell(picture, item)` gets what the API says of each, an `error` too. Rejects where it
// is stopped, or the server is gone: what has no item then still waits.
export async function predict(model, pictures, limits, {tell, note, signal}) {
  const open = new Set(), told = new Set();
  const say = (picture, item) => (told.add(picture), tell(picture, item));
  const failed = (part, error) => {
    if (signal.aborted || error instanceof Unreachable) throw error;
    for (const picture of part) if (!told.has(picture)) say(picture, {error: error.message});
  };
  for (const part of parts(pictures, limits)) {
    const good = [];
    for (const picture of part) {
      const error = await obstacle(picture, limits);
      if (error) say(picture, {error});
      else good.push(picture);
    }
    if (!good.length) continue;
    try {
      const {ended} = await send(model, good, {tell: say, note, signal});
      const following = ended.catch((error) => failed(good, error)).finally(() => open.delete(following));
      following.catch(() => {}); // heard below, or not at all after a stop
      open.add(following);
    } catch (error) {
      failed(good, error);
    }
    if (open.size >= OPEN) await Promise.race(open);
  }
  await Promise.all(open);
}
