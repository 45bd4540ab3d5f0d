"""Maximum likelihood of every family that has row functions: Laplace's criterion, its gradient and its minimum.

The reference is dense and knows the log densities of the records alone (scipy's, by test_families_contract): modes by a
general optimiser, curvatures by differences."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import integrate, optimize

import hiermod as hm
from hiermod.engines.likelihood.generalised import criterion_of, fit_generalised, rows_of
from hiermod.engines.likelihood.likelihoods import likelihood_of
from hiermod.errors import DesignError, FitError, UnsupportedError
from hiermod.families.catalogue import FAMILIES
from hiermod.families.family import Family
from hiermod.families.links import inverse_link
from hiermod.formula.build import build_design

TRUTH: dict[str, tuple[float, ...]] = {  # further parameters on their own scales
    "negativebinomial": (2.0,),
    "gamma": (3.0,),
    "beta": (9.0,),
    "beta_binomial": (6.0,),
    "t": (0.6, 5.0),
    "lognormal": (0.5,),
    "exponential": (),
    "weibull": (1.8,),
    "wald": (3.0,),
    "zero_inflated_poisson": (0.8,),
    "zero_inflated_negativebinomial": (3.0, 0.8),
    "hurdle_poisson": (0.7,),
    "hurdle_negativebinomial": (3.0, 0.7),
    "hurdle_gamma": (3.0, 0.7),
}
BY_ROWS = [family for family in FAMILIES.values() if family.generalised_links and family.likelihood is None]
CASES = [pytest.param(family, link, id=f"{family.name}-{link}") for family in BY_ROWS
         for link in family.generalised_links]  # fmt: skip


def frame(family: Family, link: str, groups: int = 12, rows: int = 10, seed: int = 4) -> pd.DataFrame:
    """Responses of the family with a group's intercept and slope."""
    rng = np.random.default_rng(seed)
    g = np.repeat(np.arange(groups), rows)
    x = rng.normal(size=len(g)).round(3)
    b = rng.normal(size=(groups, 2)) * (0.7, 0.3)
    eta = 0.4 + 0.5 * x + b[g, 0] + b[g, 1] * x
    further = dict(zip(family.rows[link].names, map(np.asarray, TRUTH[family.name]), strict=True))
    n = np.full(len(g), 12.0)
    y = family.draw(inverse_link(link, eta), {**further, "trials": n}, rng)
    return pd.DataFrame(
        {"y": y, "n": n.astype(int), "x": x, "g": [f"g{i:02}" for i in g], "h": rng.integers(0, 5, len(g)).astype(str)}
    )


def formula(family: Family, right: str) -> str:
    return f"p(y, n) ~ {right}" if family.out_of_trials else f"y ~ {right}"


