"""Exercises: seeded per student, right answers accepted from any named engine, wrong ones told apart in words."""

from __future__ import annotations

import dataclasses
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import hiermod as hm
from hiermod.errors import ArgumentError, ArgumentTypeError, UnknownNameError

ROOT = Path(hm.__file__).parents[1]


def toy(**changes):
    """The mean of 30 Gamma draws; its median and variance are wrong answers."""
    parts = {
        "question": "Mean of y, student {who}? $\\frac{a}{b}$",
        "data": draw,
        "answer": lambda d: d["y"].mean(),
        "tolerance": 0.2,
        "wrong": {"the median of {who}": lambda d: d["y"].median(), "the variance": lambda d: d["y"].var()},
        "hints": ("add up {who}", "divide"),
        "because": "It is the centre of gravity.",
    }
    return hm.exercises.Exercise(**(parts | changes))


def draw(rng):
    frame = pd.DataFrame({"y": rng.gamma(2.0, 5.0, 30)})
    frame.attrs["who"] = "Z"
    return frame


def sheet(*exercises, student="s1", **options):
    return hm.exercises.load(exercises or (toy(),), student=student, **options)


@pytest.mark.stack
@pytest.mark.parametrize("name", hm.exercises.SETS)
def test_every_known_answer_of_every_set(name):
    """Right ones (REML, ML, Bayes where the question names it) accepted, each wrong one rejected in its own words."""
    table = hm.exercises.verify(hm.exercises.SETS[name], students=2, name=name)
    assert set(table["question"]) == {1, 2, 3}
    assert (table["passed"] == table["of"]).all(), table[table["passed"] < table["of"]].to_string()
    assert table["expected"].sum() >= 3
    assert (~table["expected"]).groupby(table["question"]).any().all()


@pytest.mark.parametrize("name", hm.exercises.SETS)
def test_students_differ_and_a_student_stays_the_same(name):
    one, again, other = (hm.exercises.load(name, student=who) for who in ("s1234567", " S1234567 ", "s7654321"))
    for a, b, c in zip(one, again, other, strict=True):
        pd.testing.assert_frame_equal(a.data, b.data)
        assert str(a.show()) == str(b.show())
        assert not a.data.equals(c.data)


def test_the_seed_is_that_of_every_machine():
    # hashlib.sha256(b"pooling\0\0s1234567").digest()[:8], big-endian: no part of Python's salted hash() is in it.
    code = "import hiermod as hm; print(hm.exercises.load('pooling', student='s1234567').seed)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    here = hm.exercises.load("pooling", student="s1234567").seed
    assert int(done.stdout) == here
    assert hm.exercises.load("pooling", student="s1234567", term="2026").seed != here
    assert hm.exercises.load("priors", student="s1234567").seed != here


def test_text_feedback_and_hints():
    ex = sheet()
    y = ex[1].data["y"]
    shown = str(ex[1].show())
    assert "student Z?" in shown
    assert "\\frac{a}{b}" in shown
    assert "30 rows and 1 columns" in shown
    assert ex[1]._repr_markdown_() == shown == repr(ex[1])
    right = ex.check(1, y.mean() + 0.19)
    assert right.correct
    assert str(right) == "Right. It is the centre of gravity."
    assert bool(right)
    for answer, said in [
        (y.median(), "That is the median of Z."),
        (y.var(), "That is the variance."),
        (-y.mean(), "The size is right, the sign is not."),
        (100 * y.mean(), "It is out by a factor of 100: a percentage is not a proportion."),
        (y.mean() + 0.5, "Close, yet further off than rounding or the choice of engine explains."),
        (1e6, "It is none of the confusions this question knows; look at the hint."),
        (float("nan"), "A single number is expected, got float 'nan'."),
        ("twelve", "A single number is expected, got str 'twelve'."),
        ([1.0, 2.0], "A single number is expected, got list '[1.0, 2.0]'."),
        (None, "No answer was given."),
    ]:
        found = ex.check(1, answer)
        assert not found
        assert found.message == said
    for answer in (np.float32(y.mean()), pd.Series([y.mean()]), np.array([[y.mean()]]), f"{y.mean():.3f}"):
        assert ex.check(1, answer)
    assert ex.hint(1) == "add up Z"
    assert ex.hint(1, 2) == ex.hint(1, 9) == "divide"
    assert sheet(toy(hints=())).hint(1) == "There is no hint for this question."


def test_feedback_never_contains_the_answer():
    for name in ("pooling", "power"):
        for question in hm.exercises.load(name, student="a"):
            told = [str(question.show()), *map(str, question.exercise.hints)]
            told += [question.check(value).message for value in question._key.wrong.values()]
            digits = f"{question._key.right:.4g}"
            assert all(digits not in text.split("Your data")[0] for text in told)


