"""Decoding, cropping and resizing; the resize stage on small archives."""

import io
import struct
import sys
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from PIL import Image

from lesions.core import images
from lesions.core.errors import InputError
from lesions.isic import names as isic
from lesions.raw import photographs
from stages import resize
from tests.conftest import ROOT, jpeg, png, write_zip

GRADIENT = np.linspace(0, 255, 64).astype(np.uint8)[None, :, None].repeat(48, 0).repeat(3, 2)


def encoded(image: Image.Image, kind: str = "PNG") -> bytes:
    content = io.BytesIO()
    image.save(content, kind)
    return content.getvalue()


def test_a_cmyk_jpeg_keeps_its_colours():
    """Adobe's CMYK JPEGs are stored inverted."""
    source = Image.fromarray(np.full((32, 32, 3), (200, 120, 40), np.uint8)).convert("CMYK")
    decoded = photographs.decode(encoded(source, "JPEG"), "x").astype(int)
    assert abs(decoded - (200, 120, 40)).max() <= 6


@pytest.mark.parametrize("mode", ["L", "RGBA", "LA", "P", "1", "RGB"])
def test_every_mode_becomes_rgb(mode):
    source = Image.fromarray(GRADIENT).convert(mode)
    decoded = photographs.decode(encoded(source), "x")
    assert decoded.dtype == np.uint8 and decoded.shape == (48, 64, 3)
    assert np.abs(decoded.astype(int) - np.asarray(source.convert("RGB"), int)).max() <= 1


def test_an_array_is_resized_as_its_images_are():
    pixels = np.random.default_rng(0).integers(0, 256, (3, 64, 64, 3), dtype=np.uint8)
    assert images.resized(pixels, (64, 64)) is pixels
    assert (images.resized(pixels, (96, 80))[1] == images.squeezed(pixels[1], (96, 80))).all()
    assert images.resized(pixels[:0], (96, 80)).shape == (0, 96, 80, 3)


def test_sixteen_bits_are_scaled_not_clipped():
    deep = Image.fromarray((GRADIENT[..., 0].astype(np.uint16) << 8) + 7)
    assert (photographs.decode(encoded(deep), "x")[..., 0] == GRADIENT[..., 0]).all()


@pytest.mark.parametrize("cut", [0, 10, 300])
def test_a_truncated_image_is_named(cut):
    content = jpeg(np.random.default_rng(0))[:cut]
    with pytest.raises(InputError, match=r"folder/ISIC_1\.jpg: not a readable image"):
        photographs.decode(content, "folder/ISIC_1.jpg")


def test_a_constant_image_stays_constant_under_either_fit():
    flat = np.full((67, 101, 3), (200, 30, 90), np.uint8)
    for how in ("squeeze", "crop"):
        assert (photographs.fit(flat, (32, 48), how) == (200, 30, 90)).all()


def test_resizing_is_antialiased():
    checks = ((np.indices((256, 256)).sum(axis=0) % 2) * 255).astype(np.uint8)[..., None].repeat(3, axis=2)
    assert np.abs(photographs.fit(checks, (32, 32), "squeeze").astype(int) - 127).max() <= 2


@pytest.mark.parametrize("shape", [(300, 400), (767, 1022), (96, 128)])
def test_jpegs_are_decoded_as_pillow_does_and_filtered_to_within_a_level(shape):
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8))
    for how in ({}, {"progressive": True}, {"subsampling": 0}, {"quality": 30}):
        noise.save(buffer := io.BytesIO(), "JPEG", **how)
        image = photographs.decode(buffer.getvalue(), "x")
        assert (image == np.asarray(Image.open(buffer))).all()
        for size in ((64, 64), (48, 80)):
            difference = photographs.fit(image, size, "squeeze").astype(int) - images.squeezed(image, size)
            assert np.abs(difference).max() <= 1


def test_crop_takes_the_centre_of_the_longer_side():
    wide = np.zeros((50, 150, 3), np.uint8)
    wide[:, 50:100] = 255
    cropped = photographs.fit(wide, (40, 40), "crop")
    assert cropped[:, 3:-3].min() > 250 and cropped.shape == (40, 40, 3)


def test_masks_stay_binary_and_keep_their_area():
    mask = np.zeros((150, 200), np.uint8)
    mask[30:120, 50:150] = 255
    small = photographs.fit_mask(mask, (48, 64), "squeeze")
    assert set(np.unique(small)) == {0, 1}
    assert small.mean() == pytest.approx(100 * 90 / (200 * 150), abs=0.02)


def test_a_mask_of_another_size_is_named():
    with pytest.raises(InputError, match="mask of 10×12 for an image of 10×10"):
        photographs.decode_mask(png(np.zeros((10, 12), np.uint8)), "m.png", (10, 10))


