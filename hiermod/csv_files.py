"""hiermod.read_csv: a table from a text file of whatever spreadsheet, statistics program or survey site wrote it.

pandas splits the file into cells; what separates them, how letters are encoded and what each column holds is decided
here, by whole columns, and told: ``frame.attrs["read_csv"]``.  Where a file does not decide, the cautious way is taken:
text stays text, and a number that could be two is refused with the argument that settles it.  Nothing in a file is
run, and nothing is read that memory has no room for."""

from __future__ import annotations

import codecs
import csv
import gzip
import io
import logging
import os
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from hiermod.core.checked import checked
from hiermod.core.escaping import label_text, terminal
from hiermod.core.files import file_path, open_regular
from hiermod.core.memory import check_room, room
from hiermod.core.written_numbers import (
    DECIMALS,
    THOUSANDS,
    Column,
    column_of,
    is_number,
    too_long,
    values_of,
)
from hiermod.errors import ArgumentError, ArgumentTypeError, FileError, UnknownNameError, listing, nearest

LOG = logging.getLogger("hiermod")
SEPARATORS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "vertical bars", " ": "spaces"}
GUESSED = (",", ";", "\t", "|")
NEEDED = 16  # bytes of memory for a byte of text, cells and columns together
SMALLER = "Make a smaller file, of the rows and columns that the model needs."
MOST_COLUMNS = 4_000
LONGEST_NAME = 1_000
HEAD = 200  # lines that the separator is judged by
MISSING = {""} | frozenset(  # in small letters; the last are what spreadsheets write for errors
    """
    na n/a #n/a #na nan -nan null #null! #nv <na>
    #div/0! #value! #ref! #num! #name? #wert! #bezug! #zahl! #name!
    """.split()  # noqa: SIM905
)
DASHES = frozenset([".", "-", "--", "\u2013", "\u2014", "?", "*"])  # missing beside numbers and words, else levels
NONE = frozenset(["none", "missing", "n.a.", "k.a.", "keine angabe", "unknown"])  # missing beside numbers
CODES = ("-9", "-99", "-999", "-9999", "99", "999", "9999")  # what stands for missing in many surveys
TOTALS = {"grand total"} | frozenset(
    """
    total totals sum mean average summe gesamt gesamtsumme gesamtergebnis mittelwert durchschnitt
    somme moyenne suma media totale
    """.split()  # noqa: SIM905
)
IDENTIFIERS = frozenset(
    """
    id ids subject subj participant person patient pupil student respondent user case animal family teacher school
    hospital clinic site batch item rater judge class classroom group code
    vp vpn proband versuchsperson schüler schule klasse sujet sujeto
    """.split()  # noqa: SIM905
)
SUFFIXES = frozenset({"id", "no", "nr", "num", "number", "code", "nummer", "key"})  # "Subject No."
DATES = (
    ("%Y-%m-%d", r"\d{4}-\d{1,2}-\d{1,2}"),
    ("%Y/%m/%d", r"\d{4}/\d{1,2}/\d{1,2}"),
    ("%d.%m.%Y", r"\d{1,2}\.\d{1,2}\.\d{4}"),
    ("%d/%m/%Y", r"\d{1,2}/\d{1,2}/\d{4}"),
    ("%m/%d/%Y", r"\d{1,2}/\d{1,2}/\d{4}"),
)
TIMES = (
    ("", ""),
    (" %H:%M", r" \d{1,2}:\d\d"),
    (" %H:%M:%S", r" \d{1,2}:\d\d:\d\d"),
    ("T%H:%M:%S", r"T\d\d:\d\d:\d\d"),
)
MAGIC = (
    (b"PK\x03\x04", "a zip archive or an Excel workbook: unpack it, or read it with pandas.read_excel"),
    (b"\xd0\xcf\x11\xe0", "an old Excel workbook: save it as CSV, or read it with pandas.read_excel"),
    (b"PAR1", "a Parquet file: read it with pandas.read_parquet"),
    (b"$FL2", "an SPSS file: read it with pandas.read_spss"),
    (b"$FL3", "an SPSS file: read it with pandas.read_spss"),
    (b"<stata_dta>", "a Stata file: read it with pandas.read_stata"),
    (b"\x28\xb5\x2f\xfd", "compressed by zstd: unpack it first"),
    (b"\xfd7zXZ", "compressed by xz: unpack it first"),
    (b"BZh", "compressed by bzip2: unpack it first"),
    (b"%PDF", "a PDF"),
    (b"RDX", "R's own format: write.csv() in R makes a CSV file of it"),
)  # fmt: skip


class ReadReport(dict[str, Any]):
    """What read_csv found and guessed; as text, a page to read.

    Keys: file, rows, separator, encoding, columns (name -> how it was read), notes (sentences)."""

    def __str__(self) -> str:
        width = min(24, max((len(name) for name in self["columns"]), default=0))
        head = f"{self['file']}: {self['rows']:,} rows, {len(self['columns'])} columns; "
        head += f"{self['encoding']}; {self['separator']}"
        told = [f"  {name:<{width}}  {words}" for name, words in self["columns"].items()]
        notes = [f"- {note}" for note in self["notes"]]
        return terminal("\n".join([head, *told, *notes]))

    __repr__ = __str__


