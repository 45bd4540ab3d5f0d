"""Likelihood-ratio tests: lme4's anova, what is nested in what, mixtures and simulation at the boundary, refusals.

Reference: tests/reference/lme4/lrt_*.json (lme4 1.1-31, default optimiser, which stops up to 1e-6 below the maximum of
the log likelihood: hence 1e-5 for chi-square and p)."""

from __future__ import annotations

import pickle
import warnings

import numpy as np
import pandas as pd
import pytest
from conftest import data_name, read_reference
from scipy import stats

from hiermod.datasets import load_dataset
from hiermod.engines.likelihood.glm import fit_glm
from hiermod.engines.likelihood.least_squares import fit_linear
from hiermod.engines.likelihood.mixed import fit_mixed
from hiermod.engines.likelihood.refit import with_response
from hiermod.errors import ArgumentError, ArgumentTypeError, SingularFitWarning
from hiermod.inference.bootstrap.null_distribution import Pair, null_distribution
from hiermod.inference.comparison.likelihood_ratio import lrt
from hiermod.inference.comparison.nested import nesting
from hiermod.model import Model

CASES = ["simulated100_lm", "sleep2_days", "sleepstudy_correlation", "sleepstudy_days", "sleepstudy_random_slope"]


def sleep(formula: str, reml: bool = True, **options):
    model = Model(formula, options.pop("data", load_dataset("sleepstudy")), **options)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SingularFitWarning)
        return model.reml() if reml else model.ml()


@pytest.mark.parametrize("reml", [True, False])
@pytest.mark.parametrize("case", CASES)
def test_the_table_is_lme4s(case: str, reml: bool) -> None:
    r = read_reference(f"lrt_{case}")
    d = load_dataset(data_name(r["data"]))
    table = lrt(sleep(r["formula1"], reml, data=d), sleep(r["formula0"], reml, data=d))  # any order
    assert list(table.index) == [r["formula0"], r["formula1"]]
    assert table["npar"].tolist() == r["npar"]
    for column, key in (("loglik", "logLik"), ("deviance", "deviance"), ("aic", "AIC"), ("bic", "BIC")):
        assert table[column].to_numpy() == pytest.approx(r[key], rel=1e-8)
    assert table.iloc[0][["chisq", "df", "p", "p_boundary"]].isna().all()
    assert table["chisq"].iloc[1] == pytest.approx(r["Chisq"][1], rel=1e-5)
    assert table["df"].iloc[1] == r["Df"][1]
    assert table["p"].iloc[1] == pytest.approx(r["p"][1], rel=1e-5)
    assert any("refitted" in note for note in table.attrs["notes"]) == reml


def test_printed_tables() -> None:
    """The course's lecture prints 608.6, 621.99, 1.7999, 0.1797; D. Barr's slides print 23.5 and 0.00000123."""
    d = load_dataset("simulated100")
    table = lrt(sleep("value ~ 1 + condition", data=d), sleep("value ~ 1 + condition + (1 | participant)", data=d))
    assert table["aic"].round(1).tolist() == [608.6, 608.8]
    assert table["bic"].round(2).tolist() == [618.49, 621.99]
    assert table.iloc[1][["chisq", "p"]].round(4).tolist() == [1.7999, 0.1797]
    days = lrt(sleep("Reaction ~ (Days | Subject)"), sleep("Reaction ~ Days + (Days | Subject)"))
    assert f"{days['chisq'].iloc[1]:.1f} {days['p'].iloc[1]:.2e}" == "23.5 1.23e-06"


@pytest.mark.parametrize(
    ("small", "large", "weights"),  # the mixture as {df of the chi-square: its share}; None where it does not apply
    [
        ("Reaction ~ Days", "Reaction ~ Days + (1 | Subject)", {0: 0.5, 1: 0.5}),
        ("Reaction ~ Days + (1 | Subject)", "Reaction ~ Days + (Days | Subject)", {1: 0.5, 2: 0.5}),
        ("Reaction ~ Days + (1 | Subject)", "Reaction ~ Days + (Days || Subject)", {0: 0.5, 1: 0.5}),
        ("Reaction ~ 1 + (1 | Subject)", "Reaction ~ Days + (Days | Subject)", {2: 0.5, 3: 0.5}),
        ("Reaction ~ Days + (Days || Subject)", "Reaction ~ Days + (Days | Subject)", None),
        ("Reaction ~ 1 + (Days | Subject)", "Reaction ~ Days + (Days | Subject)", None),
        ("Reaction ~ Days", "Reaction ~ Days + (Days | Subject)", None),
    ],
)
def test_p_at_the_boundary(small: str, large: str, weights: dict[int, float] | None) -> None:
    table = lrt(sleep(small), sleep(large))
    chisq, p = table["chisq"].iloc[1], table["p_boundary"].iloc[1]
    notes = " ".join(table.attrs["notes"])
    if weights is None:
        assert np.isnan(p)
        several = small == "Reaction ~ Days"
        assert ("2 variances are added at once" in notes) == several
        assert ("conservative" in notes) == several
        return
    assert p == pytest.approx(sum(w * (stats.chi2.sf(chisq, df) if df else 0.0) for df, w in weights.items()))
    assert p < table["p"].iloc[1]
    assert "p is conservative" in notes


