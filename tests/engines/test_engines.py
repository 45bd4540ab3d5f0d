"""Engines: every one that is installed passes one contract, they agree with each other, and "auto" chooses by rule."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from hiermod.core import versions
from hiermod.core.arguments import check_count, check_settings, resolve_seed
from hiermod.engines import catalogue
from hiermod.engines.catalogue import ENGINES, choose, method_named
from hiermod.engines.engine import Engine, Method, Sampling, Specification
from hiermod.engines.posterior import Draws, Inference, Posterior, assess
from hiermod.errors import ArgumentError, UnsupportedError
from hiermod.model import Model

INSTALLED = [
    pytest.param(engine, id=engine.name, marks=[pytest.mark.slow] if "jax" in engine.needs else [])  # compiles long
    for engine in ENGINES
    if all(versions.has_package(one) for one in engine.needs)
]


def twenty_rows() -> pd.DataFrame:
    """Five groups of four rows, well apart, so that every engine mixes in few draws."""
    rng = np.random.default_rng(3)
    g = np.repeat(list("abcde"), 4)
    y = 10 + np.repeat([-3.0, -1.0, 0.0, 1.5, 3.0], 4) + rng.normal(size=20)
    return pd.DataFrame({"y": y, "x": rng.normal(size=20), "g": g})


@pytest.fixture(scope="module")
def model() -> Model:
    return Model("y ~ x + (1 | g)", twenty_rows(), priors={"1|g": "HalfNormal(5)"}, noncentered=False)


@pytest.fixture(scope="module")
def marginal(model: Model) -> Any:
    """What all are compared with: 4000 draws that are nearly independent."""
    return model.fit(inference_method="marginal", random_seed=1)


# --- the contract ------------------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore::hiermod.errors.ConvergenceWarning")
@pytest.mark.parametrize("engine", INSTALLED)
def test_every_engine_draws_from_the_same_posterior_under_the_same_names(
    engine: Engine, model: Model, marginal: Any
) -> None:
    fit = model.fit(
        draws=300, tune=300, chains=2, inference_method=engine.name, random_seed=4, progressbar=False, cores=1
    )
    how = fit.inference
    assert (how.method, how.draws, how.chains, how.seed) == (engine.name, 300, 2, 4)
    assert how.reason == f"{engine.reason}, as asked"
    assert method_named(how.method) in engine.methods
    ours, theirs = versions.posterior_dataset(fit.idata), versions.posterior_dataset(marginal.idata)
    assert set(ours.data_vars) == set(theirs.data_vars)
    for name in theirs.data_vars:
        assert ours[name].dims == theirs[name].dims, name
        for dim in theirs[name].dims[2:]:
            assert list(ours[dim].values) == list(theirs[dim].values)
    # Means within 5 Monte Carlo errors of both: one in 40,000 of such sets of 9 means and 5 engines would miss.
    for name in ("Intercept", "x", "sigma", "1|g_sigma", "1|g"):
        a = np.asarray(ours[name].values).reshape(2, 300, -1)
        b = np.asarray(theirs[name].values).reshape(4, 1000, -1)
        error = np.hypot(versions.mcse(a), versions.mcse(b))
        assert np.all(np.abs(a.mean(axis=(0, 1)) - b.mean(axis=(0, 1))) < 5 * error), name


@pytest.mark.parametrize("engine", ENGINES, ids=lambda engine: engine.name)
def test_what_an_engine_says_of_itself(engine: Engine, model: Model) -> None:
    specified = model._specification()
    assert engine.obstacle(specified) is None
    assert 0 <= engine.cost(specified) < np.inf
    assert engine.methods[0].name == engine.name
    assert "{effects}" in engine.methods[0].sentence or engine.methods[0].sentence.startswith("The posterior")


@pytest.mark.parametrize("engine", INSTALLED)
def test_a_setting_that_an_engine_does_not_have_is_refused_in_words(engine: Engine, model: Model) -> None:
    with pytest.raises((ArgumentError, UnsupportedError), match="warmest"):
        model.fit(draws=5, tune=5, chains=1, inference_method=engine.name, random_seed=1, progressbar=False, warmest=3)


# --- auto --------------------------------------------------------------------------------------------------------


def test_auto_is_the_cheapest_without_an_obstacle(model: Model) -> None:
    specified = model._specification()
    costs = [engine.cost(specified) for engine in ENGINES]
    assert costs == sorted(costs)
    assert choose("auto", specified).engine.name == "marginal"
    counts = Model("y ~ x + (1 | g)", twenty_rows().assign(y=range(20)), family="poisson")._specification()
    chosen = choose("auto", counts)
    assert chosen.engine.name == "whitened"
    obstacle = "family 'poisson' with link 'log' is not Gaussian with identity link"
    assert chosen.because == f"since the effects cannot be integrated out: {obstacle}"
    with pytest.raises(UnsupportedError) as raised:
        choose("marginal", counts)
    assert str(raised.value) == obstacle


def test_auto_does_not_look_at_what_is_installed(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same seed must not mean other draws on a machine that lacks nutpie: what is missing is said."""
    counts = Model("y ~ x", twenty_rows().assign(y=range(20)), family="poisson", link="identity")._specification()
    monkeypatch.setattr(versions, "has_package", lambda name: name not in ("nutpie", "jax"))
    with pytest.raises(UnsupportedError, match=r"needs nutpie.*pip install nutpie.*'pymc'"):
        choose("auto", counts)
    with pytest.raises(UnsupportedError, match=r"needs jax.*hiermod\[jax\].*'nutpie'"):
        choose("numpyro", counts)
    assert choose("pymc", counts).engine.name == "pymc"


