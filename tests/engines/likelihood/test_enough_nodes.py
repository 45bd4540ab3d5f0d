"""nodes="auto", and the error of Laplace's approximation in words: against integrals by the trapezoidal rule.

Of integrands that vanish at both ends the rule has all digits, whatever their shape."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import hiermod as hm
from hiermod.engines.likelihood.enough_nodes import LADDER, integration_error
from hiermod.errors import ArgumentError, SingularFitWarning, UnsupportedError
from hiermod.families.catalogue import FAMILIES
from hiermod.families.links import inverse_link
from hiermod.fits.generalised import GeneralisedFit

HARD = "y ~ treated * x + (1 | g)"


def hard(levels: int = 150, rows: int = 7, sd: float = 4.0) -> pd.DataFrame:
    """0 and 1 of levels that differ so much that most have one outcome only."""
    rng = np.random.default_rng(1)
    g = np.repeat(np.arange(levels), rows)
    x, treated = np.tile(np.linspace(0, 1.8, rows), levels), g % 2
    eta = -1.6 - 0.1 * treated - 1.5 * x - 0.5 * treated * x + sd * rng.standard_normal(levels)[g]
    y = (rng.random(len(g)) < inverse_link("logit", eta)).astype(int)
    return pd.DataFrame({"y": y, "x": x, "treated": treated, "g": g.astype(str)})


def exact(fit: GeneralisedFit) -> float:
    """-2 log likelihood of a fit's estimates, by 2,001 equal steps of each level's effect."""
    record, block, family = fit.record, fit.design.blocks[0], FAMILIES[fit.family]
    u = np.linspace(-12, 12, 2001)
    eta = np.array(record.population_eta)[:, None] + record.theta[0] * block.values * u
    logs = family.logpdf(
        record.likelihood.y[:, None],
        inverse_link(fit.link, eta),
        {name: value if np.ndim(value) == 0 else value[:, None] for name, value in record.likelihood.further.items()},
    )
    sums = np.zeros((len(block.levels), len(u)))
    np.add.at(sums, block.codes, logs)
    sums -= 0.5 * u**2 + 0.5 * np.log(2 * np.pi)
    top = sums.max(axis=1, keepdims=True)
    return -2.0 * float((top[:, 0] + np.log(np.exp(sums - top).sum(axis=1) * (u[1] - u[0]))).sum())


def test_enough_nodes_are_exact_where_laplace_is_not() -> None:
    model = hm.Model(HARD, hard(), family="bernoulli")
    laplace, enough = model.ml(), model.ml(nodes="auto")
    assert enough.nodes > 15
    assert enough.converged
    assert enough.criterion == pytest.approx(exact(enough), abs=2e-6)
    assert abs(laplace.criterion - exact(laplace)) > 0.1
    shift = (enough.fixef()["estimate"] - laplace.fixef()["estimate"]) / laplace.fixef()["std_error"]
    assert shift.abs().max() > 0.5
    for nodes in LADDER[1:]:  # no number of nodes ends lower: it is the minimum of the integral itself
        assert exact(model.ml(nodes=nodes)) > enough.criterion - 2e-6


def test_few_nodes_are_enough_for_easy_data() -> None:
    """The error of 15 nodes, by the trapezoidal rule, is below the tolerance."""
    cbpp = hm.Model("p(incidence, size) ~ period + (1 | herd)", hm.load_dataset("cbpp"), family="binomial")
    fit = cbpp.ml(nodes="auto")
    assert fit.nodes == 15
    assert fit.criterion == pytest.approx(exact(fit), abs=1e-6)
    assert fit.criterion == cbpp.ml(nodes=15).criterion


def test_families_with_further_parameters_have_it_too() -> None:
    rng = np.random.default_rng(3)
    g = np.repeat(np.arange(30), 4)
    mean = np.exp(0.3 + 1.2 * rng.standard_normal(30)[g])
    data = pd.DataFrame({"y": rng.poisson(mean * rng.gamma(1.5, 1 / 1.5, len(g))), "g": g.astype(str)})
    fit = hm.Model("y ~ 1 + (1 | g)", data, family="negativebinomial").ml(nodes="auto")
    assert fit.nodes in LADDER
    assert fit.criterion == pytest.approx(exact(fit), abs=2e-6)


def test_the_error_is_measured() -> None:
    """The difference of the log likelihoods is that of the rule's; the estimates are those of the fit by more nodes."""
    model = hm.Model(HARD, hard(), family="bernoulli")
    laplace, enough = model.ml(), model.ml(nodes="auto")
    error = integration_error(laplace.record, 0.1)
    assert error is not None
    assert error.loglik == pytest.approx(0.5 * (laplace.criterion - exact(laplace)), abs=2e-3)  # 63 nodes, sd 5.6
    assert error.refit is not None
    assert error.refit.beta == pytest.approx(enough.record.beta, abs=1e-3)
    settled = integration_error(model.ml(nodes=31).record, 0.1)
    assert settled is not None
    assert settled.refit is None


def test_check_says_where_laplace_is_off() -> None:
    model = hm.Model(HARD, hard(), family="bernoulli")
    told = " ".join(str(model.ml().check()).split())
    assert "Laplace's approximation is off here" in told
    assert "ml(nodes='auto')" in told
    assert "approximation is off" not in str(model.ml(nodes="auto").check())
    cbpp = hm.Model("p(incidence, size) ~ period + (1 | herd)", hm.load_dataset("cbpp"), family="binomial")
    assert "Laplace" not in str(cbpp.ml().check())


def test_check_warns_of_large_sds_where_levels_do_not_integrate() -> None:
    data = hard(60).assign(h=lambda d: np.arange(len(d)) % 5)
    with pytest.warns(SingularFitWarning):  # h has no effect
        fit = hm.Model("y ~ x + (1 | g) + (1 | h)", data, family="bernoulli").ml()
    told = " ".join(str(fit.check()).split())
    assert "there Laplace's approximation may be off" in told
    assert "Levels of g differ" in told
    assert "Levels of h differ" not in told


def test_a_variance_of_zero_needs_no_more_nodes() -> None:
    rng = np.random.default_rng(3)
    data = pd.DataFrame({"g": np.repeat(list("abcdefghijkl"), 10), "y": rng.poisson(3, 120)})
    model = hm.Model("y ~ 1 + (1 | g)", data, family="poisson")
    with pytest.warns(SingularFitWarning):
        fit = model.ml(nodes="auto")
    assert (fit.nodes, fit.theta.iloc[0]) == (15, 0.0)


def test_what_has_no_quadrature_is_refused() -> None:
    data = hard(20)
    with pytest.raises(UnsupportedError, match="one group term with one effect"):
        hm.Model("y ~ x + (x | g)", data, family="bernoulli").ml(nodes="auto")
    with pytest.raises(ArgumentError, match="'auto' for as many as are needed"):
        hm.Model("y ~ x + (1 | g)", data, family="bernoulli").ml(nodes="many")
    with pytest.raises(ArgumentError, match="nodes= is for families"):
        hm.Model("x ~ 1 + (1 | g)", data).ml(nodes="auto")