@checked
def read_csv(
    source: Any,
    *,
    separator: str | None = None,
    decimal: str | Mapping[str, str] | None = None,
    thousands: str | Mapping[str, str] | None = None,
    encoding: str | None = None,
    missing: Sequence[str] | Mapping[str, Sequence[str]] | None = None,
    types: Mapping[str, Any] | None = None,
    dates: Mapping[str, Any] | None = None,
    names: Sequence[str] | None = None,
    columns: Sequence[str] | None = None,
    skip: int = 0,
    footer: int | None = None,
) -> pd.DataFrame:
    """A table from a text file: separator, decimal mark, encoding and what each column holds are found and told.

    source: a path (``.gz`` is unpacked) or an open file.  separator: a comma, semicolon, vertical bar or tab, or " "
    for runs of spaces.  decimal: "." or ","; thousands: "", ".", ",", " " or "'".  Either may be a dict by column.
    encoding: of the letters; else a byte order mark, UTF-8 or cp1252, whose letters latin-1 shares.  missing: marks of
    missing values besides the usual ones (empty, NA, N/A, #NV, NULL, and . or - among numbers and words); a dict has
    the only marks of a column.  types: column -> "number", "category", "text", or the levels of an ordered scale,
    lowest first.  dates: column -> its format, such as "%d/%m/%Y".  names: of the columns, where the file has no line
    of names.  columns: those to read.  skip: lines above the names.  footer: rows at the end to leave out.

    Numbers are read as their whole column allows; percent signs and currencies come off (45% is 45).  Whole numbers
    with leading zeros and those of columns named id, subject, school, ... are categories.  ``attrs["read_csv"]`` of the
    frame tells what was found, column by column; what was guessed is logged too.  Raises FileError where the file is
    no table, or where a column does not tell 1.234 from a thousand and more; ArgumentError, ArgumentTypeError,
    UnknownNameError.

    >>> import hiermod as hm, io
    >>> d = hm.read_csv(io.StringIO("id;score;share\\n007;1,5;45 %\\n008;2,25;7 %\\n"))
    >>> d
        id  score  share
    0  007   1.50     45
    1  008   2.25      7
    >>> d.attrs["read_csv"]["columns"]["id"]  # and print(d.attrs["read_csv"]) tells everything
    'category of 2 labels (leading zeros kept)'
    """
    frame = read_table(
        source, separator, decimal, thousands, encoding, missing, types, dates, names, columns, skip, footer
    )
    report = frame.attrs["read_csv"]
    if report["notes"]:
        LOG.warning("%s", f"read_csv: {terminal(report['file'])}: {' '.join(map(terminal, report['notes']))}")
    return frame


def read_table(
    source: Any,
    separator: str | None = None,
    decimal: str | Mapping[str, str] | None = None,
    thousands: str | Mapping[str, str] | None = None,
    encoding: str | None = None,
    missing: Sequence[str] | Mapping[str, Sequence[str]] | None = None,
    types: Mapping[str, Any] | None = None,
    dates: Mapping[str, Any] | None = None,
    names: Sequence[str] | None = None,
    columns: Sequence[str] | None = None,
    skip: int = 0,
    footer: int | None = None,
) -> pd.DataFrame:
    """``read_csv`` without a word to the log."""
    _check_arguments(separator, decimal, thousands, missing, types, dates, names, skip, footer)
    name, content = _content(source)
    text, told = _text(name, content, encoding)
    notes: list[str] = []
    del content
    text, separator, sep_words = _above(name, text, separator, skip)
    cells = _cells(name, text, separator, names, notes)
    between_commas = separator == "," and not re.search(r'"[+-]?[1-9]\d{0,2}(?:\.\d{3})+"', text)
    del text
    cells = _chosen(name, cells, columns)
    by_name = {"decimal": decimal, "thousands": thousands, "missing": missing, "types": types, "dates": dates}
    for argument, value in by_name.items():
        _check_columns(argument, value, cells.columns)
    cells = _without_empty_rows(cells, notes)
    texts = {one: _Texts.of(cells[one], _only_marks(missing, one)) for one in cells}
    if footer is None:
        footer = _total_rows(name, texts, len(cells), notes)
    if footer:
        cells = cells.iloc[: max(0, len(cells) - footer)]
        texts = {one: _Texts.of(cells[one], _only_marks(missing, one)) for one in cells}
    found = {one: texts[one].column(_of(decimal, one), _of(thousands, one)) for one in texts}
    found = _decided(name, texts, found, types or {}, between_commas, notes)
    frame, words = {}, {}
    for one in texts:
        frame[one], words[one] = _values(name, one, texts[one], found[one], types or {}, dates or {}, notes)
    table = pd.DataFrame(frame, index=pd.RangeIndex(len(cells)))
    commas = [one for one, column in found.items() if column.marks and column.readings[0].decimal == ","]
    first = []
    if separator != "," or told not in ("UTF-8", "text") or commas:
        marks = f" and decimal commas ({_some(commas)})" if commas else ""
        first = [f"read with {sep_words}{marks}{f', as {told}' if told != 'text' else ''}."]
    table.attrs["read_csv"] = ReadReport(
        file=name, rows=len(table), separator=sep_words, encoding=told, columns=words, notes=[*first, *notes]
    )
    return table


# --- arguments ------------------------------------------------------------------------------------------------------


