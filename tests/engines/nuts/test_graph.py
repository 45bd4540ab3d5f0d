"""The PyMC graph is the model that the formula says: names, densities, and refusals where Bambi means another model."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from bayes_density import correlation_from_partials, hand_logp, random_point, random_points
from scipy import stats

from hiermod.engines.nuts.graph import build_bambi
from hiermod.engines.nuts.hierarchical_centring import totals
from hiermod.engines.nuts.quiet import collected
from hiermod.errors import ArgumentError, UnsupportedError
from hiermod.formula.build import build_design
from hiermod.formula.design import Design

PRIORS = {
    "Intercept": stats.norm(300, 150),
    "common": stats.norm(0, 5),
    "sd": stats.halfnorm(scale=50),
    "sigma": stats.t(4, scale=60),  # half of it, below
}
TEXTS = {
    "Intercept": "Normal(300, 150)",
    "common": "Normal(0, 5)",
    "group_specific": "HalfNormal(50)",
    "sigma": "HalfStudentT(nu=4, sigma=60)",
}


class _Half:
    """A distribution folded at 0: scipy has no half-Student-t."""

    def __init__(self, full: Any) -> None:
        self.full = full

    def logpdf(self, x: float) -> float:
        return self.full.logpdf(x) + np.log(2)


PRIORS["sigma"] = _Half(PRIORS["sigma"])


@pytest.fixture(scope="module")
def data() -> pd.DataFrame:
    rng = np.random.default_rng(20261)
    n = 90
    frame = pd.DataFrame(
        {
            "g": rng.choice(list("abcdef"), n),
            "h": rng.choice(list("uvw"), n),
            "f": rng.choice(list("ABC"), n),
            "x": rng.normal(2, 1, n),
            "v": rng.normal(size=n),
            "t": rng.normal(size=n),
            "w": rng.uniform(0.3, 3, n),
            "s": rng.uniform(0.5, 2, n),
        }
    )
    return frame.assign(y=rng.normal(250, 40, n), n=rng.poisson(3, n))


def build(design: Design, **options: Any) -> Any:
    texts = {key: text for key, text in TEXTS.items() if key != "sigma" or design.se is None}
    if not design.blocks:
        texts.pop("group_specific")
    if not design.has_intercept:
        texts.pop("Intercept")
    priors = texts | {block.corr_name: "LKJ(1.5)" for block in design.correlated_blocks} | options.pop("priors", {})
    return build_bambi(design, priors=priors, **options)


def log_density(graph: Any, *points: dict[str, np.ndarray]) -> list[float]:
    """At each point."""
    with collected():  # PyTensor speaks of BLAS and compilers
        parts = graph.compile_logp(sum=False, mode="FAST_COMPILE")  # summed, it trips over numpy's 32 operands
        return [float(sum(np.sum(part) for part in parts(point))) for point in points]


@pytest.mark.stack
@pytest.mark.parametrize(
    ("formula", "extra", "center"),
    [
        ("y ~ x + (x | g)", {}, False),
        ("y ~ x + (x | g)", {}, True),
        ("y ~ x * f + (x | g) + (1 | h)", {}, True),
        ("y ~ f + (x + f | g)", {}, False),  # a scalar and a vector variable in one block of four
        ("y ~ f + (0 + f | g)", {}, False),
        ("y ~ x + (x | g) + (0 + v + t | g) + (x | h)", {}, False),
        ("y ~ x + (x || g)", {}, False),
        ("y ~ x + (x | g)", {"weights": "w"}, False),
        ("y ~ x + (x | g)", {"se": "s"}, False),
        ("y ~ x + (1 | g:h)", {}, True),
        ("y ~ poly(x, 2) + (poly(x, 2) | g)", {}, False),
    ],
)
def test_joint_density_is_the_hand_written_one(data, formula, extra, center):
    design = build_design(formula, data, **extra)
    graph = build(design, center_predictors=center).backend.model
    points = random_points(graph, np.random.default_rng(5), 3)
    expected = [hand_logp(point, design, PRIORS, eta=1.5, center=center) for point in points]
    # both sum the same few hundred terms in double precision, in another order
    assert log_density(graph, *points) == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize("k", [2, 3, 4])
def test_partial_correlations_give_the_lkj_density(k):
    """p(R) = prod p(u) / |dR/du| goes as det(R)^(eta - 1), eta 1.5 (Lewandowski et al. 2009, equation 10)."""
    from hiermod.engines.nuts.correlation import vine_shape

    rng, eta, step = np.random.default_rng(k), 1.5, 1e-6
    lower, size = np.tril_indices(k, -1), k * (k - 1) // 2
    constants = []
    for _ in range(6):
        u = rng.uniform(0.1, 0.9, size)
        jacobian = np.empty((size, size))
        for i in range(size):
            ahead, behind = u.copy(), u.copy()
            ahead[i] += step
            behind[i] -= step
            change = correlation_from_partials(ahead, k) - correlation_from_partials(behind, k)
            jacobian[:, i] = change[lower] / (2 * step)
        b = vine_shape(k, eta)
        log_density = stats.beta(b, b).logpdf(u).sum() - np.log(abs(np.linalg.det(jacobian)))
        constants.append(log_density - (eta - 1) * np.linalg.slogdet(correlation_from_partials(u, k))[1])
    assert np.ptp(constants) < 1e-6  # central differences of step 1e-6 are good to about 1e-9


def test_graph_correlation_matrix_has_unit_diagonal_and_labels(data):
    import pymc as pm

    design = build_design("y ~ f + (x + f | g)", data)
    graph = build(design).backend.model
    with collected():
        matrix = pm.draw(graph["g_corr"], draws=50, random_seed=1, mode="FAST_COMPILE")
    np.testing.assert_allclose(np.diagonal(matrix, axis1=1, axis2=2), 1, rtol=1e-12)
    assert np.linalg.eigvalsh(matrix).min() > 0
    dims = graph.named_vars_to_dims["g_corr"]
    assert tuple(dims) == ("g_corr_dim_0", "g_corr_dim_1")
    assert tuple(graph.coords["g_corr_dim_0"]) == design.blocks[0].labels == ("Intercept", "x", "f[B]", "f[C]")


@pytest.mark.stack
def test_centred_blocks_have_the_same_density_up_to_the_change_of_variables(data):
    design = build_design("y ~ x + (x | g)", data)
    graph = build(design, center_predictors=False, noncentered=False).backend.model
    free = {variable.name for variable in graph.free_RVs}
    assert {"1|g_centred_offset", "x|g_centred_offset"} <= free
    assert "1|g_offset" not in free
    rng = np.random.default_rng(8)
    point = random_point(graph, rng)
    R = correlation_from_partials(1 / (1 + np.exp(-point["g_corr_partial_offset_logodds__"])), 2)
    sds = np.exp([point["1|g_sigma_log__"], point["x|g_sigma_log__"]])
    z = np.linalg.solve(
        sds[:, None] * np.linalg.cholesky(R), [point["1|g_centred_offset"], point["x|g_centred_offset"]]
    )
    moved = {**point, "1|g_offset": z[0], "x|g_offset": z[1]}
    jacobian = len(design.blocks[0].levels) * np.log(np.prod(sds) * np.sqrt(np.linalg.det(R)))
    expected = hand_logp(moved, design, PRIORS, eta=1.5, center=False) - jacobian
    assert log_density(graph, point) == pytest.approx([expected], rel=1e-10)


@pytest.mark.stack
@pytest.mark.parametrize(
    ("formula", "centred", "sums"),
    [
        ("y ~ x + (x | g)", {"g": 1.0}, {"g"}),
        ("y ~ 0 + x + (1 | g)", {"g": 1.0}, {"g"}),  # an effect without a common coefficient
        ("y ~ x * f + (x | g) + (1 | h)", {"g": 1.0, "h": 2.0}, {"h"}),  # both vary the intercept: h has the sum
        ("y ~ x * f + (x | g) + (1 | h)", {"h": 1.0}, {"h"}),
        ("y ~ f + (x + f | g)", {"g": 1.0}, {"g"}),
        ("y ~ f + (0 + f | g)", {"g": 1.0}, {"g"}),
        ("y ~ x + (x || g)", {"g": 1.0}, {"g"}),
    ],
)
@pytest.mark.parametrize("center", [True, False])
def test_chosen_factors_are_sampled_as_sums_with_their_common_coefficients(data, formula, centred, sums, center):
    """Their density is the hand-written one of z, over |d (sum) / d z|; the other factors' is unchanged."""
    design = build_design(formula, data)
    graph = build(design, center_predictors=center, centred=centred).backend.model
    points = random_points(graph, np.random.default_rng(8), 2)
    expected = []
    for point in points:
        moved, jacobian = dict(point), 0.0
        for block in design.blocks:
            if block.factor in centred:
                jacobian += _back_to_z(design, block, block.factor in sums, center, moved)
        expected.append(hand_logp(moved, design, PRIORS, eta=1.5, center=center and design.has_intercept) - jacobian)
    assert log_density(graph, *points) == pytest.approx(expected, rel=1e-10)