def test_words():
    word = toy(answer=lambda d: "yes", choices=("yes", "no"), wrong={"the opposite": lambda d: "no"}, tolerance=None)
    ex = sheet(word)
    assert ex.check(1, " YES ")
    assert ex.check(1, "no").message == "That is the opposite."
    assert "none of 'yes', 'no'" in ex.check(1, "perhaps").message
    assert "`yes`, `no`" in ex[1].show()
    with pytest.raises(ArgumentError, match="choices"):
        _ = sheet(toy(answer=lambda d: "yes")).questions


def test_grade():
    ex = sheet(toy(), toy(points=3.0))
    grade = ex.grade({2: ex[2].data["y"].mean()})
    assert grade.table["points"].tolist() == [0.0, 3.0]
    assert grade.table["message"].tolist() == ["Not right. No answer was given.", "Right. It is the centre of gravity."]
    assert grade.score == 0.75
    assert "Score: 75%" in repr(grade)
    assert "<b>Score: 75%</b>" in grade._repr_html_()
    with pytest.raises(UnknownNameError, match="no question 3"):
        ex.grade({3: 1.0})


def test_changing_the_data_changes_nothing():
    ex = sheet()
    mean = ex[1].data["y"].mean()
    mine = ex[1].data
    mine["y"], mine.attrs["who"] = 0.0, "nobody"
    assert ex.check(1, mean)
    assert ex[1].data["y"].mean() == mean
    assert "student Z?" in ex[1].show()


def test_exercises_with_one_data_function_share_data():
    other = toy(data=lambda rng: draw(rng).assign(y=1.0 + rng.random(30)), wrong={}, tolerance=None)
    ex = sheet(toy(), other, toy(wrong={}))
    pd.testing.assert_frame_equal(ex[1].data, ex[3].data)
    assert not ex[1].data.equals(ex[2].data)


def test_data_are_drawn_until_wrong_answers_can_be_told_apart():
    for who in range(30):
        key = sheet(student=who)[1]._key
        assert min(abs(value - key.right) for value in key.wrong.values()) > 2 * 0.2
    # The same 30 students without the median among the wrong answers: for some of them it is too close.
    medians = [sheet(toy(wrong={}), student=who)[1].data["y"] for who in range(30)]
    assert min(abs(y.mean() - y.median()) for y in medians) < 2 * 0.2
    with pytest.raises(ArgumentError, match="within two tolerances"):
        _ = sheet(toy(tolerance=1e6)).questions


@pytest.mark.parametrize(
    ("changes", "error", "match"),
    [
        ({"answer": 3.0}, ArgumentTypeError, "answer must be a function"),
        ({"wrong": {"x": 3.0}}, ArgumentTypeError, "'x' must be a function"),
        ({"points": 0.0}, ArgumentError, "points must be positive"),
    ],
)
def test_what_an_exercise_refuses(changes, error, match):
    with pytest.raises(error, match=match):
        toy(**changes)


def test_what_a_set_refuses():
    with pytest.raises(UnknownNameError, match="Did you mean 'pooling'"):
        hm.exercises.load("poling", student="a")
    with pytest.raises(ArgumentError, match="student"):
        hm.exercises.load("pooling", student=" ")
    with pytest.raises(UnknownNameError, match="1 to 3"):
        hm.exercises.load("pooling", student="a").check(0, 1.0)
    with pytest.raises(ArgumentError, match="finite number or a word"):
        _ = sheet(toy(answer=lambda d: np.nan)).questions
    with pytest.raises(ArgumentError, match="tolerance"):
        _ = sheet(toy(tolerance=0.0)).questions
    with pytest.raises(dataclasses.FrozenInstanceError):
        toy().points = 2.0


def test_verify_sees_an_answer_that_is_not_accepted():
    table = hm.exercises.verify([toy(also={"twice": lambda d: 2 * d["y"].mean()})], students=3)
    found = table.set_index("answer")
    assert found.loc["right", "passed"] == 3
    assert found.loc["twice", "passed"] == 0
    assert found.loc["the median of {who}", "passed"] == 3


def test_the_autograder_of_the_docs_page(tmp_path):
    page = (ROOT / "docs" / "guide" / "exercises.md").read_text(encoding="utf-8")
    (program,) = re.findall(r"^```python\n(.*?)^```", page, flags=re.M | re.S)
    (tmp_path / "test_submission.py").write_text(program, encoding="utf-8")
    ex = hm.exercises.load("boundary", student="s1234567")
    answers = {1: ex[1]._key.right, 2: ex[2]._key.wrong["the variance, not the standard deviation"]}
    text = f"STUDENT = 's1234567'\nANSWERS = {answers!r}\n"
    (tmp_path / "submission.py").write_text(text, encoding="utf-8")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(tmp_path)]
    env = os.environ | {"PYTHONPATH": str(ROOT)}  # hiermod need not be installed
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, cwd=tmp_path, env=env, check=False)
    assert "1 passed" in done.stdout
    assert "2 failed" in done.stdout
    assert "That is the variance, not the standard deviation." in done.stdout
    assert "No answer was given." in done.stdout
