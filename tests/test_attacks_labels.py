"""Labels and names that attack what they are written into: terminal, spreadsheet, browser, TeX, Markdown, figure.

Each must come out as text that a person can read, and do nothing.  The disk that is full belongs here too: what is
written then is one line."""

from __future__ import annotations

import csv
import os
import re
import subprocess
import sys
import warnings
from functools import cache
from html.parser import HTMLParser
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from family_cases import made_up
from hand_made import hand_made

import hiermod as hm
from hiermod.app.cli import main
from hiermod.core.escaping import csv_cell, csv_table, label_text, latex, markdown, markdown_code
from hiermod.core.summary import Section, Summary
from hiermod.errors import ArgumentError, DataError, HiermodError, HiermodWarning, UnknownNameError, warn

LABELS = [
    "\x1b[31mred\x1b[0m", "\x9b31mred", "over\rwritten", "bell\x07\x08", "right \u202eot tfel", "half \ud800",
    "two\nlines",
    "=cmd|' /C calc'!A0", "+1+1", "-2+3", "@SUM(A1:A9)", "\t=1+1", "x;=1+1", "x\n=1+1", "\uff1d1+1",
    "<script>alert(1)</script>", "<img src=x onerror=alert(1)>", "&lt;b&gt;", "'\"><svg onload=x>",
    "$\\frac{1$", "$a$", "100 %", "\\input{/etc/passwd}", "a_b^c~{}#&", "_i_ **b** `c`", "a | b", "[l](javascript:x)",
    "![i](http://x/y.png)", "-1.5", "plain",
]  # fmt: skip
IN_DATA = [label for label in LABELS if not {"\ud800", "\uff1d"} & set(label)]  # no column, or no font, holds these
TEXTS = [label_text(label) for label in IN_DATA]
FORBIDDEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
FORMULA = "`y <i>$z$_` ~ `x $\\frac{_` + f + (`x $\\frac{_` | g)"
X = "x $\\frac{_"


@cache
def data() -> pd.DataFrame:
    rng = np.random.default_rng(5)
    code = np.repeat(np.arange(len(IN_DATA)), 8)
    d = pd.DataFrame({"g": np.array(IN_DATA, dtype=object)[code], X: rng.normal(size=len(code))})
    d["f"] = np.resize(np.array(IN_DATA[:4] + IN_DATA[7:9] + IN_DATA[14:16] + IN_DATA[18:20], dtype=object), len(d))
    b = rng.normal(0, 2, (len(IN_DATA), 2))
    d["y <i>$z$_"] = 3 + b[code, 0] + (1 + b[code, 1]) * d[X] + rng.normal(size=len(d))
    return d.set_axis([f"row {i} \x1b[1m<b>" for i in range(len(d))])


@cache
def model() -> hm.Model:
    return hm.Model(FORMULA, data())


@cache
def reml():
    return model().reml()


@cache
def bayes():
    return hand_made(model(), draws=60)


@cache
def printed() -> dict[str, object]:
    """What prints itself, by name."""
    return {
        "reml": reml(),
        "bayes": bayes(),
        "check": reml().check(),
        "report": reml().report(),
        "report of Bayes": bayes().report(),
        "estimates": hm.compare_estimates({"Bayes": bayes(), "REML": reml()}),
        "pooling": model().pooling(bayes=False),
        "equation": model().equation(priors=True),
        "design": model().design(),
        "residuals": reml().simulated_residuals(20, random_seed=1),
        "table of effects": reml().ranef(),
        "coefficients": reml().fixef(),
        "means": reml().means("f"),
        "tidy": reml().tidy(),
    }


# --- the terminal ---------------------------------------------------------------------------------------------------
def test_nothing_that_is_printed_controls_a_terminal() -> None:
    for name, one in printed().items():
        for text in (str(one), repr(one)):
            found = FORBIDDEN.search(text)
            assert found is None, (name, text[found.start() - 60 : found.end() + 20])


