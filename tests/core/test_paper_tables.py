"""Tables for papers: what is in the cells, how it is rounded, and that no name breaks LaTeX, HTML or Markdown."""

from __future__ import annotations

import html
import io
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hand_made import hand_made

import hiermod as hm
from hiermod.core.paper_table import PaperTable, decimals, number
from hiermod.errors import ArgumentError, ArgumentTypeError, FileError, UnknownNameError
from hiermod.inference.comparison.estimates import Estimates

AWKWARD = PaperTable(
    heads=("a_b & 5 %", "x|y <z>", "$^~\\{#}"),
    rows=(("First *part*", None), ("[odd] `name`", ("1.0 [−2.0, 3.0]", "–", "∞")), ("é_ü", ("1", "2", "3"))),
    note="n < 3 | p_value",
)


@pytest.fixture(scope="module")
def model() -> hm.Model:
    return hm.Model("Reaction ~ Days + (Days | Subject)", hm.load_dataset("sleepstudy"))


@pytest.fixture(scope="module")
def table(model: hm.Model) -> Estimates:
    bayes = hand_made(model, beta=[251.0, 10.5], spread=2.0, sds=20.0)
    return hm.compare_estimates({"Bayes": bayes, "REML": model.reml()})


def cells(markdown: str) -> list[list[str]]:
    """The cells of the first pipe table, split at bars that are not escaped."""
    lines = [line for line in markdown.splitlines() if line.startswith("|")]
    split = [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]
    return [split[0], *split[2:]]


def test_it_is_still_a_frame(table: Estimates) -> None:
    assert isinstance(table, pd.DataFrame)
    assert type(table["REML"]) is type(table.round(2)) is type(table.head(2)) is pd.DataFrame
    assert table.round(2).to_markdown().startswith("| parameter")  # pandas' own again
    assert type(pd.DataFrame(table)) is pd.DataFrame
    assert "Days" in table._repr_html_()
    assert "to_html" not in table.to_string()


def test_cells_are_the_numbers_of_the_fits(table: Estimates) -> None:
    rows = cells(table.to_markdown())
    assert rows[0] == ["", "Bayes", "REML"]
    by_label = {row[0]: row[1:] for row in rows[1:]}
    # 10.467286 [7.206, 13.728], se 1.545790: lme4 and lmerTest for sleepstudy, in tests/reference; two digits of the se
    assert by_label["Days"][1] == r"10.5 \[7.2, 13.7\]"
    assert by_label["Intercept"][1] == r"251.4 \[237.0, 265.8\]"
    assert by_label["Intercept by Subject"][1] == "24.7"  # 24.7407
    assert by_label["Days by Subject"][1].startswith("5.9")  # 5.9221; the decimals follow the other fit's sd
    assert by_label["Intercept, Days by Subject"][1] == "0.07"  # 0.0656
    assert by_label["Observations"] == ["180", "180"]
    assert by_label["Levels of Subject"] == ["18", "18"]
    headings = [row[0] for row in rows[1:] if row[1:] == ["", ""]]
    assert headings == ["*Common effects*", "*Standard deviations*", "*Correlations*", "*Sample*"]
    mean, low, high = table.loc["Days", "Bayes"][["estimate", "lower", "upper"]]
    assert by_label["Days"][0] == rf"{mean:.1f} \[{low:.1f}, {high:.1f}\]"


def test_what_can_be_chosen(table: Estimates) -> None:
    se = {row[0]: row[1:] for row in cells(table.to_markdown(cells="std_error", digits=3))}
    assert se["Days"][1] == "10.47 (1.55)"
    assert se["Residual"][1].count("(") == 0  # REML has no standard error of it
    alone = {row[0]: row[1:] for row in cells(table.to_markdown(cells="estimate", difference=True))}
    assert alone[""] == ["Bayes", "REML", "Bayes − REML"]
    gap = table.loc["Days", ("difference", "Bayes")]
    assert alone["Days"] == [f"{table.loc['Days', ('Bayes', 'estimate')]:.1f}", "10.5", f"{gap:.2f}".replace("-", "−")]
    assert alone["Residual"][2] == "–"
    renamed = table.to_markdown(rename={"Days": "Days awake", "sigma": "Noise"}, note=False, caption="Sleep | study")
    assert renamed.startswith("Sleep \\| study\n\n|")
    assert "| Days awake " in renamed
    assert "| Noise " in renamed
    assert "posterior mean" not in renamed
    assert "95 % confidence interval" in table.to_markdown()
    assert "standard errors of REML" in table.to_markdown(difference=True)


def test_one_fit_and_models_of_different_size(model: hm.Model) -> None:
    small = hm.Model("Reaction ~ 1 + (1 | Subject)", model.data).reml()
    one = cells(hm.compare_estimates({"REML": small}).to_markdown())
    assert [row[0] for row in one] == [
        "", "*Common effects*", "Intercept", "*Standard deviations*", "Intercept by Subject", "Residual", "*Sample*",
        "Observations", "Levels of Subject",
    ]  # fmt: skip
    lm = hm.Model("Reaction ~ Days", model.data).reml()
    both = hm.compare_estimates({"pooled": lm, "hierarchical": model.reml()})
    rows = {row[0]: row[1:] for row in cells(both.to_markdown())}
    assert rows["Levels of Subject"] == ["–", "18"]
    assert rows["Intercept by Subject"][0] == "–"
    assert "pooled (least squares): estimate" in both.to_markdown()


