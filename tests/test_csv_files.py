"""hm.read_csv: files as spreadsheets, statistics programs and strangers write them, and never a wrong number."""

from __future__ import annotations

import gzip
import io
import json
import logging
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import hiermod as hm
from hiermod.core import memory
from hiermod.core.written_numbers import column_of, is_number, values_of
from hiermod.csv_files import is_identifier
from hiermod.errors import ArgumentError, ArgumentTypeError, FileError, UnknownNameError


def read(text: str | bytes, **how: Any) -> pd.DataFrame:
    return hm.read_csv(io.BytesIO(text) if isinstance(text, bytes) else io.StringIO(text), **how)


def column(*cells: str, **how: Any) -> pd.Series:
    """Those cells under the name x, beside a column that needs no reading."""
    return read("x;n\n" + "".join(f"{cell};{i}\n" for i, cell in enumerate(cells)), **how)["x"]


def notes(frame: pd.DataFrame) -> str:
    return " ".join(frame.attrs["read_csv"]["notes"])


# --- numbers --------------------------------------------------------------------------------------------------------

STYLES = {  # how one number is written: the locale's decimal mark and its mark between thousands
    "plain": (".", ""),
    "English": (".", ","),
    "German": (",", "."),
    "French": (",", "\u202f"),
    "Swiss": (".", "\u2019"),
    "commas only": (",", ""),
}


def written(value: float, digits: int, decimal: str, thousands: str) -> str:
    return f"{value:,.{digits}f}".translate({ord(","): thousands, ord("."): decimal})


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("separator", [";", "\t", "|", ","])
def test_numbers_of_every_country_are_read_or_refused_and_never_others(style: str, separator: str) -> None:
    decimal, thousands = STYLES[style]
    rng, refused = np.random.default_rng(1), 0
    for digits in (0, 1, 2, 3):
        for size in (1.0, 1e3, 1e6):
            for rows in (1, 3, 50):
                truth = np.round(rng.normal(0, size, (rows, 2)), digits)
                lines = [
                    separator.join(f'"{written(value, digits, decimal, thousands)}"' for value in row) for row in truth
                ]
                try:
                    found = read("\n".join([separator.join("xy"), *lines]))
                except FileError as error:
                    assert "three decimals or be thousands" in str(error)  # noqa: PT017
                    refused += 1
                    continue
                assert np.array_equal(found.to_numpy(dtype=float), truth), (digits, size, rows)
    assert refused <= 12  # of 36: whole thousands, and three decimals, where all rows have them


@pytest.mark.parametrize(
    ("cells", "values"),
    [
        (["1,5", "1.234,5"], [1.5, 1234.5]),
        (["1.5", "1,234.5"], [1.5, 1234.5]),
        (["1.234.567", "12"], [1234567, 12]),
        (["1,234", "0,5"], [1.234, 0.5]),
        (["0,123", "1,234"], [0.123, 1.234]),  # no thousand begins with 0
        (["45 %", "7,5%", "0"], [45, 7.5, 0]),
        (["€ 1.000,50", "-€3", "0"], [1000.5, -3, 0]),
        (["12 EUR", "13 EUR"], [12, 13]),
        (["\u22125", "+3"], [-5, 3]),
        (["12\u00a0345", "1"], [12345, 1]),
        (["1E-3", "2,5e2"], [1e-3, 250]),
        (["1e3", ".5"], [1000, 0.5]),
        (["0.1", "0.30000000000000004"], [0.1, 0.30000000000000004]),  # the nearest double, to the last bit
        (["9007199254740993", "1"], [9007199254740993, 1]),  # no double: stays an integer
    ],
)
def test_what_a_column_decides(cells: list[str], values: list[float]) -> None:
    assert column(*cells).tolist() == values


@pytest.mark.parametrize(
    "cells",
    [
        ["45%", "12"],
        ["€5", "$5"],
        ["1.5", "2,5"],
        ["1,23,4", "2"],
        ["12a", "13"],
        ["5 kg", "6 kg"],
        ["(12)", "3"],
        ["1.2.3", "1.2.4"],
        ["0x1F", "3"],
        ["1_000", "3"],
        ["1 2", "3"],
    ],
)
def test_what_may_be_no_number_stays_text(cells: list[str]) -> None:
    assert column(*cells).tolist() == cells


