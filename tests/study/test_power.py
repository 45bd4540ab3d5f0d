"""Power curves: the exact power where it is known, the same numbers whatever the interruptions, honest sizes."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
from scipy import special, stats

import hiermod as hm
from hiermod.errors import ArgumentError, ArgumentTypeError, DesignError, FileError, UnknownNameError, UnsupportedError
from hiermod.priors.given import resolve_priors
from hiermod.study import power_study
from hiermod.study.checkpoint import Checkpoint
from hiermod.study.extended import extended
from hiermod.study.power_result import wilson
from hiermod.study.required_size import probit_line, required_size
from hiermod.study.simulated_fits import SimulatedFits, frozen_priors
from hiermod.study.simulation import simulator
from hiermod.study.term_tests import p_of_draws, p_of_ratio, p_of_test, term_columns, without

PAIRED = {
    "formula": "y ~ condition + (1 | subject)",
    "design": lambda n: hm.designs.within(subjects=n),
    "varcorr": {"1|subject": 4.0},
    "sigma": 1.0,
    "random_seed": 1,
}
SLEEP = {"varcorr": {"1|Subject": 25.0, "Days|Subject": 6.0}, "sigma": 25.0}


def paired(effect: float, **options: object) -> power_study.Power:
    return hm.power(**(PAIRED | {"fixef": {"Intercept": 0.0, "condition[treatment]": effect}} | options))


def exact_t(n: int, effect: float, alpha: float = 0.05) -> float:
    """Of the paired t-test: differences have sd sqrt(2) sigma."""
    df, nc = n - 1, effect / np.sqrt(2.0 / n)
    at = stats.t.ppf(1 - alpha / 2, df)
    return float(stats.nct.sf(at, df, nc) + stats.nct.cdf(-at, df, nc))


# --- the right number -------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("effect", [0.0, 1.2])
def test_a_paired_design_has_the_power_of_the_paired_t_test(effect):
    """With subjects as different as here no fit is singular, and Satterthwaite's test is the paired t-test exactly."""
    found = paired(effect, sizes=[6, 12], fits=300)
    for n, row in found.table.iterrows():
        exact = exact_t(int(n), effect)
        assert row["singular"] == 0
        assert abs(row["power"] - exact) < 4 * np.sqrt(exact * (1 - exact) / 300)  # 1 false alarm in 16,000


def test_a_factor_of_three_levels_is_tested_as_a_whole():
    """One-way analysis of variance: noncentral F with lambda = sum n_k (mu_k - mu)^2 / sigma^2."""
    found = hm.power(
        "y ~ condition", lambda n: hm.designs.between(subjects=n, levels=["a", "b", "c"]), [30],
        {"Intercept": 0.0, "condition[b]": 0.5, "condition[c]": 1.0}, sigma=1.0, fits=1000, random_seed=2,
    )  # fmt: skip
    exact = stats.ncf.sf(stats.f.ppf(0.95, 2, 27), 2, 27, 30 * np.var([0.0, 0.5, 1.0]))
    assert abs(found.table["power"].item() - exact) < 4 * np.sqrt(exact * (1 - exact) / 1000)
    assert found.term == "condition"
    assert np.isnan(found.table["estimate"].item())


@pytest.mark.slow
def test_the_error_of_the_first_kind_is_alpha():
    """Sleepstudy without an effect of days: near 0.05 by both methods of degrees of freedom (3,000 fits: se 0.4 %),
    above it by the normal, which ignores them."""
    frame = hm.load_dataset("sleepstudy")[["Days", "Subject"]]
    for method, low, high in (("satterthwaite", 0.034, 0.066), ("kenward-roger", 0.034, 0.066), ("wald", 0.055, 0.12)):
        found = hm.power(
            "Reaction ~ Days + (Days | Subject)", frame, fixef={"Intercept": 250.0, "Days": 0.0}, method=method,
            fits=3000, random_seed=3, **SLEEP,
        )  # fmt: skip
        assert low < found.table["power"].item() < high


