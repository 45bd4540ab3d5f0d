"""The priors of every family, resolved without Bambi, beside Bambi's own: ``bambi.Model`` as anybody makes it."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pandas as pd
import pytest

from hiermod.core import versions
from hiermod.errors import ArgumentError, UnsupportedError
from hiermod.families.catalogue import FAMILIES
from hiermod.formula.build import build_design
from hiermod.formula.design import Design
from hiermod.formula.parts import parts_of
from hiermod.model import Model
from hiermod.priors.distributions import Distribution
from hiermod.priors.gaussian import gaussian_priors
from hiermod.priors.given import resolve_priors
from hiermod.priors.model_priors import ModelPriors, OnGraph, model_priors
from hiermod.priors.table import prior_entries, priors_frame

pytestmark = pytest.mark.stack  # what Bambi does by default may change with its version

RNG = np.random.default_rng(4)
N = 48
DATA = pd.DataFrame(
    {
        "x": RNG.normal(1.0, 2.0, N),
        "z": RNG.gamma(2.0, 3.0, N),
        "f": pd.Categorical(RNG.choice(list("abc"), N)),
        "h": np.tile(["p", "q"], N // 2),
        "g": np.repeat(list("uvwxyz"), N // 6),
        "k": np.tile(list("mnop"), N // 4),
        "n": RNG.integers(6, 9, N),
        "exposure": RNG.uniform(0.1, 2.0, N),
    }
)
RESPONSES = {
    "continuous": RNG.gamma(3.0, 0.2, N),
    "count": RNG.poisson(3.0, N),
    "binary": RNG.integers(0, 2, N),
    "proportion": RNG.integers(0, 6, N),
    "ordinal": RNG.integers(1, 6, N),
}
LINKS = [(family.name, link) for family in FAMILIES.values() for link in family.links]
FORMULAS = (
    "x + f + (x | g)",
    "x * f + f:h + z:x + (f | g) + (0 + x | k)",
    "0 + f + scale(z) + x:h + offset(log(exposure)) + (1 | g/k)",
    "f:h + x:f:h + (0 + f || g)",
    "0 + x + z + I(x > 0) + (x || g)",
    "1 + (1 | g) + (1 | k)",
)


def design_of(right: str, family: str, **more: Any) -> Design:
    kind = FAMILIES[family].kind
    y = np.clip(RESPONSES[kind], 0.05, 0.95) if family == "beta" else RESPONSES[kind]
    left = "p(y, n)" if kind == "proportion" else "y"
    if kind == "ordinal":
        right = right.removeprefix("0 + ")
    return build_design(f"{left} ~ {right}", DATA.assign(y=y), family=family, **more)


def bambis(design: Design, family: str, link: str | None = None, priors: Any = None) -> Any:
    """Bambi's own model with its own defaults; its graph is not built, and need not be."""
    import bambi

    made = FAMILIES[family].bambi
    further = [f"{name} ~ {text}" for name, text in design.formulas.items()]
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The intercept is omitted in ordinal families")
        return bambi.Model(
            bambi.Formula(design.bambi_formula, *further),
            design.frame,
            family=made() if made is not None else family,
            link=link,
            priors=priors,
        )


def assert_same(mine: Any, theirs: Any, position: int, where: str) -> None:
    """The same distribution with the same arguments, those of one coefficient."""
    assert isinstance(mine, Distribution), where
    assert mine.name == theirs.name, where
    args = {name: value for name, value in theirs.args.items() if name != "transform"}
    assert {name for name, _ in mine.args} == set(args), where
    for name, value in args.items():
        one = np.ravel(np.asarray(value, dtype=float))
        expected = one[position] if len(one) > 1 else one[0]
        assert mine.get(name) == pytest.approx(expected, rel=1e-12, abs=1e-12), (where, name)


def assert_component(mine: ModelPriors, design: Design, component: Any, prefix: str = "") -> None:
    terms = dict(component.common_terms)
    if component.intercept_term is not None:
        terms["Intercept"] = component.intercept_term
    seen: dict[str, int] = {}
    for law, term in zip(mine.common, design.common_terms, strict=True):
        position = seen[term] = seen.get(term, -1) + 1
        assert_same(law, terms[term.removeprefix(prefix)].prior, position, term)
    for block, sds in zip(design.blocks, mine.sds, strict=True):
        for column, law in zip(block.columns, sds, strict=True):
            position = seen[column.variable] = seen.get(column.variable, -1) + 1
            prior = component.group_specific_terms[column.variable.removeprefix(prefix)].prior
            assert (prior.name, float(prior.args["mu"])) == ("Normal", 0.0)
            assert_same(law, prior.args["sigma"], position, column.sd_name)


