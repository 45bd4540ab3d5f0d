"""A set of exercises with one student's numbers: questions, data, hints, checks, a grade.

The seed is the SHA-256 of set name, term and student id: the same on every machine, in every Python."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from hiermod.core.escaping import html_table, markdown, terminal
from hiermod.errors import ArgumentError, UnknownNameError, listing
from hiermod.exercises.exercise import Exercise, Feedback, Key, Text

DRAWS = 100  # data sets tried for one whose wrong answers can all be told apart


@dataclass(frozen=True)
class Question:
    """One exercise with a student's data."""

    number: int
    exercise: Exercise
    _drawn: pd.DataFrame
    _key: Key

    @property
    def data(self) -> pd.DataFrame:
        """A fresh copy of the student's data: changing it does not change what is right."""
        return self._drawn.copy()

    def show(self) -> Text:
        """The question, what the data look like, and which engines are accepted."""
        parts = [f"**Question {self.number}.** {self.exercise.filled(self.exercise.question, self._drawn)}"]
        if self._key.choices:
            parts.append("Answer with one of: " + ", ".join(f"`{choice}`" for choice in self._key.choices) + ".")
        if self.exercise.also:
            parts.append(f"Accepted as well: the answer by {', '.join(self.exercise.also)}.")
        rows, columns = self._drawn.shape
        first = "\n".join("    " + line for line in self._drawn.head(3).to_string(index=False).splitlines())
        parts.append(f"Your data, `ex[{self.number}].data`, have {rows} rows and {columns} columns:\n\n{first}")
        return Text("\n\n".join(parts))

    def hint(self, number: int = 1) -> Text:
        """The hint of that number, the last one when there are fewer."""
        hints = self.exercise.hints
        if not hints:
            return Text("There is no hint for this question.")
        return Text(self.exercise.filled(hints[min(max(number, 1), len(hints)) - 1], self._drawn))

    def check(self, answer: Any) -> Feedback:
        """Whether an answer is right, and if not, what it is instead."""
        return self._key.feedback(answer, self.exercise.because)

    def __repr__(self) -> str:
        return str(self.show())

    def _repr_markdown_(self) -> str:
        return str(self.show())


@dataclass(frozen=True, eq=False)
class Grade:
    """table: a row per question with points, of, correct, message.  score: share of all points, 0 to 1."""

    table: pd.DataFrame
    score: float

    def __repr__(self) -> str:
        return terminal(f"{self.table.to_string()}\n\nScore: {self.score:.0%}")

    def _repr_html_(self) -> str:
        return f"{html_table(self.table.drop(columns='correct'))}<p><b>Score: {self.score:.0%}</b></p>"