@pytest.mark.parametrize(
    ("text", "choice"),
    [
        ("x;n\n1.234;1\n2.345;2\n", ("2345", "2.345")),
        ("x\tn\n1,234\t1\n2,345\t2\n", ("2.345", "2345")),
        ('x,n\n"1,234",0.5\n"2,345",1.5\n', ("2.345", "2345")),  # the others have points: still not decided
        ("x;n\n1.234;2,5\n2.345;1,5\n", ("2345", "2.345")),
        ("x,n\n950,1\n2.345,2\n", ("2345", "2.345")),  # whole numbers and none with other decimals
        ("x;n\n€1.234;1\n€2.345;2\n", ("2345", "2.345")),
    ],
)
def test_a_number_that_could_be_two_is_refused_with_what_settles_it(text: str, choice: tuple[str, str]) -> None:
    with pytest.raises(FileError, match=r"column 'x' may have three decimals or be thousands.*decimal=\{'x': '\.'\}"):
        read(text)
    comma, point = (read(text, decimal={"x": mark})["x"].iloc[1] for mark in (",", "."))
    assert (f"{comma:g}", f"{point:g}") == choice
    assert read(text, types={"x": "text"})["x"].iloc[1].endswith(("345",))


def test_points_between_commas_are_decimal_points_as_everywhere() -> None:
    d = read("x,n\n1.234,1\n2.345,2\n")
    assert d["x"].tolist() == [1.234, 2.345]
    assert "decimal={'x': ','} reads thousands" in notes(d)
    with pytest.raises(FileError, match="three decimals"):
        read('x,n\n"1.234",1\n"2.345",2\n')
    assert read("x;n\n1.234;0.5\n2.345;1.5\n")["x"].tolist() == [1.234, 2.345]  # another column has them
    assert read("x;n\n1,234;2,5\n2,345;1,5\n")["x"].tolist() == [1.234, 2.345]


def test_marks_that_are_given_settle_every_column() -> None:
    text = "x;y\n1.234;5.678\n2.345;6.789\n"
    assert read(text, decimal=",").to_numpy().tolist() == [[1234, 5678], [2345, 6789]]
    assert read(text, decimal=".").to_numpy().tolist() == [[1.234, 5.678], [2.345, 6.789]]
    assert read(text, thousands=".")["x"].tolist() == [1234, 2345]
    assert read("x;y\n1,234;1\n2,345;2\n", thousands=".")["x"].tolist() == [1.234, 2.345]
    with pytest.raises(FileError, match="not numbers throughout"):
        read("x;y\n1.5;1\n", decimal=",", types={"x": "number"})


def test_the_reading_of_numbers_itself() -> None:
    rng = np.random.default_rng(2)
    for _ in range(300):
        values, digits = rng.normal(0, 10 ** rng.integers(0, 7), 4), int(rng.integers(0, 5))
        truth = [float(f"{value:.{digits}f}") for value in values]
        for decimal, thousands in STYLES.values():
            texts = [written(value, digits, decimal, thousands) for value in values]
            found = column_of(texts)
            assert all(map(is_number, texts))
            assert any(np.array_equal(values_of(texts, one), truth) for one in found.readings)
    assert not column_of(["9" * 6000 + "x"]).readings


# --- labels, missing values, dates ----------------------------------------------------------------------------------


def test_identifiers_are_labels() -> None:
    d = read("Subject ID,agent,class size,n\n10,007,30,1\n9,012,31,2\n10,007,30,3\n")
    assert list(d["Subject ID"].cat.categories) == ["9", "10"]  # in the order of numbers, as those of load_dataset
    assert list(d["agent"].cat.categories) == ["007", "012"]
    assert d["class size"].tolist() == [30, 31, 30]
    again = read("Subject ID,agent\n10,007\n9,012\n", types={"Subject ID": "number", "agent": "number"})
    assert again.to_numpy().tolist() == [[10, 7], [9, 12]]
    assert "types={'Subject ID': 'number'}" in d.attrs["read_csv"]["columns"]["Subject ID"]
    assert [is_identifier(name) for name in ("id", "PatientID", "vp-nr", "school.no", "valid", "income", "")] == [
        *[True] * 4,
        *[False] * 3,
    ]
    long = read("x,n\n12345678901234567890,1\n12345678901234567891,2\n")["x"]
    assert list(long) == ["12345678901234567890", "12345678901234567891"]


