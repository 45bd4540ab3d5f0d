"""NUTS on the graph: it samples the right posterior, repeats itself exactly, and keeps quiet."""

from __future__ import annotations

import importlib.util
import logging
import pickle
import signal
import subprocess
import sys
import textwrap
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from hiermod.core import versions
from hiermod.core.arguments import resolve_seed
from hiermod.core.progress import someone_watches
from hiermod.datasets import load_dataset
from hiermod.engines.nuts.engine import NUTPIE, SAMPLERS, sample, term_dims
from hiermod.engines.nuts.graph import build_bambi
from hiermod.engines.posterior import Posterior
from hiermod.errors import ArgumentError, ArgumentTypeError, FitError, UnsupportedError
from hiermod.formula.build import build_design
from hiermod.formula.design import Design
from hiermod.model import Model

REFERENCE = Path(__file__).parents[2] / "reference" / "posterior"
CASES = {  # tests/reference/posterior/README.md
    "sleepstudy": (
        "Reaction ~ Days + (Days | Subject)",
        {
            "Intercept": "Normal(300, 150)",
            "Days": "Normal(0, 50)",
            "group_specific": "HalfNormal(50)",
            "Subject_corr": "LKJ(2)",
            "sigma": "HalfStudentT(nu=4, sigma=60)",
        },
    ),
    "dyestuff2": (
        "Yield ~ 1 + (1 | Batch)",
        {"Intercept": "Normal(5, 10)", "1|Batch": "HalfNormal(5)", "sigma": "HalfStudentT(nu=4, sigma=5)"},
    ),
}


def model_of(case: str) -> tuple[Any, Design]:
    formula, priors = CASES[case]
    design = build_design(formula, load_dataset(case))
    return build_bambi(design, priors=priors, center_predictors=False), design


@pytest.fixture(scope="module")
def sleepstudy() -> tuple[Any, Design]:
    return model_of("sleepstudy")


@pytest.fixture(scope="module")
def posterior(sleepstudy) -> Posterior:
    model, design = sleepstudy
    return sample(model, design, chains=4, cores=2, random_seed=7, progressbar=False)


def deviations(posterior: Posterior, design: Design, case: str) -> pd.Series:
    """Posterior means against the long run, in combined Monte Carlo standard errors, by brms' names."""
    block = design.blocks[0]
    arrays = {"sigma": posterior.sigma}
    for i, name in enumerate(design.common):
        arrays[f"b_{name}"] = posterior.beta[..., i]
    for i, label in enumerate(block.labels):
        arrays[f"sd_{block.factor}__{label}"] = posterior.sd[0][..., i]
        for j, level in enumerate(block.levels):
            arrays[f"r_{block.factor}[{level},{label}]"] = posterior.b[0][..., j, i]
    if posterior.corr[0] is not None:
        arrays[f"cor_{block.factor}__Intercept__Days"] = posterior.corr[0][..., 0, 1]
    reference = pd.read_csv(REFERENCE / f"{case}.csv", index_col="par")
    assert set(reference.index) == set(arrays)
    out = {}
    for name, row in reference.iterrows():
        error = np.hypot(versions.mcse(arrays[name]), row["Est.Error"] / np.sqrt(row["neff"]))
        out[name] = (arrays[name].mean() - row["Estimate"]) / error
    return pd.Series(out)


@pytest.mark.stack
def test_sleepstudy_posterior_is_the_long_run_one(posterior, sleepstudy):
    # 42 means, each a standard normal in these units if both are right; a chance of 1 in 370 that one passes 4
    assert deviations(posterior, sleepstudy[1], "sleepstudy").abs().max() < 4
    assert posterior.inference.ok, posterior.inference


@pytest.mark.stack
def test_correlation_matrices_are_exact_where_they_are_known(posterior):
    R = versions.posterior_dataset(posterior.idata)["Subject_corr"].transpose("chain", "draw", ...).values
    assert (np.diagonal(R, axis1=2, axis2=3) == 1.0).all()
    assert np.array_equal(R, np.swapaxes(R, 2, 3))