def _check_arguments(
    separator: Any,
    decimal: Any,
    thousands: Any,
    missing: Any,
    types: Any,
    dates: Any,
    names: Any,
    skip: Any,
    footer: Any,
) -> None:
    _check_choice("separator", separator, tuple(SEPARATORS))
    for name, value, allowed in (("decimal", decimal, DECIMALS), ("thousands", thousands, THOUSANDS)):
        for one in value.values() if isinstance(value, Mapping) else [value]:
            _check_choice(name, one, allowed)
    if decimal is not None and decimal == thousands:
        raise ArgumentError(f"decimal and thousands are both {decimal!r}: numbers could not be told apart")
    for what, value in missing.items() if isinstance(missing, Mapping) else [("", missing)]:
        label = f"missing[{what!r}]" if what else "missing"
        if value is not None and (isinstance(value, str) or not all(isinstance(one, str) for one in value)):
            raise ArgumentTypeError(f'{label} must be a list of texts as they stand in the file, such as ["-99"]')
    for column, kind in (types or {}).items():
        levels = isinstance(kind, Sequence) and not isinstance(kind, str)
        if levels and (len(set(map(str, kind))) < len(kind) or not all(isinstance(one, str) for one in kind)):
            raise ArgumentError(f"types: the levels of {column!r} must be different texts, lowest first, got {kind!r}")
        if not levels and kind not in ("number", "category", "text"):
            raise ArgumentError(
                f'types: {column!r} is {kind!r}; it must be "number", "category", "text", or a list of levels in order'
            )
    for column, style in (dates or {}).items():
        if not isinstance(style, str) or "%" not in style:
            raise ArgumentError(
                f'dates: {column!r} is {style!r}; it must be a format, such as "%d/%m/%Y" for 31/12/2024'
            )
    both = sorted(set(types or {}) & set(dates or {}))
    if both:
        raise ArgumentError(f"types and dates both name {listing(map(repr, both))}: give one of them")
    for name, value in (("skip", skip), ("footer", footer)):
        if value is not None and value < 0:
            raise ArgumentError(f"{name} is a number of lines, 0 or more, got {value}")
    if names is not None and (isinstance(names, str) or len(set(names)) < len(names) or not all(map(str.strip, names))):
        raise ArgumentError("names must be a list of names for the columns, each different and none empty")


def _check_choice(name: str, value: Any, allowed: tuple[str, ...]) -> None:
    if value is not None and value not in allowed:
        raise ArgumentError(f"{name} must be one of {listing(map(repr, allowed))}, got {value!r}")


def _check_columns(argument: str, value: Any, columns: Sequence[str]) -> None:
    for one in value if isinstance(value, Mapping) else ():
        if one not in columns:
            shown = f"{{{one!r}: {value[one]!r}}}"
            raise UnknownNameError(
                f"{argument}={shown}: the file has no such column.{nearest(str(one), columns)} "
                f"Its columns are: {listing(columns, 20)}."
            )


def _of(value: str | Mapping[str, str] | None, column: str) -> str | None:
    return value.get(column) if isinstance(value, Mapping) else value


def _only_marks(missing: Any, column: str) -> tuple[frozenset[str], bool]:
    """Marks of one column that were given, and whether they are the only ones."""
    if isinstance(missing, Mapping):
        return frozenset(missing.get(column, ())), column in missing
    return frozenset(missing or ()), False


def _some(names: Sequence[str]) -> str:
    return listing([repr(label_text(name)) for name in names], 6)


# --- bytes and letters ----------------------------------------------------------------------------------------------


def _content(source: Any) -> tuple[str, bytes | str]:
    """What the file is called in messages, and its content, unpacked."""
    if hasattr(source, "read"):
        most = _most()
        try:
            content = source.read(most + 1)
        except (OSError, ValueError, TypeError) as error:  # such as a file that is closed or open for writing
            raise FileError(f"the open file cannot be read: {error}") from error
        if not isinstance(content, bytes | str):
            raise ArgumentTypeError(f"source.read() gave {type(content).__name__}, not text or bytes")
        if len(content) > most:
            raise FileError(f"the open file holds more than {most / 1e6:,.0f} MB, which is all there is room for")
        return "the open file", content
    if isinstance(source, str) and re.match(r"[a-z][a-z0-9+]*://", source):
        raise FileError(f"{source!r} is an address: hiermod reads files only. Save the file first")
    if isinstance(source, str) and "\n" in source:
        raise FileError(
            "source is a text of several lines: read_csv(io.StringIO(text)) reads it, and a path names a file"
        )
    path = file_path(source, "source")
    name = repr(str(path))
    if path.is_dir():
        raise FileError(
            f"{name} is a folder, not a file: what is read is a text file with names of columns in its first line"
        )
    if not path.exists():
        raise FileError(f"{name} is not there: what is read is a text file with names of columns in its first line")
    packed = path.suffix.lower() == ".gz"
    with open_regular(path) as handle:
        check_room(f"reading {name}", NEEDED * os.fstat(handle.fileno()).st_size, SMALLER, FileError)
        if not packed:
            return name, handle.read()
        return name, _unpacked(name, path, handle)


def _most() -> int:
    """Bytes of text there is room for."""
    return int(min(room() / NEEDED, 2**40))


def _unpacked(name: str, path: Path, handle: Any) -> bytes:
    """What gzip packed, at most what there is room for: a small file can unpack to a very large one."""
    most, parts, size = _most(), [], 0
    try:
        with gzip.GzipFile(fileobj=handle) as unpacking:
            while part := unpacking.read(1 << 20):
                size += len(part)
                if size > most:
                    raise FileError(
                        f"{name} unpacks to more than {most / 1e6:,.0f} MB, which is all there is room for: "
                        "make a smaller file, of the rows and columns that the model needs"
                    )
                parts.append(part)
    except (OSError, EOFError, gzip.zlib.error) as error:  # type: ignore[attr-defined]
        raise FileError(f"{name} cannot be read as a table: it is no whole gzip file ({error})") from error
    return b"".join(parts)


def _text(name: str, content: bytes | str, encoding: str | None) -> tuple[str, str]:
    """The letters of the file, and how they were encoded."""
    if isinstance(content, str):
        if encoding is not None:
            raise ArgumentError("encoding= is for files open in binary mode; this one gives letters already")
        text, told = content.removeprefix("\ufeff"), "text"
    elif encoding is not None:
        text, told = _decoded(name, content, encoding), encoding
    else:
        text, told = _guessed_letters(name, content)
    if "\0" in text:
        raise FileError(
            f"{name} cannot be read as a table: it has NUL characters, so it is no text, or text in another encoding. "
            "It may be UTF-16: give encoding='utf-16'"
        )
    if not text.strip():
        raise FileError(f"{name} cannot be read as a table: it is empty")
    return text, told


