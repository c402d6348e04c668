import os
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from emoc_tf.data import decoding

RNG = np.random.default_rng(0)
COLOURS = np.array([[200, 30, 30], [20, 180, 40], [30, 40, 190], [240, 240, 20]], np.uint8)
# Four fields of one colour each: 40 wide, 24 high.
FIELDS = COLOURS[np.array([[0, 1], [2, 3]]).repeat(12, 0).repeat(20, 1)]
SIZE = FIELDS.shape[:2]


def saved(tmp_path, image, name="image", **options):
    image = image if isinstance(image, Image.Image) else Image.fromarray(image)
    image.save(tmp_path / name, **options)
    return tmp_path / name


def corners(image):
    h, w = image.shape[:2]
    y, x = (h // 4, 3 * h // 4), (w // 4, 3 * w // 4)
    return image[np.ix_(y, x)].astype(int)


@pytest.mark.parametrize("name", ["a.png", "a.bmp", "a.tiff", "noise.jpg", "no suffix"])
@pytest.mark.parametrize("format", ["PNG", "BMP", "TIFF", "GIF"])
def test_formats_without_loss_by_content(tmp_path, format, name):
    file = saved(tmp_path, FIELDS, name, format=format)
    np.testing.assert_array_equal(decoding.decode(file, SIZE, "letterbox"), FIELDS)


@pytest.mark.parametrize(
    ("format", "options"),
    [
        ("JPEG", {"quality": 95}),
        ("JPEG", {"progressive": True, "quality": 95}),
        ("WEBP", {"quality": 95}),
    ],
)
def test_formats_with_loss(tmp_path, format, options):
    file = saved(tmp_path, FIELDS, format=format, **options)
    image = decoding.decode(file, SIZE, "letterbox")
    np.testing.assert_allclose(corners(image), COLOURS.reshape(2, 2, 3), atol=20)


MODES = [(mode, "PNG") for mode in ("1", "L", "LA", "P", "RGBA")]
MODES += [(mode, "TIFF") for mode in ("1", "L", "LA", "P", "RGBA", "PA", "CMYK", "LAB")]


@pytest.mark.parametrize(("mode", "format"), MODES)
def test_modes(tmp_path, mode, format):
    if mode == "LAB":
        from PIL import ImageCms

        profiles = [ImageCms.createProfile(name) for name in ("sRGB", "LAB")]
        image = ImageCms.profileToProfile(Image.fromarray(FIELDS), *profiles, outputMode="LAB")
    else:
        image = Image.fromarray(FIELDS).convert(mode)
    image_read = decoding.decode(saved(tmp_path, image, format=format), SIZE, "letterbox")
    expected = FIELDS if mode == "LAB" else np.asarray(image.convert("RGB"))
    np.testing.assert_allclose(image_read, expected, atol=12 if mode == "LAB" else 0)


@pytest.mark.parametrize("quality", [75, 95])
def test_cmyk_jpegs_are_not_inverted(tmp_path, quality):
    """Adobe's, as Pillow writes them too, hold the complement."""
    file = saved(tmp_path, Image.fromarray(FIELDS).convert("CMYK"), format="JPEG", quality=quality)
    assert b"Adobe" in file.read_bytes()[:2000]
    image = decoding.decode(file, SIZE, "letterbox")
    np.testing.assert_allclose(corners(image), COLOURS.reshape(2, 2, 3), atol=15)


def transparent(mode):
    alpha = np.zeros((*SIZE, 1), np.uint8)
    alpha[:, 20:] = 255
    if mode == "RGBA":
        return Image.fromarray(np.concatenate([FIELDS, alpha], 2))
    if mode == "LA":
        return Image.fromarray(np.concatenate([FIELDS[..., :1], alpha], 2))
    image = Image.fromarray(FIELDS).quantize(4)
    index = np.asarray(image)[0, 0]
    assert (np.asarray(image)[:12, :20] == index).all()
    image.info["transparency"] = (
        int(index) if mode == "P" else bytes(0 if i == index else 255 for i in range(4))
    )
    return image


TRANSPARENT = [("RGBA", format) for format in ("PNG", "WEBP", "GIF", "TIFF")]
TRANSPARENT += [("LA", format) for format in ("PNG", "WEBP", "TIFF")]
TRANSPARENT += [("P", "PNG"), ("P", "GIF"), ("P with alphas", "PNG")]


@pytest.mark.parametrize(("mode", "format"), TRANSPARENT)
def test_what_is_transparent_is_white(tmp_path, mode, format):
    options = {"lossless": True} if format == "WEBP" else {}
    file = saved(tmp_path, transparent(mode), format=format, **options)
    image = decoding.decode(file, SIZE, "letterbox")
    assert (image[:12, :20] == 255).all()
    assert (image[12:, 20:] != 255).any()


@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_one_transparent_colour(tmp_path, mode):
    image = Image.fromarray(FIELDS).convert(mode)
    file = saved(tmp_path, image, format="PNG", transparency=image.getpixel((0, 0)))
    image = decoding.decode(file, SIZE, "letterbox")
    assert (image[:12, :20] == 255).all()


@pytest.mark.parametrize("format", ["PNG", "TIFF"])
@pytest.mark.parametrize("values", [[0, 257, 30000, 65535], [128, 255, 256, 400]])
def test_16_bits_are_scaled_and_not_cut_off(tmp_path, format, values):
    array = np.array([values], np.uint16)
    image = decoding.decode(saved(tmp_path, array, format=format), (1, 4), "letterbox")
    np.testing.assert_array_equal(image[0, :, 0], np.rint(np.array(values) / 257))


def tiff(array, photometric, bits, sample_format):
    """A TIFF of one strip, written by hand."""
    entries = [
        (256, array.shape[1]), (257, array.shape[0]), (258, bits), (259, 1), (262, photometric),
        (273, 8), (277, 1), (278, array.shape[0]), (279, array.nbytes), (339, sample_format),
    ]  # fmt: skip
    table = struct.pack("<H", len(entries))
    table += b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in entries)
    data = array.tobytes()
    return struct.pack("<2sHI", b"II", 42, 8 + len(data)) + data + table + struct.pack("<I", 0)


