"""One classifier on one split: trained, its checkpoints tested, and what came out written down."""

from pathlib import Path

import numpy as np
import pandas as pd
import torch
from sklearn.metrics import roc_auc_score, roc_curve
from torch import Tensor, nn
from torch.nn import functional

from lesions import augment, checkpoints, classifiers, metrics, resume, splits, training, tta
from lesions.attention import alphas
from lesions.errors import InputError
from lesions.feed import Feed, normalised, unit
from lesions.files import read_array, read_csv
from lesions.images import resized
from lesions.params import Classifier, Compute

CHECKPOINTS = ("loss", "accuracy", "bma")  # study A, section 5.2: the lowest loss, the highest accuracy and BMA


def inputs(block: Classifier, data: Path) -> list[Path]:
    """The files that a run of `block` depends on."""
    arrays = [data / f"{block.images}.npy", data / f"generated/{block.generated}.npy"]
    return [data / f"sorted/{block.set}.csv", *arrays, Path(block.weights)]


class Experiment:
    """The parts of one run: the table's rows by role, labels as numbers, images on their way to the device."""

    def __init__(
        self, block: Classifier, split: str, compute: Compute, data: Path, slower: training.Slower = training.NOTHING
    ) -> None:
        self.block, self.split = block, split
        self.device = training.prepare(compute, block.seed)
        self.switches = training.switches(compute, self.device, slower, block.architecture)
        self.table = read_csv(data / f"sorted/{block.set}.csv", ("image", "lesion", "label"), "stages.sort")
        self.classes = splits.classes(split)
        images = read_array(data / f"{block.images}.npy", len(self.table))
        generated = resized(read_array(data / f"generated/{block.generated}.npy"), images.shape[1:3])
        self.feed = Feed([images, generated], self.device)
        roles = splits.roles(self.table, split).to_numpy()
        self.rows = {role: np.flatnonzero(roles == role) for role in ("train", "val", "test")}
        self.labels = pd.Series(splits.labels(self.table, split).to_list() + [block.generated] * len(generated))
        self.targets = self.labels.map({c: i for i, c in enumerate(self.classes)}).to_numpy()
        self.keep = (
            (*CHECKPOINTS, "auroc") if len(self.classes) == 2 else CHECKPOINTS
        )  # study C reports the best of both
        self.train = np.concatenate([self.rows["train"], np.arange(len(self.table), len(self.feed))])
        self.scored = "test" if len(self.rows["test"]) else "val"  # ISIC 2017 is scored on its validation part
        for role in ("train", "val", self.scored):
            for label in sorted(set(self.classes) - set(self.labels[self.rows[role]])):
                raise InputError(
                    f"class {label} has no image in the {role} part of split {split}; expected more images"
                )

    def batches(self, epoch: int, start: int = 0) -> tuple[int, training.Batches]:
        """The batches of an epoch, from number `start` on: drawn by the recipe's sampler, augmented, normalised, on the
        device. Balanced, an epoch without epoch_images oversamples: as many of each class as the largest one has."""
        block, rng = self.block, np.random.default_rng([self.block.seed, epoch])
        targets, weights, images = self.targets[self.train], None, block.epoch_images
        if block.sampler == "balanced":
            counts = np.bincount(targets)  # each class has an image
            weights, images = 1 / counts[targets], images or len(counts) * int(counts.max())
        order = training.epoch_order(len(self.train), block.batch, rng, weights, images)

        def stream():
            for step in range(start, len(order)):
                index, generator = self.train[order[step]], training.step_generator(block.seed, epoch, step)
                images, _ = augment.augmented(block.augment, self.feed.batch(index), None, generator)
                yield normalised(images), torch.from_numpy(self.targets[index]).to(self.device, non_blocking=True)

        return len(order), stream()

    @torch.inference_mode()
    def probabilities(self, model: nn.Module, rows: np.ndarray, turned: bool = False) -> np.ndarray:
        """float32 (len(rows), classes); turned: the mean over eight views (test-time augmentation).

        Without autocast: bfloat16 logits tie, and a tie counts as wrong.
        """
        model.eval()

        def predict(images: Tensor) -> Tensor:
            return model(images).softmax(dim=1)

        size, parts = 2 * self.block.batch, []
        for start in range(0, len(rows), size):
            images = normalised(unit(self.feed.batch(rows[start : start + size])))
            images = images.contiguous(memory_format=self.switches.layout)
            parts.append(tta.averaged(predict, images) if turned else predict(images))
        return torch.cat(parts).cpu().numpy()

    def validate(self, model: nn.Module) -> dict[str, float]:
        rows = self.rows["val"]
        p = self.probabilities(model, rows)
        scores = metrics.classification(self.targets[rows], p)
        return scores | ({"auroc": float(roc_auc_score(self.targets[rows], p[:, 1]))} if "auroc" in self.keep else {})

    def model(self) -> nn.Module:
        """The block's network: from chance, from ImageNet weights under a new head, or from another block's state."""
        block, start = self.block, Path(self.block.weights)
        imagenet = start if start.parts[0] == "data" and start.name != "none" else None
        model = classifiers.build(block.architecture, len(self.classes), imagenet, block.dropout)
        if start.parts[0] == "models":
            checkpoints.load_into(model, start)
        return model

    def fit(self, name: str, run: resume.Run | None = None) -> tuple[nn.Module, training.Fit]:
        model = self.model()
        found = training.fit(
            model, self.block, self.switches, self.device, batches=self.batches, loss_of=functional.cross_entropy,
            validate=self.validate, keep=self.keep, name=name, watch=watched, snapshots=self.block.snapshots, run=run,
        )  # fmt: skip
        return model, found

    def predict(self, model: nn.Module, best: checkpoints.Best) -> pd.DataFrame:
        """Every checkpoint on the parts that block.predict names: image, split, seed, checkpoint, label, p_<class> …"""
        tables, done = [], {}
        for checkpoint, (epoch, state) in best.items():
            for role in (role for role in self.block.predict if len(self.rows[role])):
                rows = self.rows[role]
                if (epoch, role) not in done:
                    model.load_state_dict(state)
                    done[epoch, role] = self.probabilities(model, rows, self.block.tta and role != "train")
                keys = {"image": self.table["image"].iloc[rows].to_numpy(), "split": role, "seed": self.block.seed}
                keys |= {"checkpoint": checkpoint, "label": self.labels.iloc[rows].to_numpy()}
                found = {f"p_{c}": done[epoch, role][:, i] for i, c in enumerate(self.classes)}
                tables.append(pd.DataFrame(keys | found))
        return pd.concat(tables, ignore_index=True)

    def sizes(self) -> dict[str, int]:
        """Images of each part."""
        return {"train": len(self.train)} | {role: len(self.rows[role]) for role in ("val", "test")}


