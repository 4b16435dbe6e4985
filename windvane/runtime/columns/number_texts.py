"""Numbers as people write them: with decimal commas, thousands, currencies and per cent signs.

A column has one form, which is named by what 1234.5 would be in it: "1.234,5", "1,234.5 €". It says what the decimal
mark is and which unit the numbers have; the other mark, blanks or apostrophes may part the thousands.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

EXAMPLES = {".": "1,234.5", ",": "1.234,5"}  # by decimal mark
MIN_THOUSANDS = 30  # numbers such as 1,234 that leave no doubt: of decimals one of ten would end in 0, unwritten
_BLANKS = " \u00a0\u202f\u2009"
_SYMBOLS = "$¢£¤¥֏؋৳฿៛₠-⃀\uff05%‰"
_CODES = (
    *("EUR", "USD", "GBP", "CHF", "JPY", "CNY", "RUB", "INR", "AUD", "CAD", "NZD", "SEK", "NOK", "DKK", "ISK", "PLN"),
    *("CZK", "HUF", "RON", "BGN", "BRL", "MXN", "ZAR", "TRY", "KRW", "SGD", "HKD", "ILS", "UAH"),
    *("US$", "R$", "A$", "C$"),
    *("kr.", "kr", "zł", "Kč", "Ft", "Rs.", "Rs", "Fr.", "Fr", "\u0440\u0443\u0431."),
)
_UNIT = rf"(?:[{_SYMBOLS}]|{'|'.join(map(re.escape, _CODES))})"
_SIGN = "[-+\u2212]"
_GROUPED = {
    ".": rf"[1-9]\d{{0,2}}(?:(?P<mark>[,'\u2019{_BLANKS}])\d{{3}}(?:(?P=mark)\d{{3}})*)|[1-9]\d?(?:,\d{{2}})+,\d{{3}}",
    ",": rf"[1-9]\d{{0,2}}(?:(?P<mark>[.'\u2019{_BLANKS}])\d{{3}}(?:(?P=mark)\d{{3}})*)",
}
_PATTERNS = {
    mark: re.compile(
        rf"(?P<open>\()?(?P<sign>{_SIGN})?\s?(?P<before>{_UNIT})?\s?(?P<inner>{_SIGN})?"
        rf"(?P<whole>{grouped}|0|[1-9]\d*|(?=[.,]\d))(?:{re.escape(mark)}(?:(?P<part>\d+)|[-\u2013\u2014]{{1,2}}))?"
        rf"(?P<power>[eE][-+]?\d+)?\s?(?P<after>{_UNIT})?(?P<close>\))?(?P<last>-)?"
    )
    for mark, grouped in _GROUPED.items()
}
# Digits with a minus, the decimal mark, the other mark between thousands, and a unit behind them.
_SIMPLE = {
    mark: re.compile(
        rf"(-?(?:[1-9]\d{{0,2}}(?:{other}\d{{3}})+|0|[1-9]\d*)(?:{re.escape(mark)}\d+)?)(?:\s?({_UNIT}))?", re.ASCII
    )
    for mark, other in ((".", ","), (",", r"\."))
}
_TO_PYTHON: dict[str, dict[int, str | None]] = {".": {ord(","): None}, ",": {ord("."): None, ord(","): "."}}


@dataclass(frozen=True)
class NumberForm:
    """How the numbers of a column are written."""

    decimal: str  # "." or ","
    unit: str = ""  # the currency, or the sign of per cent

    @classmethod
    def from_text(cls, text: str) -> NumberForm:
        """Read what `str` wrote; ValueError where it is not that."""
        for decimal, example in EXAMPLES.items():
            if text == example or text.startswith(example + " "):
                return cls(decimal, text[len(example) + 1 :])
        raise ValueError(f"{text!r} is no form of numbers")

    def __str__(self) -> str:
        return f"{EXAMPLES[self.decimal]} {self.unit}".strip()

    def read(self, text: str) -> float:
        """Return the number that a text stands for, NaN if it is not a number in this form."""
        found = _match(self.decimal, text)
        if found is None:
            return float("nan")
        number, unit = found
        other_unit = (unit and self.unit and unit != self.unit) or (unit == "%") != (self.unit == "%")
        return float("nan") if other_unit else number


@dataclass(frozen=True)
class Evidence:
    """What the texts of a column say about their form."""

    forms: tuple[NumberForm, ...]  # that read all of them; of two the first is the more likely one
    doubtful: bool  # whether two forms read them as different numbers


def find_forms(texts: Iterable[str]) -> Evidence:
    """Find the forms in which all of some texts are numbers; not codes, telephone numbers or versions."""
    given = list(texts)
    forms, values = [], []
    for decimal in EXAMPLES:
        found = _match_all(decimal, given)
        unit = _common_unit({unit for _, unit in found})
        if unit is None or (unit == "" and _is_code(given, decimal)):
            continue
        forms.append(NumberForm(decimal, unit))
        values.append([number for number, _ in found])
    if len(forms) < 2 or values[0] == values[1]:
        return Evidence(tuple(forms[:1]), False)
    sound = [form for form in forms if _groups_all(given, form.decimal)] or forms
    return Evidence(tuple(sound), len(sound) == 2 and not _are_thousands(given))


def _match_all(decimal: str, texts: list[str]) -> list[tuple[float, str]]:
    """Return the number and the unit of each text, with this decimal mark; none where one of them is no number."""
    found = []
    for text in texts:
        one = _match(decimal, text)
        if one is None:
            return []
        found.append(one)
    return found


def _common_unit(units: set[str]) -> str | None:
    """Return the unit of a column, "" for none; None without numbers, and where amounts cannot be compared."""
    several_currencies = len(units - {""}) > 1
    some_per_cent = units > {""} and bool(units & {"%", "‰"})
    return None if several_currencies or some_per_cent else max(units, default=None)


def _match(decimal: str, text: str) -> tuple[float, str] | None:
    """Return the number and the unit of a text, with this decimal mark."""
    text = text.strip()
    simple = _SIMPLE[decimal].fullmatch(text)
    if simple is not None:  # as most are written: in a third of the time
        number, unit = simple.groups()
        return float(number.translate(_TO_PYTHON[decimal])), "" if unit is None else unit.replace("\uff05", "%")
    match = _PATTERNS[decimal].fullmatch(text)
    if match is None or (match["open"] is None) != (match["close"] is None) or (match["before"] and match["after"]):
        return None
    if sum(match[sign] is not None for sign in ("open", "sign", "inner", "last")) > 1:
        return None
    whole = re.sub(r"\D", "", match["whole"])
    if not whole and match["part"] is None:
        return None
    number = float(f"{whole or 0}.{match['part'] or 0}{match['power'] or ''}")
    negative = match["open"] or match["last"] or (match["sign"] or match["inner"]) in ("-", "\u2212")
    unit = (match["before"] or match["after"] or "").replace("\uff05", "%")
    return (-number if negative else number), unit


def _is_code(texts: list[str], decimal: str) -> bool:
    """Whether all texts have the same groups of digits, two or more marks each: 555 123 456, 192.168.100.101.

    Commas part thousands alone; what has decimals is a number too.
    """
    if any("," in text for text in texts):
        return False
    marks = [re.findall(rf"[.'\u2019{_BLANKS}]", text.strip()) for text in texts]
    same = len({len(found) for found in marks}) == 1 and len(marks[0]) >= 2
    return same and (decimal == "," or all(found[-1] != "." for found in marks))


def _groups_all(texts: list[str], decimal: str) -> bool:
    """Whether either all of the large numbers have their thousands parted or none."""
    wholes = [text.split(decimal)[0] for text in texts]
    mark = "." if decimal == "," else ","
    return not any(mark in whole for whole in wholes) or not any(re.search(r"\d{4}", whole) for whole in wholes)


def _are_thousands(texts: list[str]) -> bool:
    """Whether so many numbers have three digits behind a comma, and others no comma, that no decimals do this."""
    n_marked = sum("," in text for text in texts)
    return MIN_THOUSANDS <= n_marked < len(texts)