def test_every_method_is_the_test_that_tables_print():
    """The same p as fixef, tests of terms and lrt of one fit: what a study would report."""
    d = hm.load_dataset("cake")
    m = hm.Model("angle ~ recipe * temp + (1 | recipe:replicate)", d)
    reml, ml = m.reml(), m.ml()
    columns = term_columns(m.spec, "recipe[B]")
    for method in ("satterthwaite", "kenward-roger"):
        table = reml.fixef(ddf=method)
        assert p_of_test(reml.record, columns, method) == pytest.approx(table.loc["recipe[B]", "p"], rel=1e-9)
    z = reml.fixef().loc["recipe[B]", ["estimate", "std_error"]]
    normal = 2 * stats.norm.sf(abs(z["estimate"] / z["std_error"]))
    assert p_of_test(reml.record, columns, "wald") == pytest.approx(normal, rel=1e-9)
    whole = term_columns(m.spec, "recipe:temp")
    small = hm.Model("angle ~ recipe + temp + (1 | recipe:replicate)", d).ml()
    p = hm.lrt(small, ml)["p"].iloc[1]
    assert p_of_ratio(ml.record, small.record, int(whole.sum())) == pytest.approx(p, rel=1e-9)
    null = without(m.spec, whole)
    assert null.common == small.design.common
    assert np.array_equal(null.X, small.design.X)


def test_a_posterior_counts_when_its_interval_leaves_zero_out():
    draws = np.random.default_rng(1).normal(2.2, 1.0, (4, 5000, 1))
    record = type("Record", (), {"beta": np.concatenate([draws * 0, draws], axis=2)})()
    p = p_of_draws(record, np.array([False, True]))
    lower = np.quantile(draws, p / 2)
    assert lower == pytest.approx(0.0, abs=0.02)  # the interval of that level just touches 0
    assert p == pytest.approx(2 * stats.norm.sf(2.2), rel=0.15)  # 280 of 20,000 draws: 6 %


@pytest.mark.stack
def test_power_by_posteriors_and_for_counts():
    found = paired(2.0, sizes=[10], fits=6, method="bayes")
    assert found.table["power"].item() >= 0.5  # exact t: 0.98
    assert found.method == "bayes"
    frame = hm.designs.longitudinal(subjects=12, times=4)
    for method in (None, "lrt"):
        counts = hm.power(
            "y ~ time + (1 | subject)", frame, fixef={"Intercept": 1.0, "time": 0.3}, varcorr={"1|subject": 0.3},
            family="poisson", method=method, fits=10, random_seed=1,
        )  # fmt: skip
        assert counts.method == (method or "wald")
        assert counts.table.loc[48, "power"] > 0.5


def test_frozen_priors_are_at_the_scale_of_typical_data():
    """sd(y) of a response is about sqrt(16 + 1 + 0.25) here: the default prior of sigma has that scale."""
    made = simulator(
        PAIRED["formula"], hm.designs.within(subjects=200), {"Intercept": 5.0, "condition[treatment]": 1.0},
        {"1|subject": 4.0}, 1.0,
    )  # fmt: skip
    priors = frozen_priors(made, resolve_priors(None, made.design), 1)
    assert priors.sigma.get("sigma") == pytest.approx(np.sqrt(17.25), rel=0.03)  # 100 responses of 200 subjects: 0.5 %
    assert priors.mean[0] == pytest.approx(5.5, abs=0.15)


def test_exaggeration_and_sign_of_significant_estimates():
    """Gelman and Carlin's type M and S errors, from the fits themselves."""
    found = paired(0.4, sizes=[6], fits=200)
    hit = found.fits[found.fits["p"] < 0.05]["estimate"]
    row = found.table.loc[6]
    assert row["exaggeration"] == pytest.approx(hit.abs().mean() / 0.4)
    assert row["exaggeration"] > 1.5  # power is 10 %: only estimates far too large are significant
    assert row["wrong_sign"] == pytest.approx((hit < 0).mean())


def test_no_two_sizes_and_no_two_chunks_share_random_numbers():
    """The same frame under two sizes: 60 fits each, 120 different p values."""
    found = paired(1.0, sizes=[6, 7], fits=60, design=lambda n: hm.designs.within(subjects=6))
    assert found.fits["p"].nunique() == 120


