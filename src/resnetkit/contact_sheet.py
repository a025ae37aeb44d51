"""Contact sheets: many pictures with a caption each, on a few large ones."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from PIL import Image, ImageDraw, ImageFont

COLUMNS, ROWS = 5, 6  # of a sheet
SIDE, CAPTION, MARGIN = 224, 34, 8  # pixels
BACK, TEXT = (255, 255, 255), (30, 30, 30)
FONT_SIZE = 14


def sheets(pictures: Sequence[Image.Image], captions: Sequence[str]) -> Iterator[Image.Image]:
    """Yield sheets of pictures, in their order."""
    for start in range(0, len(pictures), COLUMNS * ROWS):
        part = slice(start, start + COLUMNS * ROWS)
        yield sheet(pictures[part], captions[part])


def sheet(pictures: Sequence[Image.Image], captions: Sequence[str]) -> Image.Image:
    """Return one sheet, no larger than it must be."""
    columns = min(COLUMNS, len(pictures))
    rows = -(-len(pictures) // columns)
    cell = SIDE + MARGIN, SIDE + CAPTION + MARGIN
    whole = Image.new("RGB", (columns * cell[0] + MARGIN, rows * cell[1] + MARGIN), BACK)
    draw, font = ImageDraw.Draw(whole), ImageFont.load_default(FONT_SIZE)
    for number, (picture, caption) in enumerate(zip(pictures, captions, strict=True)):
        left, top = MARGIN + number % columns * cell[0], MARGIN + number // columns * cell[1]
        small = picture.resize((SIDE, SIDE), Image.Resampling.LANCZOS)
        whole.paste(small, (left, top))
        for line, text in enumerate(caption.split("\n")[:2]):
            draw.text((left, top + SIDE + 1 + 16 * line), fitted(text, draw, font), fill=TEXT, font=font)
    return whole


def fitted(text: str, draw: ImageDraw.ImageDraw, font: ImageFont.FreeTypeFont | ImageFont.ImageFont) -> str:
    """Cut a text to the width of a picture."""
    plain = text.encode("latin-1", "replace").decode("latin-1")  # what the font has
    cut = plain
    while cut and draw.textlength(cut + "..." * (cut != plain), font=font) > SIDE:
        cut = cut[:-1]
    return cut + "..." * (cut != plain)
