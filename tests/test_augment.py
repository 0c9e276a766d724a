"""Augmentation and test-time augmentation: identities, ranges, and references written out plainly."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from lesions.batches import augment, per_image, photometric, tta, warps
from lesions.core.errors import InputError

SIZE = 32


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def smooth(count: int = 6, size: int = SIZE, seed: int = 0) -> Tensor:
    """float count×3×size×size in 0..1: different smooth pictures of waves, with values at both ends of the range."""
    y, x = torch.meshgrid(*[torch.linspace(0, 1, size)] * 2, indexing="ij")
    a, b, phase = torch.rand(3, count, 3, 1, 1, generator=generator(seed))
    waves = torch.sin(2 * math.pi * (2 * a * x + 2 * b * y + phase))
    low, high = waves.amin(dim=(2, 3), keepdim=True), waves.amax(dim=(2, 3), keepdim=True)
    return (waves - low) / (high - low)


def points(height: int = SIZE, width: int = SIZE, count: int = 1) -> Tensor:
    """The grid that leaves images as they are: centres of pixels."""
    y, x = ((2 * torch.arange(n) + 1) / n - 1 for n in (height, width))
    return torch.stack(torch.meshgrid(x, y, indexing="xy")).expand(count, -1, -1, -1)


def places(*xy: tuple[float, float]) -> Tensor:
    """A grid of these points in one row: float 1×2×1×n."""
    return torch.tensor(xy).T[None, :, None]


def one(value: float) -> Tensor:
    return torch.full((1, 1, 1, 1), value)


SIZES = {"clahe": 128}  # below that no tile has enough pixels for the clip limit to matter


@pytest.mark.parametrize("name", augment.NAMES)
class TestEveryName:
    """One contract for all."""

    def test_shape_type_and_range_stay(self, name):
        for dtype in (torch.uint8, torch.float32):
            images = (smooth() * (255 if dtype == torch.uint8 else 1)).to(dtype)
            before = images.clone()
            (turned,) = augment.geometric((name,), (images,), generator())
            assert turned.shape == images.shape and turned.dtype == dtype
            assert turned.min() >= 0 and turned.max() <= before.max()
            assert torch.equal(images, before)
        changed = augment.photometric((name,), before, generator())
        assert changed.shape == before.shape and changed.dtype == torch.float32
        assert changed.min() >= 0 and changed.max() <= 1

    def test_the_seed_decides_and_nothing_else(self, name):
        images = (smooth(12, SIZES.get(name, SIZE)) * 255).byte()
        torch.manual_seed(1)
        first, _ = augment.augmented((name,), images, None, generator(1))
        torch.manual_seed(2)
        state = torch.get_rng_state()
        again, _ = augment.augmented((name,), images, None, generator(1))
        other, _ = augment.augmented((name,), images, None, generator(2))
        assert torch.equal(first, again) and not torch.equal(first, other)
        assert torch.equal(torch.get_rng_state(), state)

    def test_images_of_a_batch_get_different_parameters(self, name):
        images = (smooth(1, SIZES.get(name, SIZE)) * 255).byte().repeat(16, 1, 1, 1)
        changed, _ = augment.augmented((name,), images, None, generator(3))
        least = {"hflip": 2, "vflip": 2, "transpose": 2, "median_blur": 2, "clahe": 3, "dihedral": 5}
        assert len({tuple(x.flatten().tolist()) for x in changed}) >= least.get(name, 14)

    def test_masks_follow_the_images(self, name):
        images = smooth(8)
        images = images[:, :1].repeat(1, 3, 1, 1)
        masks = (images[:, :1] > 0.5).byte()
        turned, mask = augment.geometric((name,), (images, masks), generator())
        clear = (turned[:, :1] - 0.5).abs() > 0.2  # nearest and bilinear may differ at the border of the mask
        assert torch.equal(mask[clear], (turned[:, :1] > 0.5).byte()[clear]) and clear.float().mean() > 0.4
        assert set(mask.unique().tolist()) <= {0, 1}


def test_the_old_names_give_the_old_results():
    """The first version's rules, written out: a coin for each image and flip in the order given, then light."""
    images = (smooth(16) * 255).byte()
    masks = (images[:, :1] > 99).byte()
    names = ("vflip", "lighting", "transpose", "hflip")
    turned, turned_masks = augment.geometric(names, (images, masks), generator(5))
    found, found_masks = augment.augmented(names, images, masks, generator(5))

    rng, expected, expected_masks = generator(5), images.clone(), masks.clone()
    for turn in (lambda x: x.flip(1), lambda x: x.transpose(1, 2), lambda x: x.flip(2)):
        for number, coin in enumerate(torch.rand(16, generator=rng) < 0.5):
            if coin:
                expected[number] = turn(expected[number]).clone()
                expected_masks[number] = turn(expected_masks[number]).clone()
    assert torch.equal(turned, expected)
    assert torch.equal(turned_masks, expected_masks) and torch.equal(found_masks, expected_masks)

    shift, scale = ((torch.rand(2, 16, generator=rng) * 2 - 1) * 0.2)[..., None, None, None]
    light = turned / 255
    mean = light.mean(dim=(1, 2, 3), keepdim=True)
    assert torch.equal(found, ((light - mean) * (1 + scale) + mean * (1 + shift)).clamp(0, 1))


