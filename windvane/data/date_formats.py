"""Find the format in which the texts of a column write dates; `windvane.runtime.columns.dates` reads them by it."""

from __future__ import annotations

import re
from warnings import catch_warnings, simplefilter

import pandas as pd
from pandas.tseries.api import guess_datetime_format

from windvane.runtime.columns.dates import ISO, order_of, swapped_order

SAMPLE = 1000  # texts that show that most formats do not hold
MAX_FORMATS = 4  # of one column
_ISO = re.compile(r"\d{4}-\d\d-\d\d(?:[T ]\d\d:\d\d(?::\d\d(?:\.\d+)?)?)?", re.ASCII)


def find_date_format(texts: list[str], order: str | None) -> tuple[str | None, bool]:
    """Find the one format in which all texts are dates, and whether day and month may be exchanged; `order` decides."""
    candidates: dict[str, None] = {}
    for text in texts[:5]:
        guesses = _guess_formats(text) if len(re.findall(r"\d", text)) >= 3 else []
        if not guesses:
            return None, False
        for form in guesses:
            candidates |= dict.fromkeys([form] if order_of(form) is None else [form, swapped_order(form)])
    if all(map(_ISO.fullmatch, texts)):  # of one length or not: midnight is written without its time
        candidates[ISO] = None
    forms = [form for form in candidates if _are_dates(texts[:SAMPLE], form) and _are_dates(texts[SAMPLE:], form)]
    by_order = {found: form for form in reversed(forms) if (found := order_of(form)) is not None}
    if len(by_order) < 2:
        return (forms[0] if forms else None), False
    usual = "month/day" if "/" in forms[0] else "day/month"  # 31.12. and 31-12- are the usual orders of these marks
    return by_order[order or usual], "." not in forms[0]


def count_date_formats(texts: list[str]) -> dict[str, int]:
    """Return an example of each of the several formats in which all texts are dates, and the number of its texts.

    Empty where some text is no date, or one format is enough.
    """
    rest, found = list(texts), dict[str, int]()
    while rest and len(found) < MAX_FORMATS:
        guesses = _guess_formats(rest[0]) if len(re.findall(r"\d", rest[0])) >= 3 else []
        others = [[text for text, gone in zip(rest, _not_dates(rest, form), strict=True) if gone] for form in guesses]
        left = min(others, key=len, default=rest)
        if len(left) == len(rest):
            return {}
        found[rest[0]] = len(rest) - len(left)
        rest = left
    return found if len(found) > 1 and not rest else {}


def _are_dates(texts: list[str], form: str) -> bool:
    return not any(_not_dates(texts, form))


def _not_dates(texts: list[str], form: str) -> list[bool]:
    """Whether each text is no date of a format."""
    parsed = pd.to_datetime(pd.Series(texts, dtype=object), format=form, errors="coerce", utc="%z" in form)
    missing: list[bool] = parsed.isna().tolist()
    return missing


def _guess_formats(text: str) -> list[str]:
    """The formats that a text may have as a date."""
    short = re.fullmatch(r"\d\d([.-])\d\d\1\d\d|\d{1,2}(/)\d{1,2}/\d\d", text)
    if short:  # with a year of two digits, at which pandas does not guess
        mark = short[1] or short[2]
        return [mark.join(parts) for parts in (("%d", "%m", "%y"), ("%m", "%d", "%y"), ("%y", "%m", "%d"))]
    with catch_warnings():
        simplefilter("ignore", UserWarning)  # of the order of day and month, which is tried both ways
        guesses = [guess_datetime_format(text, dayfirst=dayfirst) for dayfirst in (False, True)]
    return [guess for guess in guesses if guess is not None]
