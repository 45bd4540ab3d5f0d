"""The model as equations: every column of X appears once as what it multiplies; the lines of the usual designs."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from hiermod.datasets import load_dataset
from hiermod.errors import ArgumentError
from hiermod.families.catalogue import FAMILIES
from hiermod.model import Model
from hiermod.output.equations.equation_levels import INTERCEPT, read_levels
from hiermod.plots import design_matrices


def schools() -> pd.DataFrame:
    """Pupils in classes in schools: ses differs between pupils, size between classes, sector between schools."""
    rng = np.random.default_rng(1)
    frame = pd.DataFrame({"school": np.repeat([f"s{j}" for j in range(20)], 10)})
    frame["room"] = np.tile(np.repeat(["a", "b"], 5), 20)
    frame["ses"] = rng.normal(size=200)
    frame["size"] = np.repeat(rng.normal(size=40), 5)
    frame["sector"] = np.repeat(rng.choice(["public", "catholic"], 20), 10)
    frame["count"] = rng.integers(0, 3, 200)
    frame["share"] = rng.uniform(0.1, 0.9, 200)
    frame["y"] = rng.normal(size=200)
    return frame


def lines(model: Model) -> list[str]:
    return [line for section in model.equation().text for line in (section.title, *section.lines)]


FORMULAS = [
    "y ~ ses * sector + (ses | school)",
    "y ~ ses * sector + size + ses:size + (ses | school/room)",
    "y ~ ses * sector + (1 | school) + (0 + ses | school)",
    "y ~ sector + (ses | school)",
    "y ~ 0 + sector + (1 | school)",
    "y ~ 0 + sector:ses + (0 + ses | school)",
    "y ~ poly(ses, 2) * size + (1 | school)",
    "y ~ ses * sector + (1 | school) + (1 | sector:room)",
    "y ~ ses * sector",
]


@pytest.mark.parametrize("formula", FORMULAS)
def test_every_column_stands_in_one_equation_and_is_the_product_it_is_shown_as(formula):
    """X's column = (level-1 term) x (predictor in its equation), for every column, each exactly once."""
    design = Model(formula, schools()).spec
    column = {label: design.X[:, j] for j, label in enumerate(design.common)} | {INTERCEPT: np.ones(design.nobs)}
    for block in design.blocks:
        column |= {label: block.values[:, j] for j, label in enumerate(block.labels)}
    used = []
    for coefficient in read_levels(design).coefficients:
        for predictor in coefficient.predictors:
            if predictor.column:
                used.append(predictor.column)
                shown = np.prod([column[part] for part in predictor.shown.split(":")], axis=0)
                # identity; a term may be absent from X (a slope that varies around 0)
                np.testing.assert_allclose(column[predictor.column], column[coefficient.term] * shown, rtol=1e-12)
    assert sorted(used) == sorted(design.common)


def test_the_two_level_model_of_raudenbush_and_bryk():
    """Their chapter 4: SECTOR and its product with SES stand at level 2."""
    assert lines(Model("y ~ ses * sector + (ses | school)", schools())) == [
        "Level 1",
        "y_ij = β0j + β1j ses_ij + εij",
        "εij ~ Normal(0, σ²)",
        "Level 2 (school)",
        "β0j = γ00 + γ01 sector[public]_j + u0j",
        "β1j = γ10 + γ11 sector[public]_j + u1j",
        "Variance components",
        "(u0j, u1j) ~ Normal(0, [[τ0², ρ01 τ0 τ1], [ρ01 τ0 τ1, τ1²]])",
    ]


def test_three_nested_levels():
    model = Model("y ~ ses * sector + size + (1 | school/room)", schools())
    assert lines(model)[3:] == [
        "Level 2 (school:room)",
        "π0jk = β00k + β01k size_jk + u0jk",
        "π1jk = β10k",
        "Level 3 (school)",
        "β00k = γ000 + γ001 sector[public]_k + v0k",
        "β01k = γ010",
        "β10k = γ100 + γ101 sector[public]_k",
        "Variance components",
        "u0jk ~ Normal(0, τu0²)",
        "v0k ~ Normal(0, τv0²)",
    ]
    symbols = model.equation().symbols["parameter"]
    assert symbols["γ101"] == "ses:sector[public]"
    assert symbols["τu0"] == "1|school:room_sigma"


def test_crossed_factors_have_the_level_of_the_row_as_index():
    found = lines(Model("diameter ~ 1 + (1 | plate) + (1 | sample)", load_dataset("penicillin")))
    assert found[4] == "β0i = γ0 + u[0, plate[i]] + v[0, sample[i]]"


def test_uncorrelated_effects_have_no_correlation():
    found = lines(Model("Reaction ~ Days + (Days || Subject)", load_dataset("sleepstudy")))
    assert found[-2:] == ["u0j ~ Normal(0, τ0²)", "u1j ~ Normal(0, τ1²)"]


def test_counts_are_named_as_the_person_named_them():
    found = lines(Model("p(incidence, size) ~ period + (1 | herd)", load_dataset("cbpp"), family="binomial"))
    assert found[1:3] == [
        "incidence_ij ~ Binomial(size_ij, pij)",
        "logit(pij) = β0j + β1j period[2]_ij + β2j period[3]_ij + β3j period[4]_ij",
    ]