def test_a_variance_estimated_as_zero() -> None:
    d = load_dataset("different_slopes")
    table = lrt(sleep("value ~ condition", data=d), sleep("value ~ condition + (1 | participant)", data=d))
    last = table.iloc[1]
    assert last["chisq"] == pytest.approx(0.0, abs=1e-9)
    assert last["p"] == pytest.approx(1.0, abs=1e-4)
    assert last["p_boundary"] == pytest.approx(1.0, abs=1e-4) or last["chisq"] > 0
    assert "singular fit" in table.attrs["notes"][-1]


def test_several_models_and_names() -> None:
    fits = {
        "slopes": sleep("Reaction ~ Days + (Days | Subject)"),
        "line": sleep("Reaction ~ Days"),
        "intercepts": sleep("Reaction ~ Days + (1 | Subject)", reml=False),
    }
    table = lrt(fits)
    assert list(table.index) == ["line", "intercepts", "slopes"]
    assert table["df"].tolist()[1:] == [1, 2]
    assert table["chisq"].sum() == pytest.approx(table["deviance"].iloc[0] - table["deviance"].iloc[2])
    assert "Refitted: slopes." in table.attrs["notes"][0]  # least squares has its ML likelihood at hand
    pd.testing.assert_frame_equal(lrt(*fits.values(), names=list(fits)), table)


NESTED = [
    ("y ~ x + (1 | g)", "y ~ x + (x | g)", 1),
    ("y ~ x + (x || g)", "y ~ x + (x | g)", 0),
    ("y ~ x + (x | g)", "y ~ x + (x + z | g)", 1),
    ("y ~ x + (1 | g)", "y ~ x + (1 | g) + (1 | f)", 1),
    ("y ~ x + (1 | g)", "y ~ x + (1 | g) + (1 | g:f)", 1),
    ("y ~ 0 + f + (1 | g)", "y ~ f * x + (1 | g)", 0),  # other columns, a smaller space
    ("y ~ x + (I(2 * x) | g)", "y ~ x + (x + z | g)", 1),
    ("y ~ x + (0 + f | g)", "y ~ x + (f | g)", None),  # the same model twice: same number of parameters
    ("y ~ x + (1 | g) + (1 | g:f)", "y ~ x + (0 + f | g)", 0),  # compound symmetry is inside the unstructured block
    ("y ~ x", "y ~ x + (f | g)", 3),
]
NOT_NESTED = [
    ("y ~ x + (1 | g)", "y ~ z + f + (1 | g)", "'x' is no combination"),
    ("y ~ x + (x | g)", "y ~ x + z + f + (x || g)", r"\(x \| g\) are not among"),
    ("y ~ x + (1 | g)", "y ~ x + z + (0 + x | g)", r"\(1 \| g\) are not among"),
    ("y ~ x + (1 | g)", "y ~ x + z + (1 | f)", r"\(1 \| g\) are not among"),
    ("y ~ x + (1 | g:f)", "y ~ x + f + z + (1 | g)", r"\(1 \| g:f\) are not among|\(1 \| g\)"),
    ("y ~ x + (1 | g)", "y ~ z + (1 | g)", "'x' is no combination"),
]


def grouped() -> pd.DataFrame:
    rng = np.random.default_rng(5)
    n = 240
    d = pd.DataFrame({"g": rng.integers(0, 12, n), "f": rng.choice(list("abc"), n), "x": rng.normal(3, 1, n)})
    d["z"] = rng.normal(size=n)
    d["y"] = d["x"] * (1 + 0.5 * rng.normal(size=12)[d["g"]]) + rng.normal(size=12)[d["g"]] + rng.normal(size=n)
    return d.astype({"g": "category", "f": "category"})


@pytest.mark.parametrize(("small", "large", "added"), NESTED)
def test_nested_models(small: str, large: str, added: int | None) -> None:
    found = nesting(Model(small, grouped()).spec, Model(large, grouped()).spec)
    assert found.obstacle is None
    if added is not None:
        assert found.added_variances == added


@pytest.mark.parametrize(("small", "large", "why"), NOT_NESTED)
def test_models_that_are_not_nested_are_refused(small: str, large: str, why: str) -> None:
    with pytest.raises(ArgumentError, match=f"not nested.*({why}).*AIC and BIC"):
        lrt(sleep(small, data=grouped()), sleep(large, data=grouped()))