def test_the_black_border_is_found_and_nothing_else_is_cropped():
    y, x = np.mgrid[:120, :160]
    circle = (y - 60) ** 2 + (x - 80) ** 2 < 50**2
    lit = np.where(circle[..., None], np.uint8([190, 150, 130]), np.uint8(2)).astype(np.uint8)
    left, top, right, bottom = photographs.lit_box(lit)
    assert (left, top) == pytest.approx((40, 20), abs=2) and (right, bottom) == pytest.approx((120, 100), abs=2)
    plain = np.random.default_rng(0).integers(120, 200, (120, 160, 3), dtype=np.uint8)
    assert photographs.lit_box(plain) == (0, 0, 160, 120)


def run_resize(monkeypatch, tmp_path, raw, which, rows, workers=2):
    """The stage in tmp_path with small sizes; returns the folder it wrote."""
    chosen = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(chosen))
    (tmp_path / "sorted").mkdir(exist_ok=True)
    rows.to_csv(tmp_path / f"sorted/{which}.csv", index=False)
    monkeypatch.chdir(tmp_path)
    arguments = ["--raw", str(raw), "--sorted", "sorted", "--out", "resized", "--workers", str(workers)]
    monkeypatch.setattr(sys, "argv", ["resize", which, *arguments])
    resize.main()
    return tmp_path / "resized" / which


def test_rows_follow_the_table_whatever_the_workers(monkeypatch, tmp_path, raw):
    names = [f"ISIC_{i:07d}" + ("_downsampled" if i % 10 == 3 else "") for i in reversed(range(96))]
    rows = pd.DataFrame({"image": names})
    folder = run_resize(monkeypatch, tmp_path, raw, "isic2019", rows)
    arrays = {path.name: np.load(path) for path in folder.iterdir()}
    assert {name: a.shape for name, a in arrays.items()} == {
        "classify.npy": (96, 32, 32, 3), "gan.npy": (96, 64, 64, 3), "base.npy": (96, 96, 96, 3),
    }  # fmt: skip
    with zipfile.ZipFile(raw / isic.IMAGES_2019) as archive:
        member = next(m for m in archive.namelist() if names[5] in m)
        expected = photographs.fit(photographs.decode(archive.read(member), member), (64, 64), "squeeze")
    assert (arrays["gan.npy"][5] == expected).all()


def test_pairs_get_masks_beside_their_images(monkeypatch, tmp_path, raw):
    names = [f"ISIC_{i:07d}" for i in range(37, 96)] + ["ISIC_0999999"]
    rows = pd.DataFrame({"image": names, "mask": [f"{n}_segmentation" for n in names]})
    folder = run_resize(monkeypatch, tmp_path, raw, "isic2018", rows, workers=1)
    masks = np.load(folder / "segment_masks.npy")
    assert masks.shape == (60, 48, 64) and (masks[0, 12:36, 16:48] == 1).all() and masks[0].sum() == 24 * 32


def test_each_image_of_2017_comes_from_its_archive(monkeypatch, tmp_path, raw):
    truth = {part: pd.read_csv(raw / name)["image_id"] for part, name in isic.TRUTH_2017.items()}
    rows = pd.concat([pd.DataFrame({"image": names, "archive": part}) for part, names in truth.items()])
    rows = rows.sample(frac=1, random_state=0, ignore_index=True)
    array = np.load(run_resize(monkeypatch, tmp_path, raw, "isic2017", rows) / "classify.npy")
    assert array.shape == (36, 64, 64, 3)
    for i in (rows.index[rows["archive"] == part][0] for part in truth):
        with zipfile.ZipFile(raw / isic.IMAGES_2017[rows["archive"][i]]) as archive:
            content = archive.read(f"{Path(archive.filename).stem}/{rows['image'][i]}.jpg")
        assert (array[i] == photographs.fit(photographs.decode(content, "x"), (64, 64), "crop")).all()


def test_the_merged_set_needs_the_archives_that_it_names(monkeypatch, tmp_path, raw):
    rows = pd.DataFrame({"image": ["ISIC_1000001", "ISIC_0000001"], "archive": ["isic2020", "isic2019"]})
    array = np.load(run_resize(monkeypatch, tmp_path, raw, "merged", rows) / "classify.npy")
    for pixels, file, name in zip(array, (isic.IMAGES_2020, isic.IMAGES_2019), rows["image"], strict=True):
        with zipfile.ZipFile(raw / file) as archive:
            content = archive.read(f"{Path(file).stem}/{name}.jpg")
        assert (pixels == photographs.fit(photographs.decode(content, "x"), (32, 32), "squeeze")).all()
    (raw / isic.IMAGES_2020).unlink()
    alone = np.load(run_resize(monkeypatch, tmp_path, raw, "merged", rows[1:]) / "classify.npy")
    assert (alone == array[1:]).all()
    with pytest.raises(InputError, match=r"ISIC_2020_Training_JPEG\.zip: not found"):
        run_resize(monkeypatch, tmp_path, raw, "merged", rows)