# --- interrupted and resumed ------------------------------------------------------------------------------------------
@pytest.mark.numeric
def test_processes_and_interruptions_do_not_change_a_number(tmp_path, monkeypatch):
    whole = paired(1.0, sizes=[6, 9], fits=60)
    assert whole.fits.equals(paired(1.0, sizes=[6, 9], fits=60, cores=2).fits)
    path = tmp_path / "power.jsonl"
    as_done = power_study.as_done

    def interrupted(*arguments):
        for count, part in enumerate(as_done(*arguments)):
            if count == 2:
                raise KeyboardInterrupt
            yield part

    monkeypatch.setattr(power_study, "as_done", interrupted)
    with pytest.raises(KeyboardInterrupt):
        paired(1.0, sizes=[6, 9], fits=60, checkpoint=path)
    assert len(path.read_text().splitlines()) == 3  # header and two chunks of 25
    with path.open("a") as file:
        file.write('{"size": 9, "chunk": 0, "p": [0.1')  # cut off while it was written
    done = []

    def counted(worker, jobs, cores):
        done.extend(jobs)
        return as_done(worker, jobs, cores)

    monkeypatch.setattr(power_study, "as_done", counted)
    resumed = paired(1.0, sizes=[6, 9], fits=60, checkpoint=path)
    assert len(done) == 4
    assert resumed.fits.equals(whole.fits)
    done.clear()
    more = paired(1.0, sizes=[6, 9, 12], fits=80, alpha=0.01, checkpoint=path, random_seed=None)  # the file's seed
    assert (
        more.fits[more.fits["size"] < 12]
        .groupby("size")
        .head(60)
        .equals(more.fits[(more.fits["size"] < 12) & (more.fits["fit"] < 60)])
    )
    assert more.fits[(more.fits["size"] < 12) & (more.fits["fit"] < 60)].reset_index(drop=True).equals(whole.fits)
    assert sorted((job.size, job.chunk) for job in done) == [
        (6, 2),
        (6, 3),
        (9, 2),
        (9, 3),
        *((12, i) for i in range(4)),
    ]


def test_a_checkpoint_of_other_work_is_refused(tmp_path):
    path = tmp_path / "power.jsonl"
    paired(1.0, sizes=[6], fits=10, checkpoint=path)
    for change in ({"sigma": 2.0}, {"random_seed": 2}, {"method": "wald"}):
        with pytest.raises(FileError, match="other work"):
            paired(1.0, sizes=[6], fits=10, checkpoint=path, **change)
    with pytest.raises(FileError, match="of size 6 are not those"):
        paired(1.0, sizes=[6], fits=10, checkpoint=path, design=lambda n: hm.designs.within(subjects=n, repeats=2))
    lines = path.read_text().splitlines()
    path.write_text(lines[0] + "\n")
    Checkpoint(path).add({"size": None})
    with pytest.raises(FileError, match="no chunk"):
        paired(1.0, sizes=[6], fits=10, checkpoint=path)
    path.write_text("\n".join([lines[0], "{broken", lines[1]]) + "\n")
    with pytest.raises(FileError, match="line 2"):
        paired(1.0, sizes=[6], fits=10, checkpoint=path)
    for content in ("a,b\n1,2\n", json.dumps({"format": "another"}) + "\n", "no line break"):
        path.write_text(content)
        with pytest.raises(FileError, match="not a checkpoint"):
            paired(1.0, sizes=[6], fits=10, checkpoint=path)
        assert path.read_text() == content
    with pytest.raises(FileError, match="cannot be written"):
        paired(1.0, sizes=[6], fits=10, checkpoint=tmp_path / "nowhere" / "power.jsonl")


# --- the smallest size ------------------------------------------------------------------------------------------------
SIZES = np.array([10.0, 20.0, 30.0, 40.0])


def test_the_smallest_size_on_an_exact_probit_line():
    """Shares of Phi(0.5 sqrt(n) - 1.96): 80 % where sqrt(n) = (1.96 + 0.8416) / 0.5."""
    share, fits = special.ndtr(0.5 * np.sqrt(SIZES) - 1.96), np.full(4, 1e8)
    found = required_size(SIZES, np.round(share * fits), fits, 0.8, 0.95, 1)
    assert found.method == "probit"
    assert found.estimate == pytest.approx(((1.96 + special.ndtri(0.8)) / 0.5) ** 2, abs=1e-3)
    assert found.size == 32
    assert found.lower < found.estimate < found.upper