def test_an_engine_that_is_not_there_is_named(model: Model) -> None:
    with pytest.raises(ArgumentError, match=r"'nutpy'\. Did you mean 'nutpie'"):
        model.fit(inference_method="nutpy")
    with pytest.raises(ArgumentError, match=r"Did you mean 'marginal'.*auto, marginal, whitened, nutpie"):
        model.fit(inference_method="margnal")


def test_choosing_imports_no_package_of_a_graph() -> None:
    code = (
        "import sys, hiermod as hm\n"
        "from hiermod.engines.catalogue import choose\n"
        "m = hm.Model('TICKS ~ YEAR + (1 | BROOD)', hm.load_dataset('grouseticks'), family='poisson')\n"
        "print(choose('auto', m._specification()).engine.name)\n"
        "print([name for name in ('pymc', 'bambi', 'arviz', 'nutpie', 'pytensor', 'jax') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split("\n")[:2] == ["whitened", "[]"]


# --- one more engine ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Conjugate:
    """The exact posterior of a mean with known residual sds and a Normal prior (Gelman et al. 2013, section 2.5)."""

    name: str = "conjugate"
    reason: str = "a mean with known sds has a Normal posterior"
    hindrance: str = "conjugacy does not apply: "
    way_out: str = ""
    methods: tuple[Method, ...] = (Method("conjugate", "conjugate posterior", "{effects} were drawn independently"),)
    needs: tuple[str, ...] = ()
    pip_install: str = ""
    software: tuple[str, ...] = ()
    defaults: Any = ()

    def obstacle(self, model: Specification) -> str | None:
        design = model.design
        if design.se is None or design.blocks or design.common != ("Intercept",):
            return "the model is more than a mean with known sds"
        return None

    def cost(self, model: Specification) -> float:
        return -1.0

    def run(self, model: Specification, sampling: Sampling, /, **settings: Any) -> Posterior:
        check_settings(settings, engine=self.name)
        draws, chains = sampling.draws, sampling.chains
        check_count("draws", draws, 4)
        seed = resolve_seed(sampling.random_seed)
        priors, weights = model.density.priors, 1 / np.square(model.design.se)
        precision = weights.sum() + priors.sd[0] ** -2
        mean = (weights @ model.design.y + priors.mean[0] * priors.sd[0] ** -2) / precision
        beta = np.random.default_rng(seed).normal(mean, precision**-0.5, size=(chains, draws, 1))
        arrays = Draws(beta=beta, effects=(), sd=(), corr=(), sigma=None, auxiliary={})
        max_r_hat, bulk, tail, words = assess(arrays, model.design, 0)
        how = Inference(self.name, self.reason, 0.0, draws, 0, chains, seed, 0, max_r_hat, bulk, tail, words)
        return Posterior(**vars(arrays), inference=how, idata=None)


@pytest.fixture
def conjugate(monkeypatch: pytest.MonkeyPatch) -> Conjugate:
    added = replace(Conjugate(), defaults={})
    monkeypatch.setattr(catalogue, "ENGINES", (*ENGINES, added))
    return added


def test_an_engine_more_is_one_entry_in_the_list(conjugate: Conjugate, tmp_path: Path) -> None:
    """auto takes it, the vocabulary and the texts have it, caches and files keep it: nothing else knows its name."""
    data = twenty_rows().assign(se=np.linspace(1, 2, 20))
    m = Model("y ~ 1", data, se="se")
    fit = m.fit(random_seed=5)
    exact = m.fit(inference_method="marginal", random_seed=5)
    assert (fit.inference.method, fit.inference.reason) == ("conjugate", conjugate.reason)
    error = np.hypot(fit.fixef()["mcse"], exact.fixef()["mcse"])
    assert np.all(np.abs(fit.fixef()["estimate"] - exact.fixef()["estimate"]) < 4 * error)
    assert np.allclose(fit.fixef()["std_error"], exact.fixef()["std_error"], rtol=0.06)  # 4 errors of sds of 4000 draws
    assert "conjugate posterior" in str(fit.summary())
    assert "The fixed effects were drawn independently" in str(fit.report())
    assert set(versions.group_names(fit.idata)) >= {"posterior", "observed_data", "log_likelihood"}
    kept = m.fit(random_seed=5, cache=tmp_path)
    again = Model("y ~ 1", data, se="se").fit(random_seed=5, cache=tmp_path)
    assert "read from the cache" in again.inference.reason
    assert np.array_equal(again.record.beta, kept.record.beta)
    with pytest.raises(ArgumentError, match="no argument 'tune', and the conjugate engine, which fits this model"):
        m.fit(tune=500)
    slopes = Model("y ~ x", data, se="se")
    assert slopes.fit(random_seed=1, draws=500).inference.method == "marginal"
    with pytest.raises(UnsupportedError, match="more than a mean with known sds"):
        slopes.fit(inference_method="conjugate")


def test_where_every_engine_has_an_obstacle_all_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(catalogue, "ENGINES", (ENGINES[0], Conjugate()))
    counts = Model("y ~ x", twenty_rows().assign(y=range(20)), family="poisson")
    with pytest.raises(UnsupportedError, match=r"no engine.*since conjugacy does not apply.*and since the effects can"):
        counts.fit()