def test_other_data_are_refused() -> None:
    d = load_dataset("sleepstudy").assign(w=1.0 + np.arange(180) % 2, u=0.5)
    base = sleep("Reaction ~ Days + (1 | Subject)", data=d)
    big = "Reaction ~ Days + (Days | Subject)"
    for formula, options, why in (
        (big, {"data": d.iloc[:150]}, "different rows.*180 and 150|different rows.*150 and 180"),
        ("np.log(Reaction) ~ Days + (Days | Subject)", {"data": d}, "different responses.*log.*transformations"),
        (big, {"data": d.assign(Reaction=d["Reaction"] + 1)}, "different responses"),
        (big, {"data": d, "weights": "w"}, "different weights"),
        ("Reaction ~ Days + offset(u) + (Days | Subject)", {"data": d}, "different offset"),
    ):
        with pytest.raises(ArgumentError, match=why):
            lrt(base, sleep(formula, **options))


def test_what_is_no_pair_of_fits_is_refused() -> None:
    fit = sleep("Reaction ~ Days + (1 | Subject)")
    with pytest.raises(ArgumentError, match="two fits or more, got 1"):
        lrt(fit)
    with pytest.raises(ArgumentTypeError, match=r"got Model; hm\.compare"):
        lrt(fit, Model("Reaction ~ Days", load_dataset("sleepstudy")))  # type: ignore[arg-type]
    with pytest.raises(ArgumentError, match="different names"):
        lrt(fit, fit)
    with pytest.raises(ArgumentError, match="same number of parameters"):
        lrt(fit, fit, names=["one", "two"])
    with pytest.raises(ArgumentError, match="leave names= out"):
        lrt({"a": fit, "b": fit}, names=["a", "b"])


def one_way_statistic(between: np.ndarray, within: np.ndarray, a: int, n: int) -> np.ndarray:
    """Balanced one-way layout, the ML likelihood ratio of tau2 = 0 from its sums of squares, by hand.

    -2 log L = a log v + n log(SSW + SSB / v) + const, v = 1 + m tau2 / s2 >= 1, least at v = (n - a) SSB / (a SSW)."""
    v = np.maximum(1.0, (n - a) * between / (a * within))
    return n * np.log(within + between) - a * np.log(v) - n * np.log(within + between / v)


def exact_p(observed: float, a: int, n: int) -> float:
    """P(T >= observed): T rises with F = SSB / (a - 1) / (SSW / (n - a)), which has an F distribution."""
    low, high = a / (a - 1), 1e4
    for _ in range(200):
        middle = 0.5 * (low + high)
        reached = one_way_statistic(np.array(middle * (a - 1)), np.array(float(n - a)), a, n) >= observed
        low, high = (low, middle) if reached else (middle, high)
    return float(stats.f.sf(high, a - 1, n - a))


def test_simulated_p_against_the_exact_law() -> None:
    """dyestuff, 6 batches of 5: p within 4 Monte Carlo errors of the F distribution's; few groups are not the mixture.

    The law of Crainiceanu and Ruppert (2004, JRSS B 66) for a balanced layout, drawn from chi-squares, agrees too."""
    d, draws = load_dataset("dyestuff"), 4000
    m0, m1 = (sleep(f"Yield ~ 1{term}", data=d) for term in ("", " + (1 | Batch)"))
    table = lrt(m0, m1, p_boundary="bootstrap", draws=draws, random_seed=1)
    chisq, p = table["chisq"].iloc[1], table["p_boundary"].iloc[1]
    exact = exact_p(chisq, 6, 30)
    assert abs(p - exact) < 4 * np.sqrt(exact * (1 - exact) / draws)
    assert lrt(m0, m1)["p_boundary"].iloc[1] > 2 * exact  # 0.0101 against 0.0044
    rng = np.random.default_rng(2)
    law = one_way_statistic(rng.chisquare(5, 20_000), rng.chisquare(24, 20_000), 6, 30)
    found = null_distribution(fit_linear(m0.design, reml=False), fit_mixed(m1.design, reml=False), draws, 3)
    zero = stats.f.cdf(6 / 5, 5, 24)  # P(T = 0) = 0.661, not 0.5
    assert abs((found.statistic < 1e-6).mean() - zero) < 4 * np.sqrt(zero * (1 - zero) / draws)
    assert abs((law < 1e-6).mean() - zero) < 4 * np.sqrt(zero * (1 - zero) / 20_000)
    assert stats.ks_2samp(found.statistic[found.statistic > 1e-6], law[law > 1e-6]).pvalue > 1e-4


