"""Export the U-Net of stages.segment as a model that is served without torch.

    python -m stages.export_unet

Reads the state of the highest Jaccard in validation, the table, the array that it was trained on and what it scored;
writes models/served/unet/
  model.onnx   images uint8 N×H×W×3 -> masks float N×H×W in 0..1: how likely each pixel is the lesion's
  card.json    size, licence, scores, what it must not be used for
"""

import argparse
from pathlib import Path

from lesions.core import config
from lesions.core.errors import run
from lesions.core.files import read_array, read_csv, replacing_folder
from lesions.export import card, graph
from lesions.export.unet_graph import Unet
from lesions.isic import metrics
from lesions.raw.config import Official, Resize
from lesions.segment import unet
from lesions.segment.config import Segment
from lesions.training import checkpoints, hardware
from lesions.training.config import Compute

NAME, CHECKPOINT = "unet", "jaccard"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.parse_args()
    recipe, compute = config.read("segment", Segment), config.read("compute", Compute)
    resize = config.read("resize.isic2018", Resize)
    data = card.source(config.read("data.source", str))
    hardware.prepare(compute, recipe.seed)

    table = read_csv(Path("data/sorted/isic2018.csv"), ("image", "split"), "stages.sort isic2018")
    height, width = read_array(Path("data/resized/isic2018/segment.npy"), len(table)).shape[1:3]
    model = unet.build(recipe.decoder, recipe.encoder, (height, width))
    checkpoints.load_into(model, Path(f"models/segment/{CHECKPOINT}.pt"))
    found = read_csv(Path("data/predictions/segment.csv"), ("image", "checkpoint", "jaccard", "dice"), "stages.segment")
    found = found[found["checkpoint"] == CHECKPOINT]
    weights, jaccards = card.resampled(found["image"]), found["jaccard"].to_numpy()
    scores = {
        "jaccard": jaccards,
        "jaccard_thresholded": metrics.thresholded(jaccards),
        "dice": found["dice"].to_numpy(),
    }

    with replacing_folder(Path(f"models/served/{NAME}")) as folder:
        graph.export(Unet(model, *unet.statistics(recipe.encoder)), (height, width), folder / "model.onnx")
        card.write(folder, {
            "name": NAME, "kind": "unet", "decoder": recipe.decoder, "encoder": recipe.encoder,
            "size": [height, width], "fit": resize.arrays["segment"].fit, "crop_border": resize.crop_border,
            "views": 1, "threshold": 0.5, "data": data, **card.rights("isic2018", Official(), data["sample"], False),
            "weights": f"data/weights/{recipe.weights}", "set": "isic2018", "array": "resized/isic2018/segment",
            "split": "split",
            "images": {of: int((table["split"] == of).sum()) for of in ("train", "val", "test")},
            "scored_on": "test", "confidence": card.CONFIDENCE,
            "scores": {name: card.mean(of, weights) for name, of in scores.items()}, "not_for": card.NOT_FOR_MASKS,
        })  # fmt: skip


if __name__ == "__main__":
    run(main)
