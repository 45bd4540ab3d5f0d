"""The command line: ``hiermod demo`` and ``hiermod fit FORMULA DATA``.  The only module that prints."""

from __future__ import annotations

import argparse
import logging
import os
import sys
import tempfile
import textwrap
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from hiermod.errors import (
    ConvergenceWarning,
    FileError,
    HiermodError,
    HiermodWarning,
    SingularFitWarning,
    UnknownNameError,
    nearest,
)
from hiermod.formula.catalogue import FAMILIES
from hiermod.model import Model

EXIT_INTERRUPTED = 130  # what a shell reports for a command ended by Ctrl-C


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status: 0, 2 for bad input, 130 when interrupted."""
    options = _parser().parse_args(arguments)
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")  # a terminal without Greek letters shows "?", and no traceback
    logging.getLogger("hiermod").setLevel(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("always", HiermodWarning)
            warnings.showwarning = _show_warning
            options.run(options)
    except HiermodError as error:
        print(f"hiermod: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:  # the reader, such as "head", has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        print("hiermod: interrupted; nothing more was written", file=sys.stderr)
        return EXIT_INTERRUPTED
    return 0


def _parser() -> argparse.ArgumentParser:
    import hiermod

    parser = argparse.ArgumentParser(
        prog="hiermod", description="One hierarchical model by REML and by Bayes, side by side."
    )
    parser.add_argument("--version", action="version", version=f"hiermod {hiermod.__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    demo = commands.add_parser("demo", help="fit the sleepstudy data and write a report")
    demo.add_argument(
        "--out", type=Path, default=Path("hiermod-demo"), help="folder to write to (default: %(default)s)"
    )
    demo.set_defaults(run=_demo)

    fit = commands.add_parser("fit", help="fit a formula to a CSV file")
    fit.add_argument("formula", metavar="FORMULA", help="for example 'Reaction ~ Days + (Days | Subject)'")
    fit.add_argument("data", metavar="DATA", type=Path, help="a CSV file, .csv.gz, or .tsv, with a header")
    fit.add_argument("--family", default="gaussian", help=f"one of {', '.join(FAMILIES)} (default: %(default)s)")
    fit.add_argument("--weights", metavar="COLUMN", help="prior weights, as in lme4")
    fit.add_argument("--se", metavar="COLUMN", help="known residual standard deviation of each row")
    fit.add_argument("--dropna", action="store_true", help="leave out rows with missing values")
    fit.add_argument(
        "--factor",
        metavar="COLUMN",
        action="append",
        default=[],
        help="treat a column of numbers as a factor; may be repeated",
    )
    fit.add_argument(
        "--method", choices=("both", "reml", "bayes"), default="both", help="which fits (default: %(default)s)"
    )
    fit.add_argument("--out", type=Path, help="also write tables, figures and report.html to this folder")
    fit.set_defaults(run=_fit)
    for command in (demo, fit):
        command.add_argument("--draws", type=int, default=1000, help="posterior draws per chain (default: %(default)s)")
        command.add_argument("--seed", type=int, default=1, help="random seed (default: %(default)s)")
    return parser


def _demo(options: argparse.Namespace) -> None:
    from hiermod.datasets import load_dataset

    data = load_dataset("sleepstudy")
    model = Model("Reaction ~ Days + (Days | Subject)", data)
    print(f"{data.attrs['description']}\n{textwrap.fill('Source: ' + data.attrs['source'], 80)}\n")
    _run(model, "both", options, options.out, "hiermod demo: sleepstudy")


def _fit(options: argparse.Namespace) -> None:
    data = read_table(options.data)
    for column in options.factor:
        if column not in data.columns:
            raise UnknownNameError(
                f"--factor {column}: the file has no such column.{nearest(column, data.columns)} "
                f"Its columns are: {', '.join(map(str, data.columns))}."
            )
        data[column] = data[column].astype("category")
    model = Model(
        options.formula, data, family=options.family, weights=options.weights, se=options.se, dropna=options.dropna
    )
    method = options.method
    if method == "both" and not _can_reml(model):
        method = "bayes"
        print("REML is for Gaussian models with identity link: this one is fitted by Bayes alone.\n")
    _run(model, method, options, options.out, f"hiermod: {model.formula}")


def _can_reml(model: Model) -> bool:
    """REML needs a Gaussian model; where one is refused for another reason, that reason should be heard."""
    return model.family == "gaussian" and model.link == "identity" and model.spec.special is None


def read_table(path: Path) -> pd.DataFrame:
    """A table from a text file; FileError when it is not there or not a table."""
    if not path.is_file():
        what = "a folder, not a file" if path.is_dir() else "not there"
        raise FileError(f"{str(path)!r} is {what}: DATA must be a CSV file with a header")
    separator = "\t" if ".tsv" in path.suffixes or ".tab" in path.suffixes else ","
    try:
        return pd.read_csv(path, sep=separator)
    except (ValueError, OSError, EOFError) as error:  # pandas' own errors are ValueErrors
        reason = str(error).strip().rstrip(".")
        raise FileError(f"{str(path)!r} cannot be read as a table with commas (or tabs, for .tsv): {reason}") from error


def _run(model: Model, method: str, options: argparse.Namespace, out: Path | None, title: str) -> None:
    if out is not None:
        _make_folder(out)
    fits: dict[str, Any] = {}
    if method in ("both", "reml"):
        fits["REML"] = model.reml()
        print(f"{fits['REML'].summary()}\n")
    if method in ("both", "bayes"):
        print("Computing the posterior ...", flush=True)
        fits["Bayes"] = model.fit(draws=options.draws, random_seed=options.seed)
        print(f"\n{fits['Bayes'].summary()}\n")
    comparison = None
    if len(fits) == 2:
        from hiermod.comparison.estimates import compare_estimates, printable

        comparison = compare_estimates({"Bayes": fits["Bayes"], "REML": fits["REML"]})
        print(f"Side by side (difference in standard errors of REML):\n\n{printable(comparison).to_string()}\n")
    if out is not None:
        _write(model, fits, comparison, out, title)


def _flat(comparison: pd.DataFrame) -> pd.DataFrame:
    """Two-level columns on one line for a file: "Bayes", "Bayes se", "Bayes lower", ..., "difference"."""
    names = {"estimate": "", "std_error": " se", "lower": " lower", "upper": " upper"}
    flat = comparison.copy()
    flat.columns = pd.Index([top if top == "difference" else top + names[sub] for top, sub in comparison.columns])
    return flat.rename_axis(None)


def _make_folder(out: Path) -> None:
    """Make the folder and try it before anything is computed: nobody should wait for results that cannot be written."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=out):
            pass
    except OSError as error:
        raise FileError(f"--out {str(out)!r} is not a folder that can be written to ({error.strerror})") from error