def test_many_groups_have_the_mixture() -> None:
    """60 groups, intercepts against slopes as well, uncorrelated: half chi-square with 0, half with 1 df.

    The share above the mixture's 10 % point within 4 Monte Carlo errors and 0.01 for 60 groups."""
    rng, J, m = np.random.default_rng(1), 60, 8
    g, x = np.repeat(np.arange(J), m), np.tile(np.arange(m) - (m - 1) / 2, J)
    d = pd.DataFrame({"g": pd.Categorical(g), "x": x, "y": rng.normal(size=J)[g] + rng.normal(size=J * m)})
    small, large = (fit_mixed(Model(f"y ~ x + ({t} g)", d).spec, reml=False) for t in ("1 |", "x ||"))
    draws = 1500
    found = null_distribution(small, large, draws, 4)
    share = (found.statistic > stats.chi2.isf(0.2, 1)).mean()
    assert abs(share - 0.1) < 4 * np.sqrt(0.09 / draws) + 0.01
    assert (found.failed, found.not_converged) == (0, 0)


def test_simulated_statistics_are_a_loop_of_fits() -> None:
    """Two variances and a correlation at once, where no mixture holds: the same responses, fitted one by one (1e-6)."""
    d = load_dataset("sleepstudy")
    small = fit_linear(Model("Reaction ~ Days", d).spec, reml=False)
    large = fit_mixed(Model("Reaction ~ Days + (Days | Subject)", d).spec, reml=False)
    found = null_distribution(small, large, 20, 7)
    pair = Pair((small, large))
    Y = pair.small.simulate(20, np.random.default_rng(7).spawn(1)[0])
    loop = []
    for y in Y:
        one = fit_linear(with_response(small.design, y), reml=False).criterion
        loop.append(one - fit_mixed(with_response(large.design, y), reml=False).criterion)
    assert found.statistic == pytest.approx(np.maximum(loop, 0.0), abs=1e-6)
    observed = float(np.sort(found.statistic)[-3])
    assert found.p(observed) == pytest.approx(4 / 21)
    assert found.p(0.0) == 1.0
    assert found.p(1e9) == pytest.approx(1 / 21)


def test_simulated_p_of_generalised_models_and_common_effects() -> None:
    d = load_dataset("cbpp")
    full, less, none = (
        Model(f"cbind(incidence, size - incidence) ~ {right}", d, family="binomial").ml()
        for right in ("period + (1 | herd)", "1 + (1 | herd)", "1")
    )
    pair = (fit_glm(none.design, "binomial", "logit"), less.record)
    alone, shared = (null_distribution(*pair, 11, 2, cores) for cores in (1, 2))
    assert (alone.statistic == shared.statistic).all()
    table = lrt(none, less, full, p_boundary="bootstrap", draws=11, random_seed=2)
    assert table["p_boundary"].iloc[1:].tolist() == [pytest.approx(1 / 12)] * 2
    notes = lrt(none, less, full, p_boundary="bootstrap", draws=2, random_seed=2).attrs["notes"]
    assert sum("share of 2 responses simulated from" in note for note in notes) == 2
    with pytest.raises(ArgumentError, match="p_boundary"):
        lrt(none, less, p_boundary="boot")
    with pytest.raises(ArgumentError, match="draws must be"):
        lrt(none, less, p_boundary="bootstrap", draws=0)


def test_other_numbers_of_nodes_are_refused() -> None:
    d = load_dataset("cbpp")
    small, large = (
        Model(f"cbind(incidence, size - incidence) ~ {right} + (1 | herd)", d, family="binomial")
        for right in ("1", "period")
    )
    with pytest.raises(ArgumentError, match=r"different numbers of quadrature nodes.*: 1.*: 9"):
        lrt(small.ml(), large.ml(nodes=9))
    assert lrt(small.ml(nodes=9), large.ml(nodes=9))["df"].iloc[1] == 3
    plain = Model("cbind(incidence, size - incidence) ~ 1", d, family="binomial").ml()  # needs no approximation
    assert lrt(plain, small.ml(nodes=9))["df"].iloc[1] == 1


def test_notes_are_printed_and_the_table_stays_a_data_frame() -> None:
    table = lrt(sleep("Reaction ~ Days + (1 | Subject)"), sleep("Reaction ~ Days + (Days | Subject)"))
    assert isinstance(table, pd.DataFrame)
    text, page = " ".join(str(table).split()), table._repr_html_()
    for note in table.attrs["notes"]:
        assert note in text
        assert note.split(".")[0] in page
    assert "p_boundary" in text
    assert "..." not in text
    part = table[["chisq", "p"]]
    assert type(part) is pd.DataFrame
    assert "conservative" not in str(part)
    assert part.attrs["notes"] == table.attrs["notes"]
    assert type(table.round(2)) is pd.DataFrame
    assert type(pd.concat([table, table])) is pd.DataFrame
    again = pickle.loads(pickle.dumps(table))
    assert "conservative" in str(again)
    pd.testing.assert_frame_equal(again, table)
