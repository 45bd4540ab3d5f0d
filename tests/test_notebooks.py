"""The course notebooks as they are committed: small, clean, and with the numbers that the references have.

Reads stored outputs and runs nothing; that the cells still run is for CI's notebook step to see."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from conftest import read_reference
from notebook_numbers import REFERENCES, ROWS, Reference, Rows

NOTEBOOKS = Path(__file__).parents[1] / "notebooks"
MOST_BYTES = 400_000


class Printed(NamedTuple):
    """A number in a notebook: the first group of ``pattern`` in its outputs as plain text, cells joined by newlines."""

    notebook: str  # how its file name begins: "07"
    pattern: str
    expected: float
    tolerance: float  # half a unit of the last digit printed, unless the origin is less exact
    origin: str


PRINTED = [
    # 06: priors and REML
    Printed("06", r"Intercept +251\.39 +(251\.41) ", 251.405104848485, 0.006, "lme4/sleepstudy_slope.json"),
    Printed("06", r"Days +10\.42 +(10\.47) ", 10.4672859595959, 0.006, "lme4/sleepstudy_slope.json"),
    # 07: model comparison
    Printed("07", r"uncorrelated +5 (\S+) ", -876.0016275723, 1e-5, "lme4/lrt_sleepstudy_correlation.json"),
    Printed(
        "07", r"uncorrelated +5 .* (42\.\S+) +1\.0", 42.0753879425, 1e-5, "the same two files: 1794.0786 - 1752.0033"
    ),
    Printed("07", r"correlated +6 (\S+) ", -875.969672244495, 1e-5, "lme4/lrt_sleepstudy_random_slope.json"),
    Printed("07", r"no mean slope +5 (\S+) ", -887.73794098106, 1e-5, "lme4/lrt_sleepstudy_days.json"),
    Printed(
        "07", r"intercepts +4 +-897\.0 +(\S+) ", 1802.07864300523, 0.06, "lme4/lrt_sleepstudy_random_slope.json, AIC"
    ),
    # 08: eight schools and radon.  Means of draws: four Monte Carlo standard errors, sd / sqrt(4000) each
    Printed("08", r"Intercept +(7\.69) +4\.07 ", 7.6856167250, 0.006, "precision-weighted mean, closed form"),
    Printed("08", r"Intercept +7\.69 +(4\.07) ", 4.0719191584, 0.006, "its error, sum(1 / se^2)^-1/2"),
    Printed("08", r"Intercept +(\S+) +4\.\d\d +-1", 7.9385091, 0.31, "posterior/graph/eight_schools.csv"),
    Printed("08", r"1\|school_sigma +(\S+) +4\.\d\d +0", 6.0701819, 0.32, "posterior/graph/eight_schools.csv"),
    Printed("08", r"\nA +28 +15 +0?7\.7 +(\S+) ", 7.9385091 + 3.1621647, 0.5, "posterior/graph/eight_schools.csv"),
    Printed(
        "08", r"1\|county_sigma +(0\.315) ", 0.3154081313, 6e-4, "lmer(log_radon ~ floor + (1|county)), lme4 1.1-31"
    ),
    Printed("08", r"1\|county_sigma +0\.315 +(\S+)", 0.1476660562, 6e-4, "the same with log_uranium"),
    Printed("08", r"log_uranium +NaN +(\S+)", 0.6974987239, 6e-4, "the same with log_uranium"),
    # 09: generalised models
    Printed("09", r"gender\[Male\] +(0\.61) ", 0.6103523761, 0.001, "glm(cbind(admitted, rejected) ~ gender), R 4.2.2"),
    Printed("09", r"gender\[Male\] +(-0\.0\S+) ", -0.0940009496680191, 6e-6, "lme4/ucb_binomial.json, tight"),
    Printed("09", r"dept +Intercept +1\.231 +(\S+)", 1.10954515010062, 6e-4, "lme4/ucb_binomial.json, tight"),
    Printed("09", r"effect by department +5 (\S+) ", -58.5270343, 1e-5, "glmer with (gender|dept)"),
    Printed("09", r"dept_corr\S+ +\S+ +(-0\.82)", -0.8200025, 0.006, "glmer with (gender|dept)"),
    Printed("09", r"period\[4\] +(-1\.5803) ", -1.58031383493956, 6e-5, "lme4/cbpp.json"),
    Printed("09", r"1\|herd_sigma +(\S+) ", 0.64226142189961, 6e-5, "lme4/cbpp.json"),
    Printed("09", r"\n5 +183\.\d+ +(\S+) ", 0.6473646244, 6e-5, "glmer with nAGQ = 5"),
    Printed("09", r"\n25 +183\.\d+ +(\S+) ", 0.6475184695, 6e-5, "glmer with nAGQ = 25"),
    Printed("09", r"2 / 1 +(\S+) ", 0.370711, 0.006, "exp of lme4/cbpp.json, period2"),
    Printed("09", r"herds and rows +6 (\S+) ", -87.31916357, 1e-5, "glmer with (1|herd) + (1|row)"),
    # 10: power.  Shares of 200 fits: four Monte Carlo standard errors at most
    Printed("10", r"\n40 +0\.\d+ +0\.\d+ +(\S+)", 0.6959122, 6e-4, "power.t.test(n = 40, delta = 15, sd = sqrt(1400))"),
    Printed("10", r"\n40 +(0\.\d+) +0\.\d+ +0\.696", 0.6959122, 0.13, "power.t.test, as above"),
    Printed("10", r"\n80 +(0\.\d+) +0\.\d+ +0\.943", 0.9431524, 0.07, "power.t.test(n = 80), as above"),
    Printed("10", r"\n20 +30(?:\.0)? +(\S+)", 0.8757838, 0.006, "power.t.test(n = 30, delta = 15, sd = sqrt(650))"),
]


def stored(name: str) -> list[Path]:
    return sorted(NOTEBOOKS.glob(f"{name}*.ipynb"))


def read(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text(encoding="utf-8"))


def outputs(path: Path) -> list[dict[str, Any]]:
    return [one for cell in read(path)["cells"] if cell["cell_type"] == "code" for one in cell["outputs"]]


def plain(path: Path) -> str:
    """What the cells printed and returned, as plain text."""
    pieces = [one.get("text") or one.get("data", {}).get("text/plain", "") for one in outputs(path)]
    return "\n".join("".join(piece) for piece in pieces)


@pytest.mark.parametrize("one", PRINTED, ids=lambda one: f"{one.notebook}: {one.pattern}")
def test_numbers_agree_with_their_references(one: Printed) -> None:
    (path,) = stored(one.notebook)
    found = re.search(one.pattern, plain(path))
    assert found, f"{path.name} prints nothing like {one.pattern!r}"
    assert float(found.group(1)) == pytest.approx(one.expected, abs=one.tolerance), one.origin


@pytest.mark.parametrize("path", stored(""), ids=[path.stem for path in stored("")])
def test_notebooks_are_small_and_clean(path: Path) -> None:
    assert path.stat().st_size < MOST_BYTES
    cells = read(path)["cells"]
    first = "".join(cells[0]["source"])
    assert first.startswith("# ")
    assert "After this notebook you can" in first
    for one in outputs(path):
        assert one["output_type"] != "error", one
    text = plain(path)
    for place in ("/work/", "/tmp/", "/home/", "site-packages", "Traceback"):
        assert place not in text


class _Rows(HTMLParser):
    """The rows of HTML tables, cells joined by blanks."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.rows: list[str] = []
        self._inside = False
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "tr":
            self.rows.append("")
        self._inside = tag in ("td", "th")

    def handle_endtag(self, tag: str) -> None:
        self._inside = False

    def handle_data(self, data: str) -> None:
        if self._inside and self.rows:
            self.rows[-1] += " " + data


