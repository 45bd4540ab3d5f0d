"""Refits and the parametric bootstrap: against fresh fits of the same responses, known laws, seeds, failures."""

from __future__ import annotations

import multiprocessing

import numpy as np
import pandas as pd
import pytest
from kernel_cases import CASES, dense_parts, frame, rows_to_tail  # noqa: F401  (a fixture)

from hiermod.core import progress
from hiermod.datasets import load_dataset
from hiermod.engines.likelihood.least_squares import LinearFit, fit_linear
from hiermod.engines.likelihood.many_refits import search_all
from hiermod.engines.likelihood.many_responses import chunk_size, evaluate, stack
from hiermod.engines.likelihood.mixed import MixedFit, fit_mixed
from hiermod.engines.likelihood.refit import Responses, refit, simulated, with_response
from hiermod.errors import ArgumentError, ArgumentTypeError, ConvergenceWarning, DataError, DesignError, FitError
from hiermod.formula.build import build_design
from hiermod.inference.bootstrap import worker
from hiermod.inference.bootstrap.bootstrap import bootstrap
from hiermod.inference.bootstrap.worker import Worker
from hiermod.inference.intervals import bootstrap_draws, bootstrap_limits, bootstrap_record

STACKED = [case for case in CASES if case not in ("chain of three", "nested and crossed")]


def fitted(formula: str, data: pd.DataFrame | str, reml: bool = True, **options) -> MixedFit:
    return fit_mixed(build_design(formula, load_dataset(data) if isinstance(data, str) else data, **options), reml)


def of_case(case: str, reml: bool = True) -> MixedFit:
    return fitted(CASES[case][0], frame(), reml, **CASES[case][1])


@pytest.fixture(scope="module")
def sleep() -> MixedFit:
    return fitted("Reaction ~ Days + (Days | Subject)", "sleepstudy")


@pytest.mark.parametrize("case", list(CASES))
def test_a_refit_is_a_fresh_fit(case, rows_to_tail):  # noqa: F811
    """The same search on the same numbers: equal up to rounding, for both ways to keep the crossed rows."""
    fit = of_case(case)
    y = simulated(fit, 2, np.random.default_rng(1))[1]
    again, fresh = refit(fit, y), fit_mixed(with_response(fit.design, y))
    assert again.criterion == pytest.approx(fresh.criterion, abs=1e-8)
    assert again.theta == pytest.approx(fresh.theta, abs=1e-7)
    assert again.fitted == pytest.approx(fresh.fitted, abs=1e-7)
    assert again.design.y.tolist() == y.tolist() == again.design.frame["y"].tolist()
    assert refit(fit, fit.design.y).theta == pytest.approx(fit.theta, abs=1e-7)


def test_refit_keeps_method_and_labels(sleep):
    ml = fit_mixed(sleep.design, reml=False)
    assert not refit(ml, sleep.design.y).reml
    y = pd.Series(sleep.design.y + 1.0, index=sleep.design.index)
    assert refit(sleep, y.sample(frac=1.0, random_state=1)).beta == pytest.approx(sleep.beta + np.array([1.0, 0.0]))
    logged = fitted("log(Reaction) ~ Days + (Days | Subject)", "sleepstudy")
    again = refit(logged, logged.design.y)
    assert again.design.frame.equals(logged.design.frame)
    line = fit_linear(build_design("y ~ x", frame()))
    assert refit(line, 2.0 * line.design.y).beta == pytest.approx(2.0 * line.beta)


def test_refit_refuses_what_cannot_be_a_response(sleep):
    y = np.array(sleep.design.y)
    with pytest.raises(DataError, match="180 rows of the fit, got shape"):
        refit(sleep, y[:-1])
    y[3] = np.nan
    with pytest.raises(DataError, match=r"1 missing or infinite .*first in row 3"):
        refit(sleep, y)
    with pytest.raises(ArgumentTypeError, match="column of numbers"):
        refit(sleep, ["a"] * 180)
    with pytest.raises(DesignError, match="explains the new Reaction exactly"):
        refit(sleep, np.full(180, 3.0))
    incomplete = load_dataset("sleepstudy").assign(Days=lambda d: d.Days.where(d.index != 5))
    dropped = fit_mixed(build_design("Reaction ~ Days + (1 | Subject)", incomplete, dropna=True))
    with pytest.raises(DataError, match="1 of the data's 180 rows were dropped"):
        refit(dropped, incomplete["Reaction"].to_numpy())


