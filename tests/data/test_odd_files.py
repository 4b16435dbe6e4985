"""Real files that are written in odd ways: nothing in them is read wrongly without a word."""

from __future__ import annotations

import codecs
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from pandas.testing import assert_frame_equal

from windvane.data.files import missing_words, read_frame
from windvane.errors import InputError

FLOWERS = [[5.1, 3.5, 1.4, 0.2, "a"], [4.9, 3.0, 1.4, 0.3, "a"], [6.3, 3.3, 6.0, 2.5, "b"], [5.0, 3.6, 1.3, 0.1, "b"]]


def lines(*rows: list[object]) -> str:
    return "".join(",".join(map(str, row)) + "\n" for row in rows)


def test_a_file_without_a_header_is_warned_of(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text(lines(*FLOWERS))
    with pytest.warns(UserWarning, match=r"names the columns, but looks like a row: 5\.1, 3\.5, 1\.4, 0\.2, a\. If"):
        read_frame(tmp_path / "t.csv")
    (tmp_path / "t.csv").write_text("1,1,3\n4,5,6\n")
    with pytest.raises(InputError, match=r"two columns have the same name: '1'; the first line must name the columns"):
        read_frame(tmp_path / "t.csv")


@pytest.mark.parametrize(
    "header",
    [
        ["2019", "2020", "2021", "2022", "x"],
        ["0", "1", "2", "3", "4"],
        ["1100.5", "1102.5", "1104.5", "1106.5", "x"],  # wavelengths
        ["0.1", "7", "30", "90", "x"],  # days, of which most are not among the values
        ["5.1", "b", "c", "d", "x"],
    ],
)
def test_names_that_are_numbers_are_no_row(tmp_path: Path, header: list[object]) -> None:
    (tmp_path / "t.csv").write_text(lines(header, *FLOWERS))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert list(read_frame(tmp_path / "t.csv").columns) == header


@pytest.mark.parametrize("encoding", ["utf-32", "utf-32-le", "utf-16-le"])
def test_encodings_that_are_not_read(tmp_path: Path, encoding: str) -> None:
    mark = codecs.BOM_UTF32_LE if encoding == "utf-32-le" else b""
    (tmp_path / "t.csv").write_bytes(mark + "a,b\n1,ü\n2,y\n".encode(encoding))
    with pytest.raises(InputError, match="it is no text in UTF-8, UTF-16 or Latin-1"):
        read_frame(tmp_path / "t.csv")


def test_files_of_a_folder_are_read_as_single_ones(tmp_path: Path) -> None:
    """With semicolons, decimal commas, several encodings, lines in quotes, and codes that one file shows."""
    for area, text in (
        ("007", 'zip;size;note\n10115;1,5;"two\nlines"\n'),
        ("008", "zip;size;note\n01234;2;ü\n;3;NA\n"),
    ):
        (tmp_path / f"area={area}").mkdir()
        (tmp_path / f"area={area}" / "part.csv").write_bytes(text.encode("cp1252"))
    expected = pd.DataFrame(
        {
            "zip": ["10115", "01234", np.nan],
            "size": ["1,5", "2", "3"],
            "note": ["two\nlines", "ü", np.nan],
            "area": [7, 8, 8],
        }
    )
    assert_frame_equal(read_frame(tmp_path), expected)
    (tmp_path / "area=008" / "part.csv").write_text("zip;size;note\n1;2;3;4\n5;6;7;8\n")
    with pytest.raises(InputError, match=r"area=008.part\.csv: lines have more fields than the first one"):
        read_frame(tmp_path)


def test_words_that_are_read_as_missing(tmp_path: Path) -> None:
    (tmp_path / "t.tsv").write_text("land\tharm\nNA\tNone\nDE\tlight\n\tNone\nFR\tNone\n")
    assert missing_words(tmp_path / "t.tsv", "land") == ["NA"]
    assert missing_words(tmp_path / "t.tsv", "harm") == ["None"]
    (tmp_path / "t.csv").write_text("land,harm\n,x\nDE,light\n")
    assert missing_words(tmp_path / "t.csv", "land") == missing_words(tmp_path, "land") == []