def rows(notebook: str, cell: str) -> list[list[str]]:
    """What one cell shows, row by row, as words; of a table in HTML, where wide ones are whole, and of its text."""
    (path,) = stored(notebook)
    (found,) = [one for one in read(path)["cells"] if one["id"] == cell]
    lines: list[str] = []
    for one in found["outputs"]:
        data = one.get("data", {"text/plain": one.get("text", "")})
        lines += _Rows("".join(data.get("text/html", ""))).rows + "".join(data.get("text/plain", "")).splitlines()
    return [re.sub(r"[,;:]+(\s|$)", " ", line).strip("[] ").split() for line in lines]


def number(word: str) -> float:
    try:
        return float(word)
    except ValueError:
        return float("nan")


def half_unit(word: str) -> float:
    """Half a unit of the last digit of a number as printed: 0.005 for "-3.14", 5e-9 for "1.23e-06"."""
    digits, _, power = word.lower().partition("e")
    return 0.5 * 10.0 ** (int(power or 0) - len(digits.partition(".")[2]))


def differs(words: list[str], expected: list[str], rel: float, extra: float) -> str:
    """Why these words are not the expected numbers; empty if they are."""
    found = [word for word in words if number(word) == number(word)]
    if len(found) < len(expected):
        return f"only {found}"
    for one, other in zip(found, expected, strict=False):
        if other == "-":
            continue
        room = half_unit(one) + half_unit(other) + rel * abs(float(other)) + extra
        # (1 + 1e-9): a gap of exactly both half units is not exact in binary
        if abs(float(one) - float(other)) > room * (1 + 1e-9):
            return f"{one} for {other}"
    return ""


