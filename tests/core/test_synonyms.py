"""Names that people bring along: each is answered by the line that it is here, and every such line runs.

``python tests/core/test_synonyms.py`` writes docs/coming_from/names.md anew from the table."""

from __future__ import annotations

import copy
import inspect
import pickle
import re
import sys
from functools import cache
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

import hiermod as hm
from hiermod.core import synonyms
from hiermod.core.synonyms import ARGUMENTS, FIT, MODEL, PACKAGE, VALUES
from hiermod.errors import ArgumentError, ArgumentTypeError, HiermodError
from hiermod.fits.bayesian import BayesianFit
from hiermod.fits.frequentist import FrequentistFit
from hiermod.fits.generalised import GeneralisedFit

PAGE = Path(__file__).parents[2] / "docs" / "coming_from" / "names.md"
pytestmark = pytest.mark.filterwarnings("ignore::hiermod.errors.HiermodWarning")
FORMULA = "y ~ x + f + (1 | g)"
FILE = "y;g;x;day\n1,5;1;2,5;31.12.2024\n2,25;2;-99;1.1.2025\n"


@cache
def everything() -> dict[str, Any]:
    rng = np.random.default_rng(1)
    g = np.repeat(np.arange(8), 10)
    d = pd.DataFrame({"g": g.astype(str), "f": np.tile(["a", "b"], 40), "x": rng.normal(size=80)})
    d["y"] = 1 + d["x"] + rng.normal(size=8)[g] + rng.normal(size=80)
    d["count"] = rng.poisson(np.exp(0.5 + 0.3 * d["x"]))
    m = hm.Model(FORMULA, d)
    smaller = hm.Model("y ~ x + (1 | g)", d)
    return {
        "hm": hm,
        "d": d,
        "m": m,
        "reml": m.reml(),
        "bayes": m.fit(draws=250, random_seed=1),
        "smaller": smaller.reml(),
        "fit_b": smaller.fit(draws=250, random_seed=1),
    }


