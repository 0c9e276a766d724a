"""Test-time augmentation: the mean of the predictions for an image and its turned and mirrored views.

Studies D and E; E, section 6: the mean over simple transformations such as rotations and flips, in validation and test.
"""

from collections.abc import Callable, Iterator

from torch import Tensor

# Flipped axes, then perhaps transposed: the four rotations by 90° and their mirror images.
FLIPS: tuple[tuple[int, ...], ...] = ((), (-1,), (-2,), (-2, -1))
Predict = Callable[[Tensor], Tensor]


def views(images: Tensor) -> Iterator[Tensor]:
    """The 8 views of square images B×C×H×W, of others the 4 that keep the shape; the first is the image itself."""
    for axes in FLIPS:
        yield images.flip(axes)
    if images.shape[-1] == images.shape[-2]:
        for axes in FLIPS:
            yield images.flip(axes).transpose(-1, -2)


def originals(maps: Iterator[Tensor]) -> Iterator[Tensor]:
    """`views` undone: what was predicted for them, B×C×H×W in their order, as it lies on the image itself."""
    for number, found in enumerate(maps):
        turned = found if number < len(FLIPS) else found.transpose(-1, -2)
        yield turned.flip(FLIPS[number % len(FLIPS)])


def mean(predictions: Iterator[Tensor]) -> Tensor:
    """One at a time: only the sum is held."""
    total, count = next(predictions).clone(), 1
    for prediction in predictions:
        total += prediction
        count += 1
    return total / count


def averaged(predict: Predict, images: Tensor) -> Tensor:
    """The mean over the views of predict(view): probabilities B×classes of images B×C×H×W."""
    return mean(predict(view) for view in views(images))


def averaged_maps(predict: Predict, images: Tensor) -> Tensor:
    """As `averaged` for maps B×1×H×W, a probability for each pixel: each is turned back before the mean."""
    return mean(originals(predict(view) for view in views(images)))
