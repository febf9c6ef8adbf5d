"""HEIF through libheif, which the extra `heif` brings: imported only where THUMBS_FORMATS names it.

The sandbox lets nothing be opened once it stands, so its child calls `load_heif` before.
"""

from PIL import Image


def load_heif() -> None:
    """Import pillow-heif, and have Pillow open HEIF by it; idempotent.

    `sniff` has decided what is one, also where the first brand is none of those that pillow-heif looks for. One
    thread, since several decoders share the cores; of an embedded thumbnail, depth map or mask nothing is wanted.
    """
    import pillow_heif  # noqa: PLC0415  Optional dependency, the extra `heif`.

    pillow_heif.register_heif_opener(decode_threads=1, thumbnails=False, depth_images=False, aux_images=False)
    Image.register_open(pillow_heif.HeifImageFile.format, pillow_heif.HeifImageFile)


def drop_orientation(image: Image.Image) -> None:
    """Drop the EXIF: libheif turns the pixels as the boxes say, and what EXIF says beside them does not count."""
    image.info.pop("exif", None)
