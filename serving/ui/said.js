// What is said of a picture, in words: its kind, the order of pictures, a model's card, the table.

const NAMES = {
  AK: "actinic keratosis", BCC: "basal cell carcinoma", BKL: "benign keratosis", DF: "dermatofibroma",
  SCC: "squamous cell carcinoma", VASC: "vascular lesion", melanoma: "melanoma", nevus: "nevus",
};

export const longName = (name) => NAMES[name] ?? name;
export const percent = (share) => (share > 0 && share < 0.005 ? "<1" : String(Math.round(share * 100)));

// waiting, failed, unfamiliar (whatever is said of it is of no worth), melanoma, other
export function kind({item}) {
  if (!item) return "waiting";
  if (item.error) return "failed";
  if (!item.familiarity.familiar) return "unfamiliar";
  return item.prediction.target ? "melanoma" : "other";
}

export function word(picture) {
  const {item} = picture;
  return {waiting: "", failed: "no prediction", unfamiliar: "unfamiliar"}[kind(picture)] ?? item.prediction.prediction;
}

// What a tile shows: the share of melanoma, or of the prediction where the model knows no melanoma.
export function share({item}) {
  const of = "melanoma" in item.probabilities ? "melanoma" : item.prediction.prediction;
  return `${of} ${percent(item.probabilities[of])} %`;
}

const byName = new Intl.Collator("en", {numeric: true}).compare;
const RANK = {melanoma: 0, other: 1, waiting: 2, unfamiliar: 3, failed: 4};
const ORDERS = {
  added: (a, b) => a.place - b.place,
  name: (a, b) => byName(a.name, b.name),
  melanoma: (a, b) => RANK[kind(a)] - RANK[kind(b)] || (b.item?.balanced?.melanoma ?? 0) - (a.item?.balanced?.melanoma ?? 0)
    || byName(a.name, b.name),
};
export const ordered = (pictures, order) => [...pictures].sort((a, b) => ORDERS[order](a, b) || a.place - b.place);

function interval({value, low, high}, shown) {
  return `${shown(value)} [${shown(low)}, ${shown(high)}]`;
}

// What is not melanoma, in the words of a model's card.
export function otherClasses({classes}) {
  const cancers = [["BCC", "basal"], ["SCC", "squamous"]].filter(([name]) => classes.includes(name)).map(([, word]) => word);
  return cancers.length ? `another class: ${cancers.join(" and ")} cell carcinoma among them` : "another class";
}

// A model's card in sentences; the first is a warning where there is cause.
export function summary(card) {
  const {images = {}, scores = {}, calibration = {}, data = {}} = card;
  const found = [];
  if (data.sample) found.push("Trained on a drawn sample, not on photographs: what it says means nothing.");
  const from = data.source && !data.sample ? ` (${card.set}: ${data.source})` : "";
  const learnt = images.train ? `, learnt from ${images.train.toLocaleString("en")} images${from}` : "";
  found.push(`${card.network}${learnt}; knows ${card.classes.length} classes.`);
  const figures = [];
  const two = (value) => value.toFixed(2);
  if (scores.bma) figures.push(`balanced accuracy ${interval(scores.bma, two)}`);
  if (scores.auc) figures.push(`AUC ${interval(scores.auc, two)}`);
  const off = calibration.expected_calibration_error?.after;
  if (off !== undefined) figures.push(`its probabilities are off by ${two(off)} on average`);
  if (figures.length) found.push(`On ${images.test?.toLocaleString("en") ?? ""} other images: ${figures.join(", ")}.`);
  return found;
}

// A cell that no spreadsheet takes for a formula.
function cell(value) {
  const text = typeof value === "boolean" ? (value ? "True" : "False") : String(value ?? "");
  const safe = typeof value === "string" && /^\s*[=+\-@]/.test(text) ? `'${text}` : text;
  return /[",\r\n]/.test(safe) ? `"${safe.replaceAll('"', '""')}"` : safe;
}

// The table that serving.predict writes, too.
export function table(pictures, model, classes, notice) {
  const head = ["name", "prediction", "label", "target", "familiar", "distance", ...classes.map((c) => `p_${c}`),
    ...classes.map((c) => `balanced_${c}`), "error", "model", "notice"];
  const lines = pictures.filter(({item}) => item).map(({name, item}) => {
    const said = item.error ? Array(5 + 2 * classes.length).fill("") : [
      item.prediction.prediction, item.prediction.label, item.prediction.target, item.familiarity.familiar,
      item.familiarity.distance, ...classes.map((c) => item.probabilities[c]), ...classes.map((c) => item.balanced[c])];
    return [name, ...said, item.error, model, notice];
  });
  return [head, ...lines].map((line) => `${line.map(cell).join(",")}\n`).join("");
}