def assert_same_model(mine: ModelPriors, design: Design, model: Any) -> None:
    assert_component(mine, design, versions.bambi_parent(model))
    constants = versions.bambi_constants(model)
    assert set(mine.auxiliary) == set(constants)
    for name, law in mine.auxiliary.items():
        theirs = constants[name].prior
        if isinstance(law, float):
            assert law == float(theirs)
            continue
        if name == "threshold":
            assert law.name == theirs.name == "Normal"
            assert law.get("mu") == tuple(theirs.args["mu"])
            assert law.get("sigma") == float(theirs.args["sigma"])
            continue
        assert_same(law, theirs, 0, name)


@pytest.mark.parametrize(("family", "link"), LINKS)
def test_defaults_of_every_family_and_link_are_bambis(family: str, link: str) -> None:
    for right in FORMULAS:
        design = design_of(right, family)
        mine = model_priors(design, resolve_priors(None, design, family), family, link)
        assert_same_model(mine, design, bambis(design, family, link))


@pytest.mark.parametrize("family", ["gaussian", "negativebinomial", "zero_inflated_poisson", "t"])
def test_priors_of_further_formulas_are_bambis(family: str) -> None:
    parameters = {name: "x + f + (x | g)" for name in FAMILIES[family].parameter_names[:1]}
    design = design_of("x * f + (x | g)", family, parameters=parameters)
    mine = model_priors(design, resolve_priors(None, design, family), family)
    model = bambis(design, family)
    assert_same_model(mine, design, model)
    for name, part in parts_of(design).items():
        assert_component(mine.further[name], part, versions.bambi_parameters(model)[name], f"{name}_")


def test_given_priors_widen_no_intercept_as_in_bambi() -> None:
    given = {"x": "Normal(1, 3)", "1|g": "Exponential(2)", "f": "StudentT(3, 0, [1, 2])", "alpha": "Gamma(2, 1)"}
    design = design_of("x + f + z + (f | g) + (1 | k)", "negativebinomial")
    priors = resolve_priors(given, design, "negativebinomial")
    mine = model_priors(design, priors, "negativebinomial")
    assert_same_model(mine, design, bambis(design, "negativebinomial", priors=priors.to_bambi()))
    assert str(mine.common[2]) == "StudentT(nu=3, mu=0, sigma=1)"
    wide = resolve_priors({"common": "Normal(0, 2)", "group_specific": "HalfCauchy(1)"}, design, "negativebinomial")
    mine = model_priors(design, wide, "negativebinomial")
    assert_same_model(mine, design, bambis(design, "negativebinomial", priors=wide.to_bambi()))


def test_a_list_of_sds_goes_along_the_columns_of_uncorrelated_effects() -> None:
    """(0 + f || g) is a block for each level, and one term with three sds to Bambi."""
    design = design_of("x + (0 + f || g)", "poisson")
    priors = resolve_priors({"f|g": "HalfNormal([1, 2, 3])"}, design, "poisson")
    mine = model_priors(design, priors, "poisson")
    assert [sds[0].get("sigma") for sds in mine.sds] == [1, 2, 3]
    assert_same_model(mine, design, bambis(design, "poisson", priors=priors.to_bambi()))


def test_several_columns_of_numbers_have_their_own_scale_with_a_logit_link() -> None:
    """Bambi cannot scale them; each gets 1 / sd(x), as a single column does."""
    design = design_of("poly(x, 2) + (1 | g)", "bernoulli")
    mine = model_priors(design, resolve_priors(None, design, "bernoulli"), "bernoulli")
    assert [law.get("sigma") for law in mine.common[1:]] == pytest.approx((1 / design.X[:, 1:].std(axis=0)).tolist())


