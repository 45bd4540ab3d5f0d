"""One exercise: a question, data drawn for each student, the answer computed from them, and the wrong answers it knows.

Nothing is typed in: the right answer, its tolerance and every wrong answer are functions of the student's data."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from hiermod.core.escaping import markdown_code
from hiermod.errors import ArgumentError, ArgumentTypeError, nearest

Answer = float | str
Answerer = Callable[[pd.DataFrame], Any]
CLOSE = 3.0  # tolerances within which a wrong number is called close
ROUNDED = 0.01  # share of a wrong answer within which a number is taken for it


class Text(str):
    """Text that a notebook shows as Markdown; anywhere else it is a string."""

    def _repr_markdown_(self) -> str:
        return str(self)


@dataclass(frozen=True)
class Feedback:
    """What a check says.  correct: whether the answer counts.  message: why, in words, never with the answer in it."""

    correct: bool
    message: str
    said: str = ""  # the answer as the message quotes it: a student's text, not the instructor's

    def __bool__(self) -> bool:
        return self.correct

    def __str__(self) -> str:
        return f"{'Right' if self.correct else 'Not right'}. {self.message}".rstrip()

    __repr__ = __str__

    def _repr_markdown_(self) -> str:
        message = self.message.replace(self.said, markdown_code(self.said)) if self.said else self.message
        return f"**{'Right' if self.correct else 'Not right'}.** {message}".rstrip()


@dataclass(frozen=True)
class Exercise:
    """A question that an instructor writes once and every student gets with numbers of their own.

    question: text; ``{name}`` stands for ``data.attrs["name"]``, in hints and wrong answers too.
    data: a function of a numpy Generator that returns a DataFrame.
    answer: a function of the data that returns a number, or a word (then give ``choices``).
    tolerance: how far from the answer a number may lie, in its unit, or a function of the data that returns it
    (when left out, 1 % of the answer).
    wrong: what a wrong answer is, as it ends the sentence "That is ...", and a function of the data that computes it.
    hints: texts, the first one the gentlest.
    because: a sentence shown with a right answer.
    also: other right answers (``{"Bayes": ...}``), which ``verify`` tries and the question tells the student.
    choices: the words that may be answered, or a function of the data that returns them.

    Data are drawn again until every wrong answer lies more than two tolerances from the right one, so that no student's
    wrong answer passes by chance.

    >>> import hiermod as hm
    >>> mean = hm.exercises.Exercise(
    ...     question="What is the mean of y?",
    ...     data=lambda rng: hm.designs.between(subjects=20).assign(y=rng.gamma(2.0, 5.0, 20)),
    ...     answer=lambda d: d["y"].mean(),
    ...     wrong={"the median, not the mean": lambda d: d["y"].median()},
    ... )
    >>> ex = hm.exercises.load([mean], student="s1")
    >>> ex.check(1, ex[1].data["y"].median())
    Not right. That is the median, not the mean.
    """

    question: str
    data: Callable[[np.random.Generator], pd.DataFrame]
    answer: Answerer
    tolerance: float | Answerer | None = None
    wrong: Mapping[str, Answerer] = field(default_factory=dict)
    hints: Sequence[str] = ()
    because: str = ""
    also: Mapping[str, Answerer] = field(default_factory=dict)
    choices: Sequence[str] | Callable[[pd.DataFrame], Sequence[str]] = ()
    points: float = 1.0

    def __post_init__(self) -> None:
        for name in ("data", "answer"):
            if not callable(getattr(self, name)):
                raise ArgumentTypeError(f"{name} must be a function, got {getattr(self, name)!r}")
        for text, made in {**self.wrong, **self.also}.items():
            if not callable(made):
                raise ArgumentTypeError(f"{text!r} must be a function of the data, got {made!r}")
        if not self.points > 0:
            raise ArgumentError(f"points must be positive, got {self.points!r}")
        if isinstance(self.hints, str):
            object.__setattr__(self, "hints", (self.hints,))

    def key(self, data: pd.DataFrame) -> Key:
        """The answers that belong to one student's data.

        Raises ArgumentError where the answer is neither a finite number nor one of the choices."""
        right = self._value(self.answer(data), "the answer")
        wrong = {self.filled(text, data): self._value(made(data), text) for text, made in self.wrong.items()}
        if isinstance(right, str):
            choices = tuple(self.choices(data)) if callable(self.choices) else tuple(self.choices)
            if right not in choices:
                raise ArgumentError(f"the answer {right!r} is not among the choices {choices!r}: give choices=")
            return Key(right, np.nan, wrong, choices)
        given = self.tolerance(data) if callable(self.tolerance) else self.tolerance
        tolerance = abs(right) / 100 if given is None else float(given)
        if not (np.isfinite(tolerance) and tolerance > 0):
            raise ArgumentError(f"the tolerance of {self.question!r} is {tolerance!r}; it must be a positive number")
        return Key(right, tolerance, wrong)

    @staticmethod
    def filled(text: str, data: pd.DataFrame) -> str:
        """A text with ``data.attrs`` filled in; other braces (LaTeX) stay as they are."""
        return re.sub(r"\{(\w+)\}", lambda m: str(data.attrs.get(m[1], m[0])), text)

    @staticmethod
    def _value(value: Any, what: str) -> Answer:
        if isinstance(value, str):
            return value
        number = as_number(value)
        if not np.isfinite(number):
            raise ArgumentError(f"{what} came out as {value!r}; it must be a finite number or a word")
        return number


@dataclass(frozen=True)
class Key:
    """Right and wrong answers of one student's question.  tolerance: nan where the answer is a word."""

    right: Answer
    tolerance: float
    wrong: Mapping[str, Answer]
    choices: tuple[str, ...] = ()

    def separate(self) -> bool:
        """Whether every wrong answer can be told from the right one, and the wrong ones from each other."""
        found = list(self.wrong.values())
        if isinstance(self.right, str):
            return self.right not in found
        numbers = [float(value) for value in found]
        apart = all(abs(value - self.right) > 2 * self.tolerance for value in numbers)
        return apart and all(
            abs(a - b) > 1e-3 * max(abs(a), abs(b)) for i, a in enumerate(numbers) for b in numbers[i + 1 :]
        )

    def feedback(self, given: Any, because: str) -> Feedback:
        """Right, a known confusion, or only wrong."""
        if given is None:
            return Feedback(False, "No answer was given.")
        return self._word(given, because) if isinstance(self.right, str) else self._number(given, because)

    def _word(self, given: Any, because: str) -> Feedback:
        folded = {choice.casefold(): choice for choice in self.choices}
        said = folded.get(str(given).strip().casefold())
        if said is None:
            options = ", ".join(repr(choice) for choice in self.choices)
            said = f"{str(given)[:40]!r}"
            return Feedback(False, f"{said} is none of {options}.{nearest(str(given), self.choices)}", said)
        if said == self.right:
            return Feedback(True, because)
        for text, value in self.wrong.items():
            if said == value:
                return Feedback(False, f"That is {text}.")
        return Feedback(False, "Look at the hint.")

    def _number(self, given: Any, because: str) -> Feedback:
        number, right, tolerance = as_number(given), float(self.right), self.tolerance
        if np.isnan(number):
            said = f"{str(given)[:40]!r}"
            return Feedback(False, f"A single number is expected, got {type(given).__name__} {said}.", said)
        if abs(number - right) <= tolerance:
            return Feedback(True, because)
        known = {text: float(value) for text, value in self.wrong.items()}
        near = {
            text: abs(number - value) / max(tolerance, ROUNDED * abs(value))
            for text, value in known.items()
            if abs(number - value) <= max(tolerance, ROUNDED * abs(value))
        }
        if near:
            return Feedback(False, f"That is {min(near, key=lambda text: near[text])}.")
        if abs(number + right) <= tolerance:
            return Feedback(False, "The size is right, the sign is not.")
        for factor in (100.0, 0.01):
            if abs(number / factor - right) <= tolerance < abs(right):
                return Feedback(False, "It is out by a factor of 100: a percentage is not a proportion.")
        if abs(number - right) <= CLOSE * tolerance:
            return Feedback(False, "Close, yet further off than rounding or the choice of engine explains.")
        return Feedback(False, "It is none of the confusions this question knows; look at the hint.")


def as_number(value: Any) -> float:
    """A number from whatever holds exactly one (float, array, Series, "1,5" is not one); nan otherwise."""
    if isinstance(value, pd.Series | pd.DataFrame):
        value = value.to_numpy()
    array = np.asarray(value)
    if array.size != 1:
        return float("nan")
    try:
        return float(array.reshape(-1)[0])
    except (TypeError, ValueError):
        return float("nan")