def test_the_interval_of_the_smallest_size_holds_it_as_often_as_it_says():
    rng, share, true = np.random.default_rng(1), special.ndtr(0.5 * np.sqrt(SIZES) - 1.96), 31.395
    fits, inside = np.full(4, 100.0), 0
    for _ in range(120):
        found = required_size(SIZES, rng.binomial(100, share).astype(float), fits, 0.8, 0.95, 1)
        inside += found.lower <= true <= found.upper
    assert inside / 120 > 0.95 - 4 * np.sqrt(0.95 * 0.05 / 120)


def test_power_that_levels_off_is_not_forced_onto_a_line():
    """Items do not multiply with subjects: shares 0.3, 0.75, 0.78, 0.82 are no probit line in sqrt(n)."""
    hits, fits = np.array([300.0, 750.0, 780.0, 820.0]), np.full(4, 1000.0)
    assert probit_line(SIZES, hits, fits).misfit < 0.01
    found = required_size(SIZES, hits, fits, 0.8, 0.95, 1)
    assert found.method == "isotonic"
    assert found.estimate == pytest.approx(35.0)  # between 30 and 40, half way from 0.78 to 0.82
    assert 20.0 < found.lower < 35.0 < found.upper  # 0.78 at 30 is 1.5 standard errors from 0.8


@pytest.mark.parametrize(
    ("hits", "words"),
    [([10, 20, 30, 40], "beyond 40"), ([90, 95, 99, 100], "at or below 10"), ([100, 100, 100, 100], "at or below 10"),
     ([0, 0, 0, 0], "beyond 40")],
)  # fmt: skip
def test_a_size_outside_those_simulated_is_not_given(hits, words):
    found = required_size(SIZES, np.array(hits, dtype=float), np.full(4, 100.0), 0.8, 0.95, 1)
    assert np.isnan(found.estimate)
    assert np.isnan(found.size)
    assert words in str(found)


def test_one_size_says_so():
    assert "simulate several" in str(paired(1.0, sizes=[6], fits=5).smallest_size())


def test_wilson():
    # R 4.2.2: prop.test(8, 10, correct = FALSE)$conf.int, and binom::binom.wilson(0, 10) by its formula z^2 / (n + z^2)
    assert wilson(8, 10) == pytest.approx((0.4901625, 0.9433178), abs=1e-7)
    z = stats.norm.ppf(0.975) ** 2
    assert wilson(0, 10) == pytest.approx((0.0, z / (10 + z)), abs=1e-12)


# --- what is asked ----------------------------------------------------------------------------------------------------
def test_a_frame_is_enlarged_along_a_grouping_column():
    pilot = pd.DataFrame({"g": ["b", "b", "a"], "x": [1.0, 2.0, 3.0], "item": ["i", "j", "k"]})
    larger = extended(pilot, "g", 5)
    assert larger["g"].tolist() == ["b", "b", "a", "b:2", "b:2", "a:2", "b:3", "b:3"]
    assert larger["item"].tolist() == ["i", "j", "k", "i", "j", "k", "i", "j"]
    assert extended(pilot, "g", 1)["x"].tolist() == [1.0, 2.0]
    assert pilot["g"].tolist() == ["b", "b", "a"]


