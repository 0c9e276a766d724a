"""Train one classifier on one split, test its checkpoints, and put what came out into tables."""

from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn
from torch.nn import functional

from lesions.batches import augment, tta
from lesions.batches.feed import Feed, normalised, unit
from lesions.classify.config import BY_AUROC, Classifier
from lesions.core import resume
from lesions.core.errors import InputError
from lesions.core.files import read_array, read_csv
from lesions.core.images import resized
from lesions.isic import metrics, splits
from lesions.networks import build
from lesions.training import checkpoints, hardware, loop
from lesions.training.config import Compute

CHECKPOINTS = ("loss", "accuracy", "bma")  # study A, section 5.2: the lowest loss, the highest accuracy and BMA


def inputs(block: Classifier, data: Path) -> list[Path]:
    """Return the files that a run of `block` reads. Raises InputError for an unknown network or augmentation.

    This loads the source of the network's family, which resume.begin counts among what decides the outputs.
    """
    build.find(block.family, block.network)
    augment.known(block.augment)
    arrays = [data / f"{block.images}.npy", data / f"generated/{block.generated}.npy"]
    return [data / f"sorted/{block.set}.csv", *arrays, Path(block.weights)]


class Predictor:
    """What a block's network says of images: the block's batch, its network's mean and std, the device's switches."""

    def __init__(self, block: Classifier, switches: hardware.Switches) -> None:
        self.size, self.layout = 2 * block.batch, switches.layout
        self.network = build.find(block.family, block.network)

    @torch.inference_mode()
    def __call__(self, model: nn.Module, feed: Feed, rows: np.ndarray, turned: bool = False) -> np.ndarray:
        """Return float32 (len(rows), classes); turned: the mean over eight views (test-time augmentation).

        It does not use autocast: bfloat16 logits tie, and a tie counts as wrong.
        """
        model.eval()

        def predict(images: Tensor) -> Tensor:
            return model(images).softmax(dim=1)

        parts = []
        for start in range(0, len(rows), self.size):
            images = unit(feed.batch(rows[start : start + self.size]))
            images = normalised(images, self.network.mean, self.network.std).contiguous(memory_format=self.layout)
            parts.append(tta.averaged(predict, images) if turned else predict(images))
        return torch.cat(parts).cpu().numpy()


class Experiment:
    """The parts of one run: the table's rows by role, labels as numbers, images on their way to the device."""

    def __init__(self, block: Classifier, split: str, compute: Compute, data: Path) -> None:
        self.block, self.split = block, split
        self.device = hardware.prepare(compute, block.seed)
        self.switches = hardware.switches(compute, self.device)
        self.predictor = Predictor(block, self.switches)
        self.table = read_csv(
            data / f"sorted/{block.set}.csv", ("image", "lesion", "label"), f"stages.sort {block.set}"
        )
        self.classes = splits.classes(block.set, split, self.table["label"])
        images = read_array(data / f"{block.images}.npy", len(self.table))
        generated = resized(read_array(data / f"generated/{block.generated}.npy"), images.shape[1:3])
        self.feed = Feed([images, generated], self.device)
        roles = splits.roles(self.table, split).to_numpy()
        self.rows = {role: np.flatnonzero(roles == role) for role in ("train", "val", "test")}
        self.labels = pd.Series(splits.labels(self.table, split).to_list() + [block.generated] * len(generated))
        self.targets = self.labels.map({c: i for i, c in enumerate(self.classes)}).to_numpy()
        self.keep = (*CHECKPOINTS, "auroc") if split in BY_AUROC else CHECKPOINTS
        self.train = np.concatenate([self.rows["train"], np.arange(len(self.table), len(self.feed))])
        self.scored = "test" if len(self.rows["test"]) else "val"  # ISIC 2017 is scored on its validation part
        for role in ("train", "val", self.scored):
            for label in sorted(set(self.classes) - set(self.labels[self.rows[role]])):
                raise InputError(
                    f"class {label} has no image in the {role} part of split {split}; expected more images"
                )

    def batches(self, epoch: int, start: int = 0) -> tuple[int, loop.Batches]:
        """Return how many batches an epoch has, and those from number `start` on: augmented, normalised, on the device.

        The recipe's sampler draws the images: `balanced` each class equally often, `root` each in proportion to the
        root of its images. If it is balanced and epoch_images is 0, an epoch has on average as many images of each
        class as the largest class has.
        """
        block, network = self.block, self.predictor.network
        rng = np.random.default_rng([block.seed, epoch])
        targets, weights, images = self.targets[self.train], None, block.epoch_images
        if block.sampler != "uniform":
            counts = np.bincount(targets)  # each class has an image
            weights = {"balanced": 1 / counts, "root": 1 / np.sqrt(counts)}[block.sampler][targets]
            if block.sampler == "balanced":
                images = images or len(counts) * int(counts.max())
        order = loop.epoch_order(len(self.train), block.batch, rng, weights, images)

        def stream():
            for step in range(start, len(order)):
                index, generator = self.train[order[step]], loop.step_generator(block.seed, epoch, step)
                images, _ = augment.augmented(block.augment, self.feed.batch(index), None, generator)
                images = normalised(images, network.mean, network.std)
                yield images, torch.from_numpy(self.targets[index]).to(self.device, non_blocking=True)

        return len(order), stream()

    def validate(self, model: nn.Module) -> dict[str, float]:
        rows = self.rows["val"]
        p, truth = self.predictor(model, self.feed, rows), self.targets[rows]
        scores = metrics.classification(truth, p)
        if "auroc" in self.keep:
            areas = aucs(truth, p)
            scores["auroc"] = areas[1] if len(areas) == 2 else float(np.mean(areas))
        return scores

    def model(self) -> nn.Module:
        """Build the block's network with random weights, published weights and a new head, or another block's state."""
        block, start = self.block, Path(self.block.weights)
        imagenet = start if start.parts[0] == "data" and start.name != "none" else None
        size = self.feed.arrays[0].shape[1:3]
        classes = len(self.classes)
        model = build.build(block.family, block.network, classes, size, imagenet, block.dropout, block.dropouts)
        if start.parts[0] == "models":
            checkpoints.load_into(model, start)
        return model

    def fit(self, name: str, run: resume.Run | None = None) -> tuple[nn.Module, loop.Fit]:
        model = self.model()
        found = loop.fit(
            model, self.block, self.switches, self.device, batches=self.batches, loss_of=functional.cross_entropy,
            validate=self.validate, keep=self.keep, name=name, watch=alphas, snapshots=self.block.snapshots, run=run,
        )  # fmt: skip
        return model, found

    def predict(self, model: nn.Module, best: checkpoints.Best) -> pd.DataFrame:
        """Return image, split, seed, checkpoint, label, p_<class> … of each checkpoint, on the parts in `predict`."""
        tables, done = [], {}
        for checkpoint, (epoch, state) in best.items():
            for role in (role for role in self.block.predict if len(self.rows[role])):
                rows = self.rows[role]
                if (epoch, role) not in done:
                    model.load_state_dict(state)
                    done[epoch, role] = self.predictor(model, self.feed, rows, self.block.tta and role != "train")
                keys = {"image": self.table["image"].iloc[rows].to_numpy(), "split": role, "seed": self.block.seed}
                keys |= {"checkpoint": checkpoint, "label": self.labels.iloc[rows].to_numpy()}
                found = {f"p_{c}": done[epoch, role][:, i] for i, c in enumerate(self.classes)}
                tables.append(pd.DataFrame(keys | found))
        return pd.concat(tables, ignore_index=True)


