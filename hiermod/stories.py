"""Data sets that teach one thing each, drawn from a model whose parameters are known.

Every function has a seed that always gives the same data, and says in ``attrs`` what is true (``truth``, by the names
of ``fit.parameters()``), which formulas to compare (``formulas``) and what to look for (``lesson``)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from hiermod.core.arguments import check_count, generator
from hiermod.core.checked import checked
from hiermod.errors import ArgumentError

Seed = int | np.random.Generator | None
TWO = "value ~ condition + (1 | participant)"


@checked
def outlier(participants: int = 20, shift: float = 30.0, *, random_seed: Seed = 1) -> pd.DataFrame:
    """Two conditions, one participant (the last) far from all others in both: ``shift`` is added to its values.

    Columns participant, condition ("0", "1"), value = 1 + 2 condition + N(0, 0.5) per participant + N(0, 0.5).

    Fit ``value ~ condition`` and ``value ~ condition + (1 | participant)``, with and without the participant.  See: the
    linear model's standard error of the condition explodes, since the outlier is residual to it; in the mixed model it
    is a large group effect, and the condition's estimate and standard error hardly move.

    >>> import hiermod as hm
    >>> d = hm.stories.outlier()
    >>> for formula in d.attrs["formulas"]:
    ...     print(hm.Model(formula, d).reml().fixef().loc["condition[1]", "std_error"].round(2))
    2.12
    0.16
    """
    rng, n = generator(random_seed), check_count("participants", participants, 3)
    own = rng.normal(0.0, 0.5, n)
    value = np.concatenate([1 + own, 3 + own]) + rng.normal(0.0, 0.5, 2 * n)
    value[[n - 1, 2 * n - 1]] += shift
    return _told(
        _two(value, ("0", "1")),
        {"Intercept": 1.0, "condition[1]": 2.0, "1|participant_sigma": 0.5, "sigma": 0.5},
        ("value ~ condition", TWO),
        f"One participant lies {shift:g} above the truth in both conditions: the comparison within participants does "
        "not care.",
    )


@checked
def different_slopes(participants: int = 20, *, random_seed: Seed = 1) -> pd.DataFrame:
    """Two conditions in which the participants change places: who is high in one says nothing about the other.

    Columns participant, condition ("1", "2"), value: N(0, 1) in condition 1, N(0, 0.3) in condition 2, all independent.

    Fit ``value ~ condition + (1 | participant)``.  See: the participants' variance is 0 or close to it, often a
    singular fit, and the mixed model is then the linear model; a random slope cannot be asked for with one value per
    cell.  The Bayesian fit says how large the variance might be.

    >>> import hiermod as hm
    >>> hm.stories.different_slopes().shape
    (40, 3)
    """
    rng, n = generator(random_seed), check_count("participants", participants, 3)
    value = np.concatenate([rng.normal(0.0, 1.0, n), rng.normal(0.0, 0.3, n)])
    return _told(
        _two(value, ("1", "2")),
        {"Intercept": 0.0, "condition[2]": 0.0, "1|participant_sigma": 0.0},
        ("value ~ condition", TWO),
        "Participants differ, but not in the same way in both conditions: what they have in common is nothing.",
    )


@checked
def simpson(participants: int = 20, rows: int = 10, *, random_seed: Seed = 1) -> pd.DataFrame:
    """Simpson's paradox: y falls with x within every participant and rises with x from participant to participant.

    Columns participant, x, y = own level - 10 x + N(0, 0.4).  Own levels N(0, 8), in the order of the participants' x,
    which lies within 0.25 of a centre between 0 and 1.

    Fit ``y ~ x`` and ``y ~ x + (1 | participant)``.  See: the slopes have opposite signs.  The own levels go along with
    x, which the mixed model does not know: split x into the participant's mean and the rest to say both things.

    >>> import hiermod as hm
    >>> d = hm.stories.simpson()
    >>> [bool(hm.Model(formula, d).reml().fixef().loc["x", "estimate"] > 0) for formula in d.attrs["formulas"]]
    [True, False]
    """
    rng, n = generator(random_seed), check_count("participants", participants, 3)
    k = check_count("rows", rows, 2)
    own = np.sort(rng.normal(0.0, 8.0, n))
    x = np.repeat(np.sort(rng.uniform(0.0, 1.0, n)), k) + rng.uniform(-0.25, 0.25, n * k)
    y = np.repeat(own, k) - 10 * x + rng.normal(0.0, 0.4, n * k)
    frame = pd.DataFrame({"participant": _labels(np.repeat(np.arange(n), k)), "x": x, "y": y})
    return _told(
        frame,
        {"Intercept": 0.0, "x": -10.0, "1|participant_sigma": 8.0, "sigma": 0.4},
        ("y ~ x", "y ~ x + (1 | participant)"),
        "Within participants y falls by 10 for each unit of x; between them it rises.",
    )


@checked
def paired(participants: int = 20, difference: float = 0.2, *, random_seed: Seed = 1) -> pd.DataFrame:
    """Two conditions in which every participant keeps its place: the mixed model is the paired t-test.

    Columns participant, condition ("1", "2"), value: N(0, 1) per participant, plus ``difference`` in condition 2, plus
    N(0, 0.1 / sqrt 2) each, so that differences have an sd of 0.1.

    Fit ``value ~ condition + (1 | participant)`` by REML.  See: t, its degrees of freedom and p are those of the paired
    t-test, to the last digit; the linear model, which does not know who is who, finds nothing.

    >>> import hiermod as hm
    >>> d = hm.stories.paired()
    >>> a, b = (d.loc[d["condition"] == level, "value"].to_numpy() for level in ("1", "2"))
    >>> t = np.mean(b - a) / (np.std(b - a, ddof=1) / np.sqrt(len(a)))
    >>> row = hm.Model(d.attrs["formulas"][1], d).reml().fixef().loc["condition[2]"]
    >>> bool(abs(row["t"] - t) < 1e-6), round(float(row["df"]), 4)
    (True, 19.0)
    """
    rng, n = generator(random_seed), check_count("participants", participants, 3)
    noise, own = 0.1 / np.sqrt(2), rng.normal(0.0, 1.0, n)
    value = np.concatenate([own, own + difference]) + rng.normal(0.0, noise, 2 * n)
    return _told(
        _two(value, ("1", "2")),
        {"Intercept": 0.0, "condition[2]": float(difference), "1|participant_sigma": 1.0, "sigma": float(noise)},
        ("value ~ condition", TWO),
        "Large differences between participants, a small and steady one within them.",
    )


@checked
def regression_to_mean(participants: int = 200, selected: float = 0.1, *, random_seed: Seed = 1) -> pd.DataFrame:
    """Everyone is tested twice and nothing happens in between; the lowest ``selected`` share at the first "improve".

    Columns participant, test ("first", "second"), value = 100 + N(0, 10) per participant + N(0, 10), selected (True for
    the lowest share at the first test, in both rows).

    Compare the two tests among the selected: they gain about half their distance from the mean, since half of the
    variance is noise.  Fit ``value ~ test + (1 | participant)`` to everyone: the effect of the test is 0.  Partial
    pooling would have shrunken the first values by just that half: it expects what happens.

    >>> import hiermod as hm
    >>> d = hm.stories.regression_to_mean()
    >>> d[d["selected"]].groupby("test", observed=True)["value"].mean().round(0).tolist()
    [74.0, 88.0]
    """
    rng, n = generator(random_seed), check_count("participants", participants, 3)
    if not 0 < selected < 1:
        raise ArgumentError(f"selected must be a share between 0 and 1, got {selected!r}")
    own = rng.normal(0.0, 10.0, n)
    tests = 100 + own + rng.normal(0.0, 10.0, (2, n))
    chosen = tests[0] <= np.quantile(tests[0], selected)
    frame = _two(tests.ravel(), ("first", "second"), "test").assign(selected=np.tile(chosen, 2))
    return _told(
        frame,
        {"Intercept": 100.0, "test[second]": 0.0, "1|participant_sigma": 10.0, "sigma": 10.0},
        ("value ~ test", "value ~ test + (1 | participant)"),
        "Nothing changes between the tests; those chosen for a low first value are closer to the mean at the second.",
    )


@checked
def admissions(applicants: int = 4500, *, random_seed: Seed = 1) -> pd.DataFrame:
    """As at Berkeley in 1973: no department favours anyone, and yet more men than women are admitted in all.

    Columns gender ("Female", "Male"), dept (A to F), admitted, applied (counts).  Within each department the chances
    are the same; women apply more often where few are admitted.  The real data: ``hm.load_dataset("ucb_admissions")``.

    Fit by ``hm.Model(formula, d, family="binomial").ml()`` the formula ``p(admitted, applied) ~ gender`` and the same
    with ``+ (1 | dept)``.  See: the men's advantage in the first is gone in the second.

    >>> import hiermod as hm
    >>> d = hm.stories.admissions()
    >>> for formula in d.attrs["formulas"]:
    ...     print(hm.Model(formula, d, family="binomial").ml().fixef().loc["gender[Male]", "estimate"].round(1))
    0.6
    -0.0
    """
    rng, n = generator(random_seed), check_count("applicants", applicants, 100)
    chance = np.array([0.65, 0.60, 0.35, 0.33, 0.25, 0.07])
    women = np.array([0.06, 0.02, 0.32, 0.20, 0.21, 0.19])  # where they apply
    men = np.array([0.31, 0.21, 0.12, 0.15, 0.07, 0.14])
    applied = np.concatenate([rng.multinomial(int(0.4 * n), women), rng.multinomial(n - int(0.4 * n), men)])
    applied = np.maximum(applied, 1)
    frame = pd.DataFrame(
        {
            "gender": pd.Categorical(np.repeat(["Female", "Male"], 6), categories=["Female", "Male"]),
            "dept": pd.Categorical(list("ABCDEF") * 2),
            "admitted": rng.binomial(applied, np.tile(chance, 2)),
            "applied": applied,
        }
    )
    return _told(
        frame,
        {"gender[Male]": 0.0},
        ("p(admitted, applied) ~ gender", "p(admitted, applied) ~ gender + (1 | dept)"),
        "Departments differ in how many they admit, and women apply to those that admit few.",
    )


def _two(value: np.ndarray, levels: Sequence[str], name: str = "condition") -> pd.DataFrame:
    n = len(value) // 2
    ids = np.tile(np.arange(n), 2)
    condition = pd.Categorical(np.repeat(levels, n), categories=list(levels))
    return pd.DataFrame({"participant": _labels(ids), name: condition, "value": value})


def _labels(codes: np.ndarray) -> pd.Categorical:
    return pd.Categorical.from_codes(codes, categories=[str(i + 1) for i in range(int(codes.max()) + 1)])


def _told(frame: pd.DataFrame, truth: Mapping[str, float], formulas: Sequence[str], lesson: str) -> pd.DataFrame:
    attrs: dict[str, Any] = {"truth": dict(truth), "formulas": list(formulas), "lesson": lesson}
    frame.attrs.update(attrs)
    return frame
