"""What a run of params.yaml would cost on this machine, before anyone starts it: time, disk and memory, stage by stage.

    python -m lesions.estimate                        # params.yaml as it is
    python -m lesions.estimate settings/full.yaml     # laid over params.yaml, which stays as it is

A few steps of each kind (network, image size, batch, augmentation) are measured here, through the code that the stages
run, and multiplied by the images that params.yaml makes each stage look at. Takes minutes; nothing is downloaded or
written. Images are counted where they are here, and known of the official sets; how many fall into a part is taken from
the fractions that the splits aim at, and from the official sets' classes.
"""

import argparse
import json
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from tqdm import tqdm

from lesions import doctor, keras_backend, measure, params, settings, sizes
from lesions.cores import usable
from lesions.errors import run
from lesions.measure import BaseModel, Classifier, Color, Cost, Gan, Kind, Masked, Resize, UNet
from lesions.tta import FLIPS

SHARE = {"balanced": 5 * 1_987 / 25_331, "ham": 10_015 / 25_331, "AK": 867 / 25_331}  # of ISIC 2019's images
VALIDATED_2017 = 150 / 2_150
# How often oversampling shows an image: the classes times the largest one's share; by split, else by set.
OVERSAMPLED = {
    "balanced": 1.0, "ham": 7 * 6_705 / 10_015, "isic2019": 8 * 12_875 / 25_331, "isic2017": 2 * 1_626 / 2_000,
    "merged": 8 * 18_068 / 31_265,
}  # fmt: skip
MEGAPIXELS = {"isic2019": 0.8, "isic2018": 7.0, "isic2017": 6.0, "isic2020": 12.0, "sample": 0.02}  # of a photograph
DOWNLOAD = 100e6 / 8  # bytes a second
FOLDS_2018 = 3
UNET_STATES = 2  # checkpoints that are kept
QUICK = ("sort", "attention", "ensemble_masks", "compare")


@dataclass(frozen=True)
class Work:
    """Images of one kind: trained on (each as often as it is), and predicted."""

    kind: Kind
    train: float
    predict: float


@dataclass(frozen=True)
class Stage:
    """A stage, what it does, the bytes of the arrays that it writes and reads, and how many states it keeps."""

    name: str
    work: tuple[Work, ...]
    written: float = 0.0
    read: float = 0.0
    states: int = 0


@dataclass(frozen=True)
class Estimate:
    """Seconds, and bytes on the disk and in memory."""

    time: float
    disk: float
    memory: float


def parts(split: str, images: float, sort: params.Sort) -> dict[str, float]:
    """Images of a set's train, val and test part; lesions/splits.py deals them out so."""
    images *= SHARE.get(split.partition("_")[0], 1.0)
    if split == "melanoma":
        return {"train": images * (1 - VALIDATED_2017), "val": images * VALIDATED_2017, "test": 0.0}
    if split == "eighty":
        return {"train": 0.8 * images, "val": 0.1 * images, "test": 0.1 * images}
    test = images / sort.folds
    val = test if split in ("ham_1", "ham_2") else (images - test) * sort.validation
    return {"train": images - test - val, "val": val, "test": test}


def classified(name: str, block: params.Classifier, chosen: params.Params, count: dict, split: str, runs: int) -> Stage:
    """A classifier's training `runs` times on `split`, and its predictions by each checkpoint."""
    size, here = params.size_of(chosen, block.images), parts(split, count[block.set], chosen.sort)
    extra = chosen.augment_gan.images if block.generated != "none" else 0
    there = here["train"] + extra
    if block.sampler == "balanced":
        times = OVERSAMPLED.get(block.split.partition("_")[0], OVERSAMPLED[block.set])
        seen = block.epoch_images or times * there
    else:
        seen = min(block.epoch_images or there, there)
    views = 2 * len(FLIPS) if size[0] == size[1] else len(FLIPS)
    predicted = sum(here[role] * (views if block.tta and role != "train" else 1) for role in block.predict)
    network = block.architecture
    slower = json.dumps({device: {network: of[network]} for device, of in chosen.slower.items() if network in of})
    work = []
    for number, leg in enumerate(block.legs):
        what = (network, size, block.batch, block.augment, block.optimizer, block.dropout, leg.train)
        kind = Classifier(*what, slower)
        after = predicted * len(block.checkpoints) if number == 0 else 0
        work.append(Work(kind, runs * leg.epochs * seen, runs * (leg.epochs * here["val"] + after)))
    pixels = 3 * size[0] * size[1]
    return Stage(name, tuple(work), read=(count[block.set] + extra) * pixels)


def trainings(chosen: params.Params, count: dict) -> Iterator[Stage]:
    for name, block in chosen.classifiers.items():
        stage = classified(f"train@{name}", block, chosen, count, block.split, block.runs)
        yield replace(stage, states=len(block.checkpoints))
    for name, one in chosen.cross_validate.items():
        block = chosen.classifiers[one.classifier]
        yield classified(f"cross_validate@{name}", block, chosen, count, f"cv{one.fold}", 1)


