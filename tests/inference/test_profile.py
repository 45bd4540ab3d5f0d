"""Profile limits and zeta curves: against lme4, closed forms, dense algebra, another optimiser; boundaries; tables."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from kernel_cases import CASES, dense_parts, frame
from scipy.optimize import brentq, minimize
from scipy.stats import norm, t

from hiermod.datasets import load_dataset
from hiermod.engines.likelihood.least_squares import fit_linear
from hiermod.engines.likelihood.mixed import MixedFit, fit_mixed
from hiermod.errors import ArgumentError, ArgumentTypeError, UnknownNameError
from hiermod.formula.build import build_design
from hiermod.inference.intervals import parameter_name, profile_curves, profile_limits
from hiermod.inference.profile.curves import parameters_of, profile
from hiermod.inference.profile.deviance import Held, Parameter
from hiermod.plots.draw_profile import profile as draw_profile
from hiermod.plots.draw_profile import smooth

Q = float(norm.ppf(0.975))
PROFILED = [
    "sleepstudy_intercept",
    "sleepstudy_slope",
    "sleepstudy_slope_only",
    "sleepstudy_uncorrelated",
    "sleepstudy_no_fixed_slope",
    "sleepstudy_slope_ml",
    "sleep2_slope",
    "sleep_partial_intercept",
    "sleep_partial_slope_only",
    "sleep_partial_slope",
    "dyestuff",
    "dyestuff2",
    "penicillin",
    "pastes_nested",
    "cake",
    "paired_t_test",
    "simulated100",
    "outlier",
    "simpson",
    "no_outlier",
]
# lme4's spline misses its own quantile here: zeta is 1.97317 at its limit 0.725938, see the dense check below.
LME4_MISSES = {("sleepstudy_no_fixed_slope", "cor_Days.(Intercept)|Subject")}


def fitted(formula: str, data: pd.DataFrame | str, reml: bool = True, **options) -> MixedFit:
    return fit_mixed(build_design(formula, load_dataset(data) if isinstance(data, str) else data, **options), reml)


def held(fit: MixedFit, parameter: Parameter) -> Held:
    return Held(fit.problem, parameter, fit.Lambda, fit.sigma, fit.beta[fit.design.estimable])


def r_name(fit: MixedFit, parameter: Parameter) -> str:
    def as_r(label: str) -> str:
        return label.replace("Intercept", "(Intercept)").replace("[", "").replace("]", "")

    if parameter.kind in ("fixed", "sigma"):
        return as_r(parameter_name(fit.design, parameter))
    block = fit.design.blocks[parameter.block]
    first = as_r(block.labels[parameter.i])
    if parameter.kind == "sd":
        return f"sd_{first}|{block.factor}"
    return f"cor_{as_r(block.labels[parameter.j])}.{first}|{block.factor}"


@pytest.mark.parametrize("case", PROFILED)
def test_reference_limits(case, reference, reference_data):
    """tests/reference: lme4 1.1-31, 1e-3 of the interval's width (its spline's accuracy); what it flags is left out."""
    expected = reference(case)
    fit = fit_mixed(build_design(expected["formula"], reference_data(case)), expected["reml"])
    compared = 0
    for curve in profile(fit).curves:
        name = r_name(fit, curve.parameter)
        if name in (expected.get("confint_profile_failed") or ()) or (case, name) in LME4_MISSES:
            continue
        lower, upper = expected["confint_profile"][name]
        assert (curve.lower, curve.upper) == pytest.approx((lower, upper), abs=1e-3 * (upper - lower)), name
        compared += 1
    assert compared >= 2


@pytest.mark.parametrize(
    ("formula", "data", "parameter", "limits"),
    [
        ("Reaction ~ 1 + (Days | Subject)", "sleepstudy", Parameter("corr", 0, 0, 1), (-0.785093, 0.722325)),
        ("value ~ 1 + condition + (1 | participant)", "different_slopes", Parameter("sigma"), (0.517516, 0.829269)),
    ],
    ids=["correlation", "sigma"],
)
def test_where_lme4_differs_dense_algebra_decides(formula, data, parameter, limits):
    """The deviance of a dense multivariate normal, minimised by Nelder-Mead: zeta at our limits is the quantile.

    lme4 1.1-31 gives 0.7259 as the correlation's upper limit and 0.5338 as sigma's lower one (this it flags); zeta
    there is 1.973 and -1.714.  atol 1e-5: Nelder-Mead's tolerance in zeta."""
    fit = fitted(formula, data, reml=False)
    (curve,) = profile(fit, parameters=[parameter]).curves
    assert (curve.lower, curve.upper) == pytest.approx(limits, abs=2e-6)
    k = fit.design.blocks[0].size

    def deviance(free, value):
        if k == 2:
            s, sigma = np.exp(free[:2]), float(np.exp(free[2]))
            T = np.diag(s) @ np.linalg.cholesky([[1.0, value], [value, 1.0]])
        else:
            T, sigma = np.array([[free[0]]]), value
        y, X, Z, G, noise = dense_parts(fit.design, [T / sigma])
        L = np.linalg.cholesky(sigma**2 * (Z @ G @ Z.T + np.diag(noise)))
        rest = np.linalg.solve(L, np.column_stack([X, y]))
        e = rest[:, -1] - rest[:, :-1] @ np.linalg.lstsq(rest[:, :-1], rest[:, -1], rcond=None)[0]
        return 2 * np.log(np.diag(L)).sum() + e @ e + len(y) * np.log(2 * np.pi)

    start = [3.2, 2.4, 3.2] if k == 2 else [0.4]
    for value in (curve.lower, curve.upper):
        found = minimize(deviance, start, (value,), "Nelder-Mead", options={"xatol": 1e-4, "fatol": 1e-7})
        assert np.sqrt(found.fun - fit.criterion) == pytest.approx(Q, abs=1e-5)