@pytest.mark.filterwarnings("ignore::hiermod.errors.SingularFitWarning")  # the data are noise
@pytest.mark.parametrize("formula", FORMULAS)
def test_symbols_name_parameters_of_the_fit(formula):
    model = Model(formula, schools())
    assert sorted(model.equation().symbols["parameter"]) == sorted(model.reml().parameters().index)


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_and_link_has_its_equation(family):
    frame = schools().assign(three=3, hit=lambda d: (d["count"] > 0).astype(int))
    positive = ("beta", "gamma", "wald", "exponential", "weibull", "lognormal", "vonmises")
    counts = dict.fromkeys(("binomial", "beta_binomial"), "p(count, three)")
    response = ({"bernoulli": "hit"} | counts | dict.fromkeys(positive, "share")).get(family, "count")
    for link in FAMILIES[family].links:
        equation = Model(f"{response} ~ ses + (1 | school)", frame, family=family, link=link).equation()
        first = " ".join(equation.text[0].lines)
        assert "β0j + β1j ses_ij" in first
        assert link == "identity" or {"inverse": "1 / ", "inverse_squared": "1 / "}.get(link, link + "(") in first


def test_latex_is_balanced_and_escaped():
    frame = schools().rename(columns={"ses": "ses_z"})
    latex = Model("y ~ ses_z + (ses_z | school/room)", frame).equation().latex
    assert r"\text{ses\_z}_{ijk}" in latex
    assert latex.count("{") == latex.count("}")
    assert latex.count(r"\begin") == latex.count(r"\end")
    assert latex.count(r"\left(") == latex.count(r"\right)")


def test_priors_stand_beside_their_symbols():
    """The distributions of m.priors(), the ones given among them."""
    model = Model("Reaction ~ Days + (Days | Subject)", load_dataset("sleepstudy"), priors={"Days": "Normal(0, 20)"})
    section = model.equation(priors=True).text[-1]
    assert section.title == "Priors (the intercept's where predictors are at their means)"
    assert "γ10 ~ Normal(mu=0, sigma=20)" in section.lines
    assert [line.split(" ~ ")[0] for line in section.lines] == ["γ00", "γ10", "τ0", "τ1", "Subject_corr", "σ"]
    plain = Model("Yield ~ 1 + (1 | Batch)", load_dataset("dyestuff")).equation(priors=True)
    assert plain.text[-1].title == "Priors"


def test_offset_weights_and_known_errors():
    frame = schools().assign(w=2.0, s=1.5)
    assert "offset_ij" in lines(Model("y ~ offset(size) + (1 | school)", frame))[1]
    assert lines(Model("y ~ 1 + (1 | school)", frame, weights="w"))[2] == "εij ~ Normal(0, σ² / wij)"
    assert lines(Model("y ~ 1 + (1 | school)", frame, se="s"))[2] == "εij ~ Normal(0, sij²)"


# --- m.design() -------------------------------------------------------------------------------------------------------
def test_matrices_are_those_of_the_model():
    """X beta + Z b with the fit's own estimates is its fitted values (rtol 1e-10: the same sums in another order)."""
    model = Model("Reaction ~ Days + (Days | Subject)", load_dataset("sleepstudy"))
    matrices, fit = model.design(), model.reml()
    assert matrices.shapes == {"y": (180,), "X": (180, 2), "beta": (2,), "Z": (180, 36), "b": (36,)}
    b = fit.ranef().set_index(["group", "level", "term"])["estimate"].loc[list(matrices.columns)]
    total = matrices.X.to_numpy() @ fit.fixef()["estimate"].to_numpy() + matrices.Z @ b.to_numpy()
    np.testing.assert_allclose(total, fit.fitted(), rtol=1e-10)
    assert "180 x 36" in str(matrices)
    assert matrices.head(2, 4).to_numpy().tolist() == [[1, 0, 0, 0], [1, 1, 0, 0]]


def test_crossed_blocks_stand_side_by_side():
    matrices = Model("diameter ~ 1 + (1 | plate) + (1 | sample)", load_dataset("penicillin")).design()
    assert matrices.Z.shape == (144, 30)
    assert (matrices.Z.sum(axis=1) == 2).all()


def test_the_picture_shows_the_matrices():
    import matplotlib.pyplot as plt

    matrices = Model("Reaction ~ Days + (Days | Subject)", load_dataset("sleepstudy")).design()
    figure = design_matrices(matrices, rows=20)
    left, right = (ax.images[0].get_array() for ax in figure.axes)
    assert left.shape == (20, 2)
    assert right.shape == (20, 36)
    np.testing.assert_allclose(right[:10, 1], np.arange(10) / 9)  # days 0 to 9 over their largest
    assert (right[:10, 2:] == 0).all()
    plt.close(figure)


def test_a_picture_too_large_is_refused():
    model = Model("y ~ 1 + (1 | g)", pd.DataFrame({"y": np.arange(6000.0), "g": np.arange(6000) // 2}))
    with pytest.raises(ArgumentError, match="rows=666"):
        design_matrices(model.design())
