"""Augment batches on the device, with parameters drawn for each image alone.

`augmented` is `geometric`, which turns images and masks alike, then `photometric`, which changes images only. A name is
an entry of FLIPS, WARPS or PHOTOMETRIC, or a recipe of such steps; params.yaml may use all of NAMES.
Papers name the transforms, but seldom their ranges. Study E's section 5 follows the SIIM-ISIC 2020 winners (arXiv
2010.05351 and its code, in albumentations); their ranges are the defaults of the functions.
"""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional

from lesions.batches.feed import unit
from lesions.batches.per_image import apply_, selected
from lesions.batches.photometric import PHOTOMETRIC
from lesions.batches.warps import BLACK, WARPS, still
from lesions.core.errors import InputError, nearest

Step = tuple[tuple[str, ...], float]  # with this probability an image gets one of these, each as likely

FLIPS: dict[str, Callable[[Tensor], Tensor]] = {
    "hflip": lambda x: x.flip(-1),
    "vflip": lambda x: x.flip(-2),
    "transpose": lambda x: x.transpose(-1, -2),
}
RECIPES: dict[str, tuple[Step, ...]] = {
    "dihedral": ((("hflip",), 0.5), (("vflip",), 0.5), (("transpose",), 0.5)),
    "heavy": (  # study E, section 5
        (("transpose",), 0.5),
        (("vflip",), 0.5),
        (("hflip",), 0.5),
        (("brightness",), 0.75),
        (("contrast",), 0.75),
        (("motion_blur", "median_blur", "gaussian_blur", "gaussian_noise"), 0.7),
        (("optical", "grid", "elastic"), 0.7),
        (("clahe",), 0.7),
        (("hsv",), 0.5),
        (("shift_scale_rotate",), 0.85),
        (("cutout",), 0.7),
    ),
}
NAMES = (*FLIPS, *WARPS, *PHOTOMETRIC, *RECIPES)


def known(names: tuple[str, ...]) -> None:
    """Raise InputError for a name that is none of NAMES."""
    for name in names:
        if name not in NAMES:
            raise InputError(f"params.yaml: augment: {name!r} is unknown{nearest(name, NAMES)}")


def steps(names: tuple[str, ...], table: dict[str, Callable]) -> list[Step]:
    """Return the steps of `names`, recipes spelt out, that `table` has. A flip named alone has probability ½."""
    found = [step for name in names for step in RECIPES.get(name, [((name,), 0.5 if name in FLIPS else 1.0)])]
    return [step for step in found if step[0][0] in table]


def drawn(step: Step, count: int, generator: torch.Generator) -> list[tuple[str, Tensor]]:
    """Draw which of `count` images get which transform of a step: (transform, int64 indices on the CPU)."""
    choices, probability = step
    if probability == 1:
        return [(choices[0], torch.arange(count))]
    which = (torch.rand(count, generator=generator) / probability * len(choices)).long()
    return [(name, (which == number).nonzero()[:, 0]) for number, name in enumerate(choices)]


def sampled(x: Tensor, grid: Tensor, mode: str) -> Tensor:
    """Return `x` at the points of `grid` (lesions/batches/warps.py), reflected at its border; integers are rounded."""
    places = grid.permute(0, 2, 3, 1)
    found = functional.grid_sample(x.float(), places, mode=mode, padding_mode="reflection", align_corners=False)
    return (found if x.is_floating_point() else found.round_()).to(x.dtype)


def warped(name: str, generator: torch.Generator, grid: Tensor) -> Tensor:
    """Return `grid` under the warp of that name."""
    return WARPS[name](grid, generator)


def changed(name: str, generator: torch.Generator, images: Tensor) -> Tensor:
    """Return float `images` under the change of colour of that name, cut off to 0..1."""
    return PHOTOMETRIC[name](images, generator).clamp_(0, 1)


def geometric(names: tuple[str, ...], batch: tuple[Tensor, ...], generator: torch.Generator) -> tuple[Tensor, ...]:
    """Flip and warp the tensors of a batch, images, then masks, in the same way: each B×C×H×W, its dtype stays.

    Flips come first and are exact; all warps are composed into one resampling, bilinear for images, nearest for masks.
    What a warp of BLACK brings in from outside is 0, of others the reflected image.
    """
    images = batch[0]
    if images.shape[-1] != images.shape[-2]:
        for name in names:
            if (("transpose",), 0.5) in steps((name,), FLIPS):
                raise InputError(
                    f"params.yaml: augment: {name} needs square images, not {tuple(images.shape[-2:])}; "
                    "use hflip and vflip"
                )
    batch = tuple(x.clone() for x in batch)
    for step in steps(names, FLIPS):
        for name, index in drawn(step, len(images), generator):
            batch = tuple(apply_(FLIPS[name], x, index) for x in batch)
    warps = steps(names, WARPS)
    if not warps:
        return batch
    height, width = images.shape[-2:]
    grid = still(len(images), height, width, images.device)
    outside = torch.zeros_like(grid[:, :1], dtype=torch.bool)
    for step in reversed(warps):  # from the result back to the source
        for name, index in drawn(step, len(images), generator):
            grid = apply_(partial(warped, name, generator), grid, index)
            if name in BLACK:
                rows = index.to(grid.device, non_blocking=True)
                outside[rows] |= (selected(grid, rows).abs() > 1).any(dim=1, keepdim=True)
    modes = ("bilinear", *("nearest",) * (len(batch) - 1))
    found = tuple(sampled(x, grid, mode) for x, mode in zip(batch, modes, strict=True))
    black = any(name in BLACK for choices, _ in warps for name in choices)
    return tuple(x.masked_fill_(outside, 0) for x in found) if black else found


def photometric(names: tuple[str, ...], images: Tensor, generator: torch.Generator) -> Tensor:
    """Change colours as `names` say, in their order, of float images B×3×H×W in 0..1; `images` may be written into."""
    for step in steps(names, PHOTOMETRIC):
        for name, index in drawn(step, len(images), generator):
            images = apply_(partial(changed, name, generator), images, index)
    return images


def augmented(
    names: tuple[str, ...], images: Tensor, masks: Tensor | None, generator: torch.Generator
) -> tuple[Tensor, Tensor | None]:
    """Augment uint8 images B×3×H×W and their masks B×1×H×W, if any: float images in 0..1, masks of the same dtype."""
    turned = geometric(names, (images,) if masks is None else (images, masks), generator)
    return photometric(names, unit(turned[0]), generator), turned[1] if masks is not None else None
