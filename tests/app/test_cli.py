"""The command line in-process: what it prints and writes, its exit statuses, and what it says about bad input."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import pandas as pd
import pytest
from hand_made import hand_made

from hiermod.app.cli import main
from hiermod.csv_files import read_table
from hiermod.datasets import load_dataset
from hiermod.model import Model

SLOPE = "Reaction ~ Days + (Days | Subject)"
COUNTS = "Days ~ Reaction + (1 | Subject)"
FILES = ["bayes.csv", "estimates.csv", "pooling.csv", "reml.csv", "report.html", "shrinkage.png"]


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Run in an empty folder; figures are closed after each test."""
    monkeypatch.chdir(tmp_path)
    yield
    plt.close("all")


@pytest.fixture
def unsampled(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Model.fit gives a posterior made by hand and notes what it was asked."""
    asked: dict[str, Any] = {}

    def fit(self: Model, **options: Any) -> Any:
        asked.update(options)
        return hand_made(self, sds=10.0)

    monkeypatch.setattr(Model, "fit", fit)
    return asked


@pytest.fixture
def pupils() -> pd.DataFrame:
    d = load_dataset("sleepstudy")
    d.to_csv("sleep.csv", index=False)
    return d


class Links(HTMLParser):
    """Everything a page loads or points at, and tags closed in the order they were opened."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.found += [value for name, value in attrs if name in ("src", "href")]
        if tag not in ("meta", "img", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


@pytest.mark.usefixtures("unsampled")
def test_demo_prints_the_comparison_and_writes_a_report(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["demo"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    for words in ("REML criterion at convergence: 1743.6", "Side by side", "1|Subject_sigma", "Belenky"):
        assert words in out
    assert max(map(len, out.splitlines())) <= 80  # a terminal's width
    folder = Path("hiermod-demo")
    assert sorted(path.name for path in folder.iterdir()) == FILES
    page = (folder / "report.html").read_text(encoding="utf-8")
    links = Links()
    links.feed(page)
    assert links.open == []
    assert all(link.startswith("data:image/png;base64,") for link in links.found)
    assert len(links.found) == 1
    assert "1743.6" in page
    assert not re.search(r"https?://", page)
    estimates = pd.read_csv(folder / "estimates.csv", index_col="parameter")
    expected = Model(SLOPE, load_dataset("sleepstudy")).reml().parameters()
    assert estimates["REML"].to_numpy() == pytest.approx(expected["estimate"].to_numpy())
    assert (folder / "shrinkage.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.usefixtures("pupils")
def test_fit_by_reml_alone(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fit", SLOPE, "sleep.csv", "--method", "reml", "--out", "a/b"]) == 0
    out = capsys.readouterr().out
    assert "612.09" in out
    assert "Bayes" not in out
    assert sorted(path.name for path in Path("a/b").iterdir()) == [
        "pooling.csv",
        "reml.csv",
        "report.html",
        "shrinkage.png",
    ]
    assert main(["fit", SLOPE, "sleep.csv", "--method", "reml"]) == 0
    assert [path.name for path in Path().iterdir() if path.is_dir()] == ["a"]  # without --out nothing is written


@pytest.mark.usefixtures("pupils")
def test_options_reach_the_model(unsampled: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fit", SLOPE, "sleep.csv", "--method", "bayes", "--draws", "123", "--seed", "9"]) == 0
    assert unsampled == {"draws": 123, "random_seed": 9}
    assert "REML criterion" not in capsys.readouterr().out
    alone = ["--family", "laplace", "--out", "p"]
    assert main(["fit", "Days ~ Reaction + (1 | Subject)", "sleep.csv", *alone]) == 0
    assert "fitted by Bayes alone" in capsys.readouterr().out
    assert sorted(path.name for path in Path("p").iterdir()) == ["bayes.csv", "report.html"]
    load_dataset("eight_schools").to_csv("schools.csv", index=False)
    assert main(["fit", "effect ~ 1 + (1 | school)", "schools.csv", "--se", "se", "--method", "reml"]) == 0
    assert "Residual standard deviations known" in capsys.readouterr().out
    assert main(["fit", "effect ~ 1", "schools.csv", "--weights", "se", "--method", "reml"]) == 0
    assert "Prior weights" in capsys.readouterr().out


def test_files_factors_and_missing_values(pupils: pd.DataFrame, capsys: pytest.CaptureFixture[str]) -> None:
    pupils.to_csv("sleep.tsv", index=False, sep="\t")
    pupils.to_csv("sleep.csv.gz", index=False)
    for file in ("sleep.tsv", "sleep.csv.gz"):
        assert main(["fit", "Reaction ~ Days + (1 | Subject)", file, "--method", "reml"]) == 0
    pupils.loc[[3, 8], "Reaction"] = None
    pupils.to_csv("holes.csv", index=False)
    capsys.readouterr()
    assert main(["fit", SLOPE, "holes.csv", "--method", "reml"]) == 2
    assert "Reaction: 2" in capsys.readouterr().err
    assert main(["fit", SLOPE, "holes.csv", "--method", "reml", "--dropna"]) == 0
    assert "2 of 180 rows left out" in capsys.readouterr().out
    assert main(["fit", "Reaction ~ Days + (1 | Subject)", "sleep.csv", "--factor", "Days", "--method", "reml"]) == 0
    assert "Days[9]" in capsys.readouterr().out


@pytest.mark.usefixtures("pupils")
@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["fit", "Raction ~ Days", "sleep.csv"], "Did you mean 'Reaction'"),
        (["fit", SLOPE, "slep.csv"], "'slep.csv' is not there"),
        (["fit", SLOPE, "."], "is a folder, not a file"),
        (["fit", SLOPE, "empty.csv"], "cannot be read as a table"),
        (["fit", SLOPE, "bytes.csv"], "cannot be read as a table"),
        (["fit", SLOPE, "half.csv.gz"], "cannot be read as a table"),
        (["fit", "Subject ~ Days", "names.csv"], "Subject"),
        (["fit", SLOPE, "sleep.csv", "--factor", "days"], "Did you mean 'Days'"),
        (["fit", SLOPE, "sleep.csv", "--family", "gausian"], "Did you mean 'gaussian'"),
        (["fit", SLOPE, "sleep.csv", "--out", "sleep.csv"], "not a folder that can be written to"),
        (["fit", "Reaction ~ Days + (Days | Subject", "sleep.csv"], "Subject"),
        (["fit", SLOPE, "sleep.csv", "--family", "normal"], "It is called 'gaussian' here"),
        (["fit", SLOPE, "mac.csv"], "written neither in UTF-8 nor in cp1252"),
        (["fit", SLOPE, "latin.csv", "--encoding", "latn-1"], "no such encoding"),
        (["fit", SLOPE, "nul.csv"], "give --encoding 'utf-16'"),
        (["fit", "score ~ hours", "mixed.csv"], "'1.234' in column 'score' may have three decimals"),
        (["fit", "score ~ hours", "mixed.csv"], "(decimal commas in column 'hours')"),
        (["fit", "score ~ hours", "mixed.csv"], "--decimal '.' or ',' is for all columns"),
        (["fit", SLOPE, "sleep.csv", "--number", "days"], "--number 'days': the file has no such column"),
    ],
)
def test_bad_input_is_said_in_a_sentence(arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]) -> None:
    Path("empty.csv").write_text("")
    Path("bytes.csv").write_bytes(b"\xff\xfe\x00\x81,\n\x00")
    Path("names.csv").write_text("Subject,Days\nanna,1\nben,2\ncarl,3\n")
    pd.DataFrame({"x": range(1000)}).to_csv("whole.csv.gz")
    Path("half.csv.gz").write_bytes(Path("whole.csv.gz").read_bytes()[:500])
    Path("latin.csv").write_text("Reaction,Days,Élève\n1,2,3\n", encoding="latin-1")
    Path("mac.csv").write_text("Reaction,Days,Prüfung\n1,2,3\n", encoding="mac_roman")
    Path("nul.csv").write_text("Reaction,Days\0\n1,2\n")
    Path("mixed.csv").write_text("score;hours\n1.234;2,5\n2.345;1,5\n")
    assert main(arguments) == 2
    out, err = capsys.readouterr()
    assert err.startswith("hiermod: ")
    assert words in err
    assert "Traceback" not in out + err


def test_a_folder_that_refuses_files_is_found_before_the_fit(
    pupils: pd.DataFrame, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("tempfile.TemporaryFile", refuse)  # root may write where others may not
    assert main(["fit", SLOPE, "sleep.csv", "--out", "locked"]) == 2
    out, err = capsys.readouterr()
    assert "Permission denied" in err
    assert "REML" not in out


def test_wrong_usage_and_help(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments, status, words in (
        ([], 2, "COMMAND"),
        (["ft"], 2, "invalid choice"),
        (["fit"], 2, "FORMULA"),
        (["--help"], 0, "side by side"),
        (["fit", "--help"], 0, "--factor"),
        (["--version"], 0, "hiermod "),
    ):
        with pytest.raises(SystemExit) as stop:
            main(arguments)
        assert stop.value.code == status
        assert words in "".join(capsys.readouterr())


@pytest.mark.usefixtures("pupils")
def test_notes_go_to_the_error_stream_once(capsys: pytest.CaptureFixture[str]) -> None:
    d = load_dataset("sleepstudy").assign(hours=lambda d: 24 * d["Days"])
    d.to_csv("more.csv", index=False)
    assert main(["fit", "Reaction ~ Days + hours + (1 | Subject)", "more.csv", "--method", "reml", "--out", "o"]) == 0
    out, err = capsys.readouterr()
    assert err.count("hiermod: note:") == 1
    assert "rank deficient" in err
    load_dataset("dyestuff2").to_csv("flat.csv", index=False)
    assert main(["fit", "Yield ~ 1 + (1 | Batch)", "flat.csv", "--method", "reml", "--out", "o"]) == 0
    out, err = capsys.readouterr()
    assert err == ""  # the summary says it in full
    assert out.count("Boundary (singular) fit") == 1


@pytest.mark.usefixtures("pupils")
@pytest.mark.parametrize(
    ("arguments", "here", "python"),
    [
        (["fit", SLOPE, "holes.csv"], "--dropna leaves those rows out", "dropna=True"),
        (["fit", COUNTS, "sleep.csv", "--family", "poisson", "--method", "reml"], "--method ml or --method", "()"),
        (["fit", SLOPE, "sleep.csv", "--family", "binomial"], "use --family bernoulli", "family="),
        (["fit", SLOPE, "sleep.csv", "--weights", "Dys"], "--weights Dys: the data have no such column", "weights="),
        (["fit", SLOPE, "sleep.csv", "--family", "poisson", "--se", "Days"], "--se is for family", "se="),
        (["fit", "Reaction ~ mine(Days)", "sleep.csv"], "make a column of the file", "extra_namespace"),
        (["fit", SLOPE, "sleep.csv", "--seed", "-1"], "--seed is -1", "random_seed"),
        (["fit", SLOPE, "sleep.csv", "--draws", "0"], "--draws must be a whole number of at least 4, got 0", "draws="),
    ],
)
def test_messages_speak_the_command_lines_words(
    arguments: list[str], here: str, python: str, pupils: pd.DataFrame, capsys: pytest.CaptureFixture[str]
) -> None:
    pupils.assign(Days=pupils["Days"].where(pupils["Days"] < 9)).to_csv("holes.csv", index=False)
    assert main(arguments) == 2
    out, err = capsys.readouterr()
    assert here in err
    assert python not in err
    assert "REML criterion" not in out  # refused before anything is fitted


def test_maximum_likelihood_alone_and_beside_bayes(
    unsampled: dict[str, Any], pupils: pd.DataFrame, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["fit", SLOPE, "sleep.csv", "--method", "ml", "--out", "m"]) == 0
    assert "1751.9" in capsys.readouterr().out  # deviance, as lme4 prints
    assert sorted(path.name for path in Path("m").iterdir()) == ["ml.csv", "report.html"]
    load_dataset("cbpp").to_csv("cbpp.csv", index=False)
    formula = "p(incidence, size) ~ period + (1 | herd)"
    herds = ["fit", formula, "cbpp.csv", "--family", "binomial", "--factor", "period"]
    assert main([*herds, "--method", "ml"]) == 0
    out = capsys.readouterr().out
    assert "Laplace" in out
    assert "logLik -92.0" in out  # lme4: -92.03
    assert unsampled == {}
    assert main([*herds, "--out", "b"]) == 0
    out = capsys.readouterr().out
    assert "ML (Laplace) stands in its place" in out
    assert "Side by side (difference in standard errors of ML)" in out
    assert sorted(path.name for path in Path("b").iterdir()) == ["bayes.csv", "estimates.csv", "ml.csv", "report.html"]
    table = pd.read_csv("b/estimates.csv", index_col="parameter")
    assert table.loc["period[2]", "ML"] == pytest.approx(-0.9923, abs=1e-3)  # lme4's vignette
    assert "standard error (ML)" in Path("b/report.html").read_text(encoding="utf-8")


@pytest.mark.usefixtures("unsampled")
def test_where_ml_has_no_maximum_bayes_still_answers(capsys: pytest.CaptureFixture[str]) -> None:
    pd.DataFrame({"y": [0, 0, 0, 1, 1, 1], "x": range(6)}).to_csv("apart.csv", index=False)
    assert main(["fit", "y ~ x", "apart.csv", "--family", "bernoulli"]) == 0
    out, err = capsys.readouterr()
    assert "no fit by ML" in err
    assert "Computing the posterior" in out
    assert "Side by side" not in out
    assert main(["fit", "y ~ x", "apart.csv", "--family", "bernoulli", "--method", "ml"]) == 2


@pytest.mark.parametrize(("separator", "decimal"), [(";", ","), (";", "."), ("\t", ",")])
def test_tables_of_other_countries(
    separator: str, decimal: str, pupils: pd.DataFrame, capsys: pytest.CaptureFixture[str]
) -> None:
    pupils["Note"] = "a, b"  # text with a comma stays text
    pupils.to_csv("else.csv", sep=separator, decimal=decimal, index=False)
    pd.testing.assert_frame_equal(read_table(Path("else.csv")), read_table(Path("sleep.csv")).assign(Note="a, b"))
    err = capsys.readouterr().err
    assert err == ""  # read_table says nothing
    assert main(["fit", "Reaction ~ Days + (1 | Subject)", "else.csv", "--method", "reml"]) == 0
    err = capsys.readouterr().err
    assert err.startswith("hiermod: note: 'else.csv': read with")
    assert ("decimal commas ('Reaction')" in err) == (decimal == ",")


def test_ordinary_tables_are_read_as_before(capsys: pytest.CaptureFixture[str]) -> None:
    Path("one.csv").write_text("y\n1\n2\n")
    Path("text.csv").write_text('"a;b",y\n"1;2",3\n"1,5",4\n')
    assert read_table(Path("one.csv"))["y"].tolist() == [1, 2]
    assert read_table(Path("text.csv")).to_dict("list") == {"a;b": ["1;2", "1,5"], "y": [3, 4]}
    assert capsys.readouterr().err == ""
    Path("latin.csv").write_text("Élève\n1\n", encoding="latin-1")
    assert list(read_table(Path("latin.csv"), encoding="latin-1").columns) == ["Élève"]


def test_every_guess_about_a_file_has_its_option(pupils: pd.DataFrame, capsys: pytest.CaptureFixture[str]) -> None:
    numbers = [f"{value:.3f}".replace(".", ",") for value in pupils["Reaction"]]
    odd = pupils.assign(Reaction=numbers, Days=pupils["Days"].astype(str).replace("9", "-1")).iloc[:170]
    named = ",".join(odd.columns)
    Path("odd.txt").write_text(
        "a title\n" + odd.to_csv(index=False, header=False, sep="|") + "the end;||\n", encoding="cp1252"
    )
    model = ["fit", "Reaction ~ Days + (1 | Subject)"]
    how = ["--separator=|", "--decimal=,", "--missing=-1", "--skip=1", "--footer=1", "--encoding=cp1252"]
    assert main([*model, "odd.txt", *how, "--dropna", "--method", "reml"]) == 2
    assert "--names A,B,..." in capsys.readouterr().err  # the first row is no line of names
    assert main([*model, "odd.txt", *how, "--names", named, "--dropna", "--method", "reml"]) == 0
    given = capsys.readouterr().out
    pupils.iloc[:170].query("Days != 9").to_csv("same.csv", index=False)
    assert main([*model, "same.csv", "--method", "reml"]) == 0
    fixed = "Fixed effects"
    assert given[given.index(fixed) :] == (same := capsys.readouterr().out)[same.index(fixed) :]


IMPORTING = """
import sys
class Stop:
    def find_spec(self, name, *_):
        if name == "numpy":
            raise KeyboardInterrupt
sys.meta_path.insert(0, Stop())
from hiermod.app.cli import main
sys.exit(main(["fit", "y ~ x", "d.csv"]))
"""


def test_ctrl_c_while_modules_are_imported() -> None:
    done = subprocess.run(
        [sys.executable, "-c", IMPORTING],
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert done.returncode == 130
    assert done.stderr == "hiermod: interrupted; nothing more was written\n"


def test_nothing_half_written_is_left(monkeypatch: pytest.MonkeyPatch, unsampled: dict[str, Any]) -> None:
    main(["demo"])
    before = {path.name: path.read_bytes() for path in Path("hiermod-demo").iterdir()}

    def interrupted(self: Any, path: Any, **_: Any) -> None:
        Path(path).write_bytes(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr("matplotlib.figure.Figure.savefig", interrupted)
    assert main(["demo"]) == 130
    after = {path.name: path.read_bytes() for path in Path("hiermod-demo").iterdir()}
    assert set(after) == set(before)
    assert after["shrinkage.png"] == before["shrinkage.png"]
    assert after["report.html"] == before["report.html"]


SAMPLING = """
import signal
import sys
from hiermod.app.cli import main
from hiermod.model import Model
signal.signal(signal.SIGINT, signal.default_int_handler)  # jobs in a shell's background start deaf to it
fit = Model.fit
Model.fit = lambda self, **options: fit(self, **(options | {"inference_method": "nutpie", "draws": 10**6}))
sys.exit(main(["demo"]))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGINT for one process")
def test_ctrl_c_while_sampling() -> None:
    """In the middle of NUTS: exit status 130, one sentence, no traceback, no files."""
    process = subprocess.Popen(
        [sys.executable, "-c", SAMPLING],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert process.stdout is not None
    try:
        for line in process.stdout:
            if line.startswith("Computing the posterior"):
                break
        time.sleep(2)  # into compilation or sampling: an interrupt at either must end alike
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 130, err
    assert err.strip().endswith("hiermod: interrupted; nothing more was written")
    assert "Traceback" not in err
    assert list(Path("hiermod-demo").iterdir()) == []