@pytest.mark.parametrize("photometric", [0, 1])
def test_16_bit_tiff_where_0_is_white(tmp_path, photometric):
    array = np.array([[0, 65535, 257 * 10]], "<u2")
    (tmp_path / "a").write_bytes(tiff(array, photometric, 16, 1))
    image = decoding.decode(tmp_path / "a", (1, 3), "letterbox")[0, :, 0]
    np.testing.assert_array_equal(image, [0, 255, 10] if photometric else [255, 0, 245])


@pytest.mark.parametrize(
    ("dtype", "values", "expected"),
    [
        (np.float32, [0, 0.5, 1], [0, 128, 255]),
        (np.float32, [0, 100.4, 255], [0, 100, 255]),
        (np.float32, [0, 257, 65535], [0, 1, 255]),
        (np.int32, [0, 7, 255], [0, 7, 255]),
        (np.int32, [0, 257, 65535], [0, 1, 255]),
    ],
)
def test_floating_and_32_bit_tiff(tmp_path, dtype, values, expected):
    file = saved(tmp_path, np.array([values], dtype), format="TIFF")
    image = decoding.decode(file, (1, 3), "letterbox")
    np.testing.assert_array_equal(image[0, :, 1], expected)


@pytest.mark.parametrize("values", [[-1, 0], [0, 1e6], [0, np.nan], [0, np.inf]])
def test_floats_in_no_plain_range(tmp_path, values):
    file = saved(tmp_path, np.array([values], np.float32), format="TIFF")
    with pytest.raises(decoding.LeftOutError, match=r"pixel values from .*expected \[0, 1\]"):
        decoding.decode(file, (1, 2), "letterbox")


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_images_are_upright(tmp_path, orientation, format):
    undone = [None, None, "FLIP_LEFT_RIGHT", "ROTATE_180", "FLIP_TOP_BOTTOM", "TRANSPOSE",
              "ROTATE_90", "TRANSVERSE", "ROTATE_270"][orientation]  # fmt: skip
    image = Image.fromarray(FIELDS)
    turned = image if undone is None else image.transpose(getattr(Image.Transpose, undone))
    exif = Image.Exif()
    exif[0x0112] = orientation
    file = saved(tmp_path, turned, format=format, exif=exif)
    image = decoding.decode(file, SIZE, "crop")
    np.testing.assert_allclose(corners(image), COLOURS.reshape(2, 2, 3), atol=25)