def test_marks_of_missing_values() -> None:
    d = read("x;y;z;s\n1;a;1;+\nNA;.;-;-\n#NV;b;n.a.;+\n;-;4;-\n")
    assert np.array_equal(d["x"].to_numpy(), [1, np.nan, np.nan, np.nan], equal_nan=True)
    assert d["y"].isna().tolist() == [False, True, False, True]
    assert d["z"].isna().tolist() == [False, True, True, False]
    assert d["s"].tolist() == ["+", "-", "+", "-"]  # levels
    assert "'NA' 1" in d.attrs["read_csv"]["columns"]["x"]
    where = read("continent\nNA\nEU\nAS\n")
    assert where["continent"].isna().sum() == 1
    assert "missing={'continent': []}" in notes(where)
    assert read("continent\nNA\nEU\nAS\n", missing={"continent": []})["continent"].tolist() == ["NA", "EU", "AS"]
    coded = read("age\n31\n-99\n44\n28\n")
    assert "missing={'age': [\"-99\"]}" in notes(coded)
    assert coded["age"].tolist() == [31, -99, 44, 28]
    assert read("age\n31\n-99\n44\n28\n", missing=["-99"])["age"].isna().tolist() == [False, True, False, False]
    assert read("x,level\n1,none\n2,high\n")["level"].tolist() == ["none", "high"]


def test_dates_by_the_only_format_that_fits() -> None:
    text = "iso,german,british,both,mixed,short,time\n"
    for day in range(1, 29):
        text += f"2021-03-{day:02d},{day}.3.2021,{day}/3/2021,{1 + day % 12}/3/2021,"
        text += f"{'2021-03-04' if day % 2 else '04.03.2021'},{1 + day % 12}.3.21,2021-03-{day:02d} 12:30\n"
    d = read(text)
    for name in ("iso", "german", "british"):
        assert d[name].dt.day.tolist() == list(range(1, 29)), name
        assert set(d[name].dt.month) == {3}, name
    assert set(d["time"].dt.minute) == {30}
    for name in ("both", "mixed", "short"):
        assert not pd.api.types.is_datetime64_any_dtype(d[name].dtype), name
        assert f"column '{name}' has dates" in notes(d)
    given = read(text, dates={"both": "%m/%d/%Y", "short": "%d.%m.%y"})
    assert set(given["both"].dt.day) == {3}
    assert set(given["short"].dt.month) == {3}
    with pytest.raises(FileError, match=r"column 'mixed' of the open file is not written in"):
        read(text, dates={"mixed": "%Y-%m-%d"})


def test_an_ordered_scale_and_truth() -> None:
    text = "q;t;u\noften;TRUE;true\nnever;FALSE;\n;TRUE;false\n"
    d = read(text, types={"q": ["never", "often"]})
    assert d["q"].cat.ordered
    assert list(d["q"].cat.codes) == [1, 0, -1]
    assert d["t"].tolist() == [True, False, True]
    assert d["u"].isna().tolist() == [False, True, False]
    with pytest.raises(FileError, match=r"has 'often' besides the levels given"):
        read(text, types={"q": ["never"]})


def test_words_among_numbers_are_told_with_their_rows() -> None:
    d = read("x,n\n" + "".join(f"{i}.5,1\n" for i in range(99)) + "about 15,1\n")
    assert "99 % of its cells are numbers: 'about 15' (row 100)" in notes(d)
    assert len(d) == 100
    number = read("x,n\n1.5,1\nabout 15,1\n", missing=["about 15"])["x"]
    assert number.iloc[0] == 1.5
    assert np.isnan(number.iloc[1])


def test_a_row_of_totals_is_no_observation() -> None:
    rows = "school;pupils;share\n" + "".join(f"{i};{10 + i};{i},5\n" for i in range(1, 5))
    d = read(rows + "Summe;50;12,0\n;;\n")
    assert d["pupils"].tolist() == [11, 12, 13, 14]
    assert "the last row is 'Summe', the sum or mean of 'pupils'" in notes(d)
    assert len(read(rows + "Summe;50;12,0\n", footer=0)) == 5
    assert len(read(rows + "made by hand;;\n", footer=1)) == 4
    with pytest.raises(FileError, match="footer=1 leaves it out, footer=0 keeps it"):
        read(rows + "Summe;51;12,1\n")
    assert len(read("kind,n\nTotal,1\npart,2\nTotal,3\n")) == 3  # a level that comes up elsewhere