def test_latex_is_booktabs(table: Estimates) -> None:
    text = table.to_latex(caption="Sleep & work", label="tab:sleep")
    for part in (r"\toprule", r"\midrule", r"\bottomrule", r"\caption{Sleep \& work}", r"\label{tab:sleep}"):
        assert text.count(part) == 1
    assert r"\quad Days & " in text
    assert r"\textit{Common effects} &  &  \\" in text
    assert "$-$" in text  # the interval of the correlation begins below 0
    assert "−" not in text


def test_no_name_breaks_the_output() -> None:
    latex = AWKWARD.latex("50 % & more", "x")
    body = latex.replace(r"\&", "").replace(r"\%", "")
    assert "%" not in body
    rows = [line for line in latex.splitlines() if line.endswith(r"\\")]
    assert {len(re.findall(r"(?<!\\)&", line)) for line in rows} == {3}
    assert r"a\_b \& 5 \%" in latex
    assert r"x\textbar{}y \textless{}z\textgreater{}" in latex
    assert r"\$\textasciicircum{}\textasciitilde{}\textbackslash{}\{\#\}" in latex
    assert not any(line.lstrip().startswith("[") for line in rows)  # \\ [ would be read as an argument
    markdown = AWKWARD.markdown()
    assert {len(row) for row in cells(markdown)} == {4}
    assert r"\[odd\] \`name\`" in markdown
    page = AWKWARD.html("a < b")
    assert "<z>" not in page
    assert "x|y &lt;z&gt;" in page
    assert "a &lt; b" in page
    assert html.unescape(page).count("é_ü") == 1


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="pdflatex is not installed here")
def test_latex_compiles(tmp_path: Path) -> None:
    source = r"\documentclass{article}\usepackage{booktabs}\usepackage[utf8]{inputenc}\begin{document}"
    (tmp_path / "t.tex").write_text(source + AWKWARD.latex("c", "l").replace("∞", "1") + r"\end{document}", "utf-8")
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "t.tex"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60, errors="replace")
    if "booktabs.sty' not found" in done.stdout:
        pytest.skip("this LaTeX has no booktabs")
    assert done.returncode == 0, done.stdout[-2000:]


def test_html_is_the_same_every_time(table: Estimates) -> None:
    assert table.to_html() == table.to_html()
    assert "<i>Common effects</i>" in table.to_html()


def test_writing_to_files(table: Estimates, tmp_path: Path) -> None:
    assert table.to_latex(tmp_path / "t.tex") is None
    assert (tmp_path / "t.tex").read_text(encoding="utf-8") == table.to_latex()
    buffer = io.StringIO()
    assert table.to_markdown(buffer) is None
    assert buffer.getvalue() == table.to_markdown()
    with pytest.raises(FileError, match="could not be written"):
        table.to_html(tmp_path / "none" / "t.html")
    with pytest.raises(ArgumentTypeError, match="buf must be"):
        table.to_html(3)


@pytest.mark.parametrize(
    ("se", "values", "digits", "expected"),
    [
        ([6.82], [251.4], 2, 1),
        ([0.0151, 0.4], [1.0], 2, 3),  # the smallest counts
        ([1234.0], [5e5], 2, 0),
        ([np.nan], [24.74], 2, 1),  # without a standard error three digits of the value
        ([np.nan, 0.0], [np.nan, 0.0], 2, 3),
        ([9.99], [1.0], 2, 1),
    ],
)
def test_decimals(se: list[float], values: list[float], digits: int, expected: int) -> None:
    assert decimals(np.array(se), np.array(values), digits) == expected


@pytest.mark.parametrize(
    ("value", "places", "text"),
    [(-0.04, 1, "0.0"), (-1.26, 1, "−1.3"), (np.nan, 2, "–"), (-np.inf, 2, "−∞"), (1234.5678, 2, "1234.57")],
)
def test_numbers(value: float, places: int, text: str) -> None:
    assert number(value, places) == text


@pytest.mark.parametrize(
    ("how", "error", "words"),
    [
        ({"cells": "all"}, ArgumentError, "interval"),
        ({"digits": 0}, ArgumentError, "from 1 to 10"),
        ({"digits": True}, ArgumentError, "from 1 to 10"),
        ({"rename": {"days": "x"}}, UnknownNameError, "Did you mean 'Days'"),
        ({"rename": ["x"]}, ArgumentTypeError, "must be a dict"),
    ],
)
def test_arguments(how: dict[str, Any], error: type[Exception], words: str, table: Estimates) -> None:
    for write in (table.to_latex, table.to_html, table.to_markdown):
        with pytest.raises(error, match=words):
            write(**how)