@pytest.mark.stack
def test_dyestuff2_posterior_is_the_long_run_one_at_its_boundary():
    model, design = model_of("dyestuff2")
    record = sample(model, design, draws=1500, chains=4, cores=2, random_seed=11, progressbar=False)
    assert deviations(record, design, "dyestuff2").abs().max() < 4
    assert record.sd[0].min() < 0.02  # the posterior reaches REML's 0


@pytest.mark.slow
@pytest.mark.parametrize("case", list(CASES))
def test_long_run(case):
    model, design = model_of(case)
    record = sample(model, design, draws=10_000, chains=4, random_seed=3, progressbar=False)
    assert deviations(record, design, case).abs().max() < 4


@pytest.mark.slow
@pytest.mark.parametrize("method", ["pymc", "numpyro", "blackjax"])
def test_other_samplers_agree_and_repeat_themselves(sleepstudy, method):
    if method != "pymc" and importlib.util.find_spec(method) is None:
        pytest.skip(f"{method} is not installed")
    model, design = sleepstudy
    engine = next(one for one in SAMPLERS if one.name == method)
    settings = {"draws": 500, "tune": 600, "random_seed": 5, "progressbar": False}
    record = sample(model, design, engine, cores=2, **settings)
    assert deviations(record, design, "sleepstudy").abs().max() < 4
    assert record.inference.method == method
    np.testing.assert_array_equal(sample(model, design, engine, cores=1, **settings).beta, record.beta)


@pytest.mark.slow
def test_centred_sampling_agrees():
    formula, priors = CASES["sleepstudy"]
    design = build_design(formula, load_dataset("sleepstudy"))
    model = build_bambi(design, priors=priors, center_predictors=False, noncentered=False)
    record = sample(model, design, draws=2000, random_seed=5, progressbar=False)
    assert deviations(record, design, "sleepstudy").abs().max() < 4


def test_the_same_seed_gives_the_same_draws_whatever_the_cores(posterior, sleepstudy):
    model, design = sleepstudy
    again = sample(model, design, chains=4, cores=1, random_seed=7, progressbar=False)
    np.testing.assert_array_equal(again.beta, posterior.beta)
    np.testing.assert_array_equal(again.b[0], posterior.b[0])
    other = sample(model, design, draws=20, tune=20, chains=1, random_seed=None, progressbar=False)
    assert not np.array_equal(other.beta[0, :20], posterior.beta[0, :20])
    assert 0 <= other.inference.seed < 2**31


@pytest.mark.stack
def test_draws_have_the_designs_shapes_and_bambis_names(posterior, sleepstudy):
    design = sleepstudy[1]
    assert posterior.beta.shape == (4, 1000, 2)
    assert posterior.b[0].shape == (4, 1000, 18, 2)
    assert posterior.sd[0].shape == (4, 1000, 2)
    assert posterior.corr[0].shape == (4, 1000, 2, 2)
    assert posterior.sigma.shape == (4, 1000)
    assert posterior.auxiliary == {}
    dataset = versions.posterior_dataset(posterior.idata)
    groups = ["1|Subject_sigma", "Days|Subject_sigma", "Subject_corr", "1|Subject", "Days|Subject"]
    assert list(dataset.data_vars) == ["Intercept", "Days", "sigma", *groups]  # no helper, no mean of every row
    np.testing.assert_array_equal(dataset["Days|Subject"].values, posterior.b[0][..., 1])
    assert list(dataset["Subject__factor_dim"].values) == list(design.blocks[0].levels)
    assert list(dataset["Subject_corr_dim_1"].values) == ["Intercept", "Days"]
    assert set(versions.group_names(posterior.idata)) == {"posterior", "sample_stats", "observed_data"}
    observed = versions.group_dataset(posterior.idata, "observed_data")
    np.testing.assert_array_equal(observed["Reaction"].values, design.y)
    with pytest.raises(ValueError, match="read-only"):
        posterior.beta[0] = 0


