"""One classifier on one split: trained, its three checkpoints tested, and what came out written down."""

from pathlib import Path

import numpy as np
import pandas as pd
import torch
from sklearn.metrics import roc_curve
from torch import Tensor, nn
from torch.nn import functional

from lesions import augment, classifiers, metrics, splits, training
from lesions.errors import InputError
from lesions.feed import Feed, load, normalised, unit
from lesions.files import read_array, read_csv
from lesions.images import resized
from lesions.params import Classifier, Compute

CHECKPOINTS = ("loss", "accuracy", "bma")  # study A, section 5.2: the lowest loss, the highest accuracy and BMA


class Experiment:
    """The parts of one run: the table's rows by role, labels as numbers, images on their way to the device."""

    def __init__(self, block: Classifier, split: str, compute: Compute, data: Path) -> None:
        self.block, self.split, self.compute = block, split, compute
        self.device = training.prepare(compute, block.seed)
        self.table = read_csv(data / "sorted/isic2019.csv", ("image", "lesion", "label", "cv0"), "stages.sort")
        self.classes = splits.classes(split)
        images = load(data / f"{block.images}.npy", len(self.table))
        generated = resized(read_array(data / f"generated/{block.generated}.npy"), images.shape[1:3])
        self.feed = Feed([images, generated], self.device)
        roles = splits.roles(self.table, split).to_numpy()
        self.rows = {role: np.flatnonzero(roles == role) for role in ("train", "val", "test")}
        labels = splits.labels(self.table, split).to_list() + [block.generated] * len(generated)
        self.labels = splits.merge_rare(pd.Series(labels)) if split == "balanced" else pd.Series(labels)
        self.targets = self.labels.map({c: i for i, c in enumerate(self.classes)}).to_numpy()
        self.train = np.concatenate([self.rows["train"], np.arange(len(self.table), len(self.feed))])
        for role, rows in self.rows.items():
            for label in sorted(set(self.classes) - set(self.labels[rows])):
                raise InputError(
                    f"class {label} has no image in the {role} part of split {split}; expected more images"
                )

    def batches(self, epoch: int) -> tuple[int, training.Batches]:
        """The batches of an epoch: drawn by the recipe's sampler, augmented, normalised, on the device."""
        block, rng = self.block, np.random.default_rng([self.block.seed, epoch])
        generator = torch.Generator().manual_seed(int(rng.integers(2**62)))
        targets = self.targets[self.train]
        weights = (
            1 / np.bincount(targets, minlength=len(self.classes))[targets] if block.sampler == "balanced" else None
        )
        order = training.epoch_order(len(self.train), block.batch, rng, weights, block.epoch_images)

        def stream():
            for chosen in order:
                index = self.train[chosen]
                (images,) = augment.geometric(block.augment, (self.feed.batch(index),), generator)
                images = unit(images)
                if "lighting" in block.augment:
                    images = augment.lighting(images, generator)
                yield normalised(images), torch.from_numpy(self.targets[index]).to(self.device, non_blocking=True)

        return len(order), stream()

    @torch.inference_mode()
    def probabilities(self, model: nn.Module, rows: np.ndarray) -> np.ndarray:
        """float32 (len(rows), classes). Without autocast: bfloat16 logits tie, and a tie counts as wrong."""
        model.eval()
        size, parts = 2 * self.block.batch, []
        for start in range(0, len(rows), size):
            logits = model(normalised(unit(self.feed.batch(rows[start : start + size]))))
            parts.append(logits.softmax(dim=1))
        return torch.cat(parts).cpu().numpy()

    def validate(self, model: nn.Module) -> dict[str, float]:
        rows = self.rows["val"]
        return metrics.classification(self.targets[rows], self.probabilities(model, rows))

    def fit(self, weights: Path | None, name: str) -> tuple[nn.Module, training.Fit]:
        model = classifiers.build(self.block.architecture, len(self.classes), weights)
        loss_of = functional.cross_entropy
        found = training.fit(
            model, self.block, self.compute, self.device, batches=self.batches, loss_of=loss_of,
            validate=self.validate, keep=CHECKPOINTS, name=name,
        )  # fmt: skip
        return model, found

    def predict(self, model: nn.Module, best: dict[str, tuple[int, dict[str, Tensor]]]) -> pd.DataFrame:
        """Every checkpoint on the validation and test parts: image, split, seed, checkpoint, label, p_<class> …"""
        tables, done = [], {}
        for checkpoint, (epoch, state) in best.items():
            for role in ("val", "test"):
                rows = self.rows[role]
                if (epoch, role) not in done:
                    model.load_state_dict(state)
                    done[epoch, role] = self.probabilities(model, rows)
                keys = {"image": self.table["image"].iloc[rows].to_numpy(), "split": role, "seed": self.block.seed}
                keys |= {"checkpoint": checkpoint, "label": self.labels.iloc[rows].to_numpy()}
                found = {f"p_{c}": done[epoch, role][:, i] for i, c in enumerate(self.classes)}
                tables.append(pd.DataFrame(keys | found))
        return pd.concat(tables, ignore_index=True)

    def summary(self, found: training.Fit, predictions: pd.DataFrame) -> dict:
        """For `dvc metrics`: each checkpoint's epoch and its scores on the test part, and the sizes of the parts."""
        index = {c: i for i, c in enumerate(self.classes)}
        test = predictions[predictions["split"] == "test"]
        scores = {}
        for checkpoint, rows in test.groupby("checkpoint", sort=False):
            probabilities = rows[[f"p_{c}" for c in self.classes]].to_numpy()
            score = metrics.classification(rows["label"].map(index).to_numpy(), probabilities)
            scores[checkpoint] = {"epoch": found.best[checkpoint][0]} | {k: round(v, 6) for k, v in score.items()}
        return {"test": scores, "images": {"train": len(self.train)} | {r: len(self.rows[r]) for r in ("val", "test")}}


def confusion(predictions: pd.DataFrame, checkpoint: str = "bma") -> pd.DataFrame:
    """Columns actual, predicted for DVC's confusion plot: the test part under one checkpoint."""
    rows = predictions[(predictions["split"] == "test") & (predictions["checkpoint"] == checkpoint)]
    columns = [c for c in rows if c.startswith("p_")]
    guess = rows[columns].to_numpy().argmax(axis=1)
    return pd.DataFrame(
        {"actual": rows["label"].to_numpy(), "predicted": [columns[g].removeprefix("p_") for g in guess]}
    )


def roc(predictions: pd.DataFrame, checkpoint: str = "bma") -> pd.DataFrame:
    """Columns fpr, tpr: the mean over the classes' curves, each against the rest, on the test part, at 101 points.

    plots/compare draws the curves of each class.
    """
    rows = predictions[(predictions["split"] == "test") & (predictions["checkpoint"] == checkpoint)]
    grid, curves = np.linspace(0, 1, 101), []
    for column in (c for c in rows if c.startswith("p_")):
        fpr, tpr, _ = roc_curve(rows["label"] == column.removeprefix("p_"), rows[column])
        curves.append(np.interp(grid, fpr, tpr))
    return pd.DataFrame({"fpr": grid, "tpr": np.mean(curves, axis=0)})