def _decoded(name: str, content: bytes, encoding: str) -> str:
    try:
        return content.decode(encoding).removeprefix("\ufeff")
    except LookupError as error:
        raise ArgumentError(
            f"encoding={encoding!r}: no such encoding of letters; try 'utf-8', 'latin-1' or 'cp1252'"
        ) from error
    except ValueError as error:
        raise FileError(
            f"{name} cannot be read as a table: its letters are not written in {encoding} ({error}). Leave encoding "
            "out to have it found, or give the right one"
        ) from error


def _guessed_letters(name: str, content: bytes) -> tuple[str, str]:
    for magic, words in MAGIC:
        if content.startswith(magic):
            raise FileError(f"{name} cannot be read as a table: it is no text, but {words}")
    if content.startswith(b"\x1f\x8b"):
        raise FileError(
            f"{name} cannot be read as a table: it is compressed by gzip: give it the ending .gz, or unpack it"
        )
    for mark, codec, told in (
        (codecs.BOM_UTF8, "utf-8", "UTF-8"),
        (codecs.BOM_UTF32_LE, "utf-32", "UTF-32"),
        (codecs.BOM_UTF16_LE, "utf-16", "UTF-16"),
        (codecs.BOM_UTF16_BE, "utf-16", "UTF-16"),
    ):
        if content.startswith(mark):
            return _decoded(name, content, codec), told
    even, odd = content[:2000:2].count(0), content[1:2000:2].count(0)
    if max(even, odd) > 0.3 * len(content[:2000:2]):  # letters of Europe have a byte of zeros beside each
        return _decoded(name, content, "utf-16-le" if odd > even else "utf-16-be"), "UTF-16"
    try:
        return content.decode("utf-8"), "UTF-8"
    except UnicodeDecodeError:
        pass
    try:
        text = content.decode("cp1252")
    except UnicodeDecodeError:
        text = ""
    strange = _strange(text)
    if not text or strange:
        shown = f" (they would read {listing(map(repr, strange), 3)})" if strange else ""
        raise FileError(
            f"{name} cannot be read as a table: its letters are written neither in UTF-8 nor in cp1252{shown}. Save "
            "the file as UTF-8, or give its encoding, such as encoding='mac_roman', 'cp850', 'cp1250' or 'cp1251'"
        )
    told = "cp1252" if re.search(rb"[\x80-\x9f]", content) else "latin-1 (cp1252 has the same letters)"
    return text, told


def _strange(text: str) -> list[str]:
    """Words that no language of Western Europe has: the letters are those of another encoding."""
    sign = r"(?![\u2013\u2014\u2019\u2026])[\u201a-\u2030\u20ac\u2122\u00a1-\u00b6\u00b8-\u00bf]"
    capital = r"[\u00c0-\u00de\u0152\u0160\u0178\u017d]"
    found = re.finditer(rf"\w*(?:[\u00c0-\u00ff]{{3}}|[A-Za-z]{capital}[a-z\u00a7]|[A-Za-z]{sign}[a-z])\w*", text)
    return list(dict.fromkeys(one[0] for one in islice(found, 50)))


# --- cells ----------------------------------------------------------------------------------------------------------


def _above(name: str, text: str, separator: str | None, skip: int) -> tuple[str, str, str]:
    """The text from the line of names on, what separates its columns, and words for that."""
    directive = re.match(r"sep=(.)\r?\n", text)
    if directive and directive[1] in SEPARATORS:  # a line that Excel obeys
        text = text[directive.end() :]
        separator = separator or directive[1]
    if skip:
        lines = re.match(rf"(?:[^\n]*\n){{{skip}}}" if skip < 10_000 else r"(?!)", text)
        if lines is None:
            raise FileError(f"skip={skip} leaves nothing of {name}, which has {len(text.splitlines())} lines")
        text = text[lines.end() :]
    if separator is None:
        separator = _separator(name, text)
    return text, separator, f"{SEPARATORS[separator]} between columns"


def _records(text: str, separator: str, count: int) -> list[list[str]]:
    """The first lines as cells; a text in quotes may go over several."""
    try:
        rows = csv.reader(io.StringIO(text[: 1 << 20], newline=""), delimiter=separator, skipinitialspace=True)
        return list(islice((row for row in rows if any(map(str.strip, row))), count))
    except csv.Error:
        return []


def _separator(name: str, text: str) -> str:
    """What splits the first lines into equally many cells, more than one."""
    scores = {}
    for one in GUESSED:
        counts = [len(row) for row in _records(text, one, HEAD)]
        usual, times = Counter(counts).most_common(1)[0] if counts else (1, 0)
        if usual > 1:
            scores[one] = (times / len(counts), counts[0] in (usual, usual - 1) and counts[0] > 1)
    good = [one for one, (share, header) in scores.items() if share > 0.8 and header]
    if len(good) == 1:
        return good[0]
    if len(good) > 1:
        raise FileError(
            f"{name}: {' and '.join(SEPARATORS[one] for one in good)} both split its lines into columns: say which by "
            f"separator={good[0]!r} or separator={good[1]!r}"
        )
    ragged = [one for one, (share, _) in scores.items() if share > 0.8]
    if ragged:
        one = ragged[0]
        rows = _records(text, one, HEAD)
        usual = Counter(map(len, rows)).most_common(1)[0][0]
        above = _lines_above(text, one, usual)
        raise FileError(
            f"{name}: most lines have {usual} cells ({SEPARATORS[one]} between), and the first has {len(rows[0])}. "
            f"Where the names of the columns stand further down, skip={above} leaves out the lines above them; "
            "where numbers with decimal commas stand between commas, save the file with semicolons"
        )
    return ","