def dense_laplace(
    family: Family,
    link: str,
    data: pd.DataFrame,
    Lambdas: dict[str, np.ndarray],
    beta: np.ndarray,
    a: Any,
) -> float:
    """-2 log likelihood by Laplace; Lambdas by factor, of (1, x) where there are slopes, of 1 elsewhere."""
    further = {name: np.asarray(family.rows[link].natural(k, a[k])) for k, name in enumerate(family.rows[link].names)}
    further["trials"] = data["n"].to_numpy(float)
    y, x, parts = data["y"].to_numpy(float), data["x"].to_numpy(), []
    for factor, Lam in Lambdas.items():
        codes = pd.factorize(data[factor], sort=True)[0]
        columns = np.stack([np.ones(len(x)), x], axis=1)[:, : len(Lam)]
        Z = np.zeros((len(x), codes.max() + 1, len(Lam)))
        Z[np.arange(len(x)), codes] = columns @ Lam
        parts.append(Z.reshape(len(x), -1))
    Z = np.hstack(parts)
    fixed = beta[0] + beta[1] * x

    def logs(eta: np.ndarray) -> np.ndarray:
        return family.logpdf(y, inverse_link(link, eta), further)

    def h(u: np.ndarray) -> float:
        return float(-logs(fixed + Z @ u).sum() + 0.5 * u @ u)

    def slope_and_curvature(eta: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        e = 1e-3  # five points: an error of e^4
        far, near = [logs(eta + s * e) for s in (-2, -1, 1, 2)], logs(eta)
        first = (far[0] - 8 * far[1] + 8 * far[2] - far[3]) / (12 * e)
        return first, (-far[0] + 16 * far[1] - 30 * near + 16 * far[2] - far[3]) / (12 * e * e)

    u = optimize.minimize(h, np.zeros(Z.shape[1]), method="L-BFGS-B").x
    for _ in range(30):
        first, second = slope_and_curvature(fixed + Z @ u)
        M = -(Z.T * second) @ Z + np.eye(len(u))
        step = np.linalg.solve(M, Z.T @ first - u)
        u = u + step
        if np.abs(step).max() < 1e-9:
            break
    return 2.0 * h(u) + np.linalg.slogdet(M)[1]


@pytest.mark.parametrize(("family", "link"), CASES)
def test_the_criterion_is_that_of_dense_algebra(family: Family, link: str) -> None:
    data = frame(family, link, groups=6, rows=8)
    design = build_design(formula(family, "x + (x | g) + (1 | h)"), data)
    a = np.array([family.rows[link].unconstrained(k, one) for k, one in enumerate(TRUTH[family.name])])
    likelihood = likelihood_of(design, family.name, link).at(a)
    rows = rows_of(design)
    criterion = criterion_of(rows, likelihood, design, 1)
    Lg, Lh, beta = np.array([[0.8, 0.0], [0.2, 0.3]]), np.array([[0.4]]), np.array([0.3, 0.4])
    theta = np.zeros(4)
    names = [block.factor for block in design.blocks]
    theta = rows.problem.template.pack([{"g": Lg, "h": Lh}[name] for name in names])
    mode = criterion.mode(rows.problem.x_from_theta(theta), rows.problem.R @ beta)
    assert mode is not None
    expected = dense_laplace(family, link, data, {"g": Lg, "h": Lh}, beta, a)
    assert criterion.value_of(mode) == pytest.approx(expected, rel=1e-7)  # differences of 48 rows' log densities


@pytest.mark.parametrize(("family", "link"), CASES)
@pytest.mark.parametrize("nodes", [1, 7])
def test_the_gradient_is_that_of_differences(family: Family, link: str, nodes: int) -> None:
    data = frame(family, link, groups=8, rows=6)
    design = build_design(formula(family, "x + (1 | g)" if nodes > 1 else "x + (x | g) + (1 | h)"), data)
    likelihood = likelihood_of(design, family.name, link)
    rows = rows_of(design)
    criterion = criterion_of(rows, likelihood, design, nodes)
    n_x, p, K = rows.problem.template.n_theta, rows.problem.p, len(likelihood.auxiliary)
    rng = np.random.default_rng(0)
    a = np.array([family.rows[link].unconstrained(k, one) for k, one in enumerate(TRUTH[family.name])])
    point = np.concatenate([rng.uniform(0.3, 0.8, n_x), rows.problem.R @ np.array([0.3, 0.4]), a + 0.1])
    for free in (False, True):
        if free and nodes > 1:
            continue

        def at(z: np.ndarray, free: bool = free) -> Any:
            return criterion(z[:n_x], None if free else z[n_x : n_x + p], z[n_x + p :])

        found = at(point)
        gradient = np.concatenate([found.x, np.zeros(p) if free else found.gamma, found.a])
        for i in [*range(n_x), *([] if free else range(n_x, n_x + p)), *range(n_x + p, n_x + p + K)]:
            e = 1e-4 * np.eye(len(point))[i]
            rise = (
                at(point - 2 * e).value - 8 * at(point - e).value + 8 * at(point + e).value - at(point + 2 * e).value
            ) / 12e-4
            assert gradient[i] == pytest.approx(rise, rel=2e-6, abs=2e-6 * np.abs(gradient).max())


@pytest.mark.parametrize(("family", "link"), CASES)
def test_the_fit_is_at_the_minimum(family: Family, link: str) -> None:
    """No point near it is lower by the dense criterion, and the criterion there is the one reported."""
    data = frame(family, link)
    fit = hm.Model(formula(family, "x + (1 | g)"), data, family=family.name, link=link).ml()
    assert fit.converged
    record = fit.record
    a, sd, beta = np.array(record.likelihood.auxiliary), record.theta[0], record.beta
    best = dense_laplace(family, link, data, {"g": np.array([[sd]])}, beta, a)
    assert fit.criterion == pytest.approx(best, rel=1e-7)
    for i in range(3 + len(a)):
        for step in (-0.03, 0.03):
            moved = np.concatenate([[sd], beta, a])
            moved[i] += step
            value = dense_laplace(family, link, data, {"g": np.array([[moved[0]]])}, moved[1:3], moved[3:])
            assert value > best - 1e-6
    for name, truth in zip(record.likelihood.auxiliary_names, TRUTH[family.name], strict=True):
        row = fit.parameters().loc[name]
        k = record.likelihood.auxiliary_names.index(name)
        assert row["estimate"] == pytest.approx(float(family.rows[link].natural(k, a[k])))
        assert row["lower"] < row["estimate"] < row["upper"]
        assert row["lower"] / 1.5 < truth < row["upper"] * 1.5


@pytest.mark.parametrize(("family", "link"), CASES)
def test_quadrature_is_the_integral(family: Family, link: str) -> None:
    data = frame(family, link, groups=4, rows=5)
    design = build_design(formula(family, "x + (1 | g)"), data)
    fit = fit_generalised(design, family.name, link, 30)
    a, sd, beta = fit.likelihood.auxiliary, fit.theta[0], fit.beta
    further = {name: np.asarray(family.rows[link].natural(k, a[k])) for k, name in enumerate(family.rows[link].names)}
    total = 0.0
    for _, rows in data.groupby("g"):
        own = {**further, "trials": rows["n"].to_numpy(float)}

        def integrand(u: float, rows: Any = rows, own: Any = own, shift: float = 0.0) -> float:
            eta = beta[0] + beta[1] * rows["x"].to_numpy() + sd * u
            logs = family.logpdf(rows["y"].to_numpy(float), inverse_link(link, eta), own).sum()
            return float(np.exp(logs - shift - 0.5 * u * u) / np.sqrt(2 * np.pi))

        grid = np.linspace(-6, 6, 241)
        shift = max(np.log(max(integrand(u), 1e-300)) for u in grid)
        value = integrate.quad(lambda u, s=shift: integrand(u, shift=s), -9, 9, epsabs=1e-13, epsrel=1e-12, limit=300)[
            0
        ]
        total += np.log(value) + shift
    assert fit.criterion == pytest.approx(-2 * total, abs=2e-5)


# --- against R ------------------------------------------------------------------------------------------------------
REFERENCE = Path(__file__).parents[2] / "reference" / "glmmtmb"
GLMMTMB = json.loads((REFERENCE / "glmmtmb.json").read_text())


@pytest.mark.numeric
@pytest.mark.filterwarnings("ignore::hiermod.errors.SingularFitWarning")  # glmmTMB says so of two of them as well
@pytest.mark.parametrize("case", GLMMTMB, ids=lambda case: f"{case['family']}-{case['right']}")
def test_glmmtmb_is_reproduced_or_bettered(case: dict[str, Any]) -> None:
    """Its optimiser stops within 2e-8 of the criterion's minimum; estimates within 1e-4 standard errors."""
    name = case["family"]
    if name == "Salamanders":
        data = pd.read_csv(REFERENCE / "Salamanders.csv")
        data["mined"] = pd.Categorical(data["mined"], ["yes", "no"])
        data["spp"] = pd.Categorical(data["spp"], ["GP", "PR", "DM", "EC-A", "EC-L", "DES-L", "DF"])
        fit = hm.Model(f"count ~ {case['right']}", data, family="negativebinomial").ml()
    else:
        data = pd.read_csv(REFERENCE / "families.csv", dtype={"h": str}).query("family == @name")
        link = {"gamma": "log", "negativebinomial": "log", "t": "identity"}.get(name, "logit")
        fit = hm.Model(formula(FAMILIES[name], case["right"]), data, family=name, link=link).ml()
    assert fit.converged
    assert fit.criterion < case["criterion"] + 1e-7
    assert fit.criterion == pytest.approx(case["criterion"], abs=1e-6)
    table = fit.fixef()
    se = np.array(case["se"])
    assert (table["estimate"] - case["beta"]).abs().max() < 1e-3 * se.min()  # glmmTMB's gradient is 1e-3 at its end
    np.testing.assert_allclose(table["std_error"], se, rtol=1e-3)  # its Hessian is of differences too
    first = fit.parameters()["estimate"].iloc[[-2 if name == "t" else -1]].item()
    assert (first**-0.5 if name == "gamma" else first) == pytest.approx(case["sigma"], rel=2e-4)


# --- every answer of a fit ------------------------------------------------------------------------------------------
@pytest.mark.parametrize(("family", "link"), CASES)
@pytest.mark.parametrize("right", ["x + (1 | g)", "x"])
def test_every_question_is_answered(family: Family, link: str, right: str, tmp_path: Path) -> None:
    """Without a warning (warnings are errors here); numbers of a file and a pickle are those of the fit."""
    data = frame(family, link)
    model = hm.Model(formula(family, right), data, family=family.name, link=link)
    fit, new = model.ml(), data.iloc[:4]
    names = [*family.rows[link].names]
    text = str(fit.summary())
    assert all(name in text for name in names)
    assert "Check" in str(fit.check())
    mean, response = fit.predict(new, interval=0.9), fit.predict(new, interval=0.9, kind="response")
    assert (response["lower"] <= mean["lower"] + 1e-9).all()
    assert (response["upper"] >= mean["upper"] - 1e-9).all() or family.discrete
    group = fit.predict(new.assign(g="new"), target="new_group", interval=0.9, kind="response", new_levels="sample")
    assert np.isfinite(group.to_numpy()).all()
    for kind in ("response", "pearson", "scaled", "deviance"):
        assert np.isfinite(fit.residuals(kind)).all()
    assert fit.glance()["npar"].item() == 2 + len(names) + fit.is_mixed
    wide = fit.simulate(400, random_seed=2).to_numpy() / (12 if family.out_of_trials else 1)
    if family.name != "t":
        assert wide.mean() == pytest.approx(fit.predict(data, target="new_group")["estimate"].mean(), rel=0.25)
    means = fit.means("x")
    assert np.isfinite(means["estimate"]).all()
    assert np.isfinite(fit.slopes("x")["estimate"]).all()
    again = fit.refit(fit.design.y)
    assert again.criterion == pytest.approx(fit.criterion, abs=1e-6)
    fit.save(tmp_path / "fit.nc")
    for other in (hm.load(tmp_path / "fit.nc"), pickle.loads(pickle.dumps(fit))):
        pd.testing.assert_frame_equal(other.parameters(), fit.parameters())
        assert other.criterion == fit.criterion
        pd.testing.assert_frame_equal(other.predict(new, interval=0.9), mean)
    if fit.is_mixed:
        assert len(fit.influence("g")) == 12
    assert "alpha" not in names or "alpha" in str(fit.report())


def test_profile_limits_lie_where_the_deviance_has_risen() -> None:
    """The rise of -2 log likelihood at a limit is the chi-squared quantile, the others at their best (Nelder-Mead)."""
    family = FAMILIES["negativebinomial"]
    data = frame(family, "log", groups=8, rows=8)
    fit = hm.Model("y ~ x + (1 | g)", data, family="negativebinomial").ml()
    limits = fit.confint(parameters=["alpha", "x"], progressbar=False)
    sd, beta, a = fit.record.theta[0], fit.record.beta, fit.record.auxiliary[0]

    def best(held: int, value: float) -> float:
        start = np.array([sd, *beta, a])
        start[held] = value
        free = [i for i in range(4) if i != held]

        def at(z: np.ndarray) -> float:
            point = start.copy()
            point[free] = z
            return dense_laplace(family, "log", data, {"g": np.array([[point[0]]])}, point[1:3], point[3:])

        options = {"xatol": 1e-4, "fatol": 1e-6, "maxiter": 300}
        return float(optimize.minimize(at, start[free], method="Nelder-Mead", options=options).fun)

    for held, value in ((3, np.log(limits.loc["alpha", "lower"])), (2, limits.loc["x", "upper"])):
        assert best(held, value) - fit.criterion == pytest.approx(3.841459, abs=2e-3)


def test_counts_that_are_poisson_say_so() -> None:
    rng = np.random.default_rng(0)
    data = pd.DataFrame({"y": rng.binomial(20, 0.2, 120), "x": rng.normal(size=120)})
    fit = hm.Model("y ~ x", data, family="negativebinomial").ml()
    poisson = hm.Model("y ~ x", data, family="poisson").ml()
    assert fit.criterion == pytest.approx(poisson.criterion, abs=1e-3)
    assert "family='poisson' describes these data as well" in " ".join(str(fit.summary()).split())
    assert np.isnan(fit.parameters().loc["alpha", "std_error"])
    assert fit.parameters().loc["alpha", "upper"] == np.inf


@pytest.mark.parametrize("unit", [1e-3, 1e6])
def test_the_unit_of_the_response_changes_units_only(unit: float) -> None:
    """Of y and its identity link: estimates are multiplied, and the density of each row is divided, by the unit."""
    data = frame(FAMILIES["t"], "identity")
    one = hm.Model("y ~ x + (x | g)", data, family="t").ml()
    other = hm.Model("y ~ x + (x | g)", data.assign(y=data["y"] * unit), family="t").ml()
    assert other.converged
    assert other.criterion == pytest.approx(one.criterion + 2 * len(data) * np.log(unit), abs=1e-6)
    assert other.record.beta == pytest.approx(one.record.beta * unit, rel=1e-4)
    assert other.record.theta == pytest.approx(one.record.theta * unit, rel=1e-3)
    assert "grows without limit" not in str(other.check())


@pytest.mark.parametrize("right", ["c", "c + (1 | g)"])
@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("hurdle_poisson", 0, "only those that are not 0"),
        ("hurdle_gamma", 0, "only those that are not 0"),
        ("hurdle_poisson", 1, "separation"),
        ("zero_inflated_poisson", 0, "separation"),
        ("negativebinomial", 0, "separation"),
    ],
)
def test_a_category_without_an_estimate_is_refused(name: str, value: float, message: str, right: str) -> None:
    """All 0, where 0 says nothing about the mean or it wants the mean to be 0; all 1, of counts that begin at 1."""
    data = frame(FAMILIES[name], "log").assign(c=lambda d: np.where(d["g"] < "g04", "a", "b"))
    data["y"] = np.where(data["c"] == "a", value, data["y"])
    with pytest.raises(FitError, match=message):
        hm.Model(f"y ~ {right}", data, family=name, link="log").ml()


