import math
import re
from unittest import mock

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from windvane.runtime.columns import number_texts
from windvane.runtime.columns.number_texts import NumberForm, find_forms


@pytest.mark.parametrize(
    ("texts", "form", "numbers"),
    [
        (["1,5", "2,25", "10"], "1.234,5", [1.5, 2.25, 10]),
        (["1.234,50", "5", "1.234.567,8"], "1.234,5", [1234.5, 5, 1234567.8]),
        (["1,234.50", "7"], "1,234.5", [1234.5, 7]),
        (["1 234,5", "12"], "1.234,5", [1234.5, 12]),
        (["1\u00a0234,5", "1\u202f234\u202f567"], "1.234,5", [1234.5, 1234567]),
        (["1'234.5", "1\u2019234"], "1,234.5", [1234.5, 1234]),
        (["1'234,5"], "1.234,5", [1234.5]),
        (["1,234,567", "2,500"], "1,234.5", [1234567, 2500]),
        (["1,23,456.50", "12,34,56,789.5"], "1,234.5", [123456.5, 123456789.5]),
        (["0,123", "1,234"], "1.234,5", [0.123, 1.234]),
        (["1,234", "1500"], "1.234,5", [1.234, 1500]),  # with thousands it would be 1,500
        (["-5,5", "(3,2)", "3-", "\u22121", "+2,5"], "1.234,5", [-5.5, -3.2, -3, -1, 2.5]),
        (["12,-", "50,\u2013"], "1.234,5", [12, 50]),
        (["€ 5", "€1.50", "-€2", "€-2"], "1,234.5 €", [5, 1.5, -2, -2]),
        (["1.234,50 €", "5 €", "7"], "1.234,5 €", [1234.5, 5, 7]),
        (["CHF 1'234.50", "CHF 5"], "1,234.5 CHF", [1234.5, 5]),
        (["1 234,50 kr", "5 kr"], "1.234,5 kr", [1234.5, 5]),
        (["R$ 1.234,50"], "1.234,5 R$", [1234.5]),
        (["12 %", "3,5%"], "1.234,5 %", [12, 3.5]),
        (["1e5", "1,5E-3"], "1.234,5", [1e5, 1.5e-3]),
        ([",5", "1,5"], "1.234,5", [0.5, 1.5]),
    ],
)
def test_numbers_as_people_write_them(texts, form, numbers):
    evidence = find_forms(texts)
    assert (str(evidence.forms[0]), evidence.doubtful) == (form, False)
    read = [NumberForm.from_text(form).read(text) for text in texts]
    assert read == pytest.approx(numbers, rel=1e-15)


@pytest.mark.parametrize(
    "texts",
    [
        *(["001", "002"], ["001,5", "1,5"], ["030 123 456", "030 123 457"], ["+49 30 1234567"], ["555-1234"]),
        *(["1.2.3", "1.2.4"], ["1.234.5"], ["192.168.1.1"], ["192.168.100.101", "10.100.100.100"], ["1.234.567,"]),
        *(["555 123 456", "555 123 457"], ["1234 5678"], ["12:30"], ["2024-01-01"], ["31.12.2024"], ["31/12/2024"]),
        *(["5 €", "5 $"], ["EUR 5", "5 USD"], ["12 %", "3"], ["5 kg"], ["A1"], ["1,2,3"], ["1-5"], ["1/2"], [",", "."]),
        *(
            [],
            [""],
            ["1,5", "x"],
            ["((5)"],
            ["(-5)"],
            ["--5"],
            ["€ 5 €"],
            ["1.5", "1,5", "1.234,5"],
            ["1,234.5", "1.234,5"],
        ),
    ],
)
def test_what_is_no_number(texts):
    assert find_forms(texts).forms == ()


def test_thousands_or_decimals():
    doubt = find_forms(["1,234", "2,500"])
    assert doubt.doubtful
    assert [form.read("1,234") for form in doubt.forms] == [1234, 1.234]
    many = [f"{i},{7 * i % 1000:03d}" for i in range(1, 60)]
    assert find_forms(many).doubtful  # as decimals they would all have three digits
    evidence = find_forms([*many, "999"])
    assert (evidence.doubtful, str(evidence.forms[0])) == (False, "1,234.5")
    assert find_forms(["1.234", "999"]).doubtful
    assert not find_forms(["1 234", "12"]).doubtful  # both forms read the same


@given(
    st.lists(st.integers(-(10**9), 10**9), min_size=1, max_size=8),
    st.sampled_from([(",", "."), (",", " "), (",", "\u00a0"), (".", ","), (".", "'"), (",", ""), (".", "")]),
    st.sampled_from(["", "€", "USD", "%"]),
    st.booleans(),
)
def test_what_is_written_is_read(cents, marks, unit, before):
    decimal, thousands = marks

    def write(number: int) -> str:
        text = f"{abs(number) / 100:,.2f}".replace(",", "t").replace(".", decimal).replace("t", thousands)
        text = f"{unit} {text}" if before else f"{text} {unit}"
        return ("-" if number < 0 else "") + text.strip()

    texts = list(map(write, cents))
    evidence = find_forms(texts)
    assert not evidence.doubtful
    assert [evidence.forms[0].read(text) for text in texts] == pytest.approx([c / 100 for c in cents], rel=1e-14)
    assert NumberForm.from_text(str(evidence.forms[0])) == evidence.forms[0]


def test_forms_as_texts():
    for text in ("1,234.5", "1.234,5", "1.234,5 €", "1,234.5 Rs."):
        assert str(NumberForm.from_text(text)) == text
    for text in ("", "1234.5", "1,234.5€", "€"):
        with pytest.raises(ValueError, match="is no form of numbers"):
            NumberForm.from_text(text)
    euros = NumberForm.from_text("1.234,5 €")
    assert euros.read("5") == euros.read("5 €") == 5
    assert all(math.isnan(euros.read(text)) for text in ("5 $", "5 %", "x", "1,234.5"))
    assert math.isnan(NumberForm.from_text("1.234,5 %").read("0,05"))


def test_python_reads_the_same():
    texts = [f"{x:.3f}" for x in np.random.default_rng(0).normal(0, 100, 200)]
    expected = pd.to_numeric(pd.Series(texts))
    assert [NumberForm(".").read(text) for text in texts] == expected.tolist()


@given(
    st.sampled_from(["", "-", "+", "\u2212", "("]),
    st.lists(st.sampled_from(["0", "1", "12", "123", "007", "\u0663"]), min_size=1, max_size=3),
    st.sampled_from([",", ".", "", "'"]),
    st.sampled_from(["", ".5", ",5", ".", ",25", ".e", ",1e3"]),
    st.sampled_from(["", " ", "\u00a0"]),
    st.sampled_from(["", "%", "\uff05", "€", "EUR", "kr.", "R$", "-", ")", "x"]),
)
def test_the_quick_way_reads_what_the_whole_pattern_reads(
    sign: str, groups: list[str], mark: str, part: str, blank: str, unit: str
) -> None:
    text = sign + mark.join(groups) + part + blank + unit
    never = {decimal: re.compile(r"(?!)") for decimal in number_texts.EXAMPLES}
    for decimal in number_texts.EXAMPLES:
        quick = number_texts._match(decimal, text)
        with mock.patch.object(number_texts, "_SIMPLE", never):
            assert number_texts._match(decimal, text) == quick, text