def _lines_above(text: str, separator: str, width: int) -> int:
    """Lines before the first that has so many cells."""
    rows = csv.reader(io.StringIO(text[: 1 << 20], newline=""), delimiter=separator, skipinitialspace=True)
    before = 0
    for row in rows:
        if len(row) == width:
            break
        before = rows.line_num
    return before


def _cells(name: str, text: str, separator: str, names: Sequence[str] | None, notes: list[str]) -> pd.DataFrame:
    """Every cell as stripped text under the name of its column."""
    rows = _records(text, separator, HEAD) if separator != " " else [one.split() for one in text.splitlines()[:HEAD]]
    counts = [len(row) for row in rows] or [1]
    usual = Counter(counts).most_common(1)[0][0]
    width = max(counts[0], usual)
    if width > MOST_COLUMNS:
        raise FileError(
            f"{name} has {width:,} columns, and at most {MOST_COLUMNS:,} are read: leave out what no model needs"
        )
    try:
        cells = pd.read_csv(
            io.StringIO(text),
            sep=r"\s+" if separator == " " else separator,
            header=None,
            names=list(range(width)),
            dtype=object,
            keep_default_na=False,
            index_col=False,
            skipinitialspace=True,
            low_memory=False,
        )
    except (ValueError, csv.Error, OverflowError) as error:  # pandas' own errors are ValueErrors
        raise FileError(_not_a_table(name, separator, error)) from error
    cells = _stripped(cells.fillna(""))
    if names is not None:
        if len(names) != width:
            raise ArgumentError(f"names has {len(names)} names, and {name} has {width} columns")
        return cells.set_axis([one.strip() for one in names], axis=1)
    header = [" ".join(one.split()) for one in cells.iloc[0]] if len(cells) else []
    body = cells.iloc[1:]
    if counts[0] < width:
        header = header[: counts[0]]
        extra = list(range(counts[0], width))
        sure = separator != "," or text.partition("\n")[2].startswith('"')  # else 1,5 may be one number of two cells
        if (body[extra] == "").all(axis=None):  # lines end with a separator
            body = body.drop(columns=extra)
        elif len(extra) == 1 and counts[0] > 1 and sure and body[0].is_unique and not _second_header(body):
            header = ["row", *header]  # R's write.table
            notes.append("the first column has no name, as in files that R writes with the names of rows: it is 'row'.")
        else:
            raise FileError(
                f"{name}: the line of names has {counts[0]} cells and the rows below have {width}. Where the names "
                f"stand further down, skip={_lines_above(text, separator, width)} leaves out the lines above them, and "
                "names=[...] with it gives others; where decimal commas stand between commas, save the file with "
                "semicolons"
            )
    _check_header(name, header)
    unnamed = [i for i, one in enumerate(header) if not one]
    empty = [i for i in unnamed if (body.iloc[:, i] == "").all()]
    named = [one or f"column_{i + 1}" for i, one in enumerate(header)]
    if len(unnamed) > len(empty):
        shown = [named[i] for i in unnamed if i not in empty]
        notes.append(f"columns without a name are called {_some(shown)}.")
    body = body.set_axis(_unique(named, notes), axis=1)
    return body.drop(columns=[body.columns[i] for i in empty])


def _second_header(body: pd.DataFrame) -> bool:
    """Whether the first row has words where all that follow have numbers."""
    numbers = body.iloc[1:HEAD].map(is_number).all().to_numpy() & (len(body) > 1)
    return bool((numbers & ~body.iloc[:1].map(is_number).to_numpy()[0]).any())


def _stripped(cells: pd.DataFrame) -> pd.DataFrame:
    """Without spaces around cells, and without the way in which Excel is told that 007 is text: ="007"."""
    found = {}
    for at in cells:
        codes, uniques = pd.factorize(cells[at].to_numpy(dtype=object))
        plain = list(map(str.strip, uniques))
        if any(map(re.compile('="').match, plain)):
            plain = [re.sub(r'^="([^"]*)"$', r"\1", one) for one in plain]
        found[at] = np.array([*plain, None], dtype=object)[codes]
    return pd.DataFrame(found, index=cells.index, dtype=object)


def _not_a_table(name: str, separator: str, error: Exception) -> str:
    reason = " ".join(str(error).replace("Error tokenizing data. C error:", "").split()).rstrip(".")
    more = ""
    if "saw" in reason:
        more = (
            f". That line has more cells than there are names: a text with {SEPARATORS[separator]} in it needs "
            'quotation marks ("..."), and so do numbers with decimal commas between commas'
        )
    elif "EOF inside string" in reason:
        more = ". A quotation mark there is never closed"
    return f"{name} cannot be read as a table with {SEPARATORS[separator]} between columns: {reason}{more}"


def _check_header(name: str, header: list[str]) -> None:
    long = [one for one in header if len(one) > LONGEST_NAME]
    if long:
        raise FileError(
            f"{name} has a column whose name has {len(long[0]):,} letters, beginning {label_text(long[0][:40])!r}: is "
            "a quotation mark not closed? skip=... and names=[...] give other names"
        )
    told = [one for one in header if one]
    if not told:
        raise FileError(f"{name} cannot be read as a table: its first line has no names of columns: give names=[...]")
    if all(map(is_number, told)):
        raise FileError(
            f"{name}: the first line ({listing(told, 5)}) has numbers only, and should have the names of the columns. "
            f"Where the data begin there, names=[...] gives the names of the {len(header)} columns"
        )


