"""Decoding untrusted image files: a `Picture`, or `BrokenInput` with one sentence."""

from __future__ import annotations

import contextlib
import io
import warnings
from collections.abc import Iterator

import cv2
import numpy as np
from PIL import Image, ImageChops, ImageCms, JpegImagePlugin

from p3mdata.errors import BrokenInput
from p3mdata.imaging.encode import EXTENSIONS
from p3mdata.imaging.jpeg.segments import SOS, UnsupportedJpeg, split
from p3mdata.imaging.jpeg.structure import MAX_SCANS
from p3mdata.imaging.metadata import needed_icc
from p3mdata.imaging.picture import Picture, Pixels, orient

try:
    import pillow_heif
except ImportError:
    HEIF = False
else:
    pillow_heif.register_heif_opener()
    HEIF = True
try:
    import simplejpeg
except ImportError:
    # On machines that only train; Pillow decodes the same pixels, in twice the time.
    FAST_JPEG = False
else:
    FAST_JPEG = True

# A limit of our own is applied to the header before any pixel is decoded.
Image.MAX_IMAGE_PIXELS = None

SUFFIXES = frozenset(
    (
        *(".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".png", ".webp", ".tif", ".tiff", ".bmp", ".gif"),
        *(".heic", ".heif", ".avif", ".jp2", ".ppm", ".pgm"),
    )
)
# What may be opened, whatever the file is called: other decoders of Pillow run programs (EPS) or are hardly tested.
_READABLE = ("JPEG", "PNG", "WEBP", "TIFF", "BMP", "GIF", "AVIF", "JPEG2000", "PPM", *(("HEIF",) if HEIF else ()))
_ORIENTATION_TAG = 0x0112
_BITS_PER_SAMPLE_TAG, _PHOTOMETRIC_TAG, _PLANAR_TAG, _EXTRA_SAMPLES_TAG = 258, 262, 284, 338
_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB = 0, 1, 2
_SEPARATE_PLANES = 2
_PREMULTIPLIED = 1
_PNG_BIT_DEPTH_OFFSET = 24
_SIXTEEN_BIT_MODES = ("I;16", "I;16B", "I;16L", "I;16N", "I")


@contextlib.contextmanager
def _decoding() -> Iterator[None]:
    """Decoders raise a zoo of types on hostile bytes; whatever it is, this file cannot be used."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except BrokenInput:
        raise
    except Exception as exc:
        why = " ".join(str(exc).split())[:120] or type(exc).__name__
        raise BrokenInput(
            "cannot_decode", f"cannot be decoded, it is truncated or damaged ({why}). Copy the file again."
        ) from exc


def _open(data: bytes, max_pixels: int) -> Image.Image:
    if not data:
        raise BrokenInput("empty_file", "is empty (0 bytes). Copy the file again.")
    try:
        with _decoding():
            image = Image.open(io.BytesIO(data), formats=_READABLE)
    except BrokenInput as exc:
        raise BrokenInput("not_an_image", _not_an_image(data)) from exc
    width, height = image.size
    if width * height > max_pixels:
        raise BrokenInput(
            "too_large",
            f"has {width}x{height} pixels, more than the limit of {max_pixels}. Raise --max-pixels if it is genuine.",
        )
    with _decoding():
        frames = getattr(image, "n_frames", 1)
    if frames > 1 and image.format != "MPO":
        raise BrokenInput("several_pictures", f"holds {frames} pictures or pages. Save each as a file of its own.")
    return image


def _check_scans(data: bytes) -> None:
    """Refuse a JPEG of more scans than any encoder makes: each is a pass over all pixels, however few bytes it has."""
    # Other data that follows the picture may look like scans; only then the segments are counted one by one.
    if data.count(bytes((0xFF, SOS))) <= MAX_SCANS:
        return
    try:
        many = sum(segment.marker == SOS for segment in split(data)) > MAX_SCANS
    except UnsupportedJpeg:
        many = True
    if many:
        raise BrokenInput("too_many_scans", f"has more than {MAX_SCANS} scans, as no camera makes. Save it anew.")


def _not_an_image(data: bytes) -> str:
    if data[4:8] == b"ftyp" and not HEIF:
        return "is a HEIC/HEIF picture: run 'pip install pillow-heif' to read it."
    return "is not a picture in a known format, or its header is damaged. Replace or remove it."


def _orientation(image: Image.Image) -> int:
    try:
        orientation = int(image.getexif().get(_ORIENTATION_TAG, 1) or 1)
    except Exception:
        # A picture whose EXIF cannot be parsed is shown unrotated by every viewer; the EXIF itself is dropped.
        return 1
    return orientation if 1 <= orientation <= 8 else 1


def _bit_depth(image: Image.Image, data: bytes) -> int:
    if image.format == "PNG":
        return data[_PNG_BIT_DEPTH_OFFSET]
    if image.format == "TIFF":
        return int(max(_tiff_tag(image, _BITS_PER_SAMPLE_TAG, 8)))
    return 16 if image.mode.startswith("I;16") else 8


def _tiff_tag(image: Image.Image, tag: int, default: int) -> tuple[int, ...]:
    value = image.tag_v2.get(tag, default)  # type: ignore[attr-defined]
    return value if isinstance(value, tuple) else (value,)


def _key_opacity(grey: Pixels, key: int) -> Pixels:
    """Opacity of a grey picture in which one value means transparent."""
    return np.where(grey == key, 0, np.iinfo(grey.dtype).max).astype(grey.dtype)


def _decode_16_bit(image: Image.Image, data: bytes) -> tuple[Pixels, Pixels | None]:
    kind, usual = _BLACK_IS_ZERO, True
    if image.format == "TIFF":
        # OpenCV takes the fourth ink for opacity, and separate planes for mixed ones.
        kind = _tiff_tag(image, _PHOTOMETRIC_TAG, _BLACK_IS_ZERO)[0]
        usual = (
            kind in (_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB)
            and _tiff_tag(image, _EXTRA_SAMPLES_TAG, 0)[0] != _PREMULTIPLIED
            and _tiff_tag(image, _PLANAR_TAG, 1)[0] != _SEPARATE_PLANES
        )
    flags = cv2.IMREAD_UNCHANGED | cv2.IMREAD_IGNORE_ORIENTATION
    array = cv2.imdecode(np.frombuffer(data, np.uint8), flags) if usual else None
    if array is None or array.dtype != np.uint16:
        raise BrokenInput("unsupported_colours", "is a 16-bit picture of an unusual kind. Save it as a 16-bit PNG.")
    if array.ndim == 2:
        key = image.info.get("transparency")
        array = np.invert(array) if kind == _WHITE_IS_ZERO else array
        return array, None if key is None else _key_opacity(array, key)
    if array.shape[2] == 2:
        return np.ascontiguousarray(array[:, :, 0]), np.ascontiguousarray(array[:, :, 1])
    rgb = np.ascontiguousarray(array[:, :, 2::-1])
    return rgb, np.ascontiguousarray(array[:, :, 3]) if array.shape[2] == 4 else None


def _to_srgb(image: Image.Image, icc: bytes | None) -> Image.Image:
    """CMYK to sRGB, through the picture's own profile where it has a readable one."""
    if image.format == "JPEG" and "adobe" not in image.info:
        # Pillow takes all inks for inverted ones, as Adobe's programs write them.
        image = ImageChops.invert(image)
    if icc:
        with contextlib.suppress(ImageCms.PyCMSError, OSError):
            profile = ImageCms.ImageCmsProfile(io.BytesIO(icc))
            converted = ImageCms.profileToProfile(image, profile, ImageCms.createProfile("sRGB"), outputMode="RGB")
            assert converted is not None
            return converted
    return image.convert("RGB")


def _split(image: Image.Image) -> tuple[Pixels, Pixels | None]:
    array = np.asarray(image)
    if image.mode in ("LA", "RGBA"):
        channels = array.shape[2] - 1
        colours = array[:, :, 0] if channels == 1 else array[:, :, :channels]
        return np.ascontiguousarray(colours), np.ascontiguousarray(array[:, :, channels])
    return array, None


def _intact_jpeg(data: bytes, image: Image.Image) -> Pixels | None:
    """Pixels of a grey or RGB JPEG file about which libjpeg has nothing to remark; None leaves it to Pillow.

    The same library with the same transform and interpolation as Pillow's, so the same pixels, in half the time.
    """
    if not FAST_JPEG or image.format not in ("JPEG", "MPO") or image.mode not in ("L", "RGB"):
        return None
    try:
        pixels: Pixels = simplejpeg.decode_jpeg(data, "RGB" if image.mode == "RGB" else "GRAY", strict=True)
    except ValueError:
        return None
    return pixels if image.mode == "RGB" else pixels[:, :, 0]


def _decode_8_bit(
    image: Image.Image, icc: bytes | None, depth: int
) -> tuple[Pixels, Pixels | None, str | None, bytes | None]:
    """Pixels, opacity, a note about a conversion, and the profile that still applies."""
    mode, key = image.mode, image.info.get("transparency")
    if mode in ("1", "L"):
        grey = np.asarray(image.convert("L"))
        # Pillow leaves the key of 2 and 4 bits in steps of the file's own depth.
        step = 255 // ((1 << depth) - 1) if mode == "L" else 1
        opacity = None if key is None else _key_opacity(grey, key * step)
        return grey, opacity, "1 bit written as 8-bit grey" if mode == "1" else None, icc
    if mode in ("RGB", "LA", "RGBA"):
        return *_split(image.convert("RGBA") if mode == "RGB" and key is not None else image), None, icc
    if mode in ("P", "PA"):
        has_alpha = mode == "PA" or "transparency" in image.info
        return *_split(image.convert("RGBA" if has_alpha else "RGB")), "palette written as RGB", icc
    if mode == "CMYK":
        return np.asarray(_to_srgb(image, icc)), None, "CMYK converted to sRGB", None
    if mode == "YCbCr":
        return np.asarray(image.convert("RGB")), None, "YCbCr converted to RGB", icc
    raise BrokenInput("unsupported_colours", f"has pixels of kind '{mode}'. Save it as 8- or 16-bit grey, RGB or RGBA.")


def decode(data: bytes, max_pixels: int = 200_000_000) -> Picture:
    """Decode one image file.

    Args:
        data: The file's bytes.
        max_pixels: Limit on width x height, checked before decoding.

    Returns:
        The picture in displayed orientation.

    Raises:
        BrokenInput: The bytes are not a usable picture.
    """
    image = _open(data, max_pixels)
    icc = image.info.get("icc_profile")
    note: str | None = None
    if image.format in ("JPEG", "MPO"):
        _check_scans(data)
    with _decoding():
        # The decoders of TIFF turn the pixels themselves, and Pillow forgets how.
        turned = image.format == "TIFF"
        orientation = _orientation(image) if turned else 1
        intact = _intact_jpeg(data, image)
        if intact is None:
            # Load first: PNG keeps its EXIF after the pixels, and damage shows here.
            image.load()
        orientation = orientation if turned else _orientation(image)
        depth = _bit_depth(image, data)
        if intact is not None:
            pixels, opacity = intact, None
        elif depth == 16:
            pixels, opacity = _decode_16_bit(image, data)
        elif image.mode in _SIXTEEN_BIT_MODES:
            raise BrokenInput(
                "unsupported_colours", f"has pixels of kind '{image.mode}'. Save it as an 8- or 16-bit PNG."
            )
        else:
            pixels, opacity, note, icc = _decode_8_bit(image, icc, depth)
    if not turned:
        pixels, opacity = orient(pixels, orientation), None if opacity is None else orient(opacity, orientation)
    icc = needed_icc(icc, 1 if pixels.ndim == 2 else 3)
    tables = None
    if isinstance(image, JpegImagePlugin.JpegImageFile) and image.mode in ("L", "RGB"):
        tables = {k: list(v) for k, v in image.quantization.items()}, JpegImagePlugin.get_sampling(image)
    name = "JPEG" if image.format in ("JPEG", "MPO") else image.format or ""
    notes = [note] if note else []
    if name not in EXTENSIONS:
        notes.append(f"{name} written as PNG")
        name = "PNG"
    elif name == "TIFF" and icc and pixels.dtype == np.uint16:
        notes.append("16-bit TIFF with a colour profile written as PNG")
        name = "PNG"
    return Picture(
        pixels=pixels,
        opacity=opacity,
        format=name,
        icc=icc,
        orientation=orientation,
        tables=tables,
        notes=tuple(notes),
    )


def decode_matte(data: bytes, photo: Picture, what: str, max_pixels: int = 200_000_000) -> Pixels:
    """Decode an alpha matte, trimap or hand-drawn mask that belongs to a photo.

    The matte's own EXIF orientation is applied. A matte that has the size of the photo as stored, before its
    EXIF orientation, is turned like the photo.

    Returns:
        HxW, uint8 or uint16, same size as the photo.

    Raises:
        BrokenInput: Unreadable, more than one channel, or another size; the sentence begins with `what`.
    """
    try:
        matte = decode(data, max_pixels)
    except BrokenInput as exc:
        raise BrokenInput(f"{what}_{exc.code}", f"has {_article(what)} that {exc.sentence}") from exc
    pixels = matte.pixels
    if pixels.ndim == 3:
        if not (np.array_equal(pixels[..., 0], pixels[..., 1]) and np.array_equal(pixels[..., 0], pixels[..., 2])):
            raise BrokenInput(f"{what}_has_colours", f"has {_article(what)} in colour. Save it as one grey channel.")
        pixels = np.ascontiguousarray(pixels[..., 0])
    if matte.opacity is not None and int(matte.opacity.min()) < np.iinfo(matte.opacity.dtype).max:
        raise BrokenInput(
            f"{what}_is_transparent", f"has {_article(what)} with a transparency channel. Save it as one grey channel."
        )
    if pixels.shape != photo.size and photo.orientation > 4 and pixels.shape == photo.size[::-1]:
        pixels = orient(pixels, photo.orientation)
    if pixels.shape != photo.size:
        raise BrokenInput(
            f"{what}_other_size",
            f"is {photo.size[1]}x{photo.size[0]} but its {what} is {pixels.shape[1]}x{pixels.shape[0]}. "
            "Export both at one size.",
        )
    return pixels


def _article(what: str) -> str:
    return f"an {what}" if what[0] in "aeiou" else f"a {what}"
