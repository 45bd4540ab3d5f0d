"""The four glmer cases of tests/reference: estimates, modes, residuals and predictions."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from hiermod.engines.likelihood.generalised import fit_generalised
from hiermod.fits.generalised import GeneralisedFit
from hiermod.formula.build import build_design

CASES = {
    "ucb_binomial": ("binomial", "logit"),
    "cbpp": ("binomial", "logit"),
    "grouseticks": ("poisson", "log"),
    "verbagg": ("bernoulli", "logit"),
}


@pytest.fixture(scope="module", params=CASES)
def case(request, reference, reference_data):
    """(reference results, fit)."""
    expected = reference(request.param)
    family, link = CASES[request.param]
    design = build_design(expected["formula"], reference_data(request.param), family=family)
    return expected, GeneralisedFit(design, fit_generalised(design, family, link), family)


def in_order_of(names, fit) -> list[int]:
    """Positions of coefficients named as R names them."""
    mine = [label.replace("Intercept", "(Intercept)").replace("[", "").replace("]", "") for label in fit.design.common]
    return [mine.index(name) for name in names]


def test_estimates(case):
    """Against ``tight``, 1e-3 standard errors or better; se to 1e-3, since lme4 takes its Hessian by differences."""
    expected, fit = case
    tight = expected["tight"]
    assert fit.criterion <= tight["criterion"] + 1e-7
    assert fit.criterion == pytest.approx(tight["criterion"], abs=1e-4)
    order = in_order_of(tight["fixef"], fit)
    table = fit.fixef().iloc[order]
    se = np.array(list(tight["se"].values()))
    assert (np.abs(table["estimate"] - list(tight["fixef"].values())) < 1e-4 * se).all()
    assert table["std_error"].to_numpy() == pytest.approx(se, rel=1e-3)
    assert table["z"].to_numpy() == pytest.approx(list(expected["z"].values()), rel=1e-3, abs=1e-3)
    assert table["p"].to_numpy() == pytest.approx(list(expected["p"].values()), rel=2e-2)  # z's error, amplified
    assert fit.theta.to_numpy() == pytest.approx(tight["theta"], abs=1e-5)
    assert list(fit.theta.index) == list(np.atleast_1d(expected["theta_names"]))
    sds = {row.group: row.sdcor for row in fit.varcorr().itertuples()}
    assert sds == pytest.approx({g: np.atleast_1d(v["sd"])[0] for g, v in tight["varcorr"].items()}, rel=1e-4)
    assert fit.converged
    assert fit.singular == bool(expected["singular"])
    assert fit.npar == expected["npar"]
    assert fit.ngroups == expected["ngroups"]
    assert (fit.loglik, fit.aic, fit.bic) == pytest.approx(
        tuple(expected[name] for name in ("logLik", "AIC", "BIC")), abs=1e-4
    )


def test_modes(case):
    """Conditional modes and condsd; the main block may have stopped 5e-5 above the minimum (grouseticks)."""
    expected, fit = case
    table = fit.ranef()
    for group, theirs in expected["ranef"].items():
        mine = table[table["group"] == group].set_index("level").loc[[str(level) for level in theirs["levels"]]]
        assert mine["estimate"].to_numpy() == pytest.approx(np.ravel(theirs["values"]), abs=5e-5)
        assert mine["std_error"].to_numpy() == pytest.approx(np.ravel(theirs["condsd"]), abs=2e-5)


def test_fitted_and_residuals(case):
    """Deviance residuals of the first rows; quartiles of the Pearson ones."""
    expected, fit = case
    assert fit.fitted().to_numpy()[:10] == pytest.approx(expected["fitted_head"], abs=2e-5)
    assert fit.record.eta[:10] == pytest.approx(expected["linpred_head"], abs=5e-5)
    assert fit.residuals("deviance").to_numpy()[:10] == pytest.approx(expected["resid_head"], abs=5e-5)
    quartiles = np.quantile(fit.residuals("scaled"), [0, 0.25, 0.5, 0.75, 1])
    assert quartiles == pytest.approx(expected["scaled_resid_quantiles"], abs=2e-5)


def test_predictions(case):
    """New rows on the response scale, an unseen level at 0, and the population."""
    expected, fit = case
    theirs = expected["predict_new_response"]
    newdata = pd.DataFrame(theirs["newdata"])
    with_groups = fit.predict(newdata, new_levels="zero")["estimate"].to_numpy()
    assert with_groups == pytest.approx(theirs["with_re"], rel=5e-5)
    population = fit.predict(newdata, target="population")["estimate"].to_numpy()
    assert population == pytest.approx(theirs["re_form_NA"], rel=5e-5)


def test_wald_intervals(case):
    expected, fit = case
    order = in_order_of(expected["confint_wald"], fit)
    mine = fit.confint(method="wald").iloc[order]
    theirs = np.array(list(expected["confint_wald"].values()))
    width = theirs[:, 1] - theirs[:, 0]
    assert (np.abs(mine.to_numpy() - theirs) < 1e-3 * width[:, None]).all()
