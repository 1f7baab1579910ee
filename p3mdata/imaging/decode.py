"""Decoding untrusted image files: a `Picture`, or `BrokenInput` with one sentence."""

from __future__ import annotations

import contextlib
import io
import warnings
from collections.abc import Iterator

import cv2
import numpy as np
from PIL import Image, ImageChops, ImageCms, JpegImagePlugin

from p3mdata.config import MAX_PIXELS
from p3mdata.errors import BrokenInput
from p3mdata.imaging.colours import declared_profile, hides_profile, media_bits
from p3mdata.imaging.containers import (
    dropped_pages,
    is_small_copy,
    jp2_bits,
    left_out,
    map_top,
    tiff_channels,
    unusual_tiff,
    why_not,
    with_end,
)
from p3mdata.imaging.encode import EXTENSIONS
from p3mdata.imaging.jpeg import JpegBlocks, decoded_pixels
from p3mdata.imaging.jpeg.library import opened
from p3mdata.imaging.jpeg.segments import SOS, UnsupportedJpeg, number_of, split
from p3mdata.imaging.jpeg.structure import MAX_SCANS, inspect, tells_all
from p3mdata.imaging.metadata import needed_icc
from p3mdata.imaging.picture import Picture, Pixels, orient
from p3mdata.imaging.plane import plane_of

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
        *(".heic", ".heif", ".hif", ".avif", ".jp2", ".ppm", ".pgm"),
    )
)
# What may be opened, whatever the file is called: other decoders of Pillow run programs (EPS) or are hardly tested.
_READABLE = ("JPEG", "PNG", "WEBP", "TIFF", "BMP", "GIF", "AVIF", "JPEG2000", "PPM", *(("HEIF",) if HEIF else ()))
_ORIENTATION_TAG = 0x0112
_BITS_PER_SAMPLE_TAG, _PHOTOMETRIC_TAG, _PLANAR_TAG = 258, 262, 284
_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB = 0, 1, 2
_SEPARATE_PLANES = 2
_UNSPECIFIED, _PREMULTIPLIED = 0, 1
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


def open_picture(data: bytes, max_pixels: int) -> Image.Image:
    """A picture whose header was read and whose pixels were not.

    Raises:
        BrokenInput: It is empty, no picture, too large, or several ones.
    """
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
        several = frames > 1 and image.format != "MPO"
        if several and image.format == "TIFF":
            several = dropped_pages(image) is None
        small = image.format == "TIFF" and is_small_copy(image)
    if small:
        raise BrokenInput(
            "several_pictures",
            "shows a small copy, as RAW files do: its picture lies deeper in the file. Save that as TIFF, PNG or JPEG.",
        )
    if several:
        raise BrokenInput("several_pictures", f"holds {frames} pictures or pages. Save each as a file of its own.")
    return image


def _check_scans(data: bytes) -> None:
    """Refuse a JPEG of more scans than any encoder makes: each is a pass over all pixels, however few bytes it has."""
    # Other data that follows the picture may look like scans; only then the segments are counted one by one.
    if number_of(SOS, data) <= MAX_SCANS:
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
    if reason := why_not(data):
        return reason
    return "is not a picture in a known format, or its header is damaged. Replace or remove it."


def exif_orientation(image: Image.Image) -> int:
    """The orientation in TIFF's tag or in EXIF.

    Not that in XMP or in a PNG's text, which Pillow's `getexif` would take: browsers, viewers and OpenCV leave them.
    """
    try:
        if image.format == "TIFF":
            orientation = _tiff_tag(image, _ORIENTATION_TAG, 1)[0]
        else:
            exif = Image.Exif()
            exif.load(image.info.get("exif", b""))
            orientation = int(exif.get(_ORIENTATION_TAG, 1) or 1)
    except Exception:
        # A picture whose EXIF cannot be parsed is shown unrotated by every viewer; the EXIF itself is dropped.
        return 1
    return orientation if 1 <= orientation <= 8 else 1