@pytest.mark.stack
@pytest.mark.parametrize("center", [True, False])
@pytest.mark.parametrize(
    ("formula", "parts"),
    [
        ("y ~ x + size + (1 | g)", {"Intercept": {"Intercept": 0, "size": 1}}),
        ("y ~ x * size + (x | g)", {"Intercept": {"Intercept": 0, "size": 1}, "x": {"x": 0, "x:size": 1}}),
        ("y ~ x * size + (x || g)", {"Intercept": {"Intercept": 0, "size": 1}, "x": {"x": 0, "x:size": 1}}),
        ("y ~ 0 + x + size + (1 | g)", {"Intercept": {"size": 1}}),
        ("y ~ x * size + (1 | g)", {"Intercept": {"Intercept": 0, "size": 1}}),
    ],
)
def test_predictors_that_describe_the_levels_are_in_the_sums(data, formula, parts, center):
    """A group's own intercept is beta_0 + gamma size_j + b_j, its slope of x beta_x + delta size_j + b_j."""
    sizes = dict(zip("abcdef", [1.0, -2.0, 0.5, 3.0, -0.3, 0.9], strict=True))  # power 0: of the level itself
    data = data.assign(size=data["g"].map(sizes))
    design = build_design(formula, data)
    graph = build(design, center_predictors=center, centred={"g": 1.0}).backend.model
    point = random_point(graph, np.random.default_rng(8))
    beta = {name: float(point[name]) for name in design.common}
    if center and design.has_intercept:
        means = dict(zip(design.common, design.X.mean(axis=0), strict=True))
        beta["Intercept"] -= sum(means[name] * value for name, value in beta.items() if name != "Intercept")
    moved, jacobian = dict(point), 0.0
    for block in design.blocks:
        of_levels = np.array([sizes[level] for level in block.levels])
        sds = np.array([np.exp(point[f"{column.variable}_sigma_log__"]) for column in block.columns])
        R = np.eye(block.size)
        if block.size > 1:
            partials = 1 / (1 + np.exp(-point[f"{block.corr_name}_partial_offset_logodds__"]))
            R = correlation_from_partials(partials, block.size)
        b = [
            point[f"{column.variable}_centred_offset"]
            - sum(beta[name] * of_levels**power for name, power in parts[label].items())
            for label, column in zip(block.labels, block.columns, strict=True)
        ]
        scale = sds[:, None] * np.linalg.cholesky(R)
        for column, z in zip(block.columns, np.linalg.solve(scale, np.array(b)), strict=True):
            moved[f"{column.variable}_offset"] = z
        jacobian += len(block.levels) * np.linalg.slogdet(scale)[1]
    expected = hand_logp(moved, design, PRIORS, eta=1.5, center=center and design.has_intercept) - jacobian
    assert log_density(graph, point) == pytest.approx([expected], rel=1e-10)