@pytest.mark.parametrize("case", ["weights", "known se", "crossed slopes"])
def test_simulated_responses_have_the_models_moments(case):
    """Mean X beta and covariance sigma^2 (Z G Z' + W^-1) of 4000 draws, each entry within 5 Monte Carlo errors."""
    fit, draws = of_case(case), 4000
    Y = simulated(fit, draws, np.random.default_rng(4))
    _, X, Z, G, noise = dense_parts(fit.design, fit.Lambda)
    V = fit.sigma**2 * (Z @ G @ Z.T + np.diag(noise))
    sd = np.sqrt(np.diag(V))
    assert np.abs((Y.mean(axis=0) - X @ fit.beta) / sd).max() < 5 / np.sqrt(draws)
    error = np.sqrt((V**2 + np.outer(sd**2, sd**2)) / draws)  # Isserlis
    assert (np.abs(np.cov(Y.T) - V) / error).max() < 5.5  # of 11,325 entries
    offset = of_case("offset")
    middle = simulated(offset, draws, np.random.default_rng(1)).mean(axis=0)
    assert middle == pytest.approx(offset.population, abs=5 * 8.0 / np.sqrt(draws))


def test_a_draw_does_not_depend_on_how_many_follow(sleep):
    few, many = (simulated(sleep, n, np.random.default_rng(7)) for n in (2, 9))
    assert (few == many[:2]).all()


@pytest.mark.parametrize("case", STACKED)
@pytest.mark.parametrize("reml", [True, False])
def test_stacks_have_the_kernels_criterion_and_gradient(case, reml):
    """Rounding only, 1e-8: the same algebra in another order."""
    fit, rng = of_case(case), np.random.default_rng(5)
    problem, responses = fit.problem, Responses(fit.design, fit.problem)
    assert chunk_size(problem) > 0
    products = responses.products(simulated(fit, 4, rng))
    x = problem.x_from_theta(fit.theta) + 0.4 * rng.normal(size=(4, len(fit.theta)))
    found = evaluate(stack(problem, products), x, reml)
    for s in range(4):
        value, gradient = responses.problem_with(products, s).criterion_and_gradient_x(x[s], reml)
        assert found.value[s] == pytest.approx(value, rel=1e-10)
        assert found.gradient[s] == pytest.approx(gradient, rel=1e-8, abs=1e-8 * np.abs(gradient).max())


@pytest.mark.parametrize(
    ("fit", "draws"),
    [
        (lambda: fitted("Reaction ~ Days + (Days | Subject)", "sleepstudy"), 60),
        (lambda: fitted("reaction ~ days + (days | subject)", "sleep_partial", reml=False), 30),
        (lambda: fitted("Yield ~ 1 + (1 | Batch)", "dyestuff2"), 60),
        (lambda: fitted("diameter ~ 1 + (1 | plate) + (1 | sample)", "penicillin"), 20),
        (lambda: fitted("strength ~ 1 + (1 | batch) + (1 | cask:batch)", "pastes"), 20),
        (lambda: of_case("known se"), 20),
        (lambda: of_case("same factor, split"), 20),
    ],
    ids=["slopes", "unbalanced, ML", "singular", "crossed", "nested", "known se", "same factor, split"],
)
def test_bootstrap_is_a_loop_of_fits(fit, draws):
    """The same simulated responses, each given to fit_mixed.  1e-6 in the criterion; estimates, in standard errors and
    sigmas, to 1e-5: two searches stop where the criterion is flat to 1e-11."""
    fit = fit()
    found = bootstrap(fit, draws, random_seed=3)
    worker = Worker(fit)
    Y = np.concatenate([simulated(fit, count, rng) for count, rng in worker.jobs(draws, 3)])
    loop = [fit_mixed(with_response(fit.design, y), fit.reml) for y in Y]
    assert found.converged.all()
    assert found.criterion == pytest.approx([each.criterion for each in loop], abs=1e-6)
    values = np.array([worker.estimates(each) for each in loop])
    unit = np.array([1.0 if p.kind == "corr" else max(fit.sigma, 1e-3) for p in found.parameters])
    known = np.isfinite(values) & np.isfinite(found.values)
    assert (np.isfinite(values) == np.isfinite(found.values)).mean() > 0.98  # an sd of 0, or of 1e-9
    sds = np.array([p.kind != "corr" for p in found.parameters])
    assert (np.where(known, found.values - values, 0.0) / unit)[:, sds] == pytest.approx(0.0, abs=1e-5)
    assert (np.where(known, found.values - values, 0.0) / unit)[:, ~sds] == pytest.approx(0.0, abs=1e-3)