def _unique(names: list[str], notes: list[str]) -> list[str]:
    """Names made printable; of equal ones each gets a number, so that none of them can be meant by mistake."""
    plain = [label_text(one) for one in names]
    counts = Counter(plain)
    seen: Counter[str] = Counter()
    found: list[str] = []
    for one in plain:
        name = one
        while counts[one] > 1 and (name == one or name in counts or name in found):
            seen[one] += 1
            name = f"{one}_{seen[one]}"
        found.append(name)
    twice = [one for one, count in counts.items() if count > 1]
    if twice:
        given = [new for old, new in zip(plain, found, strict=True) if old in twice]
        notes.append(f"several columns are named {_some(twice)}: they are called {_some(given)} here.")
    return found


def _chosen(name: str, cells: pd.DataFrame, columns: Sequence[str] | None) -> pd.DataFrame:
    if columns is None:
        return cells
    for one in columns:
        if one not in cells.columns:
            raise UnknownNameError(
                f"columns: {name} has no column {one!r}.{nearest(one, cells.columns)} "
                f"Its columns are: {listing(cells.columns, 20)}."
            )
    return cells[list(dict.fromkeys(columns))]


def _without_empty_rows(cells: pd.DataFrame, notes: list[str]) -> pd.DataFrame:
    empty = (cells == "").all(axis=1).to_numpy()
    if empty.any():
        notes.append(
            f"{int(empty.sum())} {'row' if empty.sum() == 1 else 'rows'} without a value in any cell left out."
        )
    return cells[~empty]


# --- columns --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class _Texts:
    """A column's different texts, where each stands, and which of them mean that a value is missing."""

    uniques: tuple[str, ...]
    codes: np.ndarray  # (n,)
    absent: np.ndarray  # (len(uniques),) bool

    @classmethod
    def of(cls, cells: pd.Series, marks: tuple[frozenset[str], bool]) -> _Texts:
        codes, uniques = pd.factorize(cells.to_numpy(dtype=object))
        texts = tuple(uniques)
        given, only = marks
        sure = [one == "" or one in given or (not only and one.lower() in MISSING) for one in texts]
        rest = [one for one, out in zip(texts, sure, strict=True) if not out]
        dashes = [one for one in rest if not only and one in DASHES]
        if dashes and len(dashes) < len(rest) and all(any(map(str.isalnum, one)) for one in rest if one not in dashes):
            sure = [out or one in dashes for one, out in zip(texts, sure, strict=True)]
            rest = [one for one in rest if one not in dashes]
        words = [one for one in rest if not only and one.lower() in NONE]
        if words and len(words) < len(rest) and all(is_number(one) for one in rest if one not in words):
            sure = [out or one in words for one, out in zip(texts, sure, strict=True)]
        return cls(texts, codes, np.array(sure, dtype=bool))

    @property
    def present(self) -> list[str]:
        return [one for one, out in zip(self.uniques, self.absent, strict=True) if not out]

    def column(self, decimal: str | None, thousands: str | None) -> Column:
        return column_of(self.present, decimal, thousands)

    def counts(self) -> np.ndarray:
        return np.bincount(self.codes, minlength=len(self.uniques))

    def spread(self, values: Sequence[Any], otherwise: Any) -> np.ndarray:
        """A value for each row, from one for each text that is present."""
        whole = np.full(len(self.uniques), otherwise, dtype=object)
        whole[~self.absent] = np.array([*values, None], dtype=object)[:-1]
        return whole[self.codes]

    def rows(self, texts: Sequence[str]) -> list[int]:
        """The rows, from 1, in which such a text stands first."""
        return [int(np.argmax(self.codes == self.uniques.index(one))) + 1 for one in texts]


def _total_rows(name: str, texts: Mapping[str, _Texts], n: int, notes: list[str]) -> int:
    """Whether the last row is a sum or mean of the others: 1, or 0; FileError where it is called one and is none."""
    if n < 3:
        return 0
    for one, column in texts.items():
        last = column.uniques[column.codes[-1]]
        if last.casefold().rstrip(" :.") not in TOTALS or np.sum(column.codes == column.codes[-1]) > 1:
            if last:
                return 0  # the first cell of the row that is not empty says what it is
            continue
        others = [other for other in texts if other != one and _is_total(texts[other])]
        if others:
            notes.append(f"the last row is {last!r}, the sum or mean of {_some(others)} above it: it is left out.")
            return 1
        raise FileError(
            f"{name}: its last row is called {label_text(last)!r}, so it may be a total and no observation: footer=1 "
            "leaves it out, footer=0 keeps it"
        )
    return 0


def _is_total(column: _Texts) -> bool:
    last, above = column.codes[-1], column.codes[:-1]
    found = column.column(None, None)
    if column.absent[last] or not found.readings:
        return False
    for reading in found.readings:
        values = np.full(len(column.uniques), np.nan)
        values[~column.absent] = values_of(column.present, reading)
        rows = values[above][np.isfinite(values[above])]
        if len(rows) > 1 and any(
            abs(values[last] - end) <= 1e-3 * max(1.0, abs(end)) for end in (rows.sum(), rows.mean())
        ):
            return True
    return False


