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

const pictures = []; // {file, name, place, url, tile, item: what the API says, or undefined}
let cards = {}, limits = {}, notice = "";
let running = null; // an AbortController
let lastName = ""; // of the model whose results are shown

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
  button.addEventListener("click", () => details.show(picture, shown));
  return make("li", "", button);
}

const shown = () => words.ordered(pictures, $("order").value);

function arrange() {
  const focused = document.activeElement;
  $("pictures").replaceChildren(...shown().map(({tile}) => tile));
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
  $("drop").classList.toggle("small", Boolean(pictures.length));
  const count = {};
  for (const picture of pictures) {
    const kind = words.kind(picture);
    count[kind] = (count[kind] ?? 0) + 1;
  }
  const legend = [
    ["melanoma", "melanoma"], ["other", "another class: basal and squamous cell carcinoma are among them"],
    ["unfamiliar", "unlike the pictures that the model learnt from: no answer counts"], ["failed", "no prediction"],
  ].filter(([kind]) => count[kind]);
  $("legend").hidden = !legend.length;
  $("legend").replaceChildren(...legend.map(([kind, text]) => make("span", kind, symbol(kind), `${count[kind]} ${text}`)));
}

function add(files, leftOut = 0) {
  for (const {file, name} of files) {
    const picture = {file, name, place: pictures.length, url: URL.createObjectURL(file)};
    picture.tile = tileOf(picture);
    pictures.push(picture);
    paint(picture);
  }
  arrange();
  settle();
  const left = leftOut ? ` ${counted(leftOut, "file")} left out: neither JPEG nor PNG.` : "";
  if (!running) say(`${counted(pictures.length, "picture")}.${left}`);
}

function choose(files) {
  const all = [...files].map((file) => ({file, name: file.webkitRelativePath || file.name}));
  const good = all.filter(({file}) => /^image\/(jpeg|png)$/.test(file.type));
  add(good, all.length - good.length);
}

// Give the files below a dropped file or folder.
async function below(entry) {
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
}

async function dropped(event) {
  event.preventDefault();
  document.body.classList.remove("over");
  const entries = [...event.dataTransfer.items].map((item) => item.webkitGetAsEntry?.()).filter(Boolean);
  if (!entries.length) return choose(event.dataTransfer.files);
  const all = (await Promise.all(entries.map(below))).flat();
  const good = all.filter(({file}) => /^image\/(jpeg|png)$/.test(file.type));
  add(good, all.length - good.length);
}

async function predict() {
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
  lastName = model;
  settle();
  tell();
  let end;
  try {
    await server.predict(model, waiting, limits, {
      tell: (picture, item) => {
        picture.item = item;
        done += 1;
        paint(picture);
        tell();
      },
      note: (text) => ((note = text), tell()),
      signal: running.signal,
    });
    const seconds = (performance.now() - begun) / 1000;
    end = `${counted(done, "picture")} predicted in ${seconds.toFixed(1)} s by ${model}.`;
  } catch (error) {
    end = error.name === "AbortError" ? `Stopped after ${counted(done, "picture")}.` : `Stopped: ${error.message}.`;
  }
  running = null;
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
  const digest = cards[lastName].sha256?.["model.onnx"]?.slice(0, 12) ?? "";
  const text = words.table(shown(), `${lastName} ${digest}`, notice);
  const link = make("a", "");
  link.href = URL.createObjectURL(new Blob(["\ufeff", text], {type: "text/csv"})); // the mark tells Excel that it is UTF-8
  link.download = `lesions_${lastName}.csv`;
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
  for (const picture of pictures) { // what another model said does not stand beside what this one will say
    picture.item = undefined;
    paint(picture);
  }
  describe();
  settle();
  if (pictures.length) say(`${counted(pictures.length, "picture")}.`);
}

// Arrows go from picture to picture.
function walk(event) {
  const tiles = [...$("pictures").children], at = tiles.findIndex((tile) => tile.contains(document.activeElement));
  const row = tiles.filter((tile) => tile.offsetTop === tiles[0].offsetTop).length;
  const step = {ArrowRight: 1, ArrowLeft: -1, ArrowDown: row, ArrowUp: -row, Home: -at, End: tiles.length - 1 - at}[event.key];
  const next = tiles[at + step];
  if (at < 0 || !next) return;
  event.preventDefault();
  next.firstChild.focus();
}

function askForToken() {
  const dialog = $("asking");
  dialog.showModal();
  return new Promise((go) => dialog.addEventListener("close", () => go($("token").value), {once: true}));
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
    $("summary").textContent = `The server gave no models (${error.message}): is it running? Then load this page again.`;
  }
  settle();
}

$("add").addEventListener("click", () => $("files").click());
$("drop").addEventListener("click", () => $("files").click());
$("folder").addEventListener("click", () => $("folders").click());
for (const input of [$("files"), $("folders")]) {
  input.addEventListener("change", () => {
    choose(input.files);
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
addEventListener("beforeunload", (event) => running && event.preventDefault());
addEventListener("pagehide", () => running?.abort(new DOMException("left", "AbortError")));
start();