def test_an_image_that_its_archive_lacks_is_named(monkeypatch, tmp_path, raw):
    first = pd.read_csv(raw / isic.TRUTH_2017["train"])["image_id"][0]
    for key, message in (("validation", rf"Validation_Data\.zip: no image '{first}'"), ("test", "archive 'test'")):
        with pytest.raises(InputError, match=message):
            run_resize(monkeypatch, tmp_path, raw, "isic2017", pd.DataFrame({"image": [first], "archive": [key]}))


def test_an_unreadable_image_leaves_nothing_behind(monkeypatch, tmp_path, raw):
    broken = {f"ISIC_{i:07d}.jpg": jpeg(np.random.default_rng(i)) for i in range(3)}
    broken["ISIC_0000001.jpg"] = broken["ISIC_0000001.jpg"][:200]
    write_zip(raw / isic.IMAGES_2019, broken)
    rows = pd.DataFrame({"image": [f"ISIC_{i:07d}" for i in range(3)]})
    with pytest.raises(InputError, match=r"ISIC_0000001\.jpg"):
        run_resize(monkeypatch, tmp_path, raw, "isic2019", rows)
    assert list((tmp_path / "resized").iterdir()) == []


# -- files that are not what they should be --------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "progressive JPEG"])
def test_a_cut_image_is_refused_or_whole(kind):
    """At every length; a PNG whose last 20 bytes are lost has all of its pixels."""
    how = {"progressive": True} if kind.startswith("p") else {}
    Image.fromarray(GRADIENT[:16, :16]).save(buffer := io.BytesIO(), kind.split()[-1], **how)
    content, refused = buffer.getvalue(), 0
    whole = photographs.decode(content, "x")
    for cut in range(len(content)):
        try:
            assert (photographs.decode(content[:cut], "x") == whole).all()
        except InputError:
            refused += 1
    assert refused >= len(content) - 20


def test_an_orientation_is_not_applied():
    """ISIC's masks lie on the pixels as they are stored."""
    exif = Image.Exif()
    exif[0x0112] = 6  # a quarter turn
    Image.fromarray(GRADIENT).save(buffer := io.BytesIO(), "JPEG", exif=exif)
    Image.fromarray(GRADIENT).save(plain := io.BytesIO(), "JPEG")
    turned = photographs.decode(buffer.getvalue(), "x")
    assert (turned == photographs.decode(plain.getvalue(), "x")).all()


def chunk(kind: bytes, content: bytes) -> bytes:
    """Of a PNG."""
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def test_a_damaged_colour_profile_is_named():
    """Found by tests/fuzz.py: Pillow's IndexError."""
    content = encoded(Image.new("RGB", (16, 16)))
    with pytest.raises(InputError, match=r"x\.png: not a readable image"):
        photographs.decode(content[:-12] + chunk(b"iCCP", b"name\0") + content[-12:], "x.png")


def test_colour_of_sixteen_bits_keeps_its_upper_eight():
    deep = ((GRADIENT.astype(">u2") << 8) + 7).astype(">u2")
    rows = b"".join(b"\0" + row.tobytes() for row in deep)
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 64, 48, 16, 2, 0, 0, 0))
    content = b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    assert (photographs.decode(content, "x") == GRADIENT).all()


@pytest.mark.parametrize("size", [(1, 1), (7, 600)])
def test_a_speck_is_refused(size):
    with pytest.raises(InputError, match=rf"dot\.png: .*{size[0]}×{size[1]} pixels; a photograph has 8 a side"):
        photographs.decode(encoded(Image.new("RGB", size)), "dot.png")


@pytest.mark.parametrize("side", [10_001, 12_000, 60_000])
@pytest.mark.filterwarnings("error")
def test_a_decompression_bomb_is_refused_before_it_is_unpacked(side):
    content = bytearray(encoded(Image.new("L", (64, 64))))
    content[16:24] = struct.pack(">II", side, side)
    content[29:33] = struct.pack(">I", zlib.crc32(content[12:29]))
    with pytest.raises(InputError, match=r"bomb\.png: .*(pixels; a photograph has|decompression bomb)"):
        photographs.decode(bytes(content), "bomb.png")