def test_the_tables_of_a_fit_to_pilot_data_will_do():
    pilot = hm.load_dataset("sleepstudy")
    fit = hm.Model("Reaction ~ Days + (Days | Subject)", pilot).reml()
    found = hm.power(
        fit.formula, pilot, [4, 8], fit.fixef(), fit.varcorr(), fit.sigma, along="Subject", fits=10, random_seed=1
    )
    assert found.table["rows"].tolist() == [40, 80]
    assert found.term == "Days"
    assert found.truth["Days"] == pytest.approx(10.467286, abs=1e-6)  # lme4 1.1-31, fixef of sleepstudy


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"sizes": None}, ArgumentError, "for which sample sizes"),
        ({"sizes": [0]}, ArgumentError, "whole numbers"),
        ({"sizes": [6.5]}, ArgumentError, "whole numbers"),
        ({"sizes": []}, ArgumentError, "at least one"),
        ({"design": hm.designs.within(subjects=4)}, ArgumentError, "along="),
        ({"design": hm.designs.within(subjects=4), "along": "subjct"}, UnknownNameError, "subject"),
        ({"design": 3}, ArgumentTypeError, "function of the size"),
        ({"design": lambda n: n}, ArgumentTypeError, r"design\(6\)"),
        ({"along": "subject"}, ArgumentError, "goes with a frame"),
        ({"term": "conditon"}, UnknownNameError, "Did you mean 'condition'"),
        ({"method": "satterthwait"}, ArgumentError, "Did you mean 'satterthwaite'"),
        ({"method": "bayes", "term": "Intercept", "family": "poisson", "sigma": None}, UnsupportedError, "Gaussian"),
        ({"priors": {"sigma": "HalfNormal(1)"}}, ArgumentError, "method='bayes'"),
        ({"alpha": 5}, ArgumentError, "alpha"),
        ({"fits": 0}, ArgumentError, "fits"),
        ({"sizes": [6], "formula": "y ~ condition + (condition | subject)",
          "varcorr": {"1|subject": 1.0, "condition|subject[treatment]": 1.0}}, DesignError, "size 6"),
    ],
)  # fmt: skip
def test_what_cannot_be_simulated_is_refused_at_once(change, error, words):
    with pytest.raises(error, match=words):
        paired(1.0, **({"sizes": [6], "fits": 5} | change))


def test_two_terms_need_a_choice():
    with pytest.raises(ArgumentError, match="condition, x"):
        hm.power(
            "y ~ condition + x", lambda n: hm.designs.between(subjects=n).assign(x=np.arange(n) % 5), [20],
            {"Intercept": 0.0, "condition[treatment]": 1.0, "x": 1.0}, sigma=1.0, fits=5,
        )  # fmt: skip


def test_failed_fits_find_nothing_and_are_counted(monkeypatch):
    """Every third fit fails: the share is still of all fits, and the reason is told."""
    each = SimulatedFits.each

    def some(self, Y):
        for s, record in enumerate(each(self, Y)):
            yield DesignError("no minimum") if s % 3 == 0 else record

    monkeypatch.setattr(SimulatedFits, "each", some)
    found = paired(20.0, sizes=[6], fits=9)
    assert found.table.loc[6, ["fits", "failed", "power"]].tolist() == pytest.approx([9, 3, 6 / 9])
    assert found.messages == ("no minimum (3 times)",)
    assert "no minimum" in str(found.summary())


# --- what is drawn ----------------------------------------------------------------------------------------------------
def test_the_curve_is_drawn_with_its_intervals():
    import matplotlib.pyplot as plt

    found = paired(1.2, sizes=[5, 8, 11, 14], fits=100)
    ax = found.plot()
    table, need = found.table, found.smallest_size()
    points = ax.containers[0]
    assert points.lines[0].get_xdata().tolist() == [5, 8, 11, 14]
    assert points.lines[0].get_ydata().tolist() == table["power"].tolist()
    bars = np.array([segment[:, 1] for segment in points.lines[2][0].get_segments()])
    assert bars == pytest.approx(table[["lower", "upper"]].to_numpy(), abs=1e-12)
    line = ax.lines[0]
    assert line.get_ydata() == pytest.approx(found.curve()["power"].to_numpy())
    dotted = [line for line in ax.lines if line.get_linestyle() == ":"]
    assert [dotted[0].get_ydata()[0], dotted[1].get_xdata()[0]] == pytest.approx([0.8, need.estimate])
    assert ax.texts[0].get_text() == f"{need.size:.0f}"
    plt.close(ax.figure)
    own = plt.figure().subplots()
    assert hm.plots.power_curve(paired(1.2, sizes=[5], fits=5), ax=own) is own
    plt.close(own.figure)
    with pytest.raises(ArgumentTypeError, match=r"hm\.power"):
        hm.plots.power_curve(table)
