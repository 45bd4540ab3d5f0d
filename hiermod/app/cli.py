"""The command line: ``hiermod demo``, ``hiermod fit FORMULA DATA`` and ``hiermod prepare``.  The only module that
prints."""

from __future__ import annotations

import argparse
import errno
import os
import re
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from hiermod.core.escaping import csv_table, terminal

# Whatever takes long to import is imported in functions: Ctrl-C in its course is answered by main().
from hiermod.errors import (
    ConvergenceWarning,
    FileError,
    HiermodError,
    HiermodWarning,
    SingularFitWarning,
)

if TYPE_CHECKING:
    import pandas as pd

    from hiermod.model import Model

EXIT_UNWRITTEN = 1
EXIT_INTERRUPTED = 130  # what a shell reports for a command ended by Ctrl-C
# How Python's names of options and methods, which messages use, are written here.  In this order.
WRITTEN_HERE = (
    (r"\bdropna=True\b", "--dropna"),
    (r"\b(family|weights|se)='([^']*)'", r"--\1 \2"),
    (r"\b(weights|se)=(?!\w)", r"--\1"),
    (r"\btypes=\{(?:'([^']*)'|\"([^\"]*)\"): 'category'\}", r"--factor '\1\2'"),
    (r"\btypes=\{(?:'([^']*)'|\"([^\"]*)\"): 'number'\}", r"--number '\1\2'"),
    (r"\bmissing=(?:\{[^}]*: )?\[\"([^\"]*)\"\]\}?", r"--missing '\1'"),
    (r"\b(encoding|decimal|separator|thousands)='([^']*)'", r"--\1 '\2'"),
    (r"\bdecimal=\{[^}]*: ('.')\}", r"--decimal \1"),
    (r"\bnames=\[\.\.\.\]", "--names A,B,..."),
    (r"\b(skip|footer)=(\d+)", r"--\1 \2"),
    (r"\brandom_seed\b", "--seed"),
    (r"\bdraws=", "--draws"),
    (r"(?<![\w.])(reml|ml)\(\)", r"--method \1"),
    (r"(?<![\w.])fit\(\)", "--method bayes"),
    (
        r"Functions of your own go in extra_namespace=\{.*\}\.",
        "Functions of your own are for Python: make a column of the file with what it would give.",
    ),
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status: 0, 1 where output cannot be written, 2 for bad input, 130 when
    interrupted."""
    try:
        try:
            status = _answer(arguments)
        finally:  # what is still to be written, argparse's help too, is written here, where a full disk is answered
            sys.stdout.flush()
    except BrokenPipeError:  # the reader, such as "head", has seen enough
        _no_more(sys.stdout)
        return 0
    except KeyboardInterrupt:
        _tell("hiermod: interrupted; nothing more was written")
        return EXIT_INTERRUPTED
    except OSError as error:  # of a disk that is full, of a file or stream that cannot be written
        _no_more(sys.stdout)
        where = f"{str(error.filename)!r}" if error.filename else "the output"
        _tell(f"hiermod: {where} could not be written ({error.strerror or error})")
        return EXIT_UNWRITTEN
    return status


def _answer(arguments: Sequence[str] | None) -> int:
    import logging

    options = _parser().parse_args(arguments)
    logging.getLogger("hiermod").setLevel(logging.WARNING)
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")  # a terminal without Greek letters shows "?", and no traceback
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("always", HiermodWarning)
            warnings.showwarning = _show_warning
            _check_numbers(options)
            options.run(options)
    except HiermodError as error:
        _tell(f"hiermod: {_as_options(str(error))}")
        return 2
    return 0


def _say(text: str) -> None:
    """Print for the person; what the data's own labels would make a terminal do is shown instead."""
    print(terminal(text), flush=True)


def _tell(text: str) -> None:
    """Print beside the output.  Where not even that can be written, the exit status must do."""
    try:
        print(terminal(text), file=sys.stderr, flush=True)
    except OSError:
        _no_more(sys.stderr)


def _no_more(stream: TextIO) -> None:
    """Send what is left in a stream that cannot be written to nowhere, so that Python does not try again at its end."""
    try:
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
    except (OSError, ValueError):  # a stream without a file, as in tests
        return


def _as_options(message: str) -> str:
    """A message of the package in the words of the command line.

    >>> _as_options("dropna=True leaves those rows out; use family='bernoulli'")
    '--dropna leaves those rows out; use --family bernoulli'
    """
    for python, here in WRITTEN_HERE:
        message = re.sub(python, here, message)
    return message


def _check_numbers(options: argparse.Namespace) -> None:
    """Before anything is fitted: nobody should wait for REML to hear that a number cannot be."""
    from hiermod.core.arguments import check_count, resolve_seed

    check_count("--draws", options.draws, 4)
    resolve_seed(options.seed)


class _Parser(argparse.ArgumentParser):
    """argparse's, which says nothing of its own where its help cannot be written."""

    def _print_message(self, message: str, file: Any = None) -> None:
        if message:
            (file or sys.stderr).write(message)


def _parser() -> argparse.ArgumentParser:
    import hiermod
    from hiermod.families.catalogue import FAMILIES, GENERALISED

    parser = _Parser(prog="hiermod", description="One hierarchical model by REML and by Bayes, side by side.")
    parser.add_argument("--version", action="version", version=f"hiermod {hiermod.__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    demo = commands.add_parser("demo", help="fit the sleepstudy data and write a report")
    demo.add_argument(
        "--out", type=Path, default=Path("hiermod-demo"), help="folder to write to (default: %(default)s)"
    )
    demo.set_defaults(run=_demo)

    fit = commands.add_parser("fit", help="fit a formula to a CSV file")
    fit.add_argument("formula", metavar="FORMULA", help="for example 'Reaction ~ Days + (Days | Subject)'")
    fit.add_argument("data", metavar="DATA", type=Path, help="a CSV file (or .csv.gz, .tsv, ...) with names of columns")
    fit.add_argument("--encoding", help="of the file's letters, such as cp1252 (default: found)")
    fit.add_argument("--separator", metavar="MARK", help="between columns: , ; | tab or space (default: found)")
    fit.add_argument("--decimal", metavar="MARK", help="before decimals: . or , (default: found by columns)")
    fit.add_argument("--thousands", metavar="MARK", help="between thousands (default: found by columns)")
    fit.add_argument(
        "--missing", metavar="TEXT", action="append", default=[], help="a mark of missing values; may be repeated"
    )
    fit.add_argument("--names", metavar="A,B,...", help="of the columns, where the file has no line of names")
    fit.add_argument("--skip", metavar="N", type=int, default=0, help="lines above the names of the columns")
    fit.add_argument("--footer", metavar="N", type=int, help="rows at the end to leave out (default: a row of totals)")
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
        "--number", metavar="COLUMN", action="append", default=[], help="treat a column as numbers; may be repeated"
    )
    fit.add_argument(
        "--method",
        choices=("both", "reml", "ml", "bayes"),
        default="both",
        help="which fits; both: Bayes beside REML, or beside ML (Laplace) for families "
        f"{', '.join(GENERALISED)} (default: %(default)s)",
    )
    fit.add_argument("--out", type=Path, help="also write tables, figures and report.html to this folder")
    fit.set_defaults(run=_fit)
    prepare = commands.add_parser(
        "prepare", help="compile what posteriors of generalised models need, once for this machine, ahead of the first"
    )
    prepare.add_argument("families", metavar="FAMILY", nargs="*", help="only these (default: all that there are)")
    prepare.set_defaults(run=_prepare, draws=1000, seed=1)
    for command in (demo, fit):
        command.add_argument("--draws", type=int, default=1000, help="posterior draws per chain (default: %(default)s)")
        command.add_argument("--seed", type=int, default=1, help="random seed (default: %(default)s)")
    return parser


def _prepare(options: argparse.Namespace) -> None:
    from hiermod.engines.whitened.compiled import folder_of_all, is_kept, prepare
    from hiermod.families.catalogue import check_family

    wanted = [check_family(name) for name in options.families] or None
    for told, seconds in prepare(wanted):
        _say(f"{told}: {'there already' if seconds < 1e-9 else f'{seconds:.1f} s'}")
    if not is_kept():
        _say(f"Nothing could be kept: {folder_of_all()} cannot be written. HIERMOD_COMPILED names another folder.")
        return
    _say(f"Kept in {folder_of_all()}")


def _demo(options: argparse.Namespace) -> None:
    import textwrap

    from hiermod.datasets import load_dataset
    from hiermod.model import Model

    data = load_dataset("sleepstudy")
    model = Model("Reaction ~ Days + (Days | Subject)", data)
    _say(f"{data.attrs['description']}\n{textwrap.fill('Source: ' + data.attrs['source'], 80)}\n")
    _run(model, ["REML", "Bayes"], options, options.out, "hiermod demo: sleepstudy")


def _fit(options: argparse.Namespace) -> None:
    from hiermod.model import Model

    data = _data(options)
    model = Model(
        options.formula, data, family=options.family, weights=options.weights, se=options.se, dropna=options.dropna
    )
    _run(model, _methods(model, options.method), options, options.out, f"hiermod: {model.formula}")


def _data(options: argparse.Namespace) -> pd.DataFrame:
    from hiermod.csv_files import read_table

    types = dict.fromkeys(options.number, "number") | dict.fromkeys(options.factor, "category")
    data = read_table(
        options.data,
        separator={"tab": "\t", "space": " "}.get(options.separator, options.separator),
        decimal=options.decimal,
        thousands=options.thousands,
        encoding=options.encoding,
        missing=options.missing,
        types=types,
        names=None if options.names is None else options.names.split(","),
        skip=options.skip,
        footer=options.footer,
    )
    report = data.attrs["read_csv"]
    for note in report["notes"]:
        _tell(f"hiermod: note: {report['file']}: {_as_options(note)}")
    return data


def _methods(model: Model, asked: str) -> list[str]:
    """The fits to make, the frequentist one first.  Where REML or ML cannot be beside Bayes, that is said."""
    from hiermod.families.catalogue import FAMILIES, is_linear

    if asked != "both":
        return [{"reml": "REML", "ml": "ML", "bayes": "Bayes"}[asked]]
    if model.spec.special is None and FAMILIES[model.family].generalised(model.link):
        _say(f"REML is for Gaussian models; for family {model.family!r} ML (Laplace) stands in its place.\n")
        return ["ML", "Bayes"]
    if model.spec.special is None and is_linear(model.family, model.link):
        return ["REML", "Bayes"]
    _say("REML is for Gaussian models with identity link: this one is fitted by Bayes alone.\n")
    return ["Bayes"]


def _run(model: Model, methods: Sequence[str], options: argparse.Namespace, out: Path | None, title: str) -> None:
    if out is not None:
        _make_folder(out)
    fits: dict[str, Any] = {}
    for method in methods:
        if method == "Bayes":
            _say("Computing the posterior ...")
            fits[method] = model.fit(draws=options.draws, random_seed=options.seed)
            _say("")
        elif method == "ML" and "Bayes" in methods:
            try:
                fits[method] = model.ml()
            except HiermodError as error:  # such as separation, where the posterior still is one
                _tell(f"hiermod: note: no fit by ML: {_as_options(str(error))}")
                continue
        else:
            fits[method] = model.reml() if method == "REML" else model.ml()
        _say(f"{fits[method].summary()}\n")
    comparison = None
    if len(fits) == 2:
        from hiermod.inference.comparison.estimates import compare_estimates, printable

        comparison = compare_estimates({name: fits[name] for name in reversed(methods)})
        _say(f"Side by side (difference in standard errors of {methods[0]}):\n\n{printable(comparison).to_string()}\n")
    if out is not None:
        _write(model, fits, comparison, out, title)


def _flat(comparison: pd.DataFrame) -> pd.DataFrame:
    """Two-level columns on one line for a file: "Bayes", "Bayes se", "Bayes lower", ..., "difference"."""
    import pandas as pd

    names = {"estimate": "", "std_error": " se", "lower": " lower", "upper": " upper"}
    flat = comparison.copy()
    flat.columns = pd.Index([top if top == "difference" else top + names[sub] for top, sub in comparison.columns])
    return flat.rename_axis(None)


def _make_folder(out: Path) -> None:
    """Make the folder and try it before anything is computed: nobody should wait for results that cannot be written."""
    import tempfile

    try:
        out.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=out):
            pass
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise FileError(f"--out {str(out)!r} is not a folder that can be written to ({error.strerror})") from error


def _write(model: Model, fits: dict[str, Any], comparison: pd.DataFrame | None, out: Path, title: str) -> None:
    from hiermod.app.report import Part, whole, write_report
    from hiermod.core.summary import wrapped
    from hiermod.inference.comparison.estimates import printable

    parts: list[Part] = []
    written = []

    def write_csv(table: pd.DataFrame, name: str, **options: Any) -> None:
        with whole(out / name) as unfinished:
            csv_table(table).to_csv(unfinished, **options)
        written.append(name)

    if comparison is not None:
        write_csv(_flat(comparison), "estimates.csv", index_label="parameter")
        first = next(iter(fits))
        text = f"se: standard error ({first}) or posterior sd (Bayes). Differences are in standard errors of {first}."
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
    _say(wrapped(f"Written to {out}{os.sep}: {', '.join([*written, 'report.html'])}"))


def _show_warning(message: Any, category: type[Warning], *_: Any, **__: Any) -> None:
    told = (ConvergenceWarning, SingularFitWarning)  # the summary says these in full
    if issubclass(category, HiermodWarning) and not issubclass(category, told):
        _tell(f"hiermod: note: {_as_options(str(message))}")


if __name__ == "__main__":
    sys.exit(main())