# --- letters, separators, headers -----------------------------------------------------------------------------------

LETTERS = "Größe;Prüfung;x €;café’s\n1;2;3;4\n"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "cp1252"])
def test_letters_are_found(encoding: str) -> None:
    assert list(read(LETTERS.encode(encoding)).columns) == ["Größe", "Prüfung", "x €", "café’s"]


def test_cp1252_is_told_from_latin_1_and_others_are_not_guessed() -> None:
    plain = "Größe,Prüfung\n1,2\n"
    assert read(LETTERS.encode("cp1252")).attrs["read_csv"]["encoding"] == "cp1252"
    assert read(plain.encode("latin-1")).attrs["read_csv"]["encoding"].startswith("latin-1")
    for encoding in ("mac_roman", "cp850", "cp437"):
        with pytest.raises(FileError, match="neither in UTF-8 nor in cp1252"):
            read(plain.encode(encoding))
        assert list(read(plain.encode(encoding), encoding=encoding).columns) == ["Größe", "Prüfung"]
    with pytest.raises(FileError, match="neither in UTF-8 nor in cp1252"):
        read("Привет,y\n1,2\n".encode("cp1251"))
    for bad in ("rot13", "zlib", "hex", "nope"):  # codecs that are none of letters run on nothing
        with pytest.raises(ArgumentError, match="no such encoding"):
            read(b"x\n1\n", encoding=bad)
    with pytest.raises(FileError, match="letters are not written in ascii"):
        read(LETTERS.encode("utf-8"), encoding="ascii")


def test_separators_and_what_stands_above_the_names() -> None:
    truth = [[1.5, 2], [2.5, 3]]
    for text in (
        "a;b\n1,5;2\n2,5;3\n",
        "sep=;\r\na;b\r\n1,5;2\r\n2,5;3\r\n",
        "a|b\n1.5|2\n2.5|3\n",
        "a\tb\n1,5\t2\n2,5\t3\n",
        "\n\n a ; b \n 1,5 ; 2 \n;\n 2,5 ; 3 \n",
        "a,b,\n1.5,2,\n2.5,3,\n",
        "a,b\n1.5,2,\n2.5,3,\n",
        'a;b\n"1,5";="2"\n"2,5";="3"\n',
    ):
        assert read(text).to_numpy().tolist() == truth, text
    assert read("a  b\n1.5   2\n2.5 3\n", separator=" ").to_numpy().tolist() == truth
    titled = "Study 12; 2024\nexported\n\na;b;c\n1,5;2;x\n2,5;3;y\n1;2;z\n1;2;z\n1;2;z\n1;2;z\n1;2;z\n1;2;z\n1;2;z\n"
    with pytest.raises(FileError, match="skip=3 leaves out the lines above"):
        read(titled)
    assert list(read(titled, skip=3)) == ["a", "b", "c"]
    with pytest.raises(FileError, match="semicolons and vertical bars both split"):
        read("a|b;c\n1|2;3\n")
    assert list(read("a|b;c\n1|2;3\n", separator=";")) == ["a|b", "c"]
    quoted = read('x,"Reaction\ntime",note\n1,2,"he said ""no"",\nthen left"\n')
    assert list(quoted) == ["x", "Reaction time", "note"]
    assert quoted["note"].tolist() == ['he said "no",\nthen left']


@pytest.mark.parametrize(
    "text",
    ["a,b\n1,5,2,5\n3,1,4,2\n", "a,b\n1,5,3\n2,5,4\n", "y\n1,5\n2,5\n", "a,b\n1,2\n3,4,5\n", 'a,b\n1,"2\n3,4\n'],
)
def test_cells_that_do_not_fit_the_names_are_refused(text: str) -> None:
    with pytest.raises(FileError, match=r"save the file with semicolons|quotation mark"):
        read(text)


