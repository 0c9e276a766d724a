// The page: which pictures there are, what has been said of them, and what a person can do.

import * as details from "./details.js";
import * as server from "./server.js";
import * as words from "./said.js";

const $ = (id) => document.getElementById(id);
const make = (tag, className, ...children) => {
  const element = document.createElement(tag);
  element.className = className;
  element.append(...children);
  return element;
};

const pictures = [];
let cards = {}, limits = {}, notice = "";
let running = null; // an AbortController
let added = ""; // what is to be said of the files that were chosen last
let arranged = []; // the pictures in the order in which they are shown

class Picture {
  said = {}; // by model, what the API says: going from one model to another and back asks nothing again

  constructor(file, name) {
    Object.assign(this, {file, name, place: pictures.length, url: URL.createObjectURL(file)});
    this.tile = tileOf(this);
  }

  get item() {
    return this.said[$("model").value];
  }
}

function symbol(name) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  const use = document.createElementNS("http://www.w3.org/2000/svg", "use");
  use.setAttribute("href", `#${name}`);
  svg.setAttribute("aria-hidden", "true");
  svg.append(use);
  return svg;
}

function paint(picture) {
  const kind = words.kind(picture), {item, name, tile} = picture;
  tile.className = kind;
  const said = make("span", "said", symbol(kind), words.word(picture));
  const known = kind === "melanoma" || kind === "other";
  const share = make("span", "share", known ? words.share(picture) : "");
  const below = make("span", "name", kind === "failed" ? `${name}: ${item.error}` : name);
  tile.firstChild.lastChild.replaceChildren(said, share, below);
}

function tileOf(picture) {
  const image = make("img", "");
  image.loading = "lazy";
  image.decoding = "async";
  image.alt = "";
  image.src = picture.url;
  image.addEventListener("error", () => image.classList.add("broken"));
  const button = make("button", "", make("span", "thumb", image, make("span", "corner")), make("span", "text"));
  button.type = "button";
  button.addEventListener("click", () => details.show(picture, () => arranged));
  return make("li", "", button);
}

function arrange() {
  const focused = document.activeElement;
  arranged = words.ordered(pictures, $("order").value);
  $("pictures").replaceChildren(...arranged.map(({tile}) => tile));
  if ($("pictures").contains(focused)) focused.focus();
}

function counted(count, one, many = `${one}s`) {
  return `${count.toLocaleString("en")} ${count === 1 ? one : many}`;
}

function say(text) {
  if ($("status").textContent !== text) $("status").textContent = text;
}

// Set everything that follows from the state: buttons, legend, what is left to do.
function settle() {
  const waiting = pictures.filter(({item}) => !item).length;
  const known = pictures.some(({item}) => item);
  $("predict").textContent = running ? "Stop" : "Predict";
  $("predict").disabled = !running && !(waiting && $("model").value);
  $("clear").disabled = Boolean(running) || !pictures.length;
  $("save").disabled = Boolean(running) || !known;
  $("model").disabled = Boolean(running) || !$("model").options.length;
  $("progress").hidden = !running;
  $("drop").hidden = Boolean(pictures.length);
  const count = {};
  for (const picture of pictures) {
    const kind = words.kind(picture);
    count[kind] = (count[kind] ?? 0) + 1;
  }
  const legend = [
    ["melanoma", "melanoma"], ["other", count.other ? words.otherClasses(cards[$("model").value]) : ""],
    ["unfamiliar", "unlike the pictures that the model learnt from: no answer counts"], ["failed", "no prediction"],
  ].filter(([kind]) => count[kind]);
  $("legend").hidden = !legend.length;
  $("legend").replaceChildren(...legend.map(([kind, text]) => make("span", kind, symbol(kind), `${count[kind]} ${text}`)));
}