def test_recipes_are_spelt_out_and_the_order_is_kept():
    assert [s[0][0] for s in augment.steps(("lighting", "heavy", "hflip"), augment.FLIPS)] == [
        "transpose", "vflip", "hflip", "hflip",
    ]  # fmt: skip
    assert augment.steps(("hsv", "lighting"), augment.PHOTOMETRIC) == [(("hsv",), 1.0), (("lighting",), 1.0)]
    known = {*augment.FLIPS, *augment.WARPS, *augment.PHOTOMETRIC}
    for recipe in augment.RECIPES.values():
        assert {name for choices, _ in recipe for name in choices} <= known
    assert len(augment.NAMES) == len(set(augment.NAMES))


def test_the_dihedral_group_has_eight_equally_likely_members():
    image = torch.arange(16.0).reshape(1, 1, 4, 4).repeat(4000, 1, 1, 1)
    (turned,) = augment.geometric(("dihedral",), (image,), generator())
    _, counts = torch.unique(turned.flatten(1), dim=0, return_counts=True)
    assert len(counts) == 8 and (counts - 500).abs().max() < 100  # five standard deviations


def test_steps_happen_with_their_probability():
    drawn = augment.drawn((("hsv",), 1.0), 5, generator())
    assert [(name, index.tolist()) for name, index in drawn] == [("hsv", [0, 1, 2, 3, 4])]
    assert all(len(index) == 0 for _, index in augment.drawn((("hsv", "clahe"), 1e-9), 1000, generator()))
    choices = ("optical", "grid", "elastic")
    drawn = augment.drawn((choices, 0.7), 9000, generator())
    assert tuple(name for name, _ in drawn) == choices
    index = torch.cat([index for _, index in drawn])
    assert len(index.unique()) == len(index)  # never two of them
    assert all(abs(len(index) - 2100) < 200 for _, index in drawn)  # .7 / 3 of all


def test_only_the_chosen_images_change():
    x = torch.arange(5.0)[:, None]
    assert per_image.apply_(lambda y: -y, x, torch.tensor([], dtype=torch.long)).flatten().tolist() == [0, 1, 2, 3, 4]
    assert per_image.apply_(lambda y: -y, x, torch.tensor([1, 3])) is x
    assert x.flatten().tolist() == [0, -1, 2, -3, 4]


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_what_is_augmented_is_left_as_it_was(layout):
    """The batch may be a view of what a feed holds; and the layout in memory, which the network computes in, stays."""
    images = torch.randint(0, 256, (6, 3, 40, 40), dtype=torch.uint8).contiguous(memory_format=layout)
    masks, before = (images[:, :1] > 128).byte(), images.clone()
    for names in (("heavy",), ("dihedral",), ("rotate180", "lighting")):
        changed, _ = augment.augmented(names, images, masks, generator())
        assert torch.equal(images, before) and torch.equal(masks, (before[:, :1] > 128).byte())
        assert not torch.equal((255 * changed).round().byte(), before)
    for index in (torch.tensor([4, 1]), torch.arange(6)):
        assert torch.equal(per_image.selected(images, index), images[index])
        assert per_image.selected(images, index).is_contiguous(memory_format=layout)