def test_names_of_rows_as_r_writes_them() -> None:
    d = read('"y" "g"\n"1" 2.5 "a"\n"2" 3.5 "b"\n', separator=" ")
    assert list(d) == ["row", "y", "g"]
    assert list(read('"y","g"\n"1",2.5,"a"\n"2",3.5,"b"\n')) == ["row", "y", "g"]
    assert list(read('"","y"\n"1",2.5\n"2",3.5\n')) == ["column_1", "y"]


def test_hostile_headers() -> None:
    d = read("=cmd|' /C calc'!A0,a\x1b[31mb,x,x,x_1\n1,2,3,4,5\n")
    assert list(d) == ["=cmd|' /C calc'!A0", "a\\x1b[31mb", "x_2", "x_3", "x_1"]
    assert d.to_numpy().tolist() == [[1, 2, 3, 4, 5]]
    assert "several columns are named 'x': they are called 'x_2', 'x_3' here" in notes(d)
    for text, words in (
        (",".join(f"c{i}" for i in range(10_000)) + "\n" + ",".join("1" * 10_000) + "\n", "has 10,000 columns"),
        ("a\0,b\n1,2\n", "NUL characters"),
        ("x" * 3000 + ",y\n1,2\n", "3,000 letters"),
        ("1,2\n3,4\n", r"numbers only.*names=\[\.\.\.\] gives the names of the 2 columns"),
        (",\n1,2\n", "no names of columns"),
        (" \n\n", "it is empty"),
    ):
        with pytest.raises(FileError, match=words):
            read(text)
    assert read("1,2\n3,4\n", names=["a", "b"]).to_numpy().tolist() == [[1, 2], [3, 4]]


