"""The picture on its canvas: padding for `contain`, and the background under transparency where the output has none."""

from PIL import Image

from thumbs.domain import Fit, OutputFormat, ThumbnailSpec

TRANSPARENT = (0, 0, 0, 0)


def place(image: Image.Image, spec: ThumbnailSpec, output: OutputFormat) -> Image.Image:
    """Pad the picture to exactly the asked size for `contain`: transparent where the output can, else background."""
    if spec.fit is not Fit.CONTAIN or image.size == (spec.width, spec.height):
        return image
    colour = spec.background if output is OutputFormat.JPEG else TRANSPARENT
    canvas = Image.new("RGBA", (spec.width, spec.height), colour)
    corner = ((spec.width - image.width) // 2, (spec.height - image.height) // 2)
    canvas.paste(image.convert("RGBA"), corner)
    return canvas


def flatten(image: Image.Image, spec: ThumbnailSpec, output: OutputFormat) -> Image.Image:
    """Lay the picture on the background where the output has no alpha, and drop an alpha that hides nothing."""
    if not has_transparency(image):
        return image.convert("RGB")
    if output is not OutputFormat.JPEG:
        return image
    canvas = Image.new("RGBA", image.size, spec.background)
    return Image.alpha_composite(canvas, image).convert("RGB")


def has_transparency(image: Image.Image) -> bool:
    """Tell whether any pixel lets the background through; an alpha channel alone does not."""
    return image.mode == "RGBA" and image.getchannel("A").getextrema() != (255, 255)