def _decided(
    name: str,
    texts: Mapping[str, _Texts],
    found: Mapping[str, Column],
    types: Mapping[str, Any],
    between_commas: bool,
    notes: list[str],
) -> dict[str, Column]:
    """Every column with at most one reading.  FileError where numbers could be read in two ways.

    A mark that is the decimal mark of other columns is one here too; between commas, which a country of decimal commas
    does not write, so is a point in every number, and that is told.  A mark that would stand between thousands is
    taken for one only where its own column decides."""
    marks = {column.readings[0].decimal for column in found.values() if column.marks}
    decided, open_, why = dict(found), [], ""
    for one, column in found.items():
        if len(column.readings) < 2 or types.get(one, "number") != "number":
            continue
        present = texts[one].present
        seen = {mark for mark in DECIMALS if any(mark in text for text in present)}
        mark = seen.pop() if len(seen) == 1 else ""
        everywhere = between_commas and mark == "." and not marks and all("." in text for text in present)
        if everywhere:
            notes.append(
                f"the points in column {one!r} are read as decimal points, as commas stand between columns; "
                f"decimal={{{one!r}: ','}} reads thousands."
            )
        if mark and (marks == {mark} or everywhere):
            decided[one] = Column(tuple(reading for reading in column.readings if reading.decimal == mark))
        else:
            open_.append(one)
            why = why or next(text for text in present if any(mark in text for mark in DECIMALS))
    if open_:
        other = [one for one, column in found.items() if column.marks]
        beside = f" ({SEEN[found[other[0]].readings[0].decimal]} in column {other[0]!r})" if other else ""
        first = open_[0]
        where = "the column" if len(open_) == 1 else f"the columns {_some(open_)}"
        raise FileError(
            f"{name}: {why!r} in column {first!r} may have three decimals or be thousands, and nothing in {where} "
            f"decides{beside}. Say which mark stands before decimals: decimal={{{first!r}: '.'}} or "
            f"decimal={{{first!r}: ','}}; decimal='.' or ',' is for all columns"
        )
    return decided


SEEN = {".": "decimal points", ",": "decimal commas"}


def _values(
    name: str,
    column: str,
    texts: _Texts,
    found: Column,
    types: Mapping[str, Any],
    dates: Mapping[str, Any],
    notes: list[str],
) -> tuple[Any, str]:
    """The column's values, and in words what it is."""
    kind = types.get(column)
    absent = _absent(column, texts, notes)
    present = texts.present
    if column in dates:
        return _dates(name, column, texts, dates[column]), f"date ({dates[column]}){absent}"
    if kind == "text":
        return _text_column(texts), f"text{absent}"
    if isinstance(kind, Sequence) and not isinstance(kind, str):
        strangers = [one for one in present if one not in kind]
        if strangers:
            raise FileError(
                f"types: column {column!r} of {name} has {_some(strangers)} besides the levels given. Write levels as "
                "in the file, or name missing values in missing=[...]"
            )
        return pd.Categorical(texts.spread(present, None), categories=list(kind), ordered=True), (
            f"ordered category of {len(kind)} levels{absent}"
        )
    if kind == "category":
        return _category(texts), f"category of {len(present)} labels{absent}"
    if kind == "number" and not found.decided:
        raise FileError(
            f"types: column {column!r} of {name} is not numbers throughout: {_strangers(texts)}. "
            "Marks of missing values go in missing=[...]"
        )
    if not present:
        if len(texts.codes):
            notes.append(f"column {column!r} has no values.")
        return np.full(len(texts.codes), np.nan), "empty"
    if found.decided:
        return _number_column(column, texts, found, kind, absent, notes)
    truth = {one.lower() for one in present}
    if truth <= {"true", "false"}:
        values = texts.spread([one.lower() == "true" for one in present], None)
        return pd.array(values, dtype="boolean") if texts.absent.any() else values.astype(
            bool
        ), f"true or false{absent}"
    dated = _dated(column, texts, notes)
    if dated is not None:
        return dated[0], f"{dated[1]}{absent}"
    _tell_of_text(column, texts, notes)
    return _text_column(texts), f"text, {len(present)} different{absent}"


def _absent(column: str, texts: _Texts, notes: list[str]) -> str:
    if not texts.absent.any():
        return ""
    many = texts.counts()
    counts = {texts.uniques[i]: int(many[i]) for i in np.flatnonzero(texts.absent)}
    marks = [f"{one!r} {count}" if one else f"empty {count}" for one, count in counts.items()]
    odd = [one for one in counts if one and one.lower() not in ("na", "nan", "n/a")]
    codes = [one for one in texts.present if re.fullmatch("[A-Z]{2}", one)]
    if any(one == "NA" for one in counts) and len(codes) > 1 and len(codes) == len(texts.present):
        notes.append(
            f"'NA' in column {column!r}, beside {_some(codes[:3])}, is read as missing: "
            f"missing={{{column!r}: []}} keeps it."
        )
    elif odd:
        notes.append(f"{_some(odd)} in column {column!r} {'is' if len(odd) == 1 else 'are'} read as missing.")
    return f"; missing: {listing(marks, 6)}"


def _number_column(
    column: str, texts: _Texts, found: Column, kind: Any, absent: str, notes: list[str]
) -> tuple[Any, str]:
    present, reading = texts.present, found.readings[0]
    if found.codes and kind != "number":
        return _category(texts), f"category of {len(present)} labels (leading zeros kept){absent}"
    if too_long(present):
        notes.append(f"column {column!r} has whole numbers too long for a computer's, so they are kept as labels.")
        return _category(texts), f"category of {len(present)} labels (long numbers){absent}"
    values = values_of(present, reading) if found.values is None else found.values
    whole = values.dtype.kind == "i"
    if kind != "number" and whole and not reading.words and is_identifier(column) and (values >= 0).all():
        return _category(
            texts
        ), f"category of {len(present)} labels (by its name; types={{{column!r}: 'number'}} makes a number){absent}"
    told = f" ({reading.words})" if reading.words else ""
    if reading.unit:
        notes.append(f"{reading.unit!r} is taken off the numbers of column {column!r}"
                     f"{', so 45% is 45' if reading.unit == '%' else ''}.")  # fmt: skip
    if reading.thousands:
        notes.append(f"{reading.thousands!r} in column {column!r} stands between thousands.")
    _tell_of_codes(column, present, values, notes)
    holes = bool(texts.absent.any())
    spread = np.full(len(texts.uniques), np.nan) if holes else np.zeros(len(texts.uniques), dtype=values.dtype)
    spread[~texts.absent] = values
    return spread[texts.codes], f"{'whole number' if whole else 'number'}{told}{absent}"