def check(notebook: str, cell: str, label: list[str], numbers: list[str], rel: float, extra: float) -> None:
    candidates = [row[len(label) :] for row in rows(notebook, cell) if row[: len(label)] == label]
    problems = [differs(row, numbers, rel, extra) for row in candidates]
    assert "" in problems, f"notebook {notebook}, cell {cell!r}, row {' '.join(label)!r}: {problems or 'no such row'}"


@pytest.mark.parametrize("table", ROWS, ids=lambda table: f"{table.notebook} {table.cell}")
def test_rows_are_those_of_the_course_texts(table: Rows) -> None:
    for line in re.split(r"[\n;]", table.lines):
        label, numbers = line.rsplit(" | ", 1) if " | " in line.strip() else ("", line.strip().lstrip("| "))
        check(table.notebook, table.cell, label.split(), numbers.split(), table.rel, table.extra)


@pytest.mark.parametrize("table", REFERENCES, ids=lambda table: f"{table.notebook} {table.cell}")
def test_tables_are_those_of_the_reference(table: Reference) -> None:
    case = read_reference(table.case)
    if table.table == "fixef":
        expected = {
            re.sub(r"(Subject)(\d+)", r"\1[\2]", name).strip("()"): [
                case[part][name] for part in ("fixef", "se", "t", "p")
            ]
            for name in case["fixef"]
        }
    else:
        ((effects),) = case["ranef"].values()
        common = {name: case["fixef"][name] if table.table == "coef" else 0.0 for name in case["fixef"]}
        expected = {
            level: [
                common[name] + dict(zip(effects["names"], values, strict=True)).get(name, 0.0)
                for name in (common if table.table == "coef" else effects["names"])
            ]
            for level, values in zip(effects["levels"], effects["values"], strict=True)
        }
    assert len(expected) > 15
    for label, values in expected.items():
        check(table.notebook, table.cell, [label], [f"{value:.15g}" for value in values], table.rel, table.extra)


def test_a_wrong_number_is_seen() -> None:
    assert not differs(["267.967", "8.266"], ["267.967", "8.2664"], 0.0, 0.0)
    assert differs(["267.967"], ["267.969"], 0.0, 0.0)
    assert differs(["1.24e-06"], ["1.22e-06"], 0.0, 0.0)
    assert differs(["267.967"], ["267.967", "8.27"], 0.0, 0.0)