@pytest.mark.stack
@pytest.mark.parametrize("centred", [{"g": 0.5, "inner": 0.1}, {"g": 0.1, "inner": 0.5}, {"inner": 0.1}, {"g": 0.5}])
@pytest.mark.parametrize("left", ["1", "x", "0 + x"])
def test_levels_inside_others_are_sampled_with_their_effects(data, centred, left):
    """A class's own intercept is beta_0 + gamma size_j + b_school + b_class, its slope beta_x + b_school + b_class."""
    data = data.assign(inner=data["g"] + data["h"], size=data["g"].map(dict(zip("abcdef", range(6), strict=True))))
    design = build_design(f"y ~ x + size + ({left} | g) + ({left} | inner)", data)
    graph = build(design, center_predictors=False, centred=centred).backend.model
    point = random_point(graph, np.random.default_rng(8))
    moved, jacobian = dict(point), 0.0
    of_g: dict[str, np.ndarray] = {}
    for block in design.blocks:  # g first
        sds = np.array([np.exp(point[f"{column.variable}_sigma_log__"]) for column in block.columns])
        R = np.eye(block.size)
        if block.size > 1:
            partials = 1 / (1 + np.exp(-point[f"{block.corr_name}_partial_offset_logodds__"]))
            R = correlation_from_partials(partials, block.size)
        scale = sds[:, None] * np.linalg.cholesky(R)
        parent = np.array(["abcdef".index(level[0]) for level in block.levels])
        if block.factor in centred:
            b = []
            for column in block.columns:
                total = point[f"{column.variable}_centred_offset"]
                total = total - (point["x"] if column.label == "x" else point["Intercept"] + point["size"] * parent)
                b.append(total - of_g[column.label][parent] if block.factor == "inner" else total)
            for column, z in zip(block.columns, np.linalg.solve(scale, np.array(b)), strict=True):
                moved[f"{column.variable}_offset"] = z
            jacobian += len(block.levels) * np.linalg.slogdet(scale)[1]
        else:
            b = scale @ np.array([point[f"{column.variable}_offset"] for column in block.columns])
        if block.factor == "g":
            of_g = dict(zip(block.labels, b, strict=True))
    expected = hand_logp(moved, design, PRIORS, eta=1.5, center=False) - jacobian
    assert log_density(graph, point) == pytest.approx([expected], rel=1e-10)