def test_a_link_without_maximum_likelihood_names_one_with_it() -> None:
    data = frame(FAMILIES["gamma"], "log")
    with pytest.raises(UnsupportedError, match=r"no family 'gamma' with link 'inverse'. Write link='log'"):
        hm.Model("y ~ x", data, family="gamma").ml()


@pytest.mark.parametrize(("name", "link"), [("gamma", "log"), ("t", "identity"), ("lognormal", "identity")])
def test_a_level_for_every_measurement_is_refused_in_its_own_words(name: str, link: str) -> None:
    data = frame(FAMILIES[name], link).assign(row=lambda d: [f"r{i}" for i in d.index])
    with pytest.raises(DesignError, match="single response: the variance") as caught:
        hm.Model("y ~ x + (1 | row)", data, family=name, link=link).ml()
    assert "0 or 1" not in str(caught.value)


def test_deviance_residuals_do_not_depend_on_the_unit() -> None:
    """A saturated Student-t row lies at its own response, however large that is."""
    data = frame(FAMILIES["t"], "identity")
    small = hm.Model("y ~ x", data, family="t").ml()
    large = hm.Model("y ~ x", data.assign(y=1e4 + 1e3 * data["y"]), family="t").ml()
    assert small.residual_deviance > 1
    np.testing.assert_allclose(large.residuals("deviance"), small.residuals("deviance"), atol=2e-4)


def test_a_formula_without_columns() -> None:
    """Only the offset and alpha: the minimum over alpha by another optimiser."""
    family = FAMILIES["negativebinomial"]
    data = frame(family, "log").assign(o=1.0)
    fit = hm.Model("y ~ 0 + offset(o)", data, family="negativebinomial").ml()

    def deviance(a: float) -> float:
        return -2.0 * float(family.logpdf(data["y"].to_numpy(), np.exp(1.0), {"alpha": np.exp(a)}).sum())

    found = optimize.minimize_scalar(deviance, bounds=(-3, 3), method="bounded", options={"xatol": 1e-9})
    assert fit.criterion == pytest.approx(found.fun, abs=1e-8)
    assert fit.parameters().loc["alpha", "estimate"] == pytest.approx(np.exp(found.x), rel=1e-5)