def test_a_matrix_times_planes_is_einsum():
    for channels, given in ((2, 3), (3, 1)):  # of each image; of all
        planes, matrix = torch.randn(3, channels, 5, 7), torch.randn(given, channels, 4)
        expected = torch.einsum("bkhw,bkc->bchw", planes, matrix.expand(3, -1, -1))
        assert torch.allclose(per_image.mapped(planes, matrix), expected, atol=1e-5)


class TestGeometric:
    def test_the_still_grid_is_torchs(self):
        same = torch.nn.functional.affine_grid(torch.eye(2, 3).expand(2, 2, 3), [2, 1, 20, 48], align_corners=False)
        assert torch.allclose(warps.still(2, 20, 48, same.device), same.permute(0, 3, 1, 2), atol=1e-6)

    def warped(self, function, images, seed=0, **limits):
        grid = function(points(*images.shape[-2:], len(images)), generator(seed), **limits)
        return augment.sampled(images, grid, "bilinear")

    @pytest.mark.parametrize(
        ("function", "limits"),
        [
            (warps.rotate, {"limit": 0}),
            (warps.zoom, {"limit": 1}),
            (warps.shift_scale_rotate, {"shift": 0, "scale": 0, "rotation": 0}),
            (warps.optical, {"limit": 0}),
            (warps.grid_distortion, {"limit": 0}),
            (warps.elastic, {"affine": 0, "field": 0}),
        ],
    )
    def test_no_strength_is_no_change(self, function, limits):
        for images in (smooth(), smooth()[..., :20]):
            assert torch.allclose(self.warped(function, images, **limits), images, atol=1e-5)

    def test_a_quarter_turn_is_rot90(self):
        images = smooth()
        grid = warps.turned(points(count=len(images)), one(math.pi / 2))
        turned = augment.sampled(images, grid, "bilinear")
        assert torch.allclose(turned, torch.rot90(images, -1, (2, 3)), atol=1e-4)

    def test_oblong_images_are_turned_without_shear(self):
        """A distance in pixels is what it was."""
        grid = warps.turned(points(16, 48), one(0.7))
        for axis in (2, 3):
            steps = grid.diff(dim=axis) * torch.tensor([24.0, 8.0])[:, None, None]
            assert torch.allclose(steps.norm(dim=1), torch.ones_like(steps[:, 0]), atol=1e-5)

    def test_angles_fill_their_range(self):
        for name, limit in (("rotate180", 180), ("rotate44", 44), ("rotate35", 35)):
            grid = augment.WARPS[name](places((1.0, 0.0)).expand(500, 2, 1, 1), generator())
            angles = torch.rad2deg(torch.atan2(grid[:, 1], grid[:, 0]))
            assert limit * 0.97 < angles.max() <= limit and -limit <= angles.min() < -0.97 * limit

    def test_zoom_shows_a_part_of_the_image_of_any_place(self):
        for name, limit in (("zoom", 1.3), ("zoom105", 1.05)):
            corners = places((-1.0, -1.0), (1.0, 1.0)).expand(500, 2, 1, 2)
            low, high = augment.WARPS[name](corners, generator()).unbind(dim=3)
            assert low.min() >= -1 - 1e-6 and high.max() <= 1 + 1e-6
            scale = 2 / (high - low)
            assert scale.min() >= 1 - 1e-5 and 0.97 * limit < scale.max() <= limit + 1e-5
            middle = ((low + high) / 2)[..., 0]
            assert (middle[:, 0] * middle[:, 1] > 0).float().mean() < 0.65  # x and y are independent

    def test_shift_scale_rotate_stays_within_its_limits(self):
        grid = warps.shift_scale_rotate(torch.zeros(500, 2, 1, 1), generator(), scale=0, rotation=0)
        assert 0.19 < grid.abs().max() <= 0.2  # a tenth of a side that is 2 wide
        ends = places((0.0, 0.0), (1.0, 0.0)).expand(500, 2, 2, 2)
        turned = warps.shift_scale_rotate(ends, generator())
        arrow = (turned[:, :, 0, 1] - turned[:, :, 0, 0]).double()
        scale, angle = 1 / arrow.norm(dim=-1), torch.rad2deg(torch.atan2(arrow[:, 1], arrow[:, 0]))
        assert 0.9 - 1e-5 <= scale.min() < 0.91 and 1.09 < scale.max() <= 1.1 + 1e-5
        assert 14.5 < angle.abs().max() <= 15 + 1e-4

    def test_what_comes_in_from_outside_is_black_where_study_e_has_it_black(self):
        """Shift-scale-rotate alone: the rest of the warps reflect, before it and behind it."""
        white = torch.full((64, 3, 32, 32), 255, dtype=torch.uint8)
        names = ("optical", "shift_scale_rotate", "zoom")
        (found,) = augment.geometric(names, (white,), generator())
        dark = (found == 0).all(dim=1)
        assert dark.flatten(1).any(dim=1).float().mean() > 0.5 and set(found.unique().tolist()) == {0, 255}
        assert dark.float().mean() < 0.2 and not dark[:, 12:20, 12:20].any()
        (reflected,) = augment.geometric(("optical", "zoom", "rotate180"), (white,), generator())
        assert (reflected == 255).all()

    def test_the_lens_leaves_the_centre_and_moves_the_border_by_its_formula(self):
        moved = warps.bent(places((0.0, 0.0), (1.0, 0.0), (0.0, -1.0), (1.0, 1.0)), one(0.5))
        side, corner = 1 + 0.5 * (0.25 + 0.25**2), 1 + 0.5 * (0.5 + 0.5**2)  # r² of a side's middle ¼, of a corner ½
        assert torch.allclose(moved, places((0.0, 0.0), (side, 0.0), (0.0, -side), (corner, corner)))

    def test_the_distorted_grid_is_monotone_and_starts_at_the_border(self):
        """The source position as a running sum of strip widths, for the first column and row."""
        grid = warps.grid_distortion(points(40, 40, 3), generator())
        for axis, line in ((0, grid[:, 0, 0]), (1, grid[:, 1, :, 0])):
            widths = 2 * torch.rand(3, 2, 5, generator=generator())[:, axis]
            fine = widths.repeat_interleave(8, dim=1) / 20  # 8 pixels a strip, 2 / 40 wide at width 1
            edges = fine.cumsum(dim=1) - 1
            assert torch.allclose(line, edges - fine / 2, atol=1e-5)

    def test_elastic_moves_three_points_by_the_affine_part_and_bends_little(self):
        ends = places((1.0, 1.0), (1.0, -1.0), (-1.0, -1.0)) * 2 / 3
        moves = warps.elastic(ends.expand(200, 2, 1, 3), generator(), field=0) - ends
        limit = 2 * 50 / 512
        assert 0.98 * limit < moves.abs().max() <= limit + 1e-6
        bend = warps.elastic(points(count=50), generator(), affine=0) - points(count=50)
        assert 0 < bend.abs().max() < 2 * 2 * 3 / 512  # bicubic overshoots the lattice a little
        second = bend[..., 2:] - 2 * bend[..., 1:-1] + bend[..., :-2]
        assert second.abs().max() < bend.abs().max()  # smooth

    def test_warps_are_composed_in_the_order_of_their_names(self):
        """One resampling of the composed map is close to two, one after the other, in the middle."""
        images = smooth(4, 64)
        (both,) = augment.geometric(("rotate44", "zoom"), (images,), generator(4))
        rng = generator(4)  # the last name is drawn first
        zoomed = warps.zoom(points(64, 64, 4), rng, limit=1.3)
        rotated = warps.rotate(points(64, 64, 4), rng, limit=44)
        after = augment.sampled(augment.sampled(images, rotated, "bilinear"), zoomed, "bilinear")
        assert (both - after)[..., 16:48, 16:48].abs().max() < 0.02

    def test_square_images_are_asked_for_by_name(self):
        for name in ("transpose", "dihedral", "heavy"):
            with pytest.raises(InputError, match=f"{name} needs square images"):
                augment.geometric(("hflip", name), (torch.zeros(1, 3, 4, 6),), generator())
        augment.geometric(("hflip", "vflip", "rotate180"), (torch.zeros(1, 3, 4, 6),), generator())


