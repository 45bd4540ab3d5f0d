"""One name, one meaning: every public name that two kinds of fit share takes the same arguments in both."""

from __future__ import annotations

import inspect
from functools import cache
from itertools import combinations

import pandas as pd
import pytest
from family_cases import made_up

import hiermod as hm
from hiermod.errors import ArgumentError, ArgumentTypeError, UnknownNameError, UnsupportedError

MIXED, LINEAR = "Reaction ~ Days + (Days | Subject)", "Reaction ~ Days"
COUNTS = "p(incidence, size) ~ period"
KINDS = {
    "linear": lambda: sleep(LINEAR).reml(),
    "linear by ML": lambda: sleep(LINEAR).ml(),
    "REML": lambda: sleep(MIXED).reml(),
    "ML": lambda: sleep(MIXED).ml(),
    "GLM": lambda: hm.Model(COUNTS, hm.load_dataset("cbpp"), family="binomial").ml(),
    "GLMM": lambda: hm.Model(f"{COUNTS} + (1 | herd)", hm.load_dataset("cbpp"), family="binomial").ml(),
    "marginal": lambda: sleep(MIXED).fit(draws=100, random_seed=1),
    "graph": lambda: made_up("poisson"),
}
EXCEPTIONS: dict[str, str] = {}  # name -> why the kinds must differ: none does


@cache
def sleep(formula: str) -> hm.Model:
    return hm.Model(formula, hm.load_dataset("sleepstudy"))


@cache
def fitted(kind: str):
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # short runs say that they are short
        return KINDS[kind]()


def described(fit, name: str) -> object:
    """What kind of thing a name is: the arguments of a method (names, order, kinds, defaults), or just a value."""
    if isinstance(inspect.getattr_static(type(fit), name, None), property) or not callable(getattr(fit, name)):
        return "a value"
    parameters = inspect.signature(getattr(fit, name)).parameters.values()
    return [(one.name, one.kind.description, one.default) for one in parameters]


@pytest.mark.parametrize(("first", "second"), list(combinations(KINDS, 2)))
def test_a_name_takes_the_same_arguments_whatever_the_kind_of_fit(first: str, second: str) -> None:
    one, other = fitted(first), fitted(second)
    shared = {name for name in dir(one) if not name.startswith("_")} & {n for n in dir(other) if not n.startswith("_")}
    assert {"fixef", "ranef", "varcorr", "parameters", "predict", "confint", "check", "link", "means"} <= shared
    values = {"deviance", "residual_deviance"}  # some of these raise for some fits, and say why
    for name in sorted(shared - values - set(EXCEPTIONS)):
        assert described(one, name) == described(other, name), name


@pytest.mark.parametrize("kind", list(KINDS))
def test_a_level_alone_stands_first(kind: str) -> None:
    fit = fitted(kind)
    for name in ("fixef", "varcorr", "parameters"):
        method = getattr(fit, name)
        assert next(iter(inspect.signature(method).parameters)) == "level", name
        pd.testing.assert_frame_equal(method(0.5), method(level=0.5))
        with pytest.raises(ArgumentError, match=r"write 0\.9"):
            method(90)
    narrow, wide = fit.fixef(0.5), fit.fixef(0.9)
    assert (narrow["upper"] < wide["upper"]).all()
    assert (fit.parameters(0.9).loc[wide.index, "upper"] == wide["upper"]).all()
    with pytest.raises(ArgumentError, match="first setting"):
        fit.fixef("kenward-roger")


@pytest.mark.parametrize("kind", list(KINDS))
def test_arguments_of_another_kind_are_taken_or_refused_in_words(kind: str) -> None:
    fit = fitted(kind)
    pd.testing.assert_frame_equal(fit.fixef(ddf="auto"), fit.fixef())
    assert len(fit.predict(random_seed=1)) == fit.nobs
    name = fit.fixef().index[1]
    chosen = fit.confint(0.8, parameters=[name], random_seed=1, progressbar=False)
    assert list(chosen.index) == [name]
    with pytest.raises(UnknownNameError, match="no parameter 'Dais'"):
        fit.confint(parameters=["Dais"])
    with pytest.raises(ArgumentTypeError, match="list of names"):
        fit.confint(parameters="Days")
    if kind in ("marginal", "graph"):
        assert str(fit.check(posterior=fit)) == str(fit.check())
        for call in (lambda: fit.fixef(ddf="satterthwaite"), lambda: fit.check(posterior=fitted("REML"))):
            with pytest.raises(UnsupportedError):
                call()
    assert isinstance(fit.link, str)


def test_two_fits_agree_in_either_order() -> None:
    pd.testing.assert_frame_equal(
        hm.agreement(fitted("REML"), fitted("marginal"), 0.9), hm.agreement(fitted("marginal"), fitted("REML"), 0.9)
    )