def watched(model: nn.Module) -> dict[str, float]:
    """Columns of the history beside losses and scores: the α of attention residual learning, block by block."""
    return {f"alpha_{block}": value for block, value in alphas(model).items()}


def summary(classes: tuple[str, ...], scored: str, predictions: pd.DataFrame, best: checkpoints.Best) -> dict:
    """For `dvc metrics`: each checkpoint's epoch, and its scores on the part that is scored, their mean over several
    runs (the epoch is `best`'s, of the first)."""
    index, scores = {c: i for i, c in enumerate(classes)}, {}
    rows = predictions[predictions["split"] == scored]
    for checkpoint, of in rows.groupby("checkpoint", sort=False):
        runs = []
        for _, run in of.groupby("seed"):
            probabilities = run[[f"p_{c}" for c in classes]].to_numpy()
            runs.append(metrics.classification(run["label"].map(index).to_numpy(), probabilities))
        means = {name: round(float(np.mean([run[name] for run in runs])), 6) for name in runs[0]}
        scores[checkpoint] = {"epoch": best[checkpoint][0]} | means
    return scores


def confusion(scored: str, predictions: pd.DataFrame, checkpoint: str = "bma") -> pd.DataFrame:
    """Columns actual, predicted for DVC's confusion plot: the scored part under one checkpoint, of all runs."""
    rows = predictions[(predictions["split"] == scored) & (predictions["checkpoint"] == checkpoint)]
    columns = [c for c in rows if c.startswith("p_")]
    guess = rows[columns].to_numpy().argmax(axis=1)
    return pd.DataFrame(
        {"actual": rows["label"].to_numpy(), "predicted": [columns[g].removeprefix("p_") for g in guess]}
    )


def roc(scored: str, predictions: pd.DataFrame, checkpoint: str = "bma") -> pd.DataFrame:
    """Columns fpr, tpr: the mean over the classes' curves, each against the rest, on the scored part, at 101 points.

    plots/compare draws the curves of each class.
    """
    rows = predictions[(predictions["split"] == scored) & (predictions["checkpoint"] == checkpoint)]
    grid, curves = np.linspace(0, 1, 101), []
    for column in (c for c in rows if c.startswith("p_")):
        fpr, tpr, _ = roc_curve(rows["label"] == column.removeprefix("p_"), rows[column])
        curves.append(np.interp(grid, fpr, tpr))
    return pd.DataFrame({"fpr": grid, "tpr": np.mean(curves, axis=0)})