@pytest.mark.parametrize("orientation", [0, 9, 255])
def test_orientations_that_are_none(tmp_path, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    file = saved(tmp_path, FIELDS, format="PNG", exif=exif)
    np.testing.assert_array_equal(decoding.decode(file, SIZE, "crop"), FIELDS)


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
def test_broken_notes_are_no_broken_image(tmp_path):
    file = saved(
        tmp_path, FIELDS, format="JPEG", exif=b"Exif\0\0II*\0\xff\xff\xff\xff" + b"\xff" * 9
    )
    assert decoding.decode(file, SIZE, "letterbox").shape == FIELDS.shape


@pytest.mark.parametrize("format", ["GIF", "TIFF", "WEBP", "PNG"])
def test_the_first_of_several_frames(tmp_path, format):
    frames = [Image.fromarray(np.full((8, 8, 3), grey, np.uint8)) for grey in (200, 10, 90)]
    options = {"lossless": True} if format == "WEBP" else {}
    file = saved(
        tmp_path, frames[0], format=format, save_all=True, append_images=frames[1:], **options
    )
    assert (decoding.decode(file, (8, 8), "letterbox") == 200).all()


@pytest.mark.parametrize(
    ("shape", "size", "rows", "columns"),
    [
        ((20, 40), (20, 20), (5, 15), (0, 20)),
        ((40, 20), (20, 20), (0, 20), (5, 15)),
        ((10, 10), (20, 40), (0, 20), (10, 30)),
        ((1000, 1), (20, 20), (0, 20), (9, 10)),
        ((7, 7), (20, 20), (0, 20), (0, 20)),
    ],
)
def test_letterbox_shows_all_of_it_on_black(shape, size, rows, columns):
    fitted = decoding.fitted(np.full((*shape, 3), 200, np.uint8), size, "letterbox")
    inside = np.zeros(size, bool)
    inside[slice(*rows), slice(*columns)] = True
    assert (fitted[inside] == 200).all()
    assert (fitted[~inside] == 0).all()


@pytest.mark.parametrize(
    ("shape", "size"), [((20, 60), (20, 20)), ((60, 20), (10, 10)), ((5, 15), (40, 40))]
)
@pytest.mark.parametrize(("channels", "dtype"), [(3, np.uint8), (1, np.uint8), (4, np.float32)])
def test_crop_shows_the_middle(shape, size, channels, dtype):
    image = np.zeros((*shape, channels), dtype)
    long = int(np.argmax(shape))
    third = shape[long] // 3
    image.swapaxes(0, long)[third : 2 * third] = 100
    fitted = decoding.fitted(image, size, "crop")
    assert (fitted.shape, fitted.dtype) == ((*size, channels), dtype)
    np.testing.assert_allclose(fitted[4:-4, 4:-4], 100, atol=1e-3)


@pytest.mark.parametrize("fit", decoding.FITS)
@pytest.mark.parametrize("factor", [1, 3, 16])
def test_large_jpegs_are_decoded_small_and_look_alike(tmp_path, fit, factor):
    y, x = np.mgrid[: 24 * factor, : 40 * factor] / factor
    smooth = np.stack([4 * x, 6 * y, 2 * x + 3 * y], 2).astype(np.uint8)
    file = saved(tmp_path, smooth, format="JPEG", quality=95)
    small = decoding.decode(file, (16, 16), fit)
    np.testing.assert_allclose(small, decoding.fitted(smooth, (16, 16), fit), atol=8)


def chunk(kind, content):
    return (
        struct.pack(">I", len(content)) + kind + content
        + struct.pack(">I", zlib.crc32(kind + content))
    )  # fmt: skip


def png_header(width, height):
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(bytes(100)))


BROKEN = {
    "empty": (b"", "empty file"),
    "text": (b"not an image\n" * 20, "not a JPEG"),
    "a page": (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "not a JPEG"),
    "postscript": (b"%!PS-Adobe-3.0 EPSF-3.0\n", "not a JPEG"),
    "the beginning of a JPEG": (b"\xff\xd8\xff\xe0", "broken"),
    "the beginning of a TIFF": (b"II*\0\x08\0\0\0", "broken"),
    "the beginning of a WebP": (b"RIFF\x10\0\0\0WEBPVP8 ", "broken"),
    "BM": (b"BM", "broken"),
    "a bomb's header": (png_header(60000, 60000), "MAX_IMAGE_PIXELS"),
    "a smaller bomb's": (png_header(10000, 10000), "MAX_IMAGE_PIXELS"),
    "a header alone": (png_header(64, 64), "broken"),
}


@pytest.mark.filterwarnings("ignore:Image size", "ignore:Corrupt EXIF")
@pytest.mark.parametrize("kind", BROKEN)
def test_broken_files_say_why(tmp_path, kind):
    content, reason = BROKEN[kind]
    (tmp_path / "a.png").write_bytes(content)
    with pytest.raises(decoding.LeftOutError, match=reason):
        decoding.decode(tmp_path / "a.png", (8, 8), "letterbox")


@pytest.mark.parametrize("format", ["JPEG", "PNG", "TIFF", "BMP", "GIF", "WEBP"])
@pytest.mark.parametrize("share", [0.9, 0.5, 0.2])
def test_truncated_files_are_broken(tmp_path, format, share):
    noise = RNG.integers(0, 256, (64, 64, 3), dtype=np.uint8)
    file = saved(tmp_path, noise, format=format)
    os.truncate(file, int(share * file.stat().st_size))
    with pytest.raises(decoding.LeftOutError, match="broken"):
        decoding.decode(file, (8, 8), "letterbox")


@pytest.mark.parametrize("kind", ["folder", "pipe", "nothing", "a link to nothing"])
def test_what_is_no_file(tmp_path, kind):
    path = tmp_path / "a.png"
    make = {"folder": path.mkdir, "pipe": lambda: os.mkfifo(path), "nothing": lambda: None,
            "a link to nothing": lambda: path.symlink_to("nowhere")}  # fmt: skip
    make[kind]()
    for read in (decoding.digest, lambda path: decoding.decode(path, (8, 8), "crop")):
        with pytest.raises(decoding.LeftOutError):
            read(path)


@pytest.mark.parametrize("size", [0, -3, 9.5, "9", (3,), (3, 4, 5), (3, 0), None, True])
def test_bad_sizes(size):
    with pytest.raises(ValueError, match="image_size: expected a number of pixels or"):
        decoding.check_size(size, "crop")


@pytest.mark.parametrize("fit", ["", "stretch", None, "Crop"])
def test_bad_fits(fit):
    with pytest.raises(ValueError, match=r"fit: expected 'letterbox' .* or 'crop'"):
        decoding.check_size((3, np.int64(4)), fit)
