// What the page asks of the server: its models, and predictions of any number of pictures, in parts below its limits.

const PART = {files: 40, bytes: 25e6};
const OPEN = 3; // parts on the server at a time: enough for its workers, few to cancel
const POLL = 500; // milliseconds
const TRIES = 6; // of a request that gets no answer, after 1, 2, 4, … seconds

let token = "";
let askForToken = async () => "";
export function onToken(ask) {
  askForToken = ask;
}

function pause(milliseconds, signal) {
  return new Promise((go, stop) => {
    const timer = setTimeout(go, milliseconds);
    signal?.addEventListener("abort", () => (clearTimeout(timer), stop(signal.reason)), {once: true});
  });
}

// Ask until there is an answer that is not "later"; `note` is told why one waits, and "" when that has ended.
async function ask(path, options = {}, note = () => {}) {
  for (let failed = 0; ; ) {
    options.signal?.throwIfAborted();
    let answer;
    try {
      answer = await fetch(path, {...options, headers: token ? {authorization: `Bearer ${token}`} : {}});
    } catch (error) {
      if (options.signal?.aborted) throw error;
      if (++failed === TRIES) throw new Error("the server does not answer");
      note("The server does not answer; trying again.");
      await pause(500 * 2 ** failed, options.signal);
      continue;
    }
    if (answer.status === 401) {
      token = await askForToken();
    } else if (answer.status === 429 || answer.status === 503) {
      const {detail} = await answer.json();
      const seconds = Number(answer.headers.get("retry-after")) || 5;
      note(`The server says: ${detail} (in ${seconds} s).`);
      await pause(seconds * 1000, options.signal);
    } else {
      note("");
      return answer;
    }
  }
}

async function answered(answer) {
  if (!answer.ok) throw new Error((await answer.json()).detail);
  return answer.json();
}

export async function models(note) {
  return answered(await ask("public_models", {}, note));
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
async function obstacle(picture, limits) {
  if (picture.file.size > limits.image_mb * 1e6) return `more than ${limits.image_mb} MB`;
  try {
    await picture.file.slice(0, 1).arrayBuffer();
    return null;
  } catch {
    return "the file can no longer be read: moved, changed or deleted";
  }
}

// Send a part, and give each picture's result to `tell` as it comes. Returns a promise for when the part has been sent;
// its `ended` for when all its results are there.
async function send(model, part, {tell, note, signal}) {
  const form = new FormData();
  for (const picture of part) form.append("files", picture.file, picture.name);
  const path = `predict_bulk?model_id=${encodeURIComponent(model)}`;
  const {task_uuid: task} = await answered(await ask(path, {method: "POST", body: form, signal}, note));
  const forget = () => // the page has what it wants; nothing stays on the server
    fetch(`from_task/${task}`, {method: "DELETE", keepalive: true, headers: token ? {authorization: `Bearer ${token}`} : {}});
  const follow = async () => {
    const told = new Set();
    for (;;) {
      const answer = await ask(`from_task/${task}`, {signal}, note);
      const body = await answered(answer);
      for (const item of answer.status === 202 ? body.results : body) {
        if (!told.has(item.index)) tell(part[item.index], item);
        told.add(item.index);
      }
      if (answer.status === 200) return;
      await pause(POLL, signal);
    }
  };
  return {ended: follow().finally(() => forget().catch(() => {}))};
}

// Predict pictures ({file, name}); `tell(picture, item)` gets what the API says of each, an `error` too.
export async function predict(model, pictures, limits, {tell, note, signal}) {
  const open = new Set();
  const failed = (part, error) => {
    if (signal.aborted) throw signal.reason;
    for (const picture of part) if (!picture.item) tell(picture, {error: error.message});
  };
  for (const part of parts(pictures, limits)) {
    const good = [];
    for (const picture of part) {
      const error = await obstacle(picture, limits);
      if (error) tell(picture, {error});
      else good.push(picture);
    }
    if (!good.length) continue;
    try {
      const {ended} = await send(model, good, {tell, note, signal});
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
