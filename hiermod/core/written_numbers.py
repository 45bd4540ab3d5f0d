"""Numbers as people write them: decimal point or comma, marks between thousands, percent signs and currencies.

"1,234" is a bit more than one in one country and more than a thousand in another, and the cell alone does not say.
What a whole column allows does: "1,5" or "1.234,5" in it leaves one reading, "1,234" and "2,345" alone leave two."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np

DECIMALS = (".", ",")
SPACES = " \u00a0\u202f\u2009"  # ordinary, no-break, narrow no-break, thin
THOUSANDS = ("", ".", ",", " ", "'")
_ONE_KIND = str.maketrans({**dict.fromkeys(SPACES, " "), "\u2019": "'", "\u2212": "-"})
_CURRENCY = (
    r"[€$£¥₹₽₩₺]|R\$|kr\.?|zł|Fr\.|"
    r"(?:EUR|USD|GBP|CHF|JPY|CNY|INR|SEK|NOK|DKK|PLN|CZK|HUF|BRL|CAD|AUD|NZD|MXN|ZAR)\b"
)
_UNIT = rf"%|{_CURRENCY}"
_WRITTEN = re.compile(
    rf"(?P<sign>[+-]?)(?P<before>(?:{_CURRENCY})?) ?(?P<second>[+-]?)"
    rf"(?P<body>[0-9.,](?:[0-9., ']*[0-9.,])?(?:[eE][+-]?[0-9]+)?|(?i:inf|infinity)) ?(?P<after>(?:{_UNIT})?)"
)
_PLAIN = {mark: re.compile(rf"(?:[0-9]+(?:[{mark}][0-9]*)?|[{mark}][0-9]+)(?:[eE][+-]?[0-9]+)?|(?i:inf|infinity)")
          for mark in DECIMALS}  # fmt: skip
_GROUPED = {
    mark: re.compile(rf"[1-9][0-9]{{0,2}}(?P<mark>[{other} '])[0-9]{{3}}(?:(?P=mark)[0-9]{{3}})*(?:[{mark}][0-9]+)?")
    for mark, other in ((".", ","), (",", "."))
}
_DIGITS = dict.fromkeys(map(ord, "0123456789+-.eE"))
DIGITS = 18  # that an integer of 64 bits holds whatever they are


@dataclass(frozen=True)
class Reading:
    """How the numbers of a column are written.  unit: "%", a currency, or empty."""

    decimal: str
    thousands: str
    unit: str

    @property
    def words(self) -> str:
        """What is out of the ordinary in it: "decimal comma, '.' between thousands, '%' taken off"."""
        told = ["decimal comma"] if self.decimal == "," else []
        told += [f"{self.thousands!r} between thousands"] if self.thousands else []
        told += [f"{self.unit!r} taken off"] if self.unit else []
        return ", ".join(told)


@dataclass(frozen=True)
class Column:
    """What a column of texts allows.  readings: none where it is not numbers, two where it does not decide."""

    readings: tuple[Reading, ...]
    whole: bool = False  # digits and signs only: the reading does not matter
    codes: bool = False  # whole numbers with leading zeros: 007 is a name
    values: np.ndarray | None = field(default=None, compare=False)  # where judging them has read them

    @property
    def decided(self) -> bool:
        """Numbers, of which one reading is left."""
        return len(self.readings) == 1

    @property
    def marks(self) -> bool:
        """A decimal mark was seen, or a thousands mark that excludes one reading."""
        return self.decided and not self.whole and self.readings[0].thousands not in (" ", "'")


def _parts(text: str) -> tuple[str, str, str] | None:
    """Sign, digits with their marks, and unit; None where the text is no number."""
    found = _WRITTEN.fullmatch(text.translate(_ONE_KIND))
    if found is None or (found["sign"] and found["second"]) or (found["before"] and found["after"]):
        return None
    return found["sign"] or found["second"], found["body"], found["before"] or found["after"]


def is_number(text: str) -> bool:
    """Whether the text is a number by some reading.

    >>> [is_number(text) for text in ("1.234,5", "45 %", "1,2,3", "12a")]
    [True, True, False, False]
    """
    parts = _parts(text)
    return parts is not None and any(_mark(parts[1], decimal) is not None for decimal in DECIMALS)


def _mark(body: str, decimal: str) -> str | None:
    """The thousands mark of a body read with this decimal mark, empty for none; None where it cannot be read so."""
    if _PLAIN[decimal].fullmatch(body):
        return ""
    found = _GROUPED[decimal].fullmatch(body)
    return None if found is None else found["mark"]


def column_of(texts: Collection[str], decimal: str | None = None, thousands: str | None = None) -> Column:
    """What the texts of a column, none of them missing, allow together; ``decimal`` and ``thousands`` where known.

    >>> column_of(["1,234", "1,5"]).readings
    (Reading(decimal=',', thousands='', unit=''),)
    >>> [reading.thousands for reading in column_of(["1,234", "2,345"]).readings]  # not decided
    [',', '']
    """
    plain = _plain_column(texts) if decimal in (None, ".") and thousands != "." else None
    if plain is not None:
        return plain
    bodies: list[str] = []
    units: set[str] = set()
    bare = False
    for text in texts:
        parts = _parts(text)
        if parts is None:
            return Column(())
        bodies.append(parts[1])
        if parts[2]:
            units.add(parts[2])
        elif bodies[-1].strip("0.,") != "":  # nothing is nothing in every unit
            bare = True
    if not bodies or len(units) > 1 or (units and bare):
        return Column(())
    unit = next(iter(units), "")
    whole = all(body.isdecimal() for body in bodies)
    if whole:
        codes = not unit and any(len(body) > 1 and body[0] == "0" for body in bodies)
        return Column((Reading(decimal or ".", "", unit),), True, codes)
    found = []
    for one in (one for one in DECIMALS if decimal in (None, one) and thousands != one):
        marks = {_mark(body, one) for body in bodies}
        seen = {mark for mark in marks if mark}
        if None not in marks and len(seen) <= 1 and (thousands is None or seen <= {thousands}):
            found.append(Reading(one, next(iter(seen), ""), unit))
    if len(found) == 2 and not any(mark in body for body in bodies for mark in DECIMALS):
        return Column((found[0],))  # spaces between thousands and nothing else
    return Column(tuple(found))


def _plain_column(texts: Collection[str]) -> Column | None:
    """``column_of`` of digits, signs, points and exponents only, without a look at the parts of every cell."""
    joined = "".join(texts)
    if joined.translate(_DIGITS) or not texts:
        return None
    if "." not in joined:
        digits = [text[1:] if text[0] in "+-" else text for text in texts] if "+" in joined or "-" in joined else texts
        if not all(map(str.isdecimal, digits)):  # exponents, too
            return None
        codes = any(text[0] == "0" and len(text) > 1 for text in digits)
        return Column((Reading(".", "", ""),), True, codes)
    try:
        values = _numbers(list(texts))
    except ValueError:
        return None
    grouped = _GROUPED[","]
    decides = any("." in text and grouped.fullmatch(text.lstrip("+-")) is None for text in texts)
    return Column((Reading(".", "", ""),), values=values) if decides else None


def values_of(texts: Sequence[str], reading: Reading) -> np.ndarray:
    """The numbers (n,), int64 where all are whole, else the nearest doubles.

    >>> values_of(["1.234,5", "-2"], Reading(",", ".", ""))
    array([1234.5,   -2. ])
    """
    if reading == Reading(".", "", "") and not "".join(texts).translate(_DIGITS):
        return _numbers(list(texts))
    plain = []
    for text in texts:
        parts = _parts(text)
        if parts is None:
            raise ValueError(f"{text!r} is no number")
        body = parts[1].replace(reading.thousands, "") if reading.thousands else parts[1]
        plain.append(parts[0] + body.replace(",", "."))
    return _numbers(plain)


def _numbers(texts: list[str]) -> np.ndarray:
    try:
        return np.array(list(map(int, texts)), dtype=np.int64)
    except (ValueError, OverflowError):
        return np.array(texts, dtype=object).astype(float)


def too_long(texts: Iterable[str]) -> bool:
    """Whether a whole number among them has more digits than an integer of 64 bits and a float hold."""
    digits = [text.lstrip("+-").lstrip("0") for text in texts if len(text) > DIGITS]
    return any(
        one.isdecimal() and (len(one) > DIGITS + 1 or one > str(2**63 - 1)) for one in digits if len(one) > DIGITS
    )


def conversion(name: str, texts: Collection[str], reading: Reading) -> str:
    """The line that makes numbers of the texts of a column ``d[name]``.

    >>> print(conversion("share", ["45,5 %"], Reading(",", "", "%")))
    d['share'] = d['share'].str.replace('%', '').str.replace(',', '.').astype(float)
    """
    written = set("".join(texts))
    marks = {"'": "'\u2019", " ": SPACES}.get(reading.thousands, reading.thousands)
    gone = [reading.unit] * bool(reading.unit) + [one for one in marks if one in written]
    steps = [(one, "") for one in gone] + [(",", ".")] * (reading.decimal == ",") + [("\u2212", "-")]
    calls = "".join(f".str.replace({old!r}, {new!r})" for old, new in steps if old in written or old == reading.unit)
    return f"d[{name!r}] = d[{name!r}]{calls}.astype(float)"


def numbers_as_text(name: str, texts: Collection[str]) -> str:
    """What to do about a column of texts that all are numbers with signs, commas or units; empty for any other.

    >>> print(numbers_as_text("share", ["45%", "7%"]))
    its values are numbers with '%': d['share'] = d['share'].str.replace('%', '').astype(float) makes numbers of them
    """
    if all(text.strip("+-").isdecimal() for text in texts):
        return ""
    readings = column_of(texts).readings
    if len(readings) == 1 and not readings[0].words:
        return ""  # 0.5 as text was meant as text: no file writes it so
    if len(readings) == 1:
        what = f"its values are numbers with {readings[0].unit!r}" if readings[0].unit else "its values are numbers"
        what += " with decimal commas" * (readings[0].decimal == "," and not readings[0].unit)
        return f"{what}: {conversion(name, texts, readings[0])} makes numbers of them"
    if readings:
        first, second = (conversion(name, texts, reading) for reading in readings)
        return f"its values are numbers whose mark may stand before decimals or between thousands: {first}, or {second}"
    return ""