def test_searches_that_lead_nowhere_start_again():
    """Nearly collinear uncorrelated terms, started far off: 4 of 40 searches end at a proven minimum, with the other
    starts 36, and all of these at fit_mixed's."""
    rng = np.random.default_rng(5)
    g = np.repeat(np.arange(12), 10)
    x = rng.normal(size=120)
    y = x + rng.normal(size=12)[g] + 2 * rng.normal(size=12)[g] * x + 0.5 * rng.normal(size=120)
    fit = fitted("y ~ x + (x || g)", pd.DataFrame({"y": y, "x": x + 15, "g": pd.Categorical(g)}))
    Y = simulated(fit, 40, np.random.default_rng(3))
    found = search_all(stack(fit.problem, Responses(fit.design, fit.problem).products(Y)), True, np.array([0.2, 1.0]))
    proven = np.flatnonzero(found.proven)
    assert len(proven) > 30
    loop = [fit_mixed(with_response(fit.design, Y[s])).criterion for s in proven]
    assert found.value[proven] == pytest.approx(loop, abs=1e-6)


def test_bootstrap_of_a_balanced_design_has_the_exact_law_of_beta(sleep):
    """Balanced: beta* is least squares whatever theta, so N(beta, vcov) exactly.  Within 4 Monte Carlo errors."""
    draws = 4000
    found = bootstrap(sleep, draws, random_seed=1)
    beta, se = found.values[:, :2], np.sqrt(np.diag(sleep.vcov_beta))
    assert np.abs((beta.mean(axis=0) - sleep.beta) / se).max() < 4 / np.sqrt(draws)
    assert np.abs(beta.std(axis=0) / se - 1).max() < 4 / np.sqrt(2 * draws)
    lower, upper = found.limits(0.95)
    error = np.sqrt(0.025 * 0.975 / draws) / 0.05845  # of a 2.5 % quantile, in standard errors
    assert (lower[:2] - sleep.beta) / se == pytest.approx([-1.96, -1.96], abs=4 * error)
    assert (upper[:2] - sleep.beta) / se == pytest.approx([1.96, 1.96], abs=4 * error)
    # sigma*^2: 180 - 36 within-subject degrees of freedom when no variance is at its boundary, as here
    assert (found.values[:, -1] ** 2).mean() == pytest.approx(sleep.sigma**2, rel=4 * np.sqrt(2 / 144 / draws))


def test_bootstrap_of_a_linear_model_has_its_laws():
    fit: LinearFit = fit_linear(build_design("y ~ x + offset(z)", frame(), weights="w"))
    draws = 2000
    found = bootstrap(fit, draws, random_seed=2)
    se = np.sqrt(np.diag(fit.vcov_beta))
    assert [p.kind for p in found.parameters] == ["fixed", "fixed", "sigma"]
    assert np.abs(found.values[:, :2].std(axis=0) / se - 1).max() < 4 / np.sqrt(2 * draws)
    df = fit.df_residual
    assert (found.values[:, 2] ** 2).mean() == pytest.approx(fit.sigma**2, rel=4 * np.sqrt(2 / df / draws))


def test_seeds(sleep):
    first, second, other = (bootstrap(sleep, 30, seed).values for seed in (5, 5, 6))
    assert (first == second).all()
    assert (first != other).any()
    drawn = bootstrap(sleep, 3, np.random.default_rng(1))
    assert (drawn.values == bootstrap(sleep, 3, drawn.seed).values).all()
    assert (bootstrap(sleep, 7, bootstrap(sleep, 1).seed).values).shape == (7, 6)


