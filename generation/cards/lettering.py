"""Words on a canvas, set in FiraGO."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from io import BytesIO
from typing import Any, Literal

from PIL import ImageDraw, ImageFont, features

from generation.cards.canvas import Canvas, rectangle
from generation.cards.layouts import Frame
from generation.cards.palette import Color, Palette
from generation.cards.typesetting import Area, Block, Measure, fit
from generation.cards.wording import Wording

_Weight = Literal["regular", "bold"]

# Sizes and distances are in units of the canvas.
_STATEMENT, _STATEMENT_OVER_BODY, _STATEMENT_MIN = 0.150, 0.098, 0.036
_BODY, _BODY_MIN = 0.036, 0.0235
_TAGS = 0.0245
_BAR_WIDTH, _BAR_HEIGHT, _BAR_GAP = 0.075, 0.0085, 0.042

_LEGIBLE = 8.0  # pixels: nothing is set smaller than this
_STATEMENT_LINES, _BODY_LINES = 9, 16
_LONG_BODY = 240  # characters
_CAP_HEIGHT = 0.69  # em, of FiraGO
_DESCENDER = 0.22  # em, which may hang below a frame
_OVERHANG_MAX = 0.65  # of the margin
_MEASURED_AT = 100  # pixels
_OPENING_QUOTES = "“„«\"'‘"


@dataclass(frozen=True, slots=True)
class _Lettering:
    """A block with all it takes to draw it."""

    block: Block
    font: ImageFont.FreeTypeFont
    color: Color

    @property
    def rise(self) -> float:
        """From the first baseline up to the capitals, or to marks that stand higher."""
        if not self.block.lines:
            return 0.0
        ink = -self.font.getbbox(self.block.lines[0], anchor="ls")[1]
        cap_height = _CAP_HEIGHT * self.block.size
        return ink if ink > cap_height * 1.2 else cap_height

    @property
    def height(self) -> float:
        """From there down to the last baseline."""
        return self.rise + self.block.baselines[-1] if self.block.lines else 0.0

    @property
    def sink(self) -> float:
        """How far marks under the last line reach lower than a descender."""
        if not self.block.lines:
            return 0.0
        ink = self.font.getbbox(self.block.lines[-1], anchor="ls")[3]
        return max(0.0, ink - _DESCENDER * self.block.size)


def letter(canvas: Canvas, palette: Palette, wording: Wording, frame: Frame) -> None:
    """Set an accent bar, the statement, the body and the tags into the frame."""
    unit, width = canvas.unit, frame.right - frame.left
    bar_height = max(2.0, unit * _BAR_HEIGHT)
    above = bar_height + unit * _BAR_GAP
    tags = _set_tags(wording.tags, width, unit, palette.quiet)
    tags_height = tags.block.size * 2.9 if tags.block.lines else 0.0
    height = frame.bottom - frame.top - tags_height
    statement, body = _set_text(wording, width, height - above, unit, palette.ink)
    if wording.tags and not statement.block.is_whole:
        letter(canvas, palette, replace(wording, tags=()), frame)  # the tags leave room for it
        return
    gap = max(statement.block.size * 0.72, body.block.size * 1.3) if body.block.lines else 0.0

    last = tags if tags.block.lines else body if body.block.lines else statement
    free = height - above - statement.height - gap - body.height - last.sink
    top = frame.top + free * {"top": 0.0, "middle": 0.5, "bottom": 1.0}[frame.anchor]
    bar_left = (canvas.width - unit * _BAR_WIDTH) / 2 if frame.is_centered else frame.left
    canvas.shape(rectangle(bar_left, top, unit * _BAR_WIDTH, bar_height), palette.accent)
    _draw(canvas, statement, frame, top + above)
    text_bottom = top + above + statement.height + gap + body.height
    _draw(canvas, body, frame, text_bottom - body.height)
    tags_bottom = text_bottom + tags_height if frame.tags_follow else frame.bottom - tags.sink
    _draw(canvas, tags, frame, tags_bottom - tags.height)


def glyph_finder() -> Callable[[str], bool]:
    """Tells whether the font can draw a character."""
    # Where nothing is shaped, all that has no glyph is drawn as one and the same box.
    basic = ImageFont.Layout.BASIC
    font = ImageFont.truetype(BytesIO(_font_file("bold")), 20, layout_engine=basic)

    def drawn(character: str) -> tuple[tuple[int, int], bytes]:
        mask = font.getmask(character)
        return mask.size, bytes(mask)

    missing = drawn("\uffff")
    return cache(lambda character: drawn(character) != missing)


def _set_text(
    wording: Wording, width: float, height: float, unit: float, ink: Color
) -> tuple[_Lettering, _Lettering]:
    # The longer the body, the more room it is given and the calmer the statement over it.
    calm = min(len(wording.body) / _LONG_BODY, 1.0)
    largest = unit * (_STATEMENT + (_STATEMENT_OVER_BODY - _STATEMENT) * calm)
    largest = max(_LEGIBLE * 1.6, largest)
    share = 1.0 - (0.16 + 0.22 * calm if wording.body else 0.0)
    area = Area(width, height * share, _STATEMENT_LINES)

    def set_statement(text: str) -> Block:
        return _fit(text, "bold", area, largest, unit * _STATEMENT_MIN, 0.06)

    statement = set_statement(wording.statement)
    body = _fit(
        wording.body if statement.is_whole else "",
        "regular",
        Area(width, height - statement.height - statement.size * 0.4, _BODY_LINES),
        min(unit * _BODY, statement.size * 0.6),
        unit * _BODY_MIN,
        0.3,
    )
    if wording.body and statement.is_whole and not body.lines:
        statement = set_statement(wording.statement.rstrip(".…") + "…")
    return (
        _Lettering(statement, _font("bold", statement.size), ink),
        _Lettering(body, _font("regular", body.size), ink),
    )


def _fit(
    text: str, weight: _Weight, area: Area, largest: float, smallest: float, air: float
) -> Block:
    """`air` is what is left free between lines, in em."""
    font = _font(weight, _MEASURED_AT)
    _, top, _, bottom = font.getbbox(text.replace("\n", " "), anchor="ls")
    return fit(
        text,
        area,
        _measure(font),
        largest=max(_LEGIBLE, largest),
        smallest=max(_LEGIBLE, smallest),
        leading=max(1.1, (bottom - top) / _MEASURED_AT + air),
    )


def _set_tags(tags: tuple[str, ...], width: float, unit: float, color: Color) -> _Lettering:
    """As many of the tags as fit on one line."""
    size = max(_LEGIBLE, unit * _TAGS)
    font = _font("regular", size)
    while tags and font.getlength("   ".join(tags)) > width:
        tags = tags[:-1]
    lines = ("   ".join(tags),) if tags else ()
    return _Lettering(Block(size, lines, (0.0,) * len(lines), is_whole=True), font, color)


def _draw(canvas: Canvas, lettering: _Lettering, frame: Frame, top: float) -> None:
    draw = ImageDraw.Draw(canvas.image)
    options: dict[str, Any] = {"fill": lettering.color, "font": lettering.font}
    if features.check("raqm"):
        options["direction"] = "rtl" if canvas.mirrored else "ltr"
    for line, baseline in zip(lettering.block.lines, lettering.block.baselines, strict=True):
        y = top + lettering.rise + baseline
        if frame.is_centered:
            draw.text((canvas.width / 2, y), line, anchor="ms", **options)
        elif canvas.mirrored:
            draw.text((canvas.width - frame.left, y), line, anchor="rs", **options)
        else:
            overhang = min(_overhang(line, lettering.font), frame.left * _OVERHANG_MAX)
            x = frame.left - overhang
            draw.text((x, y), line, anchor="ls", **options)


def _overhang(line: str, font: ImageFont.FreeTypeFont) -> float:
    """What stands left of the margin: an opening quote, and the air before the first letter."""
    letters = line.lstrip(_OPENING_QUOTES)
    air = font.getbbox(letters or line, anchor="ls")[0]
    return font.getlength(line.removesuffix(letters)) + air if letters else air


def _measure(font: ImageFont.FreeTypeFont) -> Measure:
    return cache(lambda text: font.getlength(text) / font.size)


def _font(weight: _Weight, size: float) -> ImageFont.FreeTypeFont:
    """A new one each time: FreeType's faces are not to be shared between threads."""
    return ImageFont.truetype(BytesIO(_font_file(weight)), size)


@cache
def _font_file(weight: _Weight) -> bytes:
    # Its fonts are unpacked at first use, which takes 0.1 s.
    import pymupdf_fonts

    file: bytes = pymupdf_fonts.myfont({"regular": "figo", "bold": "figbo"}[weight])
    return file