def is_identifier(name: str) -> bool:
    """Whether a column's name says that its numbers name something.

    >>> [is_identifier(name) for name in ("Subject ID", "participantNo", "vp_nr", "class size", "paid")]
    [True, True, True, False, False]
    """
    words = re.findall(r"[^\W\d_]+", re.sub(r"(?<=[a-zäöüß])(?=[A-ZÄÖÜ])", " ", name))
    words = [word.casefold() for word in words]
    if not words:
        return False
    return words[-1] == "id" or all(word in IDENTIFIERS or (i and word in SUFFIXES) for i, word in enumerate(words))


def _tell_of_codes(column: str, present: Sequence[str], values: np.ndarray, notes: list[str]) -> None:
    """-99 and its like far from all other values are answers that were not given, more often than not."""
    for text in CODES:
        if text not in present or len(values) < 3:
            continue
        code = float(text)
        rest = values[values != code]
        if (code < 0 and (rest >= 0).all()) or (code > 0 and (np.abs(rest) * 3 < code).all()):
            notes.append(
                f"{text} in column {column!r} lies far from its other values: if it means missing, give "
                f'missing={{{column!r}: ["{text}"]}}.'
            )
            return


def _dated(column: str, texts: _Texts, notes: list[str]) -> tuple[Any, str] | None:
    """Dates by the only format that fits all of them; None, with a note, where several do or where some fit none."""
    present = texts.present
    fits = []
    for (day, pattern), (time, more) in ((one, other) for one in DATES for other in TIMES):
        if all(re.fullmatch(pattern + more, text) for text in present):
            try:
                values = _spread_dates(texts, pd.to_datetime(pd.Series(present, dtype=object), format=day + time))
                fits.append((values, day + time))
            except ValueError:
                continue
    if len({str(style) for _, style in fits}) == 1:
        return fits[0][0], f"date ({fits[0][1]})"
    if fits:
        notes.append(
            f"column {column!r} has dates whose day and month cannot be told apart ({present[0]!r}), so it is kept as "
            f"text: dates={{{column!r}: {fits[0][1]!r}}} or {fits[1][1]!r} settles it."
        )
    elif sum(any(re.match(pattern, text) for _, pattern in DATES) for text in present) > len(present) / 2:
        notes.append(
            f"column {column!r} has dates written in several ways ({_some(present[:3])}), so it is kept as text: write "
            "them one way."
        )
    elif present and all(re.fullmatch(r"\d{1,2}[./-]\d{1,2}[./-]\d{2}", text) for text in present):
        notes.append(
            f"column {column!r} has dates with years of two digits ({present[0]!r}), so it is kept as text: "
            f"dates={{{column!r}: '%d.%m.%y'}}, or the format it has, reads them."
        )
    return None


def _spread_dates(texts: _Texts, values: pd.Series) -> Any:
    whole = pd.Series(pd.NaT, index=range(len(texts.uniques)), dtype=values.dtype)
    whole[~texts.absent] = values.to_numpy()
    return whole.to_numpy()[texts.codes]


def _dates(name: str, column: str, texts: _Texts, style: str) -> Any:
    try:
        return _spread_dates(texts, pd.to_datetime(pd.Series(texts.present, dtype=object), format=style))
    except (ValueError, TypeError, re.error) as error:
        reason = str(error).partition("\n")[0].partition(". You might")[0]
        raise FileError(
            f"dates: column {column!r} of {name} is not written in {style!r} throughout: {reason}"
        ) from error


def _text_column(texts: _Texts) -> pd.Series:
    return pd.Series(list(texts.spread(texts.present, None)), dtype=None if texts.present else object)


def _category(texts: _Texts) -> pd.Categorical:
    present = texts.present
    whole = all(re.fullmatch(r"-?(?:0|[1-9][0-9]*)", one) for one in present)
    levels = sorted(present, key=lambda one: (len(one), one) if whole and one[0] != "-" else (0, one))
    return pd.Categorical(texts.spread(present, None), categories=levels)


def _strangers(texts: _Texts) -> str:
    """The texts that are no numbers, with the rows they first stand in."""
    odd = [one for one in texts.present if not is_number(one)]
    if not odd:
        return "decimal points, decimal commas or units are mixed in it, or it is written otherwise than decimal= says"
    shown = [f"{label_text(one[:40])!r} (row {row})" for one, row in zip(odd[:4], texts.rows(odd[:4]), strict=True)]
    return f"{', '.join(shown)}{f' and {len(odd) - 4} more' if len(odd) > 4 else ''}"


def _tell_of_text(column: str, texts: _Texts, notes: list[str]) -> None:
    """A column that is text although most of it are numbers: one word in a thousand numbers is easily overlooked."""
    present, counts = texts.present, texts.counts()[~texts.absent]
    numbers = np.array([is_number(one) for one in present], dtype=bool)
    share = counts[numbers].sum() / counts.sum()
    if numbers.all():
        notes.append(
            f"column {column!r} is kept as text: its numbers are written in several ways ({_some(present[:4])})."
        )
    elif share > 0.5:
        notes.append(
            f"column {column!r} is kept as text, though {int(100 * share)} % of its cells are numbers: "
            f"{_strangers(texts)}. "
            'Marks of missing values go in missing=["..."].'
        )