@pytest.mark.parametrize("family", ["gaussian", "t", "poisson", "bernoulli"])
def test_columns_that_do_not_vary_have_finite_priors(family: str) -> None:
    """The rule by hand: 2.5 sd(y) over the column's size where Bambi divides by its sd of 0; 1 of a logit's scale."""
    y = RESPONSES[FAMILIES[family].kind]
    data = DATA.assign(y=y, three=3.1, zero=0.0)
    design = build_design("y ~ three + zero + three:h + (three || g)", data, family=family)
    mine = model_priors(design, resolve_priors(None, design, family), family)
    unit = {"bernoulli": 1.0, "poisson": 2.5}.get(family, 2.5 * float(np.std(y)))
    sds = dict(zip(design.common, [law.get("sigma") for law in mine.common], strict=True))
    assert sds["three"] == pytest.approx(unit / 3.1)
    assert sds["zero"] == unit
    own = 2.5 * (1.0 if family in ("poisson", "bernoulli") else float(np.std(y)))
    assert mine.sds[1][0].get("sigma") == pytest.approx(own / 3.1)
    assert np.isfinite([law.get("sigma") for law in mine.common]).all()


@pytest.mark.parametrize("left", ["weighted(y, z)", "censored(y, status)", "truncated(y, -50)"])
def test_a_likelihood_of_its_own_leaves_the_scale_of_the_response(left: str) -> None:
    """Bambi takes mean and sd of the response together with weights, codes or bounds (infinite in truncated)."""
    data = DATA.assign(y=RESPONSES["continuous"], status=np.tile(["none", "right"], N // 2))
    found = []
    for one in ("y", left):
        design = build_design(f"{one} ~ x + (x | g)", data)
        found.append(model_priors(design, resolve_priors(None, design)))
    assert found[0].common == found[1].common
    assert found[0].sds == found[1].sds
    assert found[0].auxiliary == found[1].auxiliary


def test_known_and_weighed_residual_sds() -> None:
    for more, names in (({"se": "z"}, set()), ({"weights": "z"}, {"sigma"})):
        design = design_of("x + (1 | g)", "gaussian", **more)
        assert set(model_priors(design, resolve_priors(None, design)).auxiliary) == names


def test_what_only_the_graph_can_evaluate_is_refused_in_the_same_words() -> None:
    import bambi

    made = bambi.Prior("Own", dist=lambda *args, **named: None)
    effects = bambi.Prior("StudentT", nu=4, mu=0, sigma=bambi.Prior("HalfNormal", sigma=1))
    for given, words in (
        ({"x": made}, "the prior of 'x' is .*, which only the graph can evaluate"),
        ({"1|g": effects}, "the prior of '1|g' is StudentT.*, not a Normal around 0 with a prior for its sd"),
    ):
        for family in ("gaussian", "poisson"):
            design = design_of("x + (1 | g)", family)
            priors = resolve_priors(given, design, family)
            found = model_priors(design, priors, family)
            assert any(isinstance(law, OnGraph) for law in (*found.common, *found.sds[0]))
            with pytest.raises(UnsupportedError, match=words):
                found.evaluable()
            if family == "gaussian":
                with pytest.raises(UnsupportedError, match=words):
                    gaussian_priors(design, priors)


def test_arrays_of_a_bambi_prior_are_as_many_as_the_coefficients() -> None:
    import bambi

    design = design_of("x + f + (1 | g)", "poisson")
    right = resolve_priors({"f": bambi.Prior("Normal", mu=np.array([1.0, 2.0]), sigma=np.array([3.0]))}, design)
    mine = model_priors(design, right, "poisson")
    assert [str(law) for law in mine.common[2:]] == ["Normal(mu=1, sigma=3)", "Normal(mu=2, sigma=3)"]
    with pytest.raises(ArgumentError, match="mu has 3 values and 'f' has 2"):
        resolve_priors({"f": bambi.Prior("Normal", mu=np.zeros(3), sigma=1)}, design, "poisson")


# --- the table, with its reasons -------------------------------------------------------------------------------------


def reasons(right: str, family: str, priors: Any = None, **more: Any) -> pd.DataFrame:
    design = design_of(right, family, **more)
    found = prior_entries(design, resolve_priors(priors, design, family), family, None, True)
    return priors_frame(found).set_index("parameter")


@pytest.mark.parametrize("family", FAMILIES)
def test_every_parameter_has_a_reason_that_fits_a_cell(family: str) -> None:
    for right in FORMULAS:
        table = reasons(right, family)
        assert table["why"].str.len().between(5, 52).all()  # 52: of the longest name of a family
        assert not table["distribution"].str.contains("inf|nan").any()
        assert {*FAMILIES[family].parameter_names} <= set(table.index)


def test_the_columns_of_an_interaction_are_scaled_together_with_a_logit_link() -> None:
    table = reasons("x * f + z", "bernoulli")
    rest = DATA["x"].where(DATA["f"] != "a", 0.0)  # x:f has a column for b and one for c
    assert table.loc["x:f[b]", "distribution"] == f"Normal(mu=0, sigma={1 / rest.std(ddof=0):.6g})"
    assert table.loc["x:f[b]", "why"] == f"Bambi's: 1 / sd(sum) = 1 / {rest.std(ddof=0):.3g}"
    assert table.loc["z", "why"].startswith("Bambi's: 1 / sd(x) = ")
    assert table.loc["f[b]", "why"] == "Bambi's: 1 for a factor, scale of the link"
    assert table.loc["Intercept", "why"] == "Bambi's: 1.5 on the scale of the link"


def test_thresholds_and_further_formulas_are_told() -> None:
    table = reasons("x + (1 | g)", "cumulative")
    assert table.loc["threshold", "distribution"] == "Normal(mu=[-2, -0.67, 0.67, 2], sigma=1)"
    assert "ascending" in "".join(table.attrs["notes"])
    priors = {"alpha_x": "Normal(0, 3)"}
    table = reasons("x + (1 | g)", "negativebinomial", priors, parameters={"alpha": "x + (f | g)"})
    assert table.index.tolist()[3:] == [
        *("alpha_Intercept", "alpha_x", "alpha_1|g_sigma", "alpha_f|g_sigma[b]", "alpha_f|g_sigma[c]", "alpha_g_corr"),
    ]
    assert table.loc["alpha_x", ["distribution", "why", "key"]].tolist() == [
        "Normal(mu=0, sigma=3)",
        "given",
        "alpha_x",
    ]
    assert table.loc["alpha_Intercept", "why"] == "Bambi's default in the formula for alpha"


def test_what_a_person_gave_is_told_though_only_the_graph_can_evaluate_it() -> None:
    import bambi

    made = bambi.Prior("Own", dist=lambda *args, **named: None)
    effects = "StudentT(4, 0, HalfNormal(2))"
    table = reasons("x + (1 | g)", "poisson", {"x": made, "1|g": effects})
    assert table.loc["x", ["distribution", "why"]].tolist() == ["Own()", "given"]
    assert table.loc["1|g_sigma", ["distribution", "why"]].tolist() == ["HalfNormal(sigma=2)", "given"]


def test_a_common_sd_has_one_prior_and_says_so() -> None:
    table = reasons("f + cs(0 + f | g, hom=True)", "poisson")
    rows = [name for name in table.index if name.startswith("f|g_sigma")]
    assert table.loc[rows, "distribution"].nunique() == 1
    shares = [np.mean(DATA["f"] == level) for level in "abc"]
    scale = np.sqrt(np.mean([2.5**2 / (p * (1 - p)) for p in shares]))
    assert table.loc[rows[0], "distribution"] == f"HalfNormal(sigma={scale:.6g})"
    assert "root mean square" in "".join(table.attrs["notes"])


# --- the graph has the same -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("left", "right", "family"),
    [
        ("weighted(y, z)", "x + f + (x | g)", "gaussian"),
        ("truncated(y, -50)", "x + (f || g)", "t"),
        ("y", "poly(x, 2) + z:h + (1 | g)", "bernoulli"),
        ("y", "f + cs(0 + f | g, hom=True)", "poisson"),
    ],
)
def test_the_graph_has_the_resolved_priors(left: str, right: str, family: str) -> None:
    """Also where Bambi's own are others, infinite, or not there."""
    data = DATA.assign(y=RESPONSES[FAMILIES[family].kind])
    model = Model(f"{left} ~ {right}", data, family=family)
    mine = model_priors(model.spec, resolve_priors(None, model.spec, family), family)
    assert_same_model(mine, model.spec, model.bambi)


def test_given_thresholds_ascend_on_the_graph_and_start_there() -> None:
    design = design_of("x + (1 | g)", "cumulative")
    for given in ("Normal(0, 2)", "StudentT(3, [-2, -1, 1, 1.5], 1)"):
        model = Model("y ~ x + (1 | g)", design.frame.assign(y=design.y), "cumulative", priors={"threshold": given})
        assert np.isfinite(list(model.pymc.point_logps().values())).all()
        drawn = model.pymc.rvs_to_transforms[model.pymc["threshold"]]
        assert type(drawn).__name__ == "Ordered"