// Add what was chosen or dropped, [{file, name}]; `lost` files could not be read.
function add(found, lost = 0) {
  const good = found.filter(({file}) => /^image\/(jpeg|png)$/.test(file.type));
  for (const {file, name} of good) {
    const picture = new Picture(file, name);
    pictures.push(picture);
    paint(picture);
  }
  arrange();
  settle();
  const left = [[found.length - good.length, "neither JPEG nor PNG"], [lost, "not readable"]].filter(([count]) => count);
  added = left.map(([count, why]) => ` ${counted(count, "file")} left out: ${why}.`).join("");
  if (!running) say(`${counted(pictures.length, "picture")}.${added}`);
}

// Give the files below a dropped file or folder, null for each that cannot be read.
async function below(entry) {
  try {
    if (entry.isFile) {
      const file = await new Promise((go, stop) => entry.file(go, stop));
      return [{file, name: entry.fullPath.slice(1)}];
    }
    const reader = entry.createReader(), found = [];
    for (;;) { // a reader gives a hundred at a time
      const some = await new Promise((go, stop) => reader.readEntries(go, stop));
      if (!some.length) return found;
      for (const each of some) found.push(...(await below(each)));
    }
  } catch {
    return [null];
  }
}

async function dropped(event) {
  event.preventDefault();
  document.body.classList.remove("over");
  const entries = [...event.dataTransfer.items].map((item) => item.webkitGetAsEntry?.()).filter(Boolean);
  const plain = [...event.dataTransfer.files].map((file) => ({file, name: file.name}));
  const found = entries.length ? (await Promise.all(entries.map(below))).flat() : plain;
  add(found.filter(Boolean), found.filter((each) => !each).length);
}

async function predict(event) {
  if (event.detail > 1) return; // the second click of a double one
  if (running) return running.abort(new DOMException("stopped", "AbortError"));
  const model = $("model").value, begun = performance.now();
  const waiting = pictures.filter(({item}) => !item);
  let done = 0, note = "";
  const tell = () => {
    const seconds = (performance.now() - begun) / 1000;
    const left = done && seconds > 2 ? `, about ${Math.ceil((seconds / done) * (waiting.length - done))} s left` : "";
    $("progress").value = done / waiting.length;
    say(note || `${done} of ${counted(waiting.length, "picture")} predicted${left}`);
  };
  running = new AbortController();
  added = "";
  settle();
  tell();
  let end;
  try {
    await server.predict(model, waiting, limits, {
      tell: (picture, item) => {
        picture.said[model] = item;
        done += 1;
        paint(picture);
        details.refresh(picture);
        tell();
      },
      note: (text) => ((note = text), tell()),
      signal: running.signal,
    });
    const seconds = (performance.now() - begun) / 1000;
    const without = waiting.filter(({item}) => item?.error).length;
    end = `${counted(done - without, "picture")} predicted in ${seconds.toFixed(1)} s by ${model}.`;
    if (without) end += ` ${counted(without, "picture")} without prediction.`;
  } catch (error) {
    const why = error.name === "AbortError" ? "" : `: ${error.message}`;
    end = `Stopped after ${counted(done, "picture")}${why}. Predict goes on.`;
    running.abort(error);
  }
  running = null;
  const late = pictures.filter(({item}) => !item).length - (waiting.length - done);
  if (late) end += ` ${counted(late, "picture")} came meanwhile; Predict goes on.`;
  end += added;
  arrange();
  settle();
  say(end);
}

function clear() {
  for (const {url} of pictures) URL.revokeObjectURL(url);
  pictures.length = 0;
  arrange();
  settle();
  say("");
  $("add").focus();
}

function save() {
  const name = $("model").value;
  const good = arranged.find(({item}) => item?.probabilities);
  const classes = good ? Object.keys(good.item.probabilities) : cards[name].classes;
  const text = words.table(arranged, good ? `${name} ${good.item.metadata.digest}` : name, classes, notice);
  const link = make("a", "");
  link.href = URL.createObjectURL(new Blob(["\ufeff", text], {type: "text/csv"})); // the mark tells Excel that it is UTF-8
  link.download = `lesions_${name}.csv`;
  link.click();
  URL.revokeObjectURL(link.href);
}