def test_crossed_factors_do_not_share_a_predictor_and_nested_ones_do(data):
    data = data.assign(inner=data["g"] + data["h"], size=data["g"].map(dict(zip("abcdef", range(6), strict=True))))
    design = build_design("y ~ size + x + (1 | g) + (1 | inner) + (1 | f)", data)
    both = {design.common.index("Intercept"), design.common.index("size")}
    for owner, names in (("g", {"g", "inner"}), ("inner", {"g", "inner"}), ("f", set())):
        found = totals(design, design.blocks, {"g": 0.1, "inner": 0.1, "f": 0.1} | {owner: 0.5})
        for factor in ("g", "inner"):  # size is theirs in any case, the intercept only where f has it not
            assert set(found[factor, "Intercept"].common) == (both if factor in names else both - {min(both)})
        assert set(found["f", "Intercept"].common) == (set() if names else {design.common.index("Intercept")})
        assert [one.block.factor for one in found["inner", "Intercept"].nesting] == ["g"]
        assert found["g", "Intercept"].nesting == found["f", "Intercept"].nesting == []


def _back_to_z(design: Design, block: Any, has_sums: bool, center: bool, point: dict[str, np.ndarray]) -> float:
    """Puts the standard normals of a centred block into the point; returns log |d (what is sampled) / d z|."""
    k = block.size
    R = np.eye(k)
    if k > 1:
        R = correlation_from_partials(1 / (1 + np.exp(-point[f"{block.corr_name}_partial_offset_logodds__"])), k)
    terms = list(dict.fromkeys(design.common_terms))
    beta = dict(zip([c for t in terms for c in design.common if design.common_terms[design.common.index(c)] == t],
                    np.concatenate([np.atleast_1d(point[term]) for term in terms]), strict=True))  # fmt: skip
    if center and design.has_intercept:
        means = dict(zip(design.common, design.X.mean(axis=0), strict=True))
        beta["Intercept"] -= sum(means[name] * value for name, value in beta.items() if name != "Intercept")
    sds, b, places = [], [], []
    for label, column in zip(block.labels, block.columns, strict=True):
        own = [other.level for other in block.columns if other.variable == column.variable]
        at = own.index(column.level)
        sds.append(np.exp(np.atleast_1d(point[f"{column.variable}_sigma_log__"])[at]))
        where = "" if column.level is None else f"_{at}"
        absorbed = has_sums or label != "Intercept"  # only the intercept is varied by several factors here
        b.append(point[f"{column.variable}{where}_centred_offset"] - (beta.get(label, 0.0) if absorbed else 0.0))
        places.append((f"{column.variable}_offset", column.level is not None))
    scale = np.array(sds)[:, None] * np.linalg.cholesky(R)
    for (name, vector), z in zip(places, np.linalg.solve(scale, np.array(b)), strict=True):
        point[name] = np.column_stack([point[name], z]) if vector and name in point else z[:, None] if vector else z
    return len(block.levels) * np.linalg.slogdet(scale)[1]


