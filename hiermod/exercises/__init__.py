"""Questions with numbers of each student's own, and checks that say what a wrong answer is (``hm.exercises``).

>>> import hiermod as hm
>>> ex = hm.exercises.load("quickstart", student="s1234567")
>>> days = hm.Model("Reaction ~ Days + (Days | Subject)", ex[1].data).reml().fixef().loc["Days", "estimate"]
>>> ex.check(1, days).correct
True"""

from __future__ import annotations

from collections.abc import Sequence

from hiermod.errors import UnknownNameError, listing, nearest
from hiermod.exercises.assignment import Assignment, Grade, Question, verify
from hiermod.exercises.exercise import Exercise, Feedback
from hiermod.exercises.sets_first import BOUNDARY, CROSSED, POOLING, QUICKSTART, SIMULATION
from hiermod.exercises.sets_second import COMPARISON, PRIORS, SHRINKAGE
from hiermod.exercises.sets_third import GENERALISED, POWER

__all__ = ["SETS", "Assignment", "Exercise", "Feedback", "Grade", "Question", "load", "verify"]

# In the order of the notebooks, whose names start with 01 to 10.
SETS: dict[str, tuple[Exercise, ...]] = {
    "quickstart": QUICKSTART,
    "pooling": POOLING,
    "simulation": SIMULATION,
    "boundary": BOUNDARY,
    "crossed": CROSSED,
    "priors": PRIORS,
    "comparison": COMPARISON,
    "shrinkage": SHRINKAGE,
    "generalised": GENERALISED,
    "power": POWER,
}


def load(name: str | Sequence[Exercise], student: str | int, *, term: str = "", title: str = "exercises") -> Assignment:
    """A set of exercises with this student's numbers.

    name: one of ``hm.exercises.SETS``, or your own exercises (whose set is then called ``title``).
    student: whatever tells students apart; upper and lower case are the same.
    term: anything; another one gives everybody other numbers ("2026").

    Raises UnknownNameError for a set that does not exist.

    >>> import hiermod as hm
    >>> hm.exercises.load("pooling", student="s1234567").hint(1)
    'The subject has its own intercept in the table `fit.coef()`.'
    """
    if not isinstance(name, str):
        return Assignment(title, tuple(name), student, term)
    if name not in SETS:
        raise UnknownNameError(f"there is no set {name!r}; there are {listing(SETS, 20)}.{nearest(name, SETS)}")
    return Assignment(name, SETS[name], student, term)
