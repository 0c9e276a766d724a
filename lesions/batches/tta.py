"""Average, as test-time augmentation, the predictions for an image and its turned and mirrored views.

Study E, section 6: the mean over simple transformations such as rotations and flips, in validation and test.
"""

from collections.abc import Callable, Iterator

from torch import Tensor

# Flipped axes, then perhaps transposed: the four rotations by 90° and their mirror images.
FLIPS: tuple[tuple[int, ...], ...] = ((), (-1,), (-2,), (-2, -1))


def views(images: Tensor) -> Iterator[Tensor]:
    """Yield 8 views of square images B×C×H×W, of others the 4 that keep the shape; the first is the image itself."""
    for axes in FLIPS:
        yield images.flip(axes)
    if images.shape[-1] == images.shape[-2]:
        for axes in FLIPS:
            yield images.flip(axes).transpose(-1, -2)


def averaged(predict: Callable[[Tensor], Tensor], images: Tensor) -> Tensor:
    """Return the mean over the views of predict(view): probabilities B×classes of images B×C×H×W.

    They are added up as they come, so that only their sum is in memory.
    """
    turned = views(images)
    total, count = predict(next(turned)).clone(), 1
    for view in turned:
        total += predict(view)
        count += 1
    return total / count