# --- files ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("content", [b"PK\x03\x04zip", b"PAR1", b"\x1f\x8bgzip", b"$FL2@(#)", b"BZh91AY"])
def test_what_is_no_text_is_named(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    path.write_bytes(content)
    with pytest.raises(FileError, match=r"no text, but|compressed by gzip"):
        hm.read_csv(path)


def test_files_are_read_to_the_limit_of_memory_and_no_further(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, packed = tmp_path / "d.csv", tmp_path / "d.csv.gz"
    path.write_text("x,y\n" + "1,2\n" * 1000)
    with gzip.open(packed, "wb") as handle:
        handle.write(path.read_bytes() * 200)
    assert len(hm.read_csv(path)) == 1000
    monkeypatch.setattr(memory, "free_memory", lambda: 50_000.0)
    for source in (path, packed, io.BytesIO(path.read_bytes()), io.StringIO(path.read_text())):
        with pytest.raises(FileError, match="room for"):
            hm.read_csv(source)
    monkeypatch.undo()
    packed.write_bytes(packed.read_bytes()[:100])
    with pytest.raises(FileError, match="no whole gzip file"):
        hm.read_csv(packed)


def test_damaged_files_end_in_a_table_or_a_sentence() -> None:
    whole = "id;Größe (cm);share;when;note\n" + "".join(
        f'{i:03d};1.{i:03d},5;{i} %;{1 + i % 28}.3.2021;"said; ""no"""\n' for i in range(30)
    )
    rng, tables = np.random.default_rng(5), 0
    marks = [b";", b",", b'"', b"\n", b"\0", b"\xff", b"\r", b"\t", b"|", b"=1", b"%", b"1e999", b"\x1b[2J", b" "]
    for _ in range(300):
        content = bytearray(whole.encode(rng.choice(["utf-8", "cp1252", "utf-16"])))
        for _ in range(rng.integers(1, 6)):
            at = int(rng.integers(len(content)))
            if rng.random() < 0.2:
                del content[at : at + int(rng.integers(1, 200))]
            else:
                content[at:at] = marks[int(rng.integers(len(marks)))]
        try:
            tables += len(read(bytes(content))) > 0
        except hm.HiermodError as error:
            assert len(str(error)) > 20  # noqa: PT017
    assert 30 < tables < 300


def test_sources_that_are_no_files(tmp_path: Path) -> None:
    for source, words in (
        ("https://example.org/d.csv", "is an address"),
        ("a,b\n1,2\n", r"read_csv\(io.StringIO\(text\)\)"),
        (tmp_path, "is a folder"),
        (tmp_path / "none.csv", "is not there"),
    ):
        with pytest.raises(FileError, match=words):
            hm.read_csv(source)
    for thing in (3, None, b"x,y\n", ["a"]):
        with pytest.raises(ArgumentTypeError):
            hm.read_csv(thing)


@pytest.mark.parametrize(
    ("how", "error", "words"),
    [
        ({"separator": "x"}, ArgumentError, "separator must be one of"),
        ({"decimal": ";"}, ArgumentError, "decimal must be one of"),
        ({"decimal": ",", "thousands": ","}, ArgumentError, "are both ','"),
        ({"missing": "NA"}, ArgumentTypeError, "must be a list of texts"),
        ({"types": {"z": "number"}}, UnknownNameError, "no such column"),
        ({"types": {"x": "float"}}, ArgumentError, '"number", "category", "text"'),
        ({"types": {"x": ["1", "1"]}}, ArgumentError, "different texts"),
        ({"types": {"x": "number"}, "dates": {"x": "%Y"}}, ArgumentError, "both name 'x'"),
        ({"dates": {"x": "day"}}, ArgumentError, "must be a format"),
        ({"names": ["a"]}, ArgumentError, "names has 1 names"),
        ({"names": ["a", "a"]}, ArgumentError, "each different"),
        ({"columns": ["xx"]}, UnknownNameError, "Did you mean|no column 'xx'"),
        ({"skip": -1}, ArgumentError, "0 or more"),
        ({"skip": 9}, FileError, "leaves nothing"),
        ({"encoding": "utf-8"}, ArgumentError, "gives letters already"),
    ],
)
def test_arguments_that_cannot_be(how: dict[str, Any], error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        read("x,y\n1,2\n", **how)


def test_the_report_is_read_logged_and_travels(caplog: pytest.LogCaptureFixture, capsys: Any, tmp_path: Path) -> None:
    with caplog.at_level(logging.INFO, logger="hiermod"):
        read("x,y\n1,2\n")
        assert not caplog.records  # nothing was guessed
        d = read("x;y\n1,5;a\n")
    assert "semicolons between columns and decimal commas ('x')" in caplog.text
    assert capsys.readouterr().out == ""
    report = d.attrs["read_csv"]
    assert str(report).splitlines() == [
        "the open file: 1 rows, 2 columns; text; semicolons between columns",
        "  x  number (decimal comma)",
        "  y  text, 1 different",
        "- read with semicolons between columns and decimal commas ('x').",
    ]
    assert repr(report) == str(report)
    assert str(pickle.loads(pickle.dumps(d)).attrs["read_csv"]) == str(report)
    assert str(d.copy().attrs["read_csv"]) == str(report)
    assert json.loads(json.dumps(report))["columns"]["x"] == "number (decimal comma)"  # what Parquet keeps of it


# --- from the file to the model -------------------------------------------------------------------------------------


def test_ugly_files_are_modelled_as_clean_ones() -> None:
    rng = np.random.default_rng(4)
    person = np.repeat(np.arange(1, 41), 6)
    words = ["Bedingung mit langem Namen, eins", "Bedingung zwei", "Bedingung drei"]
    d = pd.DataFrame(
        {
            "Vp-Nr": [f"{i:03d}" for i in person],
            "Bedingung": np.tile(words, 80),
            "Zeit": np.round(900 + rng.normal(0, 80, 40)[person - 1] + rng.normal(0, 60, 240), 2),
            "Anteil": np.round(rng.uniform(1, 99, 240), 1),
        }
    )
    clean = hm.Model("Zeit ~ Bedingung + Anteil + (1 | `Vp-Nr`)", d).reml()
    ugly = d.assign(
        Zeit=[written(value, 2, ",", ".") for value in d["Zeit"]],
        Anteil=[f"{v:.1f} %".replace(".", ",") for v in d["Anteil"]],
    )
    text = "sep=;\r\n" + ugly.to_csv(index=False, sep=";", lineterminator="\r\n") + ";;;\r\n"
    for encoding in ("cp1252", "utf-8-sig"):
        again = hm.Model("Zeit ~ Bedingung + Anteil + (1 | `Vp-Nr`)", read(text.encode(encoding))).reml()
        assert again.criterion == clean.criterion
        pd.testing.assert_frame_equal(again.fixef(), clean.fixef())
        pd.testing.assert_frame_equal(again.ranef(), clean.ranef())