@pytest.mark.parametrize("case", list(CASES))
def test_gradient_of_the_held_deviance(case):
    """Against central differences (step 1e-5: 1e-7 relative), every parameter of every structure of the kernel."""
    formula, options = CASES[case]
    fit = fitted(formula, frame(), reml=False, **options)
    rng = np.random.default_rng(2)
    for parameter in parameters_of(fit):
        function = held(fit, parameter)
        assert function(function.phi, function.start)[0] == pytest.approx(fit.criterion, abs=1e-8)
        z = np.array([function.phi, *function.start])
        z += 0.2 * rng.normal(size=len(z)) * np.array([function.unit, *np.ones(len(z) - 1)])
        _, slope, gradient = function(z[0], z[1:])
        steps = 1e-5 * np.diag([function.unit, *np.ones(len(z) - 1)])
        ends = [(function(*split(z + h))[0], function(*split(z - h))[0]) for h in steps]
        slow = np.array([(up - down) / (2 * h.max()) for (up, down), h in zip(ends, steps, strict=True)])
        assert np.array([slope, *gradient]) == pytest.approx(slow, rel=1e-6, abs=1e-6 * np.abs(slow).max())


def split(z: np.ndarray) -> tuple[float, np.ndarray]:
    return float(z[0]), z[1:]


@pytest.mark.parametrize("case", ["weights", "known se", "crossed", "offset", "three correlated", "crossed slopes"])
def test_limits_against_another_optimiser(case):
    """At each limit scipy's L-BFGS-B from three starts finds zeta = the quantile (to 1e-4), less at a boundary."""
    formula, options = CASES[case]
    found = profile(fitted(formula, frame(), **options))
    fit, rng = found.fit, np.random.default_rng(1)
    assert any(not curve.note for curve in found.curves)
    for curve in found.curves:
        function = held(fit, curve.parameter)
        bounds = [(low if np.isfinite(low) else None, None) for low in function.bound]
        for limit in (curve.lower, curve.upper):
            phi = {"corr": np.arcsin, "sigma": np.log}.get(curve.parameter.kind, float)(limit)
            values = []
            for spread in (0.0, 0.4, 0.8):
                start = function.start * (1 + spread * rng.normal(size=len(function.start)))
                start = np.maximum(start + 0.1 * spread, function.bound)
                end = minimize(
                    lambda x, f=function, at=phi: f(at, x)[::2],
                    start,
                    jac=True,
                    method="L-BFGS-B",
                    bounds=bounds,
                    options={"ftol": 1e-13},
                )
                values.append(end.fun)
            zeta = np.sqrt(max(min(values) - fit.criterion, 0.0))
            if limit in (0.0, -1.0, 1.0) and curve.note:
                assert zeta < Q
            else:
                assert zeta == pytest.approx(Q, abs=1e-4)


def one_way(data: str) -> tuple[float, float, float, int, int]:
    """Between and within sums of squares, mean, groups and rows per group of a balanced one-way layout."""
    d = load_dataset(data)
    means = d.groupby("Batch", observed=True)["Yield"].transform("mean")
    grand, a = d["Yield"].mean(), d["Batch"].nunique()
    return ((means - grand) ** 2).sum(), ((d["Yield"] - means) ** 2).sum(), grand, a, len(d) // a


