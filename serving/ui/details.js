// The pop-up: a picture at large, what speaks for its class, probabilities as bars, where they come from.

import * as words from "./said.js";

const $ = (id) => document.getElementById(id);
let current, order; // a picture, and a function that gives all in the order of the page

function element(tag, text, className = "") {
  const made = document.createElement(tag);
  made.className = className;
  made.textContent = text;
  return made;
}

// Draw the activation map over the part of the picture that it covers.
function heat(map) {
  const canvas = $("heat"), on = Boolean(map) && $("map").checked;
  canvas.hidden = !on;
  $("map").parentElement.hidden = !map;
  $("map").nextSibling.textContent = ` Show what speaks for ${words.longName(map?.class)}`;
  if (!on) return;
  const {grid, box: [left, top, right, bottom]} = map;
  canvas.height = grid.length;
  canvas.width = grid[0].length;
  const values = grid.flat().flatMap((value) => [0, 205, 255, Math.round(190 * value)]);
  canvas.getContext("2d").putImageData(new ImageData(new Uint8ClampedArray(values), canvas.width), 0, 0);
  const percent = (share) => `${100 * share}%`;
  Object.assign(canvas.style, {
    left: percent(left), top: percent(top), width: percent(right - left), height: percent(bottom - top),
  });
}

function bar(share) {
  const cell = element("td", "", "bar"), line = element("span", "");
  line.style.width = `${100 * share}%`;
  cell.append(line);
  return cell;
}

function bars({probabilities, balanced, prediction}) {
  return Object.entries(probabilities).sort(([, a], [, b]) => b - a).map(([name, share]) => {
    const row = element("tr", "", name === prediction.prediction ? "chosen" : "");
    const head = element("th", words.longName(name));
    head.scope = "row";
    row.append(head, bar(share), element("td", words.percent(share), "number"),
      element("td", words.percent(balanced[name]), "number"));
    return row;
  });
}

function sentence(picture) {
  const {item} = picture;
  switch (words.kind(picture)) {
    case "waiting": return "Not predicted yet.";
    case "failed": return `No prediction: ${item.error}.`;
    case "unfamiliar":
      return "This picture is unlike those that the model learnt from. It gives it a class all the same; that means nothing.";
    default: return `The model says ${words.longName(item.prediction.prediction)}.`;
  }
}

function draw() {
  const {item, name, url, file} = current, good = item && !item.error, all = order(), at = all.indexOf(current);
  $("title").textContent = name;
  $("large").src = url;
  $("before").ariaDisabled = String(at === 0); // not disabled, which would take the focus away
  $("after").ariaDisabled = String(at === all.length - 1);
  $("said").className = words.kind(current);
  $("said").textContent = sentence(current);
  $("bars").hidden = !good;
  $("bars").className = words.kind(current);
  heat(good ? item.map : null);
  $("bars").tBodies[0].replaceChildren(...(good ? bars(item) : []));
  $("bars").caption.textContent = "Calibrated: how likely each class is where classes are as frequent as in the model's "
    + "validation. Balanced: as if all were as frequent; the largest of these is what the model says.";
  const facts = [["Picture", `${at + 1} of ${all.length}, ${(file.size / 1e6).toFixed(2)} MB`]];
  if (good) {
    const {metadata: of, familiarity: {distance, threshold}} = item;
    facts.push(["Model", `${of.model}: ${of.net_type}, ${of.img_size} pixels, ${of.out_dim} classes`], ["Origin", of.origin],
      ["Distance", `${distance.toFixed(1)} from what it learnt from; unfamiliar above ${threshold.toFixed(1)}`]);
  }
  $("facts").replaceChildren(...facts.flatMap(([term, text]) => [element("dt", term), element("dd", text)]));
}

function step(by) {
  const all = order(), next = all[all.indexOf(current) + by];
  if (!next) return;
  current = next;
  draw();
}

export function show(picture, pictures) {
  [current, order] = [picture, pictures];
  draw();
  $("details").showModal();
}

// Draw anew what is shown of a picture whose result has come.
export function refresh(picture) {
  if ($("details").open && picture === current) draw();
}

$("large").addEventListener("load", ({target}) =>
  target.parentElement.style.setProperty("--aspect", target.naturalWidth / target.naturalHeight));
$("before").addEventListener("click", () => step(-1));
$("after").addEventListener("click", () => step(1));
$("map").addEventListener("change", draw);
$("details").addEventListener("keydown", (event) => {
  if (event.altKey || event.ctrlKey || event.metaKey || event.shiftKey) return;
  if (event.key === "ArrowLeft") step(-1);
  if (event.key === "ArrowRight") step(1);
});
$("details").addEventListener("pointerdown", ({clientX: x, clientY: y}) => { // beside it
  const {left, right, top, bottom} = $("details").getBoundingClientRect();
  if (x < left || x > right || y < top || y > bottom) $("details").close();
});
$("details").addEventListener("close", () => current.tile.firstChild.focus());
