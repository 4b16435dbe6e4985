"""Find the format in which the texts of a column write dates; `windvane.runtime.columns.dates` reads them by it."""

from __future__ import annotations

import re
from warnings import catch_warnings, simplefilter

import pandas as pd
from pandas.tseries.api import guess_datetime_format

from windvane.runtime.columns.dates import order_of, swapped_order

SAMPLE = 1000  # texts that show that most formats do not hold


def find_date_format(texts: list[str], order: str | None) -> tuple[str | None, bool]:
    """Find the one format in which all texts are dates, and whether day and month may be exchanged; `order` decides."""
    candidates: dict[str, None] = {}
    for text in texts[:5]:
        guesses = _guess_formats(text) if len(re.findall(r"\d", text)) >= 3 else []
        if not guesses:
            return None, False
        for form in guesses:
            candidates |= dict.fromkeys([form] if order_of(form) is None else [form, swapped_order(form)])
    forms = [form for form in candidates if _are_dates(texts[:SAMPLE], form) and _are_dates(texts[SAMPLE:], form)]
    by_order = {found: form for form in reversed(forms) if (found := order_of(form)) is not None}
    if len(by_order) < 2:
        return (forms[0] if forms else None), False
    usual = "month/day" if "/" in forms[0] else "day/month"  # 31.12. and 31-12- are the usual orders of these marks
    return by_order[order or usual], "." not in forms[0]


def _are_dates(texts: list[str], form: str) -> bool:
    parsed = pd.to_datetime(pd.Series(texts, dtype=object), format=form, errors="coerce", utc="%z" in form)
    return not parsed.isna().any()


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