def bit_depth(image: Image.Image, data: bytes) -> int:
    """Bits of a channel."""
    if image.format == "PNG":
        return data[_PNG_BIT_DEPTH_OFFSET]
    if image.format == "TIFF":
        return int(max(_tiff_tag(image, _BITS_PER_SAMPLE_TAG, 8)))
    if image.format == "JPEG2000":
        return jp2_bits(data)
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
            and _PREMULTIPLIED not in tiff_channels(image)[1]
            and _tiff_tag(image, _PLANAR_TAG, 1)[0] != _SEPARATE_PLANES
        )
    flags = cv2.IMREAD_UNCHANGED | cv2.IMREAD_IGNORE_ORIENTATION
    array = cv2.imdecode(np.frombuffer(data, np.uint8), flags) if usual else None
    if array is None or array.dtype != np.uint16 or (array.ndim == 3 and array.shape[2] > 4):
        raise BrokenInput("unsupported_colours", "is a 16-bit picture of an unusual kind. Save it as a 16-bit PNG.")
    if array.ndim == 2:
        key = image.info.get("transparency")
        array = np.invert(array) if kind == _WHITE_IS_ZERO else array
        return array, None if key is None else _key_opacity(array, key)
    if array.shape[2] == 2:
        return np.ascontiguousarray(array[:, :, 0]), np.ascontiguousarray(array[:, :, 1])
    rgb = np.ascontiguousarray(array[:, :, 2::-1])
    return rgb, np.ascontiguousarray(array[:, :, 3]) if array.shape[2] == 4 else None


