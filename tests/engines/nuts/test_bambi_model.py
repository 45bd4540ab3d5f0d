"""What ``Model.bambi`` hands out stays the model: built again by Bambi's own steps, renamed, and never half changed."""

from __future__ import annotations

import re
from typing import Any

import bambi
import numpy as np
import pandas as pd
import pytest

import hiermod as hm
from hiermod.engines.nuts.graph import build_bambi
from hiermod.errors import ArgumentError, UnsupportedError
from hiermod.formula.build import build_design

pytestmark = pytest.mark.stack


@pytest.fixture(scope="module")
def data() -> pd.DataFrame:
    rng = np.random.default_rng(5)
    d = pd.DataFrame({"x": rng.normal(size=60), "g": np.repeat(list("abcdef"), 10), "f": np.tile(list("uvw"), 20)})
    d["y"] = 3 + d["x"] + 4 * rng.normal(size=6)[pd.factorize(d["g"])[0]] + rng.normal(size=60)
    return d


def log_density(graph: Any) -> float:
    """Of a PyMC graph at a point that depends on the order of its variables only, not on their names."""
    rng = np.random.default_rng(2)
    start = graph.initial_point()
    point = {v.name: rng.normal(0, 0.3, np.shape(start[v.name])) for v in graph.value_vars}
    return float(graph.compile_logp(mode="FAST_COMPILE")(point))


RENAMED = {"x": "slope", "Intercept": "level", "1|g": "u0", "x|g": "u1", "sigma": "noise"}
CASES = {
    "correlated": ("y ~ x + (x | g)", {}),
    "centred": ("y ~ x + (x | g)", {"noncentered": False}),
    "a factor's columns": ("y ~ x + (f | g)", {}),
}


@pytest.mark.parametrize("case", CASES)
def test_built_again_it_is_the_same_model(data: pd.DataFrame, case: str) -> None:
    formula, options = CASES[case]
    model = hm.Model(formula, data, **options)
    before = model.pymc
    expected = log_density(before)
    model.bambi.build()
    assert model.pymc is not before
    assert "g_corr" in model.pymc.named_vars
    assert list(model.pymc.named_vars) == list(before.named_vars)
    assert log_density(model.pymc) == pytest.approx(expected, rel=1e-10)
    uncorrelated = bambi.Model.build
    uncorrelated(model.bambi)  # what Bambi alone would make of it, so that the comparison can fail
    assert "g_corr" not in model.pymc.named_vars


def test_with_aliases_it_is_the_same_model_under_other_names(data: pd.DataFrame) -> None:
    """Centred, so that the sums with common predictors go by the other names too."""
    model = build_bambi(build_design("y ~ x + (x | g)", data), centred={"g": 1.0})
    expected = log_density(model.backend.model)
    model.set_alias(RENAMED)
    model.build()
    names = set(model.backend.model.named_vars)
    # Bambi's "sigma" names the residual sd and the groups' alike
    assert {"slope", "level", "u0", "u1", "u0_noise", "u1_noise", "noise", "g_corr"} <= names
    assert "u0_centred_offset" in names
    assert not {"x", "1|g", "x|g", "1|g_sigma"} & names
    assert log_density(model.backend.model) == pytest.approx(expected, rel=1e-10)


def test_aliases_of_hyperpriors_and_of_a_further_parameter(data: pd.DataFrame) -> None:
    model = hm.Model("y ~ x + (x | g)", data, parameters={"sigma": "x + (x | g)"})
    expected = log_density(model.pymc)
    model.bambi.set_alias({"mu": {"x|g": "u1", "sigma": "tau"}, "sigma": {"x": "spread"}})
    model.bambi.build()
    names = set(model.pymc.named_vars)
    assert {"u1_tau", "1|g_tau", "spread", "g_corr", "sigma_g_corr"} <= names
    assert log_density(model.pymc) == pytest.approx(expected, rel=1e-10)


def test_hiermods_own_work_keeps_its_names(data: pd.DataFrame) -> None:
    model = hm.Model("y ~ x + (x | g)", data)
    assert model._graph is model.bambi
    model.bambi.set_alias(RENAMED)
    own = model._graph
    assert own is not model.bambi
    assert {"x", "1|g", "g_corr"} <= set(own.backend.model.named_vars)
    assert model._graph is own
    assert model.bambi.renamed


def test_its_priors_are_changed_by_a_new_model(data: pd.DataFrame) -> None:
    model = hm.Model("y ~ x + (x | g)", data)
    with pytest.raises(hm.HiermodError, match=r"hm\.Model\(\.\.\., priors="):
        model.bambi.set_priors(common=bambi.Prior("Normal", mu=0, sigma=1))


def test_bambi_itself_is_left_as_it_was(data: pd.DataFrame) -> None:
    hm.Model("y ~ x + (x | g)", data).bambi  # noqa: B018
    with pytest.raises(ValueError, match="constant"):
        bambi.Model("y ~ one", data[["y"]].assign(one=1.0))


def test_a_prior_of_bambi_that_pymc_cannot_have_is_refused_in_words(data):
    model = hm.Model("y ~ x + (1 | g)", data, priors={"x": bambi.Prior("Nrml", mu=0.0, sigma=1.0)})
    with pytest.raises(UnsupportedError, match=r"PyMC cannot build the graph of 'y ~ x .*'Nrml' was not found"):
        _ = model.pymc


@pytest.mark.parametrize(
    ("prior", "said"),
    [
        (("Normal", {"mu": 0.0, "sig": 5.0}), "Normal has no argument 'sig'. Did you mean 'sigma'"),
        (("Normal", {"mu": 0.0, "sigma": -1.0}), "sigma of Normal must be positive, got -1"),
        (("HalfNormal", {"mu": 1.0}), "HalfNormal has no argument 'mu'"),
    ],
)
def test_arguments_of_a_prior_of_bambi_are_checked_before_any_engine(data, prior, said):
    """The marginal engine and PyMC 6 took their default in silence: Normal(0, sig=5) was Normal(0, 1)."""
    with pytest.raises(ArgumentError, match=re.escape(said)):
        hm.Model("y ~ x + (1 | g)", data, priors={"x": bambi.Prior(prior[0], **prior[1])})
    nested = bambi.Prior("Normal", mu=0, sigma=bambi.Prior(prior[0], **prior[1]))
    with pytest.raises(ArgumentError, match=re.escape(said)):
        hm.Model("y ~ x + (1 | g)", data, priors={"1|g": nested})