@pytest.mark.stack
def test_inference_says_what_was_done(posterior):
    inference = posterior.inference
    assert (inference.method, inference.draws, inference.tune, inference.chains) == ("nutpie", 1000, 1000, 4)
    assert inference.seed == 7
    assert inference.divergences == 0
    assert inference.seconds > 0
    assert inference.messages == ()


@pytest.mark.stack
def test_posterior_pickles(posterior):
    copy = pickle.loads(pickle.dumps(posterior))
    np.testing.assert_array_equal(copy.beta, posterior.beta)
    assert repr(copy.inference) == repr(posterior.inference)  # nan is not equal to itself
    before, after = versions.posterior_dataset(posterior.idata), versions.posterior_dataset(copy.idata)
    assert after.identical(before)
    assert not copy.beta.flags.writeable


@pytest.mark.stack
def test_bambis_own_methods_work_on_the_result(posterior, sleepstudy):
    """The log likelihood by Bambi is the Normal density at the linear predictor."""
    from scipy import stats

    from hiermod.engines.nuts.quiet import collected

    model, design = sleepstudy
    with collected():
        idata = model.compute_log_likelihood(pickle.loads(pickle.dumps(posterior.idata)), inplace=False)
    mean = posterior.beta @ design.X.T
    block = design.blocks[0]
    mean = mean + np.sum(posterior.b[0][:, :, block.codes] * block.values, axis=-1)
    expected = stats.norm(mean, posterior.sigma[..., None]).logpdf(design.y)
    values = versions.group_dataset(idata, "log_likelihood")["Reaction"].values
    np.testing.assert_allclose(values, expected, rtol=1e-9)


def test_nothing_is_printed_and_nothing_is_left_changed(sleepstudy, capfd):
    import pytensor

    model, design = sleepstudy
    loggers = [logging.getLogger(name) for name in ("pymc", "bambi", "pytensor", "nutpie")]
    before = [(list(one.handlers), one.level, one.propagate) for one in loggers]
    filters = list(warnings.filters)
    flags = (pytensor.config.mode, pytensor.config.numba__fastmath)
    record = sample(model, design, draws=20, tune=20, chains=2, random_seed=1)  # too few: divergences, low ESS
    out, err = capfd.readouterr()
    assert out == ""
    assert err == ""
    assert [(list(one.handlers), one.level, one.propagate) for one in loggers] == before
    assert warnings.filters == filters
    assert (pytensor.config.mode, pytensor.config.numba__fastmath) == flags
    assert any("effective sample size" in message for message in record.inference.messages)
    assert not record.inference.ok


def test_a_panic_of_the_sampler_is_an_error_of_ours(monkeypatch):
    """What nutpie's Rust code raises where it cannot start is no Exception: it would pass every ``except``."""
    import nutpie

    class PanicException(BaseException):
        pass

    class Running:
        def wait(self):
            raise PanicException("bad initial gradient\n\nStack backtrace: ...")

    monkeypatch.setattr(nutpie, "sample", lambda *args, **settings: Running())
    model = Model("Reaction ~ Days + (1 | Subject)", load_dataset("sleepstudy"))
    with pytest.raises(FitError, match=r"^nutpie stopped: bad initial gradient\. Look for huge") as raised:
        model.fit(inference_method="nutpie", random_seed=1)
    assert isinstance(raised.value.__cause__, PanicException)


def test_progress_bar_only_where_someone_watches(monkeypatch):
    class Terminal:
        def __init__(self, answer: bool) -> None:
            self.answer = answer

        def isatty(self) -> bool:
            return self.answer

    for answer in (True, False):
        monkeypatch.setattr(sys, "stderr", Terminal(answer))
        assert someone_watches() is answer