def run(line: str, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.chdir(tmp_path)
    Path("file.csv").write_text(FILE)
    known = everything()
    names = {**known, "fit": known[kind], "larger": known["reml"], "fit_a": known["bayes"]}
    found = eval(line, names)
    plt.close("all")
    return found


def lines() -> list[tuple[str, str]]:
    """Every line of the tables, and the kinds of fit it is for."""
    found: set[tuple[str, str]] = set()
    for here in (here for table in (FIT, MODEL, PACKAGE) for here in table.values()):
        if here.of != "posterior":
            found.add((here.line, "reml"))
        if here.of != "likelihood":
            found.add((here.line if here.bayes is None else here.bayes, "bayes"))
    for (function, _), text in ARGUMENTS.items():
        for line in re.split(r", and | or |, (?=\.|m\.)", text):
            whole = 'hm.Model("y ~ x + (1 | g)", d)' + line.split(" for ")[0] if line.startswith(".") else line
            found.add((whole, "bayes" if function in ("loo", "kfold") else "reml"))
    return sorted(one for one in found if one[0])


@pytest.mark.parametrize(("line", "kind"), lines())
def test_every_line_runs(line: str, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert run(line, kind, tmp_path, monkeypatch) is not None


@pytest.mark.parametrize("name", FIT)
def test_fits_answer_by_the_name_here(name: str) -> None:
    for kind, bayesian in (("reml", False), ("bayes", True)):
        fit, here = everything()[kind], FIT[name]
        assert not hasattr(fit, name)
        with pytest.raises(AttributeError) as error:
            getattr(fit, name)
        assert str(error.value).endswith(f"has no attribute {name!r}: {here.told(bayesian)}")
    for cls in (FrequentistFit, GeneralisedFit, BayesianFit):
        assert name not in dir(cls)


@pytest.mark.parametrize("name", MODEL)
def test_models_answer_by_the_name_here(name: str) -> None:
    with pytest.raises(AttributeError, match=f"^'Model' object has no attribute '{name}': here it is "):
        getattr(everything()["m"], name)
    assert name not in dir(hm.Model)


@pytest.mark.parametrize("name", PACKAGE)
def test_the_package_answers_by_the_name_here(name: str) -> None:
    with pytest.raises(AttributeError, match=f"^module 'hiermod' has no attribute '{name}': here it is "):
        getattr(hm, name)
    assert name not in hm.__all__


@pytest.mark.parametrize(
    ("thing", "name", "words"),
    [
        ("reml", "conf.int", "here it is fit.confint()"),
        ("reml", "varCorr", "here it is fit.varcorr()"),
        ("reml", "fitted_values", ""),
        ("bayes", "AIC", "here it is fit.loo()"),
        ("bayes", "anova", "it belongs to REML and ML fits"),
        ("reml", "loo", "it belongs to Bayesian fits"),
        ("m", "fixef", "it belongs to fits: m.reml().fixef or m.fit().fixef"),
        ("m", "anova", "it belongs to fits: m.reml().anova"),
        ("m", "VarCorr", "here it is fit.varcorr()"),
        ("m", "nonsense", ""),
        ("hm", "LMER", "here it is hm.Model("),
        ("hm", "nonsense", ""),
    ],
)
def test_spellings_kinds_and_what_is_no_name(thing: str, name: str, words: str) -> None:
    with pytest.raises(AttributeError) as error:
        getattr(everything()[thing], name)
    told = str(error.value)
    assert words in told if words else told.endswith(f"{name!r}")


def test_objects_stay_ordinary_objects() -> None:
    for thing in ("m", "reml", "bayes"):
        one = everything()[thing]
        for again in (pickle.loads(pickle.dumps(one)), copy.copy(one)):
            assert type(again) is type(one)
            assert again.formula == FORMULA
        for name in ("_repr_latex_", "__array__", "_ipython_display_", "_repr_mimebundle_", "__deepcopy__", "__len__"):
            assert not hasattr(one, name)
        assert "VarCorr" not in dir(one)
        with pytest.raises(AttributeError, match=r"'_vcov'$"):
            _ = one._vcov
    assert not hasattr(hm, "__path_hooks__")
    assert "lmer" not in dir(hm)


CALLS = {"Model": lambda known: lambda **how: hm.Model(FORMULA, known["d"], **how), "read_csv": lambda _: hm.read_csv}


@pytest.mark.parametrize(("function", "argument"), list(ARGUMENTS))
def test_arguments_are_answered_by_the_name_here(function: str, argument: str) -> None:
    known = everything()
    owner = known["m"] if hasattr(hm.Model, function) else known["bayes" if function in ("loo", "kfold") else "reml"]
    call = CALLS[function](known) if function in CALLS else getattr(owner, function)
    with pytest.raises(HiermodError) as error:
        call(**{argument: 1})
    assert str(error.value) == f"{function}() has no argument {argument!r}: here it is {ARGUMENTS[function, argument]}"
    assert argument not in inspect.signature(hm.Model if function == "Model" else call).parameters
    assert isinstance(error.value, ArgumentError if function == "fit" else ArgumentTypeError)


def test_an_argument_nobody_knows_is_answered_by_the_nearest() -> None:
    known = everything()
    with pytest.raises(ArgumentTypeError, match=r"means\(\) has no argument 'weight'. Did you mean 'weights'"):
        known["reml"].means("f", weight="equal")
    with pytest.raises(ArgumentTypeError, match=r"vcov\(\) has no argument 'robust'. It takes none"):
        known["reml"].vcov(robust=True)
    with pytest.raises(ArgumentTypeError, match=r"Model\(\) has no argument 'famly'. Did you mean 'family'"):
        hm.Model(FORMULA, known["d"], famly="gaussian")
    with pytest.raises(ArgumentTypeError, match=r"summary\(\) has no argument 'correlation'. It takes none"):
        known["bayes"].summary(correlation=False)
    with pytest.raises(ArgumentTypeError, match=r"here it is fit.predict\(target=\"population\"\)"):
        known["reml"].predict(**{"re.form": None})
    with pytest.raises(ArgumentTypeError, match=r"the formula comes first, then the data: hm.Model\('y ~ x', d\)"):
        hm.Model("y ~ x", known["d"]) and hm.Model(known["d"], "y ~ x")


@pytest.mark.parametrize("kind", ["m", "reml", "bayes", "hm"])
def test_every_function_answers_for_arguments_it_has_not(kind: str) -> None:
    thing, asked = everything()[kind], 0
    for name in hm.__all__ if kind == "hm" else dir(type(thing)):
        found = getattr(hm, name) if kind == "hm" else inspect.getattr_static(type(thing), name)
        isfunction = inspect.isfunction(found) or type(found).__name__ == "Answer"
        if name.startswith("_") or not isfunction or name in ("agreement", "list_datasets"):
            continue
        parameters = inspect.signature(getattr(thing, name)).parameters
        if any(one.kind is inspect.Parameter.VAR_KEYWORD for one in parameters.values()):
            continue
        with pytest.raises(ArgumentTypeError, match=rf"{name}\(\) has no argument 'nonsense'\."):
            getattr(thing, name)(nonsense=1)
        asked += 1
    assert asked >= 8


@pytest.mark.parametrize(("argument", "value"), list(VALUES))
def test_values_are_answered_by_the_name_here(argument: str, value: str) -> None:
    reml = everything()["reml"]
    calls = {
        "adjust": lambda: reml.contrasts("f", adjust=value),
        "ddf": lambda: reml.fixef(ddf=value),
        "scale": lambda: reml.means("f", scale=value),
        "target": lambda: reml.predict(target=value),
        "new_levels": lambda: reml.predict(new_levels=value),
    }
    here = VALUES[argument, value]
    if argument in ("method", "kind"):  # of several functions
        call = {
            "bootstrap": lambda: reml.confint(method=value),
            "profile": lambda: reml.confint(method=value),
            "wald": lambda: reml.confint(method=value),
            "response": lambda: reml.residuals(kind=value),
            "scaled": lambda: reml.residuals(kind=value),
            "mean": lambda: reml.predict(kind=value),
        }.get(here, lambda: reml.contrasts("f", method=value))
    else:
        call = calls[argument]
    with pytest.raises(ArgumentError, match=f"It is called '{here}' here"):
        call()


def page() -> str:
    """docs/coming_from/names.md."""

    def cell(here: synonyms.Here) -> str:
        line = f"`{here.line}`" if here.line else ""
        other = f"; of a posterior `{here.bayes}`" if here.bayes else ""
        return f"{line}{other}{f'. {here.words}' if here.words else ''}".replace("|", "\\|")

    def table(rows: list[tuple[str, str]]) -> list[str]:
        return ["| you know | here |", "|---|---|", *(f"| {name} | {what} |" for name, what in rows), ""]

    told = [
        "# Names you know",
        "",
        "What functions, attributes and arguments of lme4, emmeans, brms, Bambi, statsmodels and others are called",
        "here: `fit` is a fit, `m` a model, `d` the data with columns y, count, x, f and g. Asked for one of these",
        "names, hiermod answers with the same line.",
        "",
        "## Functions",
        "",
        *table([(f"`{name}()`", cell(here)) for name, here in PACKAGE.items()]),
        "## Of a fit",
        "",
        *table([(f"`{name}`", cell(here)) for name, here in FIT.items()]),
        "## Of a model",
        "",
        *table([(f"`{name}`", cell(here)) for name, here in MODEL.items()]),
        "## Arguments",
        "",
        *table(
            [
                (f"`{function}(..., {argument}=)`", f"`{line}`".replace("|", "\\|"))
                for (function, argument), line in ARGUMENTS.items()
            ]
        ),
        "## Values of arguments",
        "",
        *table([(f'`{argument}="{value}"`', f'`{argument}="{here}"`') for (argument, value), here in VALUES.items()]),
    ]
    return "\n".join(told)


def test_the_page_of_the_docs_is_the_table() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(), "run: python tests/core/test_synonyms.py"


if __name__ == "__main__":
    sys.exit(PAGE.write_text(page(), encoding="utf-8") == 0)
