"""Model, the front door: what it refuses and how it says so; what the engines are handed."""

from __future__ import annotations

import copy
import inspect
import subprocess
import sys
import warnings
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from hand_made import hand_made

from hiermod.datasets import load_dataset
from hiermod.errors import (
    ArgumentError,
    ArgumentTypeError,
    ConvergenceWarning,
    DataError,
    HiermodError,
    HiermodWarning,
    UnsupportedError,
)
from hiermod.model import Model

SLOPE = "Reaction ~ Days + (Days | Subject)"


@pytest.fixture(scope="module")
def sleep() -> pd.DataFrame:
    return load_dataset("sleepstudy")


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"family": "gausian"}, ArgumentError, "Did you mean 'gaussian'"),
        ({"family": int}, ArgumentTypeError, "must be a name"),
        ({"family": "poisson", "link": "logit"}, ArgumentError, "Links: log, identity"),
        ({"link": "identiy"}, ArgumentError, "Did you mean 'identity'"),
        ({"weights": "Days", "se": "Days"}, ArgumentError, "not both"),
        ({"family": "poisson", "weights": "Days"}, UnsupportedError, "family 'gaussian'"),
        ({"family": "t", "se": "Days"}, UnsupportedError, "family 'gaussian'"),
        ({"noncentered": "yes"}, ArgumentError, "True, False or 'auto'"),
        ({"family": "binomial"}, DataError, "needs counts"),
        ({"extra_namespace": ["f"]}, ArgumentTypeError, "extra_namespace must be a dict"),
    ],
)
def test_bad_arguments(sleep: pd.DataFrame, options: dict, error: type[HiermodError], words: str) -> None:
    with pytest.raises(error, match=words):
        Model(SLOPE, sleep, **options)


def test_counts_need_the_binomial_family() -> None:
    with pytest.raises(DataError, match="use family='binomial'"):
        Model("p(incidence, size) ~ 1 + (1 | herd)", load_dataset("cbpp"))


def test_reml_is_for_gaussian_models_with_identity_link(sleep: pd.DataFrame) -> None:
    for options in ({"family": "t"}, {"link": "log"}):
        model = Model(SLOPE, sleep, **options)
        for fit in (model.reml, model.ml)[: 1 if "family" in options else 2]:
            with pytest.raises(UnsupportedError, match=rf"{fit.__name__}\(\) is for Gaussian.*fit\(\) can fit it"):
                fit()
    weighted = Model("weighted(Reaction, w) ~ Days + (1 | Subject)", sleep.assign(w=1.0))
    with pytest.raises(UnsupportedError, match="weights="):
        weighted.reml()


def test_the_callers_frame_is_never_changed(sleep: pd.DataFrame) -> None:
    before, attrs = sleep.copy(), copy.deepcopy(sleep.attrs)
    model = Model(SLOPE, sleep, weights=np.ones(180))
    model.reml()
    model.pooling(bayes=False)
    pd.testing.assert_frame_equal(sleep, before)
    assert sleep.attrs == attrs
    data = model.data
    data["Reaction"] = 0.0
    assert model.data["Reaction"].ne(0).all()


def test_weights_as_a_column_or_an_array_are_the_same(sleep: pd.DataFrame) -> None:
    w = np.linspace(0.5, 2, 180)
    by_name, by_array = Model(SLOPE, sleep.assign(w=w), weights="w").reml(), Model(SLOPE, sleep, weights=w).reml()
    assert by_name.criterion == by_array.criterion
    assert by_name.criterion != Model(SLOPE, sleep).reml().criterion


def test_a_model_describes_itself(sleep: pd.DataFrame) -> None:
    model = Model(SLOPE, sleep)
    assert repr(model) == f"Model('{SLOPE}'): gaussian, 180 rows; Subject: 18 levels"
    assert model.formula == SLOPE


def test_the_arguments_are_the_ones_promised() -> None:
    """The public names other people's code relies on, in their order."""
    promised = ["formula", "data", "family", "link", "priors", "weights", "se", "dropna", "center_predictors"]
    assert list(inspect.signature(Model).parameters) == [*promised, "noncentered", "extra_namespace", "parameters"]
    asked = ["draws", "tune", "chains", "inference_method", "random_seed", "progressbar", "cores", "target_accept"]
    assert list(inspect.signature(Model.fit).parameters)[1 : len(asked) + 1] == asked


def test_fit_warns_where_it_is_asked(sleep: pd.DataFrame, monkeypatch: pytest.MonkeyPatch) -> None:
    model = Model(SLOPE, sleep)
    record = hand_made(model, messages=("3 of 1000 transitions diverged.",)).record
    monkeypatch.setattr("hiermod.engines.nuts.graph.build_bambi", lambda *_, **__: SimpleNamespace(renamed=False))
    monkeypatch.setattr("hiermod.engines.nuts.engine.sample", lambda *_, **__: record)
    with pytest.warns(ConvergenceWarning, match="3 of 1000 transitions diverged") as caught:
        fit = model.fit(inference_method="nutpie")
    assert caught[0].filename == __file__
    assert fit.record.beta is record.beta


def test_a_graph_that_will_not_fit_is_announced(sleep: pd.DataFrame, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hiermod.model.GRAPH_WARNING_BYTES", 100.0)
    monkeypatch.setattr("hiermod.engines.nuts.graph.build_bambi", lambda *_, **__: "built")
    model = Model(SLOPE, sleep)
    with pytest.warns(HiermodWarning, match="dense indicator of 180 rows.*36 group effects"):
        assert model.bambi == "built"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert model.bambi == "built"  # once built, kept


def test_reml_loads_neither_pymc_nor_bambi() -> None:
    code = (
        "import sys, hiermod as hm\n"
        f"fit = hm.Model({SLOPE!r}, hm.load_dataset('sleepstudy')).reml()\n"
        "str(fit.summary()); fit.tidy(); fit.predict(interval=0.9); fit.coef()\n"
        "print([name for name in ('pymc', 'bambi', 'arviz', 'pytensor', 'matplotlib') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_posterior_that_the_prior_decides_says_so() -> None:
    """lme4 refuses 40 effects for 40 rows: tests/reference/lme4/random_slope_per_cell_error.json."""
    model = Model("value ~ 1 + condition + (1 + condition | participant)", load_dataset("different_slopes"))
    with pytest.warns(HiermodWarning, match="40 group effects for 40 observations.*the prior decides"):
        model.fit(random_seed=1)
    with warnings.catch_warnings():
        warnings.simplefilter("error", HiermodWarning)
        warnings.simplefilter("ignore", ConvergenceWarning)
        Model("value ~ 1 + condition + (1 | participant)", load_dataset("different_slopes")).fit(
            draws=50, random_seed=1
        )