def test_labels_are_one_line_of_text_everywhere() -> None:
    assert set(reml().design.blocks[0].levels) == set(TEXTS)
    assert set(reml().ranef()["level"]) == set(TEXTS)
    rows = data().iloc[::8]
    known = reml().predict(rows)["estimate"]  # new data have the labels as they were
    assert known.to_numpy() == pytest.approx(reml().fitted().iloc[::8].to_numpy())
    halves = pd.DataFrame({"y": [1.0, 2, 4, 3, 2, 5], "g": pd.Series(["a\ud800", "b", "c"] * 2, dtype=object)})
    assert hm.Model("y ~ 1 + (1 | g)", halves).spec.blocks[0].levels == (r"a\ud800", "b", "c")
    two = pd.DataFrame({"y": [1.0, 2, 4, 3, 2, 5], "g": ["a\x1b", "a\\x1b", "b"] * 2})
    with pytest.raises(DataError, match="two of its levels read the same as text"):
        hm.Model("y ~ 1 + (1 | g)", two)


def test_errors_and_warnings_do_not_control_a_terminal() -> None:
    frame = pd.DataFrame({"y": [1.0, 2.0], "\x1b]0;title\x07": [1, 2]})
    with pytest.raises(UnknownNameError) as caught:
        hm.Model("y ~ z", frame)
    assert FORBIDDEN.search(str(caught.value)) is None
    assert r"\x1b]0;title\x07" in str(caught.value)
    assert str(ArgumentError("one\n\ttwo \x1b[2J")) == "one\n\ttwo \\x1b[2J"
    assert str(HiermodError()) == ""
    with pytest.warns(HiermodWarning, match=r"\\x1b\[2J") as told:
        warn("cleared \x1b[2J", HiermodWarning)
    assert FORBIDDEN.search(str(told[0].message)) is None
    loose = Summary("t \x1b[2J", (Section("s \x07", "b \x9b2J\nsecond line", "n \r"),))
    assert FORBIDDEN.search(str(loose)) is None
    assert "second line" in str(loose).split("\n")[-2]