def _decode_deep(data: bytes, top: int, what: str) -> tuple[Pixels, Pixels | None]:
    """JPEG 2000 and portable maps of 9 to 16 bits, by OpenCV at full depth, from 0..top to 0..65535.

    Pillow 13 cuts off the high bits of the first, and the low ones of the others where they have colours.
    """
    array = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED | cv2.IMREAD_IGNORE_ORIENTATION)
    if array is None or array.dtype != np.uint16 or top > 65535:
        raise BrokenInput("unsupported_colours", f"is {what}. Save it as a 16-bit PNG.")
    if int(array.max(initial=0)) > top:
        raise BrokenInput(
            "unsupported_colours", f"is {what}, some of its values signed or too large. Save it as a PNG."
        )
    array = ((array.astype(np.uint32) * 65535 + top // 2) // top).astype(np.uint16)
    if array.ndim == 2:
        return array, None
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


def _intact_jpeg(
    data: bytes, image: Image.Image, coefficients: bool, by_libjpeg: bool
) -> tuple[Pixels | None, JpegBlocks | None]:
    """Pixels of a grey or RGB JPEG file about which libjpeg has nothing to remark; None leaves it to Pillow.

    The same library with the same transform and interpolation as Pillow's, so the same pixels, in half the time. With
    coefficients, where they are wanted and come in the same pass.
    """
    if image.format not in ("JPEG", "MPO") or image.mode not in ("L", "RGB"):
        return None, None
    if coefficients and (both := JpegBlocks.decoded(data)):
        return both[1], both[0]
    own = None if by_libjpeg else decoded_pixels(data)
    if own is not None and own.ndim == (3 if image.mode == "RGB" else 2):
        return own, None
    if not FAST_JPEG:
        return None, None
    try:
        pixels: Pixels = simplejpeg.decode_jpeg(data, "RGB" if image.mode == "RGB" else "GRAY", strict=True)
    except ValueError:
        return None, None
    return pixels if image.mode == "RGB" else pixels[:, :, 0], None


def _is_sound(data: bytes) -> bool:
    """Whether libjpeg has nothing to remark on a file whose sampling simplejpeg does not know."""
    try:
        found = inspect(data)
    except UnsupportedJpeg:
        return False
    return found.plain and opened(found.stream, [part.grid for part in found.components]) is not None


def _is_mended(data: bytes) -> bool:
    """Whether libjpeg decodes a file, but has something to remark on its image data, some of which it makes up."""
    with contextlib.suppress(UnsupportedJpeg):
        # Remarks on what other programs left beside the picture are not meant.
        data = inspect(data).stream
    try:
        simplejpeg.decode_jpeg(data, strict=True)
    except ValueError:
        with contextlib.suppress(ValueError):
            # What it cannot do at all it refuses here as well.
            simplejpeg.decode_jpeg(data, strict=False)
            return True
    return False


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


def _planes(
    image: Image.Image, data: bytes, icc: bytes | None
) -> tuple[Pixels, Pixels | None, str | None, bytes | None]:
    """Pixels of any depth, opacity, a note about a conversion, and the profile that still applies."""
    depth = bit_depth(image, data)
    if image.format == "JPEG2000" and depth > 8:
        note = f"{depth} bits scaled to 16" if depth < 16 else None
        return *_decode_deep(data, (1 << depth) - 1, f"a JPEG 2000 of {depth} bits"), note, icc
    if image.format == "PPM" and (top := map_top(data)) > 255:
        note = f"values up to {top} scaled to 16 bits" if top < 65535 else None
        return *_decode_deep(data, top, f"a portable map of values up to {top}"), note, icc
    if depth == 16:
        return *_decode_16_bit(image, data), None, icc
    if image.mode in _SIXTEEN_BIT_MODES:
        raise BrokenInput("unsupported_colours", f"has pixels of kind '{image.mode}'. Save it as an 8- or 16-bit PNG.")
    return _decode_8_bit(image, icc, depth)


def _not_written(form: str, icc: bytes | None, pixels: Pixels) -> str | None:
    """What a file is that cannot be written as it came, else None."""
    if form not in EXTENSIONS:
        return form
    deep = form == "TIFF" and icc and pixels.dtype == np.uint16
    return "16-bit TIFF with a colour profile" if deep else None


def decode(data: bytes, max_pixels: int = MAX_PIXELS, coefficients: bool = False, by_libjpeg: bool = False) -> Picture:
    """Decode one image file.

    Args:
        data: The file's bytes.
        max_pixels: Limit on width x height, checked before decoding.
        coefficients: Whether those of a JPEG file are wanted as well.
        by_libjpeg: Whether a JPEG file is decoded as everybody else does it, and not by code of our own: what was
            released, where it is proved, checked or attacked. It gives no coefficients then.

    Returns:
        The picture in displayed orientation.

    Raises:
        BrokenInput: The bytes are not a usable picture.
    """
    data, mended = with_end(data)
    image = open_picture(data, max_pixels)
    icc = image.info.get("icc_profile")
    jpeg = image.format in ("JPEG", "MPO")
    if jpeg:
        _check_scans(data)
    with _decoding():
        # The decoders of TIFF turn the pixels themselves, and Pillow forgets how.
        turned = image.format == "TIFF"
        orientation = exif_orientation(image) if turned else 1
        extra = _extra_samples(image)
        intact, blocks = _intact_jpeg(data, image, coefficients and not by_libjpeg, by_libjpeg)
        if image.format == "PNG":
            intact = plane_of(data)
        if mended and not (tells_all(data) and (intact is not None or _is_sound(data))):
            raise BrokenInput("cannot_decode", "cannot be decoded, it is truncated or damaged. Copy the file again.")
        if intact is None:
            # Load first: PNG keeps its EXIF after the pixels, and damage shows here.
            image.load()
        orientation = orientation if turned else exif_orientation(image)
        pixels, opacity, note, icc = (intact, None, None, icc) if intact is not None else _planes(image, data, icc)
    notes = [note] if note else []
    if extra == (_UNSPECIFIED,):
        opacity = None
        notes.append("a channel of no stated meaning left out")
    if not turned:
        pixels, opacity = orient(pixels, orientation), None if opacity is None else orient(opacity, orientation)
    form = "JPEG" if jpeg else image.format or ""
    with _decoding():
        icc, bits = _profile(data, form, icc, grey=pixels.ndim == 2), media_bits(data, form)
    tables = None
    if isinstance(image, JpegImagePlugin.JpegImageFile) and image.mode in ("L", "RGB") and image.quantization:
        tables = {k: list(v) for k, v in image.quantization.items()}, JpegImagePlugin.get_sampling(image)
    elif jpeg and not notes:
        notes.append("lossless JPEG encoded anew")
    with _decoding():
        notes += [*left_out(image, data), *(["missing end marker added"] if mended else [])]
        if jpeg and intact is None and FAST_JPEG and image.mode in ("L", "RGB") and _is_mended(data):
            notes.append("damaged image data shown as decoders mend it")
    if bits > 8:
        notes.append(f"{bits} bits reduced to 8")
    if other := _not_written(form, icc, pixels):
        notes.append(f"{other} written as PNG")
    return Picture(
        pixels=pixels,
        opacity=opacity,
        format="PNG" if other else form,
        icc=icc,
        orientation=orientation,
        tables=tables,
        notes=tuple(notes),
        blocks=blocks,
    )


def _extra_samples(image: Image.Image) -> tuple[int, ...]:
    """What a TIFF says about its channels beyond grey or colours; nothing for other formats.

    Raises:
        BrokenInput: There are more than can be used.
    """
    if image.format != "TIFF":
        return ()
    if reason := unusual_tiff(image.tag_v2):  # type: ignore[attr-defined]
        raise BrokenInput("unsupported_colours", reason)
    return tiff_channels(image)[1]


def _profile(data: bytes, form: str, icc: bytes | None, grey: bool) -> bytes | None:
    """The profile that the pixels need: the file's own, or one made of what it says in other ways."""
    if icc is None or hides_profile(data, form):
        icc = declared_profile(data, form, grey)
    return needed_icc(icc, 1 if grey else 3)