@pytest.mark.stack
@pytest.mark.parametrize("formula", ["y ~ 0 + x + (1 | g)", "y ~ 0 + x + (1 + v | g)"])
def test_mean_of_a_group_prior_reaches_the_likelihood(data, formula):
    """bambi issue 1003: a non-centred Normal group prior loses its mu without a word."""
    design = build_design(formula, data)
    priors = {"1|g": "Normal(Normal(0, 7), HalfNormal(50))"}
    texts = {"common": "Normal(0, 5)", "group_specific": "HalfNormal(50)", "sigma": TEXTS["sigma"]}
    graph = build_bambi(design, priors=texts | priors).backend.model
    point = random_point(graph, np.random.default_rng(2))
    zero = {key: np.zeros_like(value) for key, value in point.items()}  # all effects 0: every row's mean is mu
    at = (0.0, 3.0, 100.0)
    found = log_density(graph, *(zero | {"1|g_mu": np.array(mu)} for mu in at))
    known = [stats.norm(0, 7).logpdf(mu) + stats.norm(mu, 1).logpdf(design.y).sum() for mu in at]  # sigma = exp(0)
    # the rest of the density does not depend on mu; the sums are of order 1e6
    assert np.ptp(np.subtract(found, known)) < 1e-6


def test_helpers_are_named_so_that_nobody_keeps_them(data):
    design = build_design("y ~ x + (x | g)", data)
    graph = build(design).backend.model
    helpers = {v.name for v in graph.free_RVs} - {"Intercept", "x", "sigma", "1|g_sigma", "x|g_sigma"}
    assert helpers == {"1|g_offset", "x|g_offset", "g_corr_partial_offset"}


def test_known_sds_leave_no_sigma(data):
    graph = build(build_design("y ~ x + (1 | g)", data, se="s")).backend.model
    assert "sigma" not in graph.named_vars


def test_what_bambi_encodes_differently_is_refused(data):
    with pytest.raises(UnsupportedError, match=r"\(0 \+ f \| g\).*another model.*f\[A\], f\[B\], f\[C\]"):
        build(build_design("y ~ f + (1 | g) + (0 + f | g)", data))
    with pytest.raises(UnsupportedError, match="another term of the same left side"):
        build(build_design("y ~ f + (f | g) + (0 + f | h)", data))


def test_a_changed_column_is_noticed(data):
    """The check compares values, so it also sees a Design and a frame that have drifted apart."""
    from dataclasses import replace

    design = build_design("y ~ x + (x | g)", data)
    other = replace(design, frame=design.frame.assign(x=design.frame["x"] + 1))
    with pytest.raises(UnsupportedError, match="columns of 'x' have other values"):
        build(other)
    block = replace(design.blocks[0], values=design.blocks[0].values + 1)
    with pytest.raises(UnsupportedError, match=r"columns of '1\|g' have other values"):
        build(replace(design, blocks=(block,)))
    block = replace(design.blocks[0], codes=np.roll(design.blocks[0].codes, 1))
    with pytest.raises(UnsupportedError, match="levels of 'g' differently"):
        build(replace(design, blocks=(block,)))


def test_weights_and_known_sds_belong_to_gaussian_models(data):
    design = build_design("n ~ x + (1 | g)", data, weights="w")
    with pytest.raises(UnsupportedError, match=r"weights= needs family='gaussian'.*'poisson'"):
        build_bambi(design, family="poisson")
    with pytest.raises(UnsupportedError, match="category of the response"):
        build_bambi(build_design("y ~ x", data), family="categorical")


def test_group_priors_that_cannot_be_sampled_noncentred_are_refused(data):
    design = build_design("y ~ x + (1 | g)", data)
    priors = {"1|g": "Laplace(0, HalfNormal(5))"}
    with pytest.raises((UnsupportedError, ArgumentError)):
        build_bambi(design, priors=priors)
    with pytest.raises(ArgumentError, match="noncentered"):
        build_bambi(design, noncentered="sometimes")


@pytest.mark.parametrize("family", ["poisson", "negativebinomial", "t"])
def test_other_families_get_correlated_blocks_too(data, family):
    design = build_design("n ~ x + (x | g)", data, family=family)
    graph = build_bambi(design, family=family).backend.model
    assert np.isfinite(log_density(graph, random_point(graph, np.random.default_rng(4)))).all()
    assert "g_corr" in graph.named_vars