# --- HTML ------------------------------------------------------------------------------------------------------------
class Page(HTMLParser):
    """Tags, attributes and text of a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: set[str] = set()
        self.text: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}

    def handle_data(self, data: str) -> None:
        self.text.append(data)


OURS = {
    "html", "head", "meta", "title", "style", "body", "h1", "h2", "h4", "p", "b", "i", "pre", "img", "div", "code",
    "table", "thead", "tbody", "tr", "th", "td", "caption", "details", "summary", "footer",
}  # fmt: skip
HTML = {
    "summary": lambda: reml()._repr_html_(),
    "check": lambda: reml().check()._repr_html_(),
    "report": lambda: bayes().report()._repr_html_(),
    "estimates": lambda: printed()["estimates"]._repr_html_(),
    "paper": lambda: printed()["estimates"].to_html(caption="<b>$x$</b>"),
    "pooling": lambda: printed()["pooling"]._repr_html_(),
    "design": lambda: model().design()._repr_html_(),
    "levels": lambda: Summary("t", (Section("", reml().ranef().set_index("level")),))._repr_html_(),
}


@pytest.mark.parametrize("name", list(HTML))
def test_html_holds_labels_as_text_and_no_mathematics(name: str) -> None:
    page = HTML[name]()
    found = Page(page)
    assert found.tags <= OURS - {"img"}
    assert not any(attribute.startswith("on") for attribute in found.attributes)
    whole = "".join(found.text)
    assert X in whole or name == "check"
    assert "mathjax_ignore" in page
    if name == "levels":
        assert set(TEXTS) <= set(found.text)


# --- LaTeX and Markdown ----------------------------------------------------------------------------------------------
BACK = {r"\textbackslash{}": "\\", r"\textasciitilde{}": "~", r"\textasciicircum{}": "^", r"\textbar{}": "|",
        r"\textless{}": "<", r"\textgreater{}": ">"}  # fmt: skip


def from_latex(text: str) -> str:
    """What LaTeX would typeset; ValueError for a character that has a meaning of its own."""
    out, i = "", 0
    while i < len(text):
        for escaped, plain in BACK.items():
            if text.startswith(escaped, i):
                out, i = out + plain, i + len(escaped)
                break
        else:
            if text[i] == "\\" and text[i + 1] in "&%$#_{}":
                out, i = out + text[i + 1], i + 2
            elif text[i] in "\\&%$#_{}~^\n":
                raise ValueError(f"{text[i]!r} is not text in {text!r}")
            else:
                out, i = out + text[i], i + 1
    return out


def from_markdown(text: str) -> str:
    """What CommonMark would show; ValueError for a character that begins something."""
    out, i = "", 0
    while i < len(text):
        if text[i] == "\\" and i + 1 < len(text) and text[i + 1] in "\\`*_[]|~$&<":
            out, i = out + text[i + 1], i + 2
        elif text[i] in "`*_[]|~$&\n" or re.match("<[A-Za-z/!?]", text[i:]):
            raise ValueError(f"{text[i]!r} is not text in {text!r}")
        else:
            out, i = out + text[i], i + 1
    return out


@pytest.mark.parametrize("label", LABELS)
def test_latex_and_markdown_give_back_the_label(label: str) -> None:
    assert from_latex(latex(label)) == label_text(label)
    assert from_markdown(markdown(label)) == label_text(label)
    code = markdown_code(label)
    fence = re.match("`+", code)[0]
    inside = code.removeprefix(fence).removesuffix(fence)
    assert fence not in inside
    assert label_text(label) in (inside, inside[1:-1])  # a blank at either end is not shown


def test_papers_and_reports_hold_labels_as_text() -> None:
    table = printed()["estimates"]
    tex, marked = table.to_latex(), table.to_markdown()
    for text in reml().design.common:
        assert latex(text) in tex
        assert markdown(text) in marked
    for row in marked.splitlines()[2:]:
        if row.startswith("|"):
            cells = re.split(r"(?<!\\)\|", row)[1:-1]
            assert len(cells) == 3, row
            for cell in cells:
                inner = cell.strip()
                from_markdown(inner.strip("*") if inner.startswith("*") else inner)
    body = tex[tex.index(r"\midrule") : tex.index(r"\bottomrule")]
    for row in body.splitlines()[1:]:
        for cell in re.split(r"(?<!\\)&", row.removesuffix(r"\\")):
            plain = re.sub(r"^\s*(\\textit\{(.*)\}|\\quad (.*?))\s*$", lambda m: m[2] or m[3] or "", cell)
            from_latex(plain.replace("$-$", "-").strip())
    report = reml().report().to_markdown()
    outside = re.sub(r"(?<!\\)(`+)(?!`).*?(?<!`)\1(?!`)", "", report)  # spans of code hold anything
    for paragraph in outside.split("\n\n"):
        from_markdown(paragraph.strip().removeprefix("## "))


def test_equations_hold_labels_as_text() -> None:
    found = model().equation(priors=True)
    assert r"\text{x \$\textbackslash{}frac\{\_}" in found.latex
    assert "<script" not in re.sub(
        r"\\text\{[^}]*\}", "", found._repr_markdown_().replace(r"\{", "").replace(r"\}", "")
    )
    assert FORBIDDEN.search(found.latex) is None


def test_a_students_text_is_not_markdown() -> None:
    ex = hm.exercises.load("quickstart", student="<img src=x onerror=alert(1)> **s** \x1b[2J")
    assert "<img" not in ex._repr_markdown_().replace(r"\<img", "")
    assert FORBIDDEN.search(repr(ex)) is None
    shown = ex.check(1, "<img src=x> `x`")._repr_markdown_()
    assert "``'<img src=x> `x`'``" in shown
    page = ex.grade({1: "<img src=x>"})._repr_html_()
    assert Page(page).tags <= OURS - {"img"}


# --- spreadsheets ----------------------------------------------------------------------------------------------------
def computed(cell: str) -> bool:
    """Whether a spreadsheet would take a cell for a formula: numbers are none."""
    for part in re.split("[;\t\r\n]", cell):
        start = part.strip(" ")[:1]
        if (
            start
            and start in "=+-@\uff0b\uff0d\uff1d\uff20"
            and not re.fullmatch(r"[+-]?[\d.]+(e[+-]?\d+)?", part.strip())
        ):
            return True
    return False


@pytest.mark.parametrize("label", LABELS)
def test_no_cell_is_a_formula(label: str) -> None:
    assert not computed(csv_cell(label))
    assert csv_cell(label).replace("'", "") == label_text(label).replace("'", "") or "\n" in label or "\t" in label


@pytest.mark.parametrize("number", [-1.5, 3, np.float64(-2), "-1", "+2.5", "-1e-05", ".5", "-3."])
def test_numbers_stay_numbers(number: object) -> None:
    assert csv_cell(number) is number


def test_a_table_for_a_spreadsheet_keeps_its_numbers_and_changes_its_text() -> None:
    table = pd.DataFrame(
        {"=a": [-1.0, np.nan], "f": pd.Categorical(["+1+1", "b"]), "t": ["-2", None], "n": [1, -2]},
        index=pd.MultiIndex.from_tuples([("@x", 1), ("y", -1)], names=["-k+1", "i"]),
    )
    found = csv_table(table)
    assert list(found.columns) == ["'=a", "f", "t", "n"]
    assert found["f"].tolist() == ["'+1+1", "b"]
    assert found.index.tolist() == [("'@x", 1), ("y", -1)]
    assert list(found.index.names) == ["'-k+1", "i"]
    np.testing.assert_array_equal(found[["'=a", "n"]].to_numpy(), table[["=a", "n"]].to_numpy())
    assert table.index[0] == ("@x", 1)  # the caller's own is as it was


# --- the command line ------------------------------------------------------------------------------------------------
@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "attack.csv"
    d = data().rename(columns={X: "x", "y <i>$z$_": "y"})
    d.to_csv(path, index=False, quoting=csv.QUOTE_ALL)
    return path


def test_the_command_line_writes_labels_as_text(file: Path, tmp_path: Path, capsys) -> None:
    out = tmp_path / "out"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        status = main(["fit", "y ~ x + f + (x | g)", str(file), "--draws", "200", "--out", str(out)])
    said = capsys.readouterr()
    assert status == 0, said.err
    assert FORBIDDEN.search(said.out + said.err) is None
    numbers = 0
    for path in out.glob("*.csv"):
        with path.open(encoding="utf-8", newline="") as handle:
            for cell in (cell for row in csv.reader(handle) for cell in row):
                assert not computed(cell), cell
                assert FORBIDDEN.search(cell) is None
        table = pd.read_csv(path)
        estimates = table.select_dtypes("number")
        assert "estimate" in estimates or "REML" in estimates
        numbers += int((estimates < 0).sum().sum())
    assert numbers > 20  # negative numbers are numbers
    levels = pd.read_csv(out / "pooling.csv", dtype={"level": str})["level"]
    assert {"'+1+1", "'-2+3", "-1.5", "plain", "'=cmd|' /C calc'!A0"} <= set(levels)
    page = (out / "report.html").read_text(encoding="utf-8")
    found = Page(page)
    assert found.tags <= OURS
    assert not any(attribute.startswith("on") for attribute in found.attributes)
    assert "<script>alert(1)</script>" in "".join(found.text)
    footer = page[page.index("<footer>") : page.index("</footer>")]
    assert "rows of your data" in footer
    assert "fit.save()" in footer


def command(*arguments: str, unbuffered: str = "", **options: object) -> subprocess.CompletedProcess[str]:
    root = str(Path(hm.__file__).parents[1])
    path = os.pathsep.join([root, os.environ.get("PYTHONPATH", "")])
    environment = os.environ | {"PYTHONPATH": path, "PYTHONUNBUFFERED": unbuffered}
    return subprocess.run(
        [sys.executable, "-m", "hiermod.app.cli", *arguments],
        env=environment, text=True, stderr=subprocess.PIPE, timeout=120, **options,  # type: ignore[call-overload]
    )  # fmt: skip


FIT = ("fit", "Reaction ~ Days + (Days | Subject)", "--method", "reml")


@pytest.fixture
def sleep(tmp_path: Path) -> Path:
    path = tmp_path / "sleep.csv"
    hm.load_dataset("sleepstudy").to_csv(path, index=False)
    return path


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full, a device without room")
@pytest.mark.parametrize("arguments", [FIT, ("--help",), ("--version",)], ids=["fit", "help", "version"])
def test_output_to_a_full_disk_is_one_line_and_status_1(arguments: tuple[str, ...], sleep: Path) -> None:
    given = (*arguments, str(sleep)) if arguments[0] == "fit" else arguments
    for unbuffered in ("", "1"):
        with open("/dev/full", "w") as full:
            done = command(*given, stdout=full, unbuffered=unbuffered)
        assert done.returncode == 1
        assert re.fullmatch(r"hiermod: the output could not be written \(.+\)\n", done.stderr), done.stderr


@pytest.mark.skipif(sys.platform == "win32", reason="files are limited in size by setrlimit, which Windows lacks")
def test_a_folder_on_a_full_disk_is_one_line_and_status_1(sleep: Path, tmp_path: Path) -> None:
    """A limit on the size of files stands for the disk: writing beyond it fails as on a disk without room."""
    import resource

    out = tmp_path / "out"

    def limited() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))

    done = command(*FIT, str(sleep), "--out", str(out), stdout=subprocess.PIPE, preexec_fn=limited)
    assert done.returncode == 1, done.stderr
    assert re.fullmatch(r"hiermod: '.*shrinkage\.png' could not be written \(.+\)\n", done.stderr), done.stderr
    assert "Fixed effects" in done.stdout  # what could be written was
    assert list(out.iterdir()) == []


# --- figures ---------------------------------------------------------------------------------------------------------
FIGURES = {
    "caterpillar": lambda: hm.plots.caterpillar(reml()),
    "caterpillars": lambda: hm.plots.caterpillars({"$\\frac{1$": reml(), "REML": reml()}),
    "spaghetti": lambda: hm.plots.spaghetti(reml()),
    "simpson": lambda: hm.plots.simpson(reml()),
    "effects": lambda: hm.plots.effects(reml(), "f"),
    "effect_correlation": lambda: hm.plots.effect_correlation(reml()),
    "forest": lambda: hm.plots.forest({"$\\frac{1$": reml(), "REML": reml()}),
    "variance_partition": lambda: hm.plots.variance_partition({"$\\frac{1$": reml(), "REML": reml()}),
    "influence": lambda: hm.plots.influence(reml()),
    "residuals_by_group": lambda: hm.plots.residuals_by_group(reml()),
    "assumptions": lambda: hm.plots.assumptions(reml()),
    "pooling_path": lambda: hm.plots.pooling_path(reml()),
    "pooling_steps": lambda: hm.plots.pooling_steps(reml(), scales=[1, 0]),
    "shrinkage": lambda: printed()["pooling"].plot_shrinkage(label=3),
    "lines": lambda: printed()["pooling"].plot_lines(),
    "design_matrices": lambda: hm.plots.design_matrices(model().design()),
    "predictive_groups": lambda: hm.plots.predictive_groups(bayes(), "g"),
    "predictive_intervals": lambda: hm.plots.predictive_intervals(bayes(), "g"),
    "trace": lambda: hm.plots.trace(bayes()),
    "given axes": lambda: hm.plots.caterpillar(reml(), term=X, ax=used_axes()),
    "given axes, lines": lambda: hm.plots.spaghetti(reml(), ax=used_axes()),
}
UNDISPLAYED = re.compile(r"\\mathdefault|\\\$")


def used_axes():
    _, ax = plt.subplots()
    ax.plot([1, 10], [1, 10])
    ax.set_xlabel("$\\alpha$")
    ax.figure.canvas.draw()
    return ax


@pytest.mark.parametrize("name", list(FIGURES))
def test_figures_draw_labels_as_they_are(name: str, tmp_path: Path) -> None:
    """Mathematical text that is none would raise while drawing; what is some would not be what stands there."""
    from matplotlib.text import Text

    found = FIGURES[name]()
    figure = found if hasattr(found, "savefig") else found.figure
    texts = [one for one in figure.findobj(Text) if one.get_text()]
    assert any("$" in one.get_text() for one in texts), "no label is drawn here"
    for one in texts:
        if "$" in one.get_text() and one.get_visible():
            assert not one.get_parse_math(), one.get_text()
    with plt.rc_context({"svg.fonttype": "none"}):
        figure.savefig(tmp_path / "figure.svg")
    drawn = (tmp_path / "figure.svg").read_text(encoding="utf-8")
    plt.close("all")
    assert not UNDISPLAYED.search(drawn)
    assert "<script" not in drawn
    assert "<img" not in drawn


def test_logarithmic_axes_have_plain_numbers(tmp_path: Path) -> None:
    ax = hm.plots.pooling_path(reml())
    ax.figure.canvas.draw()
    shown = [tick.get_text() for tick in ax.get_xticklabels() if tick.get_text()]
    assert {"1", "10"} <= set(shown)
    assert not any("$" in text for text in shown)
    plt.close("all")


def test_ordinal_categories_are_text_too() -> None:
    fit = made_up("cumulative")
    frame = fit.design.frame.assign(y=fit.design.frame["y"].cat.rename_categories({"none": "a\x1b[2J", "some": "$b$"}))
    made = hm.Model("y ~ x + (x | g)", frame, family="cumulative")
    assert made.spec.categories == (r"a\x1b[2J", "$b$", "much", "all")