def segmentations(chosen: params.Params, count: dict) -> Iterator[Stage]:
    arrays, images = chosen.resize["isic2018"].arrays, count["isic2018"]
    one, here = chosen.segment, parts("standard", images, chosen.sort)
    work = []
    for leg in one.legs:
        kind = UNet(one.encoder, arrays["segment"].size, one.batch, one.augment, one.optimizer, one.loss, leg.train)
        work.append(Work(kind, leg.epochs * here["train"], leg.epochs * here["val"]))
    work.append(Work(kind, 0, UNET_STATES * here["test"]))
    read = 4 * images * arrays["segment"].size[0] * arrays["segment"].size[1]
    yield Stage("segment", tuple(work), read=read, states=UNET_STATES)
    for name in chosen.mask.sets:
        height, width = chosen.resize[name].arrays["classify"].size
        yield Stage(f"mask@{name}", (Work(kind, 0, count[name]),), count[name] * height * width)

    many, test = chosen.unet34, images / chosen.sort.folds
    val = (images - test) / FOLDS_2018
    for fold in many.folds:
        work, largest = [], 0
        for phase in many.phases:
            size = arrays[phase.array].size
            kind = UNet(many.encoder, size, many.batch, many.augment, many.optimizer, many.loss, phase.train)
            trained = phase.epochs * (images - test - val) + many.range_steps * many.batch
            work.append(Work(kind, trained, phase.epochs * val))
            largest = max(largest, 4 * images * size[0] * size[1])
        work.append(Work(kind, 0, val + test))
        yield Stage(f"unet34@{fold}", tuple(work), test * size[0] * size[1], largest, 1)