function describe() {
  const card = cards[$("model").value];
  const sentences = words.summary(card);
  $("summary").replaceChildren(...sentences.map((text, i) =>
    make("span", i === 0 && card.data?.sample ? "warning" : "", `${text} `)));
  const parts = [["Not for", card.not_for], ["Sources", card.attribution], ["Licence", card.licence && [`${card.licence}: ${card.terms ?? ""}`]]];
  $("card").lastElementChild.replaceChildren(...parts.filter(([, lines]) => lines?.length).flatMap(([title, lines]) =>
    [make("h3", "", title), make("ul", "", ...lines.map((line) => make("li", "", line)))]));
  $("card").hidden = !parts.some(([, lines]) => lines?.length);
}

function chosen() {
  for (const picture of pictures) paint(picture); // what another model said does not stand beside what this one says
  arrange();
  describe();
  settle();
  if (pictures.length) say(`${counted(pictures.length, "picture")}.`);
}

// Arrows go from picture to picture.
function walk(event) {
  if (event.altKey || event.ctrlKey || event.metaKey || event.shiftKey) return;
  const tiles = [...$("pictures").children], at = tiles.findIndex((tile) => tile.contains(document.activeElement));
  const row = tiles.filter((tile) => tile.offsetTop === tiles[0].offsetTop).length;
  const step = {ArrowRight: 1, ArrowLeft: -1, ArrowDown: row, ArrowUp: -row, Home: -at, End: tiles.length - 1 - at}[event.key];
  const next = tiles[at + step];
  if (at < 0 || !next) return;
  event.preventDefault();
  next.firstChild.focus();
}

function askForToken(refused) {
  const dialog = $("asking");
  $("refused").hidden = !refused;
  dialog.returnValue = "";
  dialog.showModal();
  return new Promise((go, stop) => dialog.addEventListener("close", () =>
    dialog.returnValue ? go($("token").value) : stop(new Error("it asks for a token")), {once: true}));
}

async function start() {
  server.onToken(askForToken);
  try {
    const found = await server.models(say);
    ({cards, limits, notice} = found);
    const real = found.models.filter((name) => !cards[name].data?.sample);
    const sorted = [...real, ...found.models.filter((name) => !real.includes(name))];
    $("model").replaceChildren(...sorted.map((name) => new Option(cards[name].data?.sample ? `${name} (drawn sample)` : name, name)));
    if (sorted.length) describe();
    else $("summary").textContent = "This server has no model: run make repro, or put one into released.";
  } catch (error) {
    $("summary").textContent = `The server gave no models: ${error.message}. Load this page again.`;
  }
  settle();
}

$("add").addEventListener("click", () => $("files").click());
$("drop").addEventListener("click", () => $("files").click());
$("folder").addEventListener("click", () => $("folders").click());
for (const input of [$("files"), $("folders")]) {
  input.addEventListener("change", () => {
    add([...input.files].map((file) => ({file, name: file.webkitRelativePath || file.name})));
    input.value = "";
  });
}
$("predict").addEventListener("click", predict);
$("clear").addEventListener("click", clear);
$("save").addEventListener("click", save);
$("order").addEventListener("change", arrange);
$("model").addEventListener("change", chosen);
$("pictures").addEventListener("keydown", walk);
document.addEventListener("dragover", (event) => {
  event.preventDefault();
  document.body.classList.add("over");
});
document.addEventListener("dragleave", (event) => event.relatedTarget ?? document.body.classList.remove("over"));
document.addEventListener("drop", dropped);
addEventListener("beforeunload", (event) => pictures.some(({item}) => item) && event.preventDefault());
addEventListener("pagehide", () => running?.abort(new DOMException("left", "AbortError")));
start();