def test_processes_do_not_change_the_numbers_and_stop_when_asked():
    """Chunks of ten: nested factors are refitted one by one."""
    fit = fitted("strength ~ 1 + (1 | batch) + (1 | cask:batch)", "pastes")
    alone, shared = (bootstrap(fit, 25, 4, cores=cores) for cores in (1, 2))
    assert (alone.values == shared.values).all()
    assert (alone.criterion == shared.criterion).all()

    def interrupt(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        bootstrap(fit, 200, 4, cores=2, report=interrupt)
    assert multiprocessing.active_children() == []


def test_failed_refits_are_counted_and_left_out(monkeypatch):
    fit = fitted("strength ~ 1 + (1 | batch) + (1 | cask:batch)", "pastes")
    usual, calls = worker.fit_problem, []
    whole = bootstrap(fit, 20, 1)

    def sometimes(*arguments):
        calls.append(arguments)
        if len(calls) % 5 == 0:
            raise FitError("the factor could not be had")
        return usual(*arguments)

    monkeypatch.setattr(worker, "fit_problem", sometimes)
    with pytest.warns(ConvergenceWarning, match=r"of 20 bootstrap refits 4 failed .*could not be had \(4 times\)"):
        found = bootstrap_record(fit, 20, 1)
    assert found.failed.sum() == 4
    assert np.isnan(found.values[found.failed]).all()
    kept = whole.values[~found.failed]
    table = bootstrap_limits(fit, found, 0.8)
    assert table.loc["sigma"].to_numpy() == pytest.approx(np.quantile(kept[:, -1], [0.1, 0.9]))
    assert (table.attrs["failed"], table.attrs["draws"], table.attrs["random_seed"]) == (4, 20, 1)

    def never(*arguments):
        raise FitError("no")

    monkeypatch.setattr(worker, "fit_problem", never)
    with pytest.raises(FitError, match="none of the 3 bootstrap refits"):
        bootstrap(fit, 3, 1)


def test_tables(sleep):
    found = bootstrap_record(sleep, 200, 1)
    draws, limits = bootstrap_draws(sleep, found), bootstrap_limits(sleep, found, parameters=["Days", "sigma"])
    assert list(draws.columns) == [
        "Intercept",
        "Days",
        "1|Subject_sigma",
        "Days|Subject_sigma",
        "Subject_corr[Intercept,Days]",
        "sigma",
    ]
    assert draws.shape == (200, 6)
    assert limits.loc["sigma"].tolist() == pytest.approx(draws["sigma"].quantile([0.025, 0.975]).tolist())
    assert list(limits.index) == ["Days", "sigma"]
    assert found.estimate == pytest.approx(Worker(sleep).estimates(sleep))
    singular = fitted("mpg ~ wt + (wt | cyl)", "mtcars")
    notes = bootstrap_limits(singular, bootstrap_record(singular, 100, 1)).attrs["notes"]
    assert "where an sd was 0" in notes["cyl_corr[Intercept,wt]"]


def test_arguments(sleep):
    with pytest.raises(ArgumentError, match="draws must be"):
        bootstrap(sleep, 0)
    with pytest.raises(ArgumentError, match="cores must be"):
        bootstrap(sleep, 10, cores=0)
    with pytest.raises(ArgumentTypeError, match="random_seed must be"):
        bootstrap(sleep, 10, "1")
    with pytest.raises(ArgumentError, match="must lie between 0"):
        bootstrap(sleep, 10, -1)


def test_the_bar_shows_where_someone_watches(sleep, monkeypatch, capsys):
    clock = iter(range(100))
    monkeypatch.setattr(progress.time, "monotonic", lambda: float(next(clock)))
    bootstrap_record(sleep, 20, 1)
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(progress, "someone_watches", lambda: True)
    bootstrap_record(sleep, 20, 1, progressbar=False)
    assert capsys.readouterr().err == ""
    bootstrap_record(sleep, 20, 1)
    text = capsys.readouterr()
    assert "20/20" in text.err
    assert text.err.endswith(" \r")
    assert text.out == ""