def test_impossible_numbers_are_refused(sleepstudy):
    model, design = sleepstudy
    for wrong, error, words in [
        ({"draws": 0}, ArgumentError, "draws must be a whole number of at least 4, got 0"),
        ({"chains": 2.5}, ArgumentTypeError, "chains must be a whole number"),
        ({"target_accept": 1.5}, ArgumentError, "between 0 and 1"),
        ({"random_seed": "one"}, ArgumentTypeError, "random_seed must be"),
        ({"random_seed": -1}, ArgumentError, "random_seed is -1"),
        ({"max_tree": 3, "draws": 10, "tune": 10}, ArgumentError, "on to nutpie, which refused them .max_tree"),
    ]:
        with pytest.raises(error, match=words):
            sample(model, design, progressbar=False, **wrong)


def test_seeds():
    assert resolve_seed(5) == 5
    assert resolve_seed(np.int64(5)) == 5
    assert resolve_seed(np.random.default_rng(1)) == resolve_seed(np.random.default_rng(1))
    assert resolve_seed(None) != resolve_seed(None)


@pytest.mark.skipif(sys.platform == "win32", reason="signals are POSIX")
def test_an_interrupt_ends_the_run():
    """Ctrl-C during sampling raises KeyboardInterrupt in seconds; nothing hangs, no shortened posterior comes back."""
    script = """
        import signal
        import sys
        import nutpie
        from hiermod.engines.nuts.graph import build_bambi
        from hiermod.engines.nuts.engine import sample
        from hiermod.datasets import load_dataset
        from hiermod.formula.build import build_design
        signal.signal(signal.SIGINT, signal.default_int_handler)  # jobs in a shell's background start deaf to it
        design = build_design("Yield ~ 1 + (1 | Batch)", load_dataset("dyestuff2"))
        model = build_bambi(design, priors={"Intercept": "Normal(5, 10)"})
        sample(model, design, draws=10, tune=10, chains=1, random_seed=1)
        run = nutpie.sample
        def started(*args, **options):
            running = run(*args, **options)
            print("sampling", flush=True)
            return running
        nutpie.sample = started
        try:
            sample(model, design, draws=2_000_000, chains=2, random_seed=1)
        except KeyboardInterrupt:
            print("interrupted", flush=True)
            sys.exit(3)
    """
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(script)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout.readline() == "sampling\n"
        time.sleep(1)  # into the wait for the chains
        assert process.poll() is None
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=20)
    finally:
        process.kill()
    assert (out, process.returncode) == ("interrupted\n", 3), err


def test_a_label_with_a_comma_is_refused_where_nutpie_cannot_write_it() -> None:
    """nutpie joins dimension names by commas for ArviZ 0.x, which breaks ``poly(Days, 2)_dim`` after the sampling."""
    if not versions.splits_labels_at_commas():
        pytest.skip("with ArviZ 1.x nutpie does not join names by commas")
    model = Model("Reaction ~ poly(Days, 2) + (1 | Subject)", load_dataset("sleepstudy"))
    with pytest.raises(UnsupportedError, match=r"poly\(Days, 2\)_dim.*inference_method='pymc'"):
        model.fit(draws=10, tune=10, chains=1, inference_method="nutpie", random_seed=1)


@pytest.mark.parametrize(
    "formula",
    [
        "Reaction ~ poly(Days, 2) + np.power(Days, 3) + (1 | Subject)",
        "Reaction ~ Days + (C(d, Sum) | Subject)",
        "Reaction ~ C(d, Sum) * Days + (1 | Subject)",
        "Reaction ~ bs(Days, df=4) + (0 + bs(Days, df=4) | Subject)",
    ],
)
def test_dims_with_a_comma_are_known_without_the_graph(formula: str) -> None:
    """The labels that the obstacle looks at are those that the graph comes to have."""
    d = load_dataset("sleepstudy").assign(d=lambda d: (d["Days"] % 3).astype(str))
    model = Model(formula, d)
    ours = {dim for dim in term_dims(model.spec) if "," in dim}
    assert ours == {dim for dim in model.pymc.coords if "," in dim}
    assert (NUTPIE.obstacle(model._specification()) is None) == (not ours or not versions.splits_labels_at_commas())