def _write(model: Model, fits: dict[str, Any], comparison: pd.DataFrame | None, out: Path, title: str) -> None:
    from hiermod.comparison.estimates import printable
    from hiermod.report import Part, whole, write_report
    from hiermod.results.summary import wrapped

    parts: list[Part] = []
    written = []

    def write_csv(table: pd.DataFrame, name: str, **options: Any) -> None:
        with whole(out / name) as unfinished:
            table.to_csv(unfinished, **options)
        written.append(name)

    if comparison is not None:
        write_csv(_flat(comparison), "estimates.csv", index_label="parameter")
        text = "se: standard error (REML) or posterior sd (Bayes). Differences are in standard errors of REML."
        parts.append(Part("Side by side", text, table=printable(comparison)))
    if model.spec.blocks and "REML" in fits:
        pooling = model.pooling(bayes=fits.get("Bayes", False))
        figure = pooling.plot_shrinkage().figure
        with whole(out / "shrinkage.png") as unfinished:
            figure.savefig(unfinished, dpi=150)
        written.append("shrinkage.png")
        write_csv(pooling.table(), "pooling.csv", index=False)
        text = (
            f"The estimate of each {pooling.group} from its own rows (no pooling), and where partial pooling moves it. "
            "What one has few rows for, or lies far from the rest, moves most."
        )
        parts.append(Part("Shrinkage", text, figure=figure))
    for name, fit in fits.items():
        write_csv(fit.tidy(), f"{name.lower()}.csv", index=False)
        parts.append(Part(f"Summary: {name}", verbatim=str(fit.summary())))
    for name, fit in fits.items():
        if model.spec.blocks:
            table = fit.coef().set_index(["group", "level", "term"])
            parts.append(Part(f"Coefficients by group: {name}", table=table, long=True))
    write_report(out / "report.html", title, parts)
    print(wrapped(f"Written to {out}{os.sep}: {', '.join([*written, 'report.html'])}"))


def _show_warning(message: Any, category: type[Warning], *_: Any, **__: Any) -> None:
    told = (ConvergenceWarning, SingularFitWarning)  # the summary says these in full
    if issubclass(category, HiermodWarning) and not issubclass(category, told):
        print(f"hiermod: note: {message}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