def test_an_animation_is_refused_and_of_a_jpeg_with_more_behind_it_the_first_is_read():
    frames = [Image.new("RGB", (16, 16), colour) for colour in ("red", "blue")]
    frames[0].save(animation := io.BytesIO(), "PNG", save_all=True, append_images=frames[1:])
    with pytest.raises(InputError, match=r"a\.png: not a readable image \(an animation\)"):
        photographs.decode(animation.getvalue(), "a.png")
    frames[0].save(mpo := io.BytesIO(), "MPO", save_all=True, append_images=frames[1:])
    assert photographs.decode(mpo.getvalue(), "a.jpg")[8, 8, 0] > 250


def test_content_counts_not_the_extension():
    source = Image.fromarray(GRADIENT)
    assert (photographs.decode(encoded(source, "PNG"), "really_a_png.jpg") == GRADIENT).all()
    for kind in ("GIF", "TIFF", "BMP", "WEBP", "EPS"):
        with pytest.raises(InputError, match=r"x\.jpg: not a readable image \(no such content\); expected"):
            photographs.decode(encoded(source, kind), "x.jpg")


def test_grey_levels_of_a_mask_are_cut_at_128():
    mask = photographs.decode_mask(png(np.arange(256, dtype=np.uint8).reshape(16, 16)), "m.png", (16, 16))
    assert (mask.ravel() == np.where(np.arange(256) > 128, 255, 0)).all()


@pytest.mark.parametrize("lesion", [1, 128])
def test_a_mask_of_zeros_and_ones_is_refused(lesion):
    with pytest.raises(InputError, match=rf"m\.png: brightest level {lesion}; expected 255 for lesion"):
        photographs.decode_mask(png(np.full((16, 16), lesion, np.uint8)), "m.png", (16, 16))


@pytest.mark.parametrize("lesion", [1, 255])
def test_a_mask_of_sixteen_bits_with_the_levels_of_eight_is_refused(lesion):
    """Its upper eight bits are empty, as a mask without lesion would be."""
    mask = np.zeros((16, 16), np.uint16)
    assert not photographs.decode_mask(png(mask), "m.png", (16, 16)).any()
    mask[4:8] = lesion
    with pytest.raises(InputError, match=rf"m\.png: 16 bits a pixel, but no level above {lesion}; save it with 8 bits"):
        photographs.decode_mask(png(mask), "m.png", (16, 16))
    assert (
        photographs.decode_mask(png(np.where(mask > 0, 65535, 0).astype(np.uint16)), "m.png", (16, 16)) == 255
    ).sum() == 64


@pytest.mark.parametrize(("level", "what"), [(0, "no lesion"), (255, "nothing but lesion")])
def test_masks_that_are_all_alike_are_an_error_that_leaves_nothing(monkeypatch, tmp_path, raw, level, what):
    names = ["ISIC_0000001", "ISIC_0000002"]
    write_zip(raw / isic.IMAGES_2018, {f"{name}.jpg": jpeg(np.random.default_rng(0)) for name in names})
    write_zip(raw / isic.MASKS_2018, {f"{name}.png": png(np.full((48, 64), level, np.uint8)) for name in names})
    with pytest.raises(InputError, match=f"isic2018: .*_masks: all 2 masks have {what}"):
        run_resize(monkeypatch, tmp_path, raw, "isic2018", pd.DataFrame({"image": names, "mask": names}))
    assert not list(tmp_path.rglob("*.npy"))


def test_masks_without_lesion_or_with_nothing_else_are_told(monkeypatch, tmp_path, raw, capsys):
    names = ["ISIC_0000001", "ISIC_0000002", "ISIC_0000003"]
    rng, levels = np.random.default_rng(0), (0, 255, [[0, 255]])
    write_zip(raw / isic.IMAGES_2018, {f"{name}.jpg": jpeg(rng) for name in names})
    masks = [np.repeat(np.broadcast_to(level, (48, 2)), 32, axis=1).astype(np.uint8) for level in levels]
    masks = {f"{name}_segmentation.png": png(mask) for name, mask in zip(names, masks, strict=True)}
    write_zip(raw / isic.MASKS_2018, masks)
    rows = pd.DataFrame({"image": names, "mask": [f"{name}_segmentation" for name in names]})
    run_resize(monkeypatch, tmp_path, raw, "isic2018", rows)
    said = [line for line in capsys.readouterr().err.splitlines() if "segment_masks" in line]
    assert said == [
        "isic2018: segment_masks: 1 masks with no lesion, ISIC_0000001_segmentation the first",
        "isic2018: segment_masks: 1 masks with nothing but lesion, ISIC_0000002_segmentation the first",
    ]
