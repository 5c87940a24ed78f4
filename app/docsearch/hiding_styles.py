"""Inline styles that keep an element's text from a reader: not shown, too small, too faint, or moved out of the window.

No style sheet is read and nothing is laid out, so this is a list of what pages do. In doubt a style hides.
"""

import re

_COMMENT = re.compile(r"/\*.*?\*/", re.S)
_NUMBER = re.compile(r"[-+]?(?:\d+\.?\d*|\.\d+)(?:e[-+]?\d+)?(?P<unit>[a-z%]*)")
_WORDS = {
    "display": ("none",),
    "visibility": ("hidden", "collapse"),
    "content-visibility": ("hidden",),
    "transform": ("scale", "translate", "matrix", "rotatex", "rotatey"),
    "filter": ("opacity",),
}
"""Values that hide, by property; also where they are a part of the value, as in var(--x,none)."""
_HIDE_ALWAYS = frozenset("clip clip-path mask mask-image -webkit-mask -webkit-mask-image translate".split())
_SIZE = re.compile(r"(?:max-)?(?:width|height|inline-size|block-size)")
_PLACE = re.compile(r"left|top|right|bottom|inset.*|margin.*|text-indent|letter-spacing|word-spacing")
_TEXT_COLOR = re.compile(r"color|-webkit-text-fill-color")
_ZERO = r"0*\.?0*%?"
_NO_COLOR = re.compile(
    rf"transparent|(?:rgb|hsl)a?\((?:[^,/]*,){{3}}{_ZERO}\)|[a-z-]+\([^/]*/{_ZERO}\)|#(?:[0-9a-f]{{3}}0|[0-9a-f]{{6}}00)"
)
_FONT_WITHOUT_SIZE = re.compile(r"[a-z-]*0*\.?0+(?![.\d])")
_FAINT = 0.1
_SMALL = {"": 4.0, "px": 4.0, "pt": 3.0, "%": 20.0}
"""Sizes of a font that nobody reads, by unit; of other units 0.2."""


def hides(style: str) -> bool:
    """Whether an element with this style attribute is kept from sight."""
    if "\\" in style:  # escapes, which no honest style has
        return True
    plain = re.sub(r"\s+|!important", "", _COMMENT.sub("", style).lower())
    declared = [declaration.partition(":") for declaration in plain.split(";")]
    is_cut_off = any(name.startswith("overflow") and value != "visible" for name, _, value in declared)
    return any(_declaration_hides(name, value, is_cut_off) for name, _, value in declared)


def _declaration_hides(name: str, value: str, is_cut_off: bool) -> bool:
    if name in _HIDE_ALWAYS or any(word in value for word in _WORDS.get(name, ())):
        return True
    if _TEXT_COLOR.fullmatch(name):
        return bool(_NO_COLOR.fullmatch(value))
    if name == "font":
        return bool(_FONT_WITHOUT_SIZE.match(value))
    numbers = [(_amount(found), found["unit"]) for found in _NUMBER.finditer(value)]
    if not numbers:
        return False
    first, unit = numbers[0]
    if name == "opacity":
        return first < (100 * _FAINT if unit == "%" else _FAINT)
    if name in ("zoom", "scale"):
        return any(amount < (100 * _FAINT if own == "%" else _FAINT) for amount, own in numbers)
    if name == "font-size":
        return first < _SMALL.get(unit, 0.2)
    if _SIZE.fullmatch(name):
        return first <= 0 or (is_cut_off and first <= 1 and unit in ("px", "pt"))
    return bool(_PLACE.fullmatch(name)) and any(_leads_away(amount, own) for amount, own in numbers)


def _amount(found: re.Match[str]) -> float:
    return float(found[0].removesuffix(found["unit"]))


def _leads_away(amount: float, unit: str) -> bool:
    """Out of the window, to either side."""
    if unit in ("", "px", "pt"):
        return amount <= -100 or amount >= 1000
    return amount <= -5 or (amount >= 100 and unit != "%")