def test_closed_forms_of_a_balanced_one_way_layout():
    """-2 log L = a(m-1) log s2 + SSW/s2 + a log v + (SSB + a m (ybar - mu)^2)/v, v = s2 + m tau2, apart in s2 and v."""
    between, within, mean, a, m = one_way("dyestuff")
    table = profile_limits(fitted("Yield ~ 1 + (1 | Batch)", "dyestuff"))
    half = np.sqrt(between / (a * m) * np.expm1(Q**2 / a))
    assert table.loc["Intercept"].to_numpy() == pytest.approx([mean - half, mean + half], rel=1e-8)
    df, best = a * (m - 1), within / (a * (m - 1))

    def rise(log_sigma):
        ratio = best / np.exp(2 * log_sigma)
        return df * (ratio - 1 - np.log(ratio)) - Q**2

    centre = 0.5 * np.log(best)
    expected = np.exp([brentq(rise, centre - 2, centre), brentq(rise, centre, centre + 2)])
    assert table.loc["sigma"].to_numpy() == pytest.approx(expected, rel=1e-7)


def test_a_saddle_on_the_way_is_left():
    """dyestuff2, tau2 = 0 at the estimate: with the mean held far off tau2 > 0 is better and 0 a saddle."""
    between, within, mean, a, m = one_way("dyestuff2")

    def deviance(shift, v_free):
        total = between + a * m * shift**2
        if v_free:
            return a * (m - 1) * (1 + np.log(within / (a * (m - 1)))) + a * (1 + np.log(total / a))
        return a * m * (1 + np.log((within + total) / (a * m)))

    minimum = deviance(0.0, v_free=False)
    half = brentq(lambda shift: deviance(shift, v_free=True) - minimum - Q**2, 1.0, 2.0)
    assert deviance(half, v_free=True) < deviance(half, v_free=False)
    curves = profile(fitted("Yield ~ 1 + (1 | Batch)", "dyestuff2")).curves
    assert (curves[0].lower, curves[0].upper) == pytest.approx((mean - half, mean + half), rel=1e-7)
    assert (np.diff(curves[0].zeta) > 0).all()


@pytest.fixture(scope="module")
def sleep() -> MixedFit:
    return fitted("Reaction ~ Days + (Days | Subject)", "sleepstudy")


def test_curves_rise_through_zero_with_their_slopes(sleep):
    """The estimate is ML's at zeta 0; slopes agree with the distance between the limits of two levels (1e-4)."""
    narrow, wide = profile(sleep, 0.95), profile(sleep, 0.9501)
    apart = float(norm.ppf(0.97505)) - Q
    for near, far in zip(narrow.curves, wide.curves, strict=True):
        assert len(near.value) >= 9
        assert (np.diff(near.value) > 0).all()
        assert (np.diff(near.zeta) > 0).all()
        assert near.zeta[near.value == near.estimate].tolist() == [0.0]
        assert near.zeta.min() < -Q < Q < near.zeta.max()
        assert np.interp([near.lower, near.upper], near.value, near.zeta) == pytest.approx([-Q, Q], abs=1e-4)
        slope = np.interp(near.upper, near.value, near.slope)
        assert apart / (far.upper - near.upper) == pytest.approx(slope, rel=1e-3)
        with pytest.raises(ValueError, match="read-only"):
            near.zeta[0] = 0.0


def test_reml_is_profiled_by_ml_and_units_do_not_matter(sleep):
    data = load_dataset("sleepstudy")
    usual = profile_limits(sleep)
    by_ml = profile_limits(fit_mixed(sleep.design, reml=False))
    pd.testing.assert_frame_equal(usual, by_ml, rtol=1e-6)
    moved = data.assign(Reaction=1e3 * data.Reaction, Days=1e-6 * data.Days)
    other = profile_limits(fitted("Reaction ~ Days + (Days | Subject)", moved))
    unit = np.array([1e3, 1e9, 1e3, 1e9, 1.0, 1e3])[:, None]
    assert other.to_numpy() / unit == pytest.approx(usual.to_numpy(), rel=1e-6)
    flipped = profile_limits(fitted("Reaction ~ I(-Days) + (I(-Days) | Subject)", data))
    assert flipped.iloc[4].to_numpy() == pytest.approx(-usual.iloc[4].to_numpy()[::-1], rel=1e-6)


def test_boundaries_have_words():
    lower = profile(fitted("Yield ~ 1 + (1 | Batch)", "dyestuff2"), parameters=[Parameter("sd", 0, 0)]).curves[0]
    assert (lower.lower, lower.estimate) == (0.0, 0.0)
    assert "boundary 0" in lower.note
    cars = profile_limits(fitted("mpg ~ wt + (wt | cyl)", "mtcars"), parameters=["cyl_corr[Intercept,wt]"])
    # -0.792077: a dense deviance and Nelder-Mead from three starts; lme4's profile failed here (flagged)
    assert cars.to_numpy()[0] == pytest.approx([-1.0, -0.792077], abs=2e-6)
    assert "boundary -1" in cars.attrs["notes"]["cyl_corr[Intercept,wt]"]
    wide = profile(fitted(*CASES["weights"][:1], frame(), weights="w"), parameters=[Parameter("corr", 0, 0, 1)])
    assert (wide.curves[0].lower, wide.curves[0].upper) == (-1.0, 1.0)
    assert "do not exclude" in wide.curves[0].note