def study_b(chosen: params.Params, count: dict) -> Iterator[Stage]:
    gan, base = chosen.augment_gan, chosen.base_model
    share = SHARE["AK"] if gan.label == "AK" else 1 / 8
    real = share * count["isic2019"] * (1 - 1 / chosen.sort.folds)
    drawn = gan.images + 49 * (gan.epochs // gan.preview_every + 2)
    work = Work(Gan(gan.batch, gan.latent, chosen.keras.backend), gan.epochs * max(real, gan.batch), drawn)
    yield Stage("augment_gan", (work,), states=1)
    for name, one in chosen.base_models.items():
        added = gan.images if one.generated != "none" else 0
        size = params.size_of(chosen, one.images)
        kind = BaseModel(size, base.batch, chosen.keras.backend)
        trained = base.epochs * (base.steps * base.batch + base.validation_steps * 32 / 3)  # forward only: a third
        seen = count["isic2019"] + added
        yield Stage(f"base_model@{name}", (Work(kind, trained, seen),), read=3 * seen * size[0] * size[1], states=1)


def pictures(chosen: params.Params, count: dict) -> Iterator[Stage]:
    """resize, color_correct and masked."""
    written = sizes.arrays(chosen)
    for name, one in chosen.resize.items():
        numbers = {name: count[name]}
        if name == "merged":
            numbers = {"isic2019": count["isic2019"], "isic2020": count["merged"] - count["isic2019"]}
        work = []
        for of, number in numbers.items():
            mega = MEGAPIXELS["sample" if chosen.data.source == "sample" else of]
            work.append(Work(Resize(int(1e6 * mega), one.model_dump_json(), name == "isic2018"), 0, number))
        ours = sum(size for path, size in written.items() if path.startswith(f"data/resized/{name}/"))
        yield Stage(f"resize@{name}", tuple(work), ours)
    methods = chosen.color_correct.methods
    for of in chosen.color_correct.sets:
        size = chosen.resize[of].arrays["classify"].size
        for method in (name for name, setting in methods if setting is not None):
            work = Work(Color(method, methods.model_dump_json(include={method}), size), 0, count[of])
            yield Stage(f"color_correct@{of}-{method}", (work,), written[f"data/color/{of}-{method}.npy"])
    for name, one in chosen.masked.items():
        size = chosen.resize[one.set].arrays["classify"].size
        work = Work(Masked(one.style, size), 0, count[one.set])
        yield Stage(f"masked@{name}", (work,), written[f"data/masked/{name}.npy"])


def counted(chosen: params.Params) -> dict[str, int]:
    """Images of each set: of the tables in data/sorted where those are of this source, else as sizes.images has it."""
    found, tables = sizes.images(chosen.data), Path("data/sorted")
    if chosen.data == params.load().data:
        lines = {path.stem: path.read_bytes().count(b"\n") - 1 for path in tables.glob("*.csv")}
        found |= {name: lines[name] for name in found if name in lines}
    return found


def stages(chosen: params.Params, count: dict[str, int]) -> list[Stage]:
    """Every stage that takes time, with what it does."""
    groups = (pictures, segmentations, study_b, trainings)
    return [stage for group in groups for stage in group(chosen, count)]


def estimate(stage: Stage, costs: dict[Kind, Cost], startup: dict[bool, float], resident: bool) -> Estimate:
    """startup: seconds around a stage's work, without and with TensorFlow. resident: whether its arrays are in memory
    (on a GPU; on the CPU they are mapped, which memory need not hold)."""
    seconds = sum(costs[w.kind].train * w.train + costs[w.kind].predict * w.predict for w in stage.work)
    keras = any(isinstance(w.kind, Gan | BaseModel) for w in stage.work)
    disk = stage.written + stage.states * max(costs[w.kind].state for w in stage.work)
    memory = max(costs[w.kind].memory for w in stage.work) + resident * stage.read
    return Estimate(startup[keras] + seconds, disk, memory)


def alike(found: dict[str, Estimate], planned: list[Stage]) -> list[list[str]]:
    """The names of stages that do the same work, together, in order."""
    groups: dict[tuple, list[str]] = {}
    for stage in planned:
        kind = stage.name.partition("@")[0]
        groups.setdefault((kind, stage.work, found[stage.name]), []).append(stage.name)
    return list(groups.values())


def span(seconds: float) -> str:
    for unit, name in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= 1.5 * unit:
            return f"{seconds / unit:.1f} {name}"
    return f"{seconds:.0f} s"


def size(count: float) -> str:
    return f"{count / 1e9:.1f} GB" if count >= 1e8 else f"{count / 1e6:.1f} MB"


def table(planned: list[Stage], found: dict[str, Estimate]) -> list[str]:
    lines = [f"{'stage':44} {'each':>9} {'together':>9} {'disk':>9} {'memory':>9}"]
    for names in alike(found, planned):
        one, count = found[names[0]], len(names)
        label = names[0] + (f" … {names[-1].partition('@')[2]} ({count})" if count > 1 else "")
        numbers = (span(one.time), span(count * one.time), size(count * one.disk), size(one.memory))
        lines.append(f"{label:44} " + " ".join(f"{number:>9}" for number in numbers))
    return lines


def laid_over(path: Path | None) -> params.Params:
    """params.yaml, with `path` laid over it."""
    base = Path("params.yaml")
    raw = settings.read(base)
    return params.validated(settings.overlaid(raw, settings.read(path)) if path else raw, path or base)


def kinds(planned: list[Stage]) -> list[Kind]:
    return list(dict.fromkeys(work.kind for stage in planned for work in stage.work))


def report(chosen: params.Params, planned: list[Stage], costs: dict[Kind, Cost], startup: dict, gpu: bool) -> list[str]:
    found = {stage.name: estimate(stage, costs, startup, gpu) for stage in planned}
    total, memory = sum(one.time for one in found.values()), max(one.memory for one in found.values())
    slowest = sorted(found, key=lambda name: -found[name].time)[:5]
    archives = sizes.needed(chosen) - sum(s.written for s in planned if not s.name.startswith("unet34@"))
    fetched = sum(state_of(name, costs) for name in chosen.weights.names)
    disk = archives + fetched + sum(one.disk for one in found.values())
    scaled, threads = sum(cost.extrapolated for cost in costs.values()), chosen.compute.threads
    lines = [
        *table(planned, found),
        "",
        f"in all: {span(total)} one after the other, {size(disk)} of disk, {size(memory)} of memory{' (GPU)' * gpu}",
        f"slowest: {', '.join(f'{name} {span(found[name].time)}' for name in slowest)}",
        f"of the disk: archives {size(archives)}, ImageNet weights {size(fetched)}; DVC's cache takes as much again "
        "where the file system has neither reflinks nor hard links",
        f"measured: {len(costs)} kinds of step, {scaled} on fewer images than a batch has and extrapolated; "
        f"{usable()} cores, compute.threads {threads}",
        f"assumed: a photograph's size in the archives (resize), each class's share; not counted: {', '.join(QUICK)}",
    ]
    if chosen.data.source != "sample":
        lines.append(f"download: {span((archives + fetched) / DOWNLOAD)} at 100 Mbit/s, not in the time above")
    lacking = doctor.disk(disk, shutil.disk_usage(".").free)
    return [*lines, lacking] if lacking else lines


def state_of(weights: str, costs: dict[Kind, Cost]) -> float:
    """Bytes of ImageNet weights: as the network's own; 100 MB for those of a network that was not measured."""
    same = [cost.state for kind, cost in costs.items() if getattr(kind, "architecture", None) == weights]
    return same[0] if same else 0.1e9


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("settings", type=Path, nargs="?", help="laid over params.yaml")
    args = parser.parse_args()
    chosen = laid_over(args.settings)
    keras_backend.check(chosen.keras.backend)
    planned, costs, begun = stages(chosen, counted(chosen)), {}, time.monotonic()
    modules = {False: "lesions.experiment", True: "lesions.base_model"}
    writing = measure.locking(Path("dvc.lock"))
    startup = {keras: writing + measure.startup(module, chosen.keras.backend) for keras, module in modules.items()}
    progress = tqdm(kinds(planned), desc="measuring", unit="kind")
    for kind in progress:
        progress.set_postfix_str(str(getattr(kind, "architecture", getattr(kind, "encoder", type(kind).__name__))))
        costs[kind] = measure.measured(kind, chosen.compute)
    gpu = measure.on_gpu(chosen.compute)
    for line in report(chosen, planned, costs, startup, gpu):
        print(line)
    print(f"(this took {span(time.monotonic() - begun)})")


if __name__ == "__main__":
    run(main)