class Assignment:
    """The questions of one student, numbered from 1: ``ex[1].show()``, ``ex.check(1, 10.5)``, ``ex.grade({1: 2})``."""

    def __init__(self, name: str, exercises: Sequence[Exercise], student: str | int, term: str = "") -> None:
        who = str(student).strip().casefold()
        if not who or student is None:
            raise ArgumentError("student must be a name or number that tells this student from others, got nothing")
        if not exercises:
            raise ArgumentError(f"the set {name!r} has no exercises")
        self.name, self.student, self.exercises = name, who, tuple(exercises)
        digest = hashlib.sha256("\0".join([name, term, who]).encode()).digest()
        self.seed = int.from_bytes(digest[:8], "big")

    @cached_property
    def questions(self) -> tuple[Question, ...]:
        """All questions.  Exercises of one set that share their ``data`` function share the data."""
        drawn: dict[Callable[..., Any], tuple[pd.DataFrame, dict[int, Key]]] = {}
        for exercise in self.exercises:
            if exercise.data not in drawn:
                drawn[exercise.data] = self._draw(exercise.data)
        return tuple(
            Question(i + 1, exercise, drawn[exercise.data][0], drawn[exercise.data][1][i])
            for i, exercise in enumerate(self.exercises)
        )

    def _draw(self, data: Callable[[np.random.Generator], pd.DataFrame]) -> tuple[pd.DataFrame, dict[int, Key]]:
        """Data on which the wrong answers of all exercises that share them can be told from the right ones."""
        rng = np.random.default_rng(self.seed)
        sharing = {i: exercise for i, exercise in enumerate(self.exercises) if exercise.data == data}
        for _ in range(DRAWS):
            frame, keys = data(rng), {}
            for i, exercise in sharing.items():
                keys[i] = exercise.key(frame)
                if not keys[i].separate():
                    break
            else:
                return frame, keys
        raise ArgumentError(
            f"in {DRAWS} data sets a wrong answer lay within two tolerances of the right one in question {i + 1} of "
            f"{self.name!r}: {keys[i]}. Use a smaller tolerance, other parameters, or leave that wrong answer out."
        )

    def __len__(self) -> int:
        return len(self.exercises)

    def __iter__(self) -> Iterator[Question]:
        return iter(self.questions)

    def __getitem__(self, number: int) -> Question:
        if isinstance(number, bool) or not isinstance(number, int) or not 1 <= number <= len(self):
            raise UnknownNameError(f"there is no question {number!r} in {self.name!r}: they are 1 to {len(self)}")
        return self.questions[number - 1]

    def check(self, number: int, answer: Any) -> Feedback:
        """Whether an answer to that question is right, and if not, what it is instead."""
        return self[number].check(answer)

    def hint(self, question: int, number: int = 1) -> Text:
        """A hint for that question."""
        return self[question].hint(number)

    def grade(self, answers: Mapping[int, Any]) -> Grade:
        """Points for all questions; one without an answer gets none.

        Raises UnknownNameError for an answer to a question that does not exist."""
        extra = set(answers) - set(range(1, len(self) + 1))
        if extra:
            raise UnknownNameError(f"there is no question {listing(extra)} in {self.name!r}: they are 1 to {len(self)}")
        rows = []
        for question in self.questions:
            found, of = question.check(answers.get(question.number)), float(question.exercise.points)
            rows.append({"points": of * found.correct, "of": of, "correct": found.correct, "message": str(found)})
        table = pd.DataFrame(rows, index=pd.RangeIndex(1, len(self) + 1, name="question"))
        return Grade(table, float(table["points"].sum() / table["of"].sum()))

    def __repr__(self) -> str:
        return terminal(self._told(str))

    def _repr_markdown_(self) -> str:
        return self._told(markdown)

    def _told(self, name: Callable[[str], str]) -> str:
        head = f"Assignment {name(repr(self.name))} for {name(self.student)}, {len(self)} questions"
        return "\n\n".join([head, *map(repr, self)])


def verify(exercises: Sequence[Exercise], students: int = 5, name: str = "exercises") -> pd.DataFrame:
    """What an instructor runs before handing out: every known answer, right or wrong, of some made-up students.

    Returns one row per question and known answer: columns question, answer, expected (correct?), passed (how many of
    the ``students`` got that verdict, and for wrong answers their own message), of, distance (the largest one from the
    right answer, in tolerances; nan for words).

    >>> import hiermod as hm
    >>> table = hm.exercises.verify(hm.exercises.SETS["quickstart"][:1], students=2)
    >>> bool((table["passed"] == table["of"]).all())
    True
    """
    if students < 1:
        raise ArgumentError(f"students must be at least 1, got {students!r}")
    rows: dict[tuple[int, str], dict[str, Any]] = {}
    for who in range(students):
        for question in Assignment(name, exercises, f"student {who}"):
            for text, value, expected in _known(question):
                row = rows.setdefault(
                    (question.number, text),
                    {"question": question.number, "answer": text, "expected": expected, "passed": 0, "of": 0},
                )
                found, key = question.check(value), question._key
                said = f"That is {question.exercise.filled(text, question.data)}."
                row["passed"] += int(found.correct == expected and (expected or found.message == said))
                row["of"] += 1
                distance = np.nan if isinstance(value, str) else abs(float(value) - float(key.right)) / key.tolerance
                row["distance"] = max(row.get("distance", distance), distance)
    return pd.DataFrame(list(rows.values()))


def _known(question: Question) -> Iterator[tuple[str, Any, bool]]:
    yield "right", question._key.right, True
    for text, made in question.exercise.also.items():
        yield text, made(question.data), True
    for text, value in zip(question.exercise.wrong, question._key.wrong.values(), strict=True):
        yield text, value, False