def aucs(truth: np.ndarray, p: np.ndarray) -> list[float]:
    """Return the AUC of each class against the rest, of true classes int (N,) and probabilities float (N, C)."""
    return [metrics.auc(truth == c, p[:, c]) for c in range(p.shape[1])]


def alphas(model: nn.Module) -> dict[str, float]:
    """Return α of each block, `alpha_layer1.0` …, in forward order, as columns of the history; empty without ARL."""
    found = {name: value for name, value in model.named_parameters() if name.endswith(".alpha") and not value.ndim}
    return {f"alpha_{name.removesuffix('.alpha')}": value.item() for name, value in found.items()}


def summary(classes: tuple[str, ...], scored: str, predictions: pd.DataFrame, best: checkpoints.Best) -> pd.DataFrame:
    """Return a line a checkpoint: its epoch in the first run (`best`), and its scores on the scored part, as the mean
    over runs. auc: the mean over classes of each against the rest."""
    index, lines = {c: i for i, c in enumerate(classes)}, []
    rows = predictions[predictions["split"] == scored]
    for checkpoint, of in rows.groupby("checkpoint", sort=False):
        runs = []
        for _, run in of.groupby("seed"):
            truth, p = run["label"].map(index).to_numpy(), run[[f"p_{c}" for c in classes]].to_numpy()
            runs.append(metrics.classification(truth, p) | {"auc": np.mean(aucs(truth, p))})
        lines.append({"checkpoint": checkpoint, "epoch": best[checkpoint][0]} | pd.DataFrame(runs).mean().to_dict())
    return pd.DataFrame(lines)


def headline(scores: pd.DataFrame) -> dict[str, float]:
    """Return what `dvc metrics` shows: scores of the checkpoint of the highest BMA, from a `summary`."""
    line = scores.set_index("checkpoint").loc["bma", ["bma", "auc", "accuracy", "loss"]]
    return {name: round(float(value), 6) for name, value in line.items()}


def confusion(scored: str, predictions: pd.DataFrame) -> pd.DataFrame:
    """Return columns actual, predicted for DVC's confusion plot: the scored part, by the highest BMA, of all runs."""
    rows = predictions[(predictions["split"] == scored) & (predictions["checkpoint"] == "bma")]
    guess = rows.filter(regex="^p_").idxmax(axis=1).str.removeprefix("p_")
    return pd.DataFrame({"actual": rows["label"], "predicted": guess})


def roc(scored: str, predictions: pd.DataFrame) -> pd.DataFrame:
    """Return fpr, tpr at 101 points: the mean of the classes' curves, each against the rest, as `confusion`.

    plots/compare draws the curves of each class.
    """
    rows = predictions[(predictions["split"] == scored) & (predictions["checkpoint"] == "bma")]
    grid, curves = np.linspace(0, 1, 101), []
    for column in (c for c in rows if c.startswith("p_")):
        fpr, tpr = metrics.roc((rows["label"] == column.removeprefix("p_")).to_numpy(), rows[column].to_numpy())
        curves.append(np.interp(grid, fpr, tpr))
    return pd.DataFrame({"fpr": grid, "tpr": np.mean(curves, axis=0)})