def test_a_correlation_with_an_sd_of_zero_is_undefined():
    rng = np.random.default_rng(3)
    g = np.repeat(np.arange(10), 6)
    d = pd.DataFrame({"y": rng.normal(size=60), "x": np.tile(np.arange(6.0) - 2.5, 10), "g": pd.Categorical(g)})
    d["y"] -= d.groupby("g", observed=True)["y"].transform("mean")  # no variance between the groups
    fit = fitted("y ~ x + (x | g)", d)
    assert fit.covariance[0][0, 0] == pytest.approx(0.0, abs=1e-12)
    table = profile_limits(fit)
    assert table.loc["1|g_sigma", "lower"] == 0.0
    assert table.loc["g_corr[Intercept,x]"].tolist() == [-1.0, 1.0]
    assert "undefined" in table.attrs["notes"]["g_corr[Intercept,x]"]


def test_tables_have_the_fits_names():
    fit = fitted("y ~ x + I(2 * x) + (x | a) + (1 | b)", frame())
    table = profile_limits(fit, 0.9, parameters=["sigma", "x", "I(2 * x)", "a_corr[Intercept,x]"])
    assert list(table.index) == ["x", "I(2 * x)", "a_corr[Intercept,x]", "sigma"]
    assert (table.index.name, list(table.columns)) == ("parameter", ["lower", "upper"])
    assert table.loc["I(2 * x)"].isna().all()
    assert "earlier columns" in table.attrs["notes"]["I(2 * x)"]
    assert (table.attrs["method"], table.attrs["level"]) == ("profile", 0.9)
    known = fitted(CASES["known se"][0], frame(), se="w")
    assert list(profile_limits(known).index) == [
        "Intercept",
        "x",
        "1|a_sigma",
        "x|a_sigma",
        "a_corr[Intercept,x]",
        "1|b_sigma",
    ]
    with pytest.raises(UnknownNameError, match="Did you mean 'sigma'"):
        profile_limits(fit, parameters=["sigmo"])
    with pytest.raises(ArgumentTypeError, match="list of names"):
        profile_limits(fit, parameters="sigma")
    with pytest.raises(ArgumentError, match=r"write 0\.95"):
        profile_limits(fit, 95)


def test_a_linear_model_has_t_intervals(reference, reference_data):
    expected = reference("mtcars_lm")
    fit = fit_linear(build_design(expected["formula"], reference_data("mtcars_lm")))
    half = t.ppf(0.975, 30) * np.array(list(expected["se"].values()))
    centre = np.array(list(expected["fixef"].values()))
    table = profile_limits(fit)
    assert table["lower"].to_numpy() == pytest.approx(centre - half, rel=1e-8)
    assert table["upper"].to_numpy() == pytest.approx(centre + half, rel=1e-8)
    assert table.attrs["method"] == "t"
    known = fit_linear(build_design("y ~ x", frame(), se="w"))
    half = Q * np.sqrt(np.diag(known.vcov_beta))
    assert profile_limits(known)["upper"].to_numpy() == pytest.approx(known.beta + half)


def test_curves_as_a_table_and_a_picture(sleep):
    curves = profile_curves(sleep)
    assert list(curves.columns) == ["parameter", "value", "zeta", "slope"]
    assert list(curves.attrs["limits"]) == list(profile_limits(sleep).index)
    assert curves.attrs["limits"]["Days"] == pytest.approx(profile_limits(sleep).loc["Days"].tolist())
    figure = draw_profile(curves)
    panels = [ax for ax in figure.axes if ax.get_visible()]
    assert [ax.get_title(loc="left") for ax in panels] == list(curves.attrs["limits"])
    line = panels[1].lines[0].get_xydata()
    part = curves[curves["parameter"] == "Days"]
    assert line[:: (len(line) - 1) // (len(part) - 1)] == pytest.approx(part[["value", "zeta"]].to_numpy())
    assert min(draw_profile(curves, absolute=True).axes[0].lines[0].get_ydata()) == pytest.approx(0.0, abs=1e-12)
    with pytest.raises(ArgumentTypeError, match="needs a fit"):
        draw_profile(curves[["value"]])
    plt.close("all")


def test_smooth_is_exact_for_a_cubic_and_straight_without_slopes():
    x = np.array([0.0, 1.0, 3.0])
    value, zeta = smooth(x, x**3, 3 * x**2)
    assert zeta == pytest.approx(value**3)
    value, zeta = smooth(x, 2 * x, np.full(3, np.nan))
    assert zeta == pytest.approx(2 * value)