class TestPhotometric:
    def test_brightness_adds_and_contrast_multiplies(self):
        images = torch.rand(300, 3, 4, 4, generator=generator()) * 0.5 + 0.25
        added = photometric.brightness(images, generator()) - images
        assert added.flatten(1).std(dim=1).max() < 1e-6 and 0.19 < added.abs().max() <= 0.2 + 1e-6
        ratio = photometric.contrast(images, generator()) / images
        assert ratio.flatten(1).std(dim=1).max() < 1e-5
        assert 0.8 - 1e-5 <= ratio.min() < 0.81 and 1.19 < ratio.max() <= 1.2 + 1e-5

    def test_no_strength_is_no_change(self):
        images = smooth()
        for changed in (
            photometric.brightness(images, generator(), 0),
            photometric.contrast(images, generator(), 0),
            photometric.hsv(images, generator(), 0, 0, 0),
            photometric.gaussian_noise(images, generator(), 0, 0),
            photometric.gaussian_blur(images, generator(), 0.01, 0.01),
            photometric.cutout(images, generator(), 0),
            photometric.lightened(images, torch.zeros_like),
        ):
            assert torch.allclose(changed, images, atol=2e-5)

    def test_hue_turns_through_the_known_colours(self):
        red = torch.tensor([1.0, 0.0, 0.0]).view(1, 3, 1, 1)
        for turns, expected in ((1 / 6, (1, 1, 0)), (1 / 3, (0, 1, 0)), (1 / 2, (0, 1, 1)), (-1 / 3, (0, 0, 1))):
            found = photometric.hsv_shifted(red, one(turns), one(0), one(0)).flatten()
            assert torch.allclose(found, torch.tensor(expected).float(), atol=1e-5)
        pale = photometric.hsv_shifted(red, one(0), one(-0.25), one(-0.2)).flatten()
        assert torch.allclose(pale, torch.tensor([0.8, 0.2, 0.2]), atol=1e-6)

    def test_grey_stays_grey_under_a_turn_of_the_hue(self):
        grey = torch.linspace(0, 1, 64).view(1, 1, 8, 8).repeat(20, 3, 1, 1)
        assert torch.allclose(photometric.hsv(grey, generator(), saturation=0, value=0), grey, atol=1e-6)

    def test_lightness_moves_and_the_colour_stays(self):
        """White has L* 100, black 0, and middle grey (sRGB 119) 50; grey stays grey."""
        seen = []
        grey = torch.tensor([0.0, 118.9 / 255, 1.0]).view(1, 1, 1, 3).repeat(1, 3, 1, 1)
        lighter = photometric.lightened(
            grey, lambda lightness: seen.append(lightness) or torch.full_like(lightness, 10)
        )
        assert torch.allclose(seen[0].flatten(), torch.tensor([0.0, 50.0, 100.0]), atol=0.05)
        assert (lighter.amax(dim=1) - lighter.amin(dim=1)).max() < 1e-5
        photometric.lightened(lighter[..., :2], lambda lightness: seen.append(lightness) or torch.zeros_like(lightness))
        assert torch.allclose(seen[1].flatten(), torch.tensor([10.0, 60.0]), atol=0.05)

    @pytest.mark.parametrize(("shape", "tiles", "clip"), [((16, 16), 2, 2.0), ((12, 20), 4, 4.0), ((16, 24), 2, 300.0)])
    def test_clahe_is_the_plain_algorithm(self, shape, tiles, clip):
        """OpenCV's, pixel by pixel; with a limit that nothing reaches, the last is plain equalisation."""
        level = np.random.default_rng(0).normal(120, 25, shape).clip(0, 255).astype(int)
        height, width = shape[0] // tiles, shape[1] // tiles
        tables = np.zeros((tiles, tiles, 256))
        for i in range(tiles):
            for j in range(tiles):
                cell = level[i * height : (i + 1) * height, j * width : (j + 1) * width]
                counts = [int((cell == value).sum()) for value in range(256)]
                limit = max(int(clip * height * width / 256), 1)
                excess = sum(max(count - limit, 0) for count in counts)
                counts = [min(count, limit) + excess // 256 for count in counts]
                rest = excess % 256
                place = 0
                while rest > 0 and place < 256:
                    counts[place] += 1
                    place += max(256 // (excess % 256), 1)
                    rest -= 1
                tables[i, j] = np.rint(np.cumsum(counts) * 255 / (height * width))
        expected = np.zeros(shape)
        for y in range(shape[0]):
            for x in range(shape[1]):
                down, right = y / height - 0.5, x / width - 0.5
                for i, row in ((math.floor(down), 1 - down % 1), (math.floor(down) + 1, down % 1)):
                    for j, column in ((math.floor(right), 1 - right % 1), (math.floor(right) + 1, right % 1)):
                        at = tables[min(max(i, 0), tiles - 1), min(max(j, 0), tiles - 1), level[y, x]]
                        expected[y, x] += row * column * at
        batch = torch.from_numpy(np.stack([level, level[::-1].copy()]))
        found = photometric.equalised(batch, torch.tensor([clip, 1.0]).view(2, 1, 1), tiles)
        assert np.allclose(found[0], expected, atol=1e-3)

    def test_clahe_takes_sizes_that_tiles_do_not_divide_and_spreads_a_flat_histogram(self):
        images = 0.4 + 0.2 * smooth(3, 37)
        clear = photometric.clahe(images, generator(), limit=4.0)
        assert clear.shape == images.shape
        assert (clear.std(dim=(1, 2, 3)) > 1.2 * images.std(dim=(1, 2, 3))).all()

    @pytest.mark.parametrize("blur", [photometric.motion_blur, photometric.gaussian_blur])
    def test_blurs_spread_a_point_without_moving_it(self, blur):
        point = torch.zeros(20, 3, 11, 11)
        point[..., 5, 5] = 1
        spread = blur(point, generator())
        assert torch.allclose(spread.sum(dim=(2, 3)), torch.ones(20, 3), atol=1e-5)
        assert (spread.amax(dim=(2, 3)) < 0.7).all() and (spread >= 0).all()
        axis = torch.arange(11.0) - 5
        assert (spread.sum(dim=2) @ axis).abs().max() < 1e-4 and (spread.sum(dim=3) @ axis).abs().max() < 1e-4

    def test_motion_is_along_a_line_and_the_normal_blur_round(self):
        point = torch.zeros(200, 3, 11, 11)
        point[..., 5, 5] = 1
        axis = torch.arange(11.0) - 5
        y, x = torch.meshgrid(axis, axis, indexing="ij")
        for blur, thin in ((photometric.motion_blur, True), (photometric.gaussian_blur, False)):
            spread = blur(point, generator())[:, 0]
            moments = [[(spread * a * b).sum(dim=(1, 2)) for a in (x, y)] for b in (x, y)]
            spectrum = torch.linalg.eigvalsh(torch.stack([torch.stack(row, -1) for row in moments], -1))
            ratio = spectrum[:, 1] / spectrum[:, 0].clamp(min=1e-3)
            assert (ratio > 3).all() if thin else (ratio < 1.01).all()
            if not thin:  # σ² of the normal distribution, cut off at two pixels
                assert 0.632 < spectrum.min() < 0.65 and 1.03 < spectrum.max() < 1.056

    def test_every_blur_keeps_a_flat_image(self):
        flat = torch.full((8, 3, 9, 9), 0.3)
        for name in ("motion_blur", "median_blur", "gaussian_blur"):
            assert torch.allclose(augment.PHOTOMETRIC[name](flat, generator()), flat, atol=1e-6)

    @pytest.mark.parametrize("size", [3, 5])
    def test_the_median_is_numpys(self, size):
        images = torch.rand(2, 3, 9, 12, generator=generator())
        around = np.pad(images.numpy(), [(0, 0), (0, 0)] + [(size // 2, size // 2)] * 2, mode="reflect")
        windows = np.lib.stride_tricks.sliding_window_view(around, (size, size), axis=(2, 3))
        assert (photometric.median(images, size).numpy() == np.median(windows, axis=(-1, -2))).all()

    def test_noise_has_the_variance_it_says(self):
        images = torch.full((40, 3, 64, 64), 0.5)
        noise = (photometric.gaussian_noise(images, generator()) - 0.5) * 255
        assert noise.mean().abs() < 0.05
        variance = noise.var(dim=(1, 2, 3))
        assert 5 * 0.95 < variance.min() < 8 and 27 < variance.max() < 30 * 1.05
        assert abs(float((noise[:, 0] * noise[:, 1]).mean())) < 0.2  # channels are independent

    def test_cutout_is_a_rectangle_of_its_part_of_the_sides(self):
        holes = photometric.cutout(torch.ones(300, 3, 40, 64), generator()) == 0
        assert (holes[:, 0] == holes[:, 2]).all()
        rows, columns = holes[:, 0].any(dim=2).sum(dim=1), holes[:, 0].any(dim=1).sum(dim=1)
        assert (holes[:, 0].sum(dim=(1, 2)) == rows * columns).all()
        assert rows.max() == 15 and columns.max() == 24  # .375 of 40 and 64, less where the border cuts it off
        assert rows.min() >= 7 and columns.min() >= 12
        assert holes.any(dim=0).all()  # in some image or other, everywhere


class TestTestTime:
    def test_square_images_have_eight_views_and_others_four(self):
        image = torch.arange(9.0).view(1, 1, 3, 3)
        assert len({tuple(view.flatten().tolist()) for view in tta.views(image)}) == 8
        found = list(tta.views(torch.arange(6.0).view(1, 1, 2, 3)))
        assert [view.shape for view in found] == [(1, 1, 2, 3)] * 4
        assert len({tuple(view.flatten().tolist()) for view in found}) == 4
        assert torch.equal(next(tta.views(image)), image)

    def test_the_prediction_is_the_mean_of_the_views(self):
        images, weights = smooth(3, 8), torch.rand(3, 8, 8, generator=generator())

        def predict(x: Tensor) -> Tensor:
            return torch.stack([(x * weights).sum(dim=(1, 2, 3)), x[:, 0, 0, 0]], dim=1)

        expected = np.mean([predict(view).numpy() for view in tta.views(images)], axis=0)
        assert np.allclose(tta.averaged(predict, images), expected, rtol=1e-5)

    def test_turned_images_have_the_same_prediction(self):
        images = smooth(2, 8)
        weights = torch.rand(3, 8, 8, generator=generator())

        def predict(x: Tensor) -> Tensor:
            return (x * weights).mean(dim=(1, 2, 3)).sigmoid()

        expected = tta.averaged(predict, images)
        assert not torch.allclose(predict(images), predict(images.flip(-1)), atol=1e-3)
        for turned in (*tta.views(images), torch.rot90(images, 1, (2, 3)), torch.rot90(images, 3, (2, 3))):
            assert torch.allclose(tta.averaged(predict, turned), expected, atol=1e-6)

    def test_a_prediction_is_not_written_into(self):
        held = torch.ones(2, 3)
        assert torch.equal(tta.averaged(lambda x: held, smooth(2, 4)), torch.ones(2, 3))
        assert torch.equal(held, torch.ones(2, 3))
