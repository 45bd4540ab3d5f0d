"""Formula text to terms: every call in it found on the list of functions first, then computed in floating point.

formulae scans, parses and multiplies terms out.  What stands inside calls is resolved here, so that nothing is
evaluated that functions.py does not know, whole numbers do not overflow, and truth values add up as 0 and 1."""

from __future__ import annotations

import math
import operator
from collections.abc import Collection, Iterator, Mapping
from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd
from formulae.parser import Parser
from formulae.resolver import Resolver
from formulae.scanner import Scanner
from formulae.terms.call import Call
from formulae.terms.call_resolver import CallResolver, LazyCall, LazyOperator, LazyValue, LazyVariable
from formulae.terms.terms import Model, Term

from hiermod.errors import FormulaError, UnknownNameError
from hiermod.formula.functions import (
    COUNT_CALLS,
    FACTOR_CALLS,
    LEFT_ONLY,
    VALUES,
    find_function,
    namespace_of,
    no_such_function,
)

BASES = ("poly", "bs")  # their second argument says how many columns they make
HIGHEST_DEGREE = 5  # of bs(): FITPACK promises no more, and from 20 on it writes past its arrays
MOST_TERMS = 1000  # that products and powers may multiply out to; formulae reads no sum of more
COMPARING = (operator.eq, operator.ne, operator.le, operator.lt, operator.ge, operator.gt)
TRUTH = ("False", "True")  # the levels of a column of truth values, in order
RAW = ("I", *FACTOR_CALLS, *COUNT_CALLS, *LEFT_ONLY)  # a column directly inside these is taken as it stands


class Name(LazyVariable):
    """A column, or a name of the person's own; numbers come as floats."""

    raw = False  # directly inside a call that makes a factor or counts

    def eval(self, data_mask: Any, env: Any) -> Any:
        """The values, whole numbers and truth values as floats."""
        values = super().eval(data_mask, env)
        return values if self.raw else as_numbers(values)


class Value(LazyValue):
    """A number, text, True, False or None."""

    def __hash__(self) -> int:  # formulae's passes two arguments to hash()
        return hash((self.value, self.lexeme))


class Operation(LazyOperator):
    """Arithmetic in floats, or a comparison; constants are worked out in floats too, so that none takes for ever."""

    def eval(self, data_mask: Any, env: Any) -> Any:
        """The values.  FormulaError for constants too large for a float, and for arithmetic with text."""
        args = [arg.eval(data_mask, env) for arg in self.args]
        if self.op in COMPARING:
            return self.op(*args)
        if any(isinstance(arg, str | bytes | list | tuple) for arg in args):
            raise FormulaError(f"{self}: there is no arithmetic with text")
        if all(isinstance(arg, int | float) for arg in args):
            return self._constant([float(arg) for arg in args], args)
        return self.op(*map(as_numbers, args))

    def _constant(self, numbers: list[float], given: list[Any]) -> float | int:
        try:
            value = self.op(*numbers)
        except (OverflowError, ZeroDivisionError) as error:
            raise FormulaError(f"{self} is no number: {error}") from None
        if isinstance(value, complex):
            raise FormulaError(f"{self} is no real number")
        whole = all(isinstance(arg, int) for arg in given) and value.is_integer() and abs(value) < 2**53
        return int(value) if whole and self.op is not operator.truediv else value


class Invocation(LazyCall):
    """A call of one of the functions that may be called."""

    def __eq__(self, other: object) -> bool:  # formulae's cannot compare a call with anything else
        return isinstance(other, Invocation) and super().__eq__(other)

    def __hash__(self) -> int:
        return hash((self.callee, *self.args, *self.kwargs))

    def eval(self, data_mask: Any, env: Any) -> Any:
        """The function's answer.  FormulaError for a basis of more columns than there are rows, or of a degree that
        FITPACK cannot compute."""
        if self.callee in BASES and self.stateful_transform is None:  # not on new rows, which may be few
            sizes = [*self.args[1:2], *(arg for name, arg in self.kwargs.items() if name in ("degree", "df"))]
            for size in (one.eval(data_mask, env) for one in sizes):
                if isinstance(size, int) and size > len(data_mask) > 0:
                    raise FormulaError(f"{self} asks for {size} columns of {len(data_mask)} rows")
            if self.callee == "bs":
                self._check_degree(data_mask, env)
        return super().eval(data_mask, env)

    def _check_degree(self, data_mask: Any, env: Any) -> None:
        for arg in (*self.args[3:4], *(arg for name, arg in self.kwargs.items() if name == "degree")):
            degree = arg.eval(data_mask, env)
            if isinstance(degree, int) and degree > HIGHEST_DEGREE:
                raise FormulaError(
                    f"{self}: splines have degrees up to {HIGHEST_DEGREE}, got {degree}: a higher df= bends them more"
                )


class _InsideCalls(CallResolver):
    """Syntax tree of a call to the classes above; whatever else a call could hold is refused."""

    def visitCallExpr(self, expr: Any) -> Invocation:
        called = super().visitCallExpr(expr) if type(expr.callee).__name__ == "Variable" else None
        if called is None or expr.callee.level is not None:
            raise FormulaError("only functions with a name can be called in a formula, f(x)")
        if called.callee in RAW:
            for arg in (*called.args, *called.kwargs.values()):
                if isinstance(arg, Name):
                    arg.raw = True
        return Invocation(called.callee, called.args, called.kwargs)

    def visitBinaryExpr(self, expr: Any) -> Operation:
        operation = super().visitBinaryExpr(expr)
        return Operation(operation.op, *operation.args)

    def visitUnaryExpr(self, expr: Any) -> Operation:
        operation = super().visitUnaryExpr(expr)
        return Operation(operation.op, *operation.args)

    def visitVariableExpr(self, expr: Any) -> Name:
        if expr.level is not None:
            raise FormulaError(
                f"{expr.name.lexeme}[...]: square brackets choose the outcome of a response, left of '~'"
            )
        return Name(expr.name.lexeme)

    def visitLiteralExpr(self, expr: Any) -> Value:
        return Value(expr.value, expr.lexeme)

    def visitQuotedNameExpr(self, expr: Any) -> Name:
        return Name(expr.expression.lexeme[1:-1])


class _Terms(Resolver):
    def visitCallExpr(self, expr: Any) -> Term:
        return Term(Call(_InsideCalls(expr).resolve()))


def describe(text: str) -> Model:
    """formulae's Model of ``text``, its calls of the classes above; nothing is looked up or evaluated yet.

    Raises FormulaError."""
    try:
        parser = Parser(Scanner(text).scan())
        tree = parser.parse()
        _count_terms(tree)
        found = _Terms(tree).resolve()
    except FormulaError:
        raise
    except TypeError as error:  # 0 and 1 where formulae takes a term
        raise FormulaError(
            f"{text!r} means no set of terms. Terms are joined by + - : * / and **; arithmetic goes inside I(), as in "
            "I(1/x), and what leaves out the intercept, 0 + or - 1, stands outside parentheses"
        ) from error
    except Exception as error:  # formulae raises many kinds
        raise FormulaError(
            f"{text!r} means no set of terms: {error}. Terms are joined by + - : * / and **; arithmetic goes inside I()"
        ) from error
    if not parser.at_end():
        raise FormulaError(f"{text!r} does not parse: {parser.peek().lexeme!r} cannot stand where it does")
    return found if isinstance(found, Model) else Model(found)


def _count_terms(tree: Any) -> int:
    """How many terms a syntax tree multiplies out to, at most.  FormulaError for more than formulae could ever make."""
    tree = _inside(tree)
    if type(tree).__name__ != "Binary":
        return 1
    left, right, power = _count_terms(tree.left), _count_terms(tree.right), getattr(_inside(tree.right), "value", None)
    if tree.operator.kind == "STAR_STAR" and isinstance(power, int):
        made = MOST_TERMS + 1 if power > MOST_TERMS else sum(math.comb(left, i) for i in range(1, power + 1))
    elif tree.operator.kind in ("STAR", "COLON"):
        made = left * right + (left + right if tree.operator.kind == "STAR" else 0)
    else:
        return left + right  # as many as are written
    if made > MOST_TERMS:
        raise FormulaError(
            f"'{tree.operator.lexeme}' would make more than {MOST_TERMS:,} terms of the formula: write those you mean, "
            "joined by '+', or interactions of a lower order, (a + b + c)**2"
        )
    return made


def _inside(tree: Any) -> Any:
    """Without parentheses and signs."""
    while type(tree).__name__ in ("Grouping", "Unary"):
        tree = tree.expression if type(tree).__name__ == "Grouping" else tree.right
    return tree


def components_of(model: Model) -> Iterator[tuple[Any, bool]]:
    """Every Variable and Call of a Model, and whether it is the response."""
    terms = [*model.common_terms]
    for group in model.group_terms:
        terms += [group.expr, group.factor]
    for term in terms:
        for component in getattr(term, "components", ()):
            yield component, False
    for component in model.response.term.components if model.response is not None else ():
        yield component, True


def columns_of_factors(model: Model) -> set[str]:
    """The names directly inside calls that make a factor: the cyl of C(cyl)."""
    found: set[str] = set()

    def look(node: Any) -> None:
        arguments = [*getattr(node, "args", ()), *getattr(node, "kwargs", {}).values()]
        if isinstance(node, LazyCall) and node.callee in FACTOR_CALLS:
            found.update(arg.name for arg in arguments if isinstance(arg, LazyVariable))
        for one in arguments:
            look(one)

    for component, _ in components_of(model):
        if isinstance(component, Call):
            look(component.call)
    return found


def closed_namespace(
    model: Model,
    columns: Collection[str],
    extra: Mapping[str, Any] | None,
    likelihoods: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """What evaluating ``model`` may look up besides columns, once everything in it is seen to be allowed.

    likelihoods: functions allowed around the response.  Raises UnknownNameError for a name or function from elsewhere
    and FormulaError for arguments that a function does not take; nothing has been evaluated then."""
    calls: dict[str, None] = {}
    names: dict[str, None] = {}
    for component, is_response in components_of(model):
        if isinstance(component, Call):
            outer = component.call if is_response and component.call.callee in (likelihoods or {}) else None
            _check_node(component.call, columns, extra, calls, names, outer)
        elif component.name not in columns:
            raise UnknownNameError(f"the formula uses {component.name!r}, which is no column")
    return namespace_of(calls, names, extra)


def _check_node(
    node: Any,
    columns: Collection[str],
    extra: Mapping[str, Any] | None,
    calls: dict[str, None],
    names: dict[str, None],
    likelihood: Any = None,
) -> None:
    if isinstance(node, LazyCall):
        if node is likelihood:
            function = LEFT_ONLY[node.callee]
        else:
            found = find_function(node.callee, extra)
            if found is None:
                raise UnknownNameError(no_such_function(node.callee, extra))
            function = found
            calls[node.callee] = None
        _check_arguments(node, function)
        inside = [*node.args, *node.kwargs.values()]
    elif isinstance(node, LazyOperator):
        inside = list(node.args)
        if node.op not in COMPARING and any(
            isinstance(arg, LazyValue) and isinstance(arg.value, str) for arg in inside
        ):
            raise FormulaError(f"{node}: there is no arithmetic with text")
    elif isinstance(node, LazyVariable):
        if node.name not in columns:
            if node.name.startswith("_") or (node.name not in (extra or {}) and node.name not in VALUES):
                raise UnknownNameError(f"the formula uses {node.name!r}, which is no column")
            names[node.name] = None
        return
    else:
        return
    for one in inside:
        _check_node(one, columns, extra, calls, names)


def _check_arguments(node: LazyCall, function: Any) -> None:
    if function.most is None:
        return
    given = len(node.args)
    free = [name for name in function.names[given:] if name]
    unknown = [name for name in node.kwargs if name not in free]
    if unknown:
        takes = f" besides what it was given; by name it takes {', '.join(free)}" if free else ""
        raise FormulaError(
            f"{node}: {node.callee}() takes no {unknown[0]}={takes or '; its arguments have no names here'}"
        )
    if given > function.most or given + len(node.kwargs) < function.least:
        most = "" if function.least == function.most else f" to {function.most}"
        several = "" if function.most == 1 else "s"
        raise FormulaError(f"{node}: {node.callee}() takes {function.least}{most} argument{several}, got {given}")


def is_truth(values: Any) -> bool:
    """Whether a factor's values are those of a call that gives True and False."""
    return isinstance(values, pd.Categorical) and values.dtype.categories.dtype == bool


def as_numbers(values: Any) -> Any:
    """Whole numbers and truth values as floats; anything else as it is."""
    dtype = getattr(values, "dtype", None)
    if isinstance(dtype, pd.CategoricalDtype):
        return _as_truth(values) if set(map(str, dtype.categories)) <= set(TRUTH) else values
    if not isinstance(values, pd.Series | np.ndarray):
        return values
    if values.dtype.kind in "biu":
        return values.astype(float)
    if values.dtype.kind == "O" and len(values) and set(map(str, pd.unique(values))) <= set(TRUTH):  # on new rows
        return _as_truth(values)
    return values


def _as_truth(values: Any) -> Any:
    labels = np.asarray(values).astype(str)
    numbers = (labels == TRUTH[1]).astype(float)
    return pd.Series(numbers, index=values.index) if isinstance(values, pd.Series) else numbers


# --- the same terms for another reader of formulas -----------------------------------------------------------------


def source(node: Any) -> str:
    """A call as text that parses to the same call; formulae's own name of it drops parentheses."""
    if isinstance(node, LazyCall):
        args = [*map(source, node.args), *(f"{name}={source(arg)}" for name, arg in node.kwargs.items())]
        return f"{node.callee}({', '.join(args)})"
    if isinstance(node, LazyOperator):
        parts = [f"({source(arg)})" if isinstance(arg, LazyOperator) else source(arg) for arg in node.args]
        return f"{node.symbol}{parts[0]}" if len(parts) == 1 else f"{parts[0]} {node.symbol} {parts[1]}"
    if isinstance(node, LazyVariable):
        return node.name if node.name.isidentifier() and not node.name.startswith("_") else f"`{node.name}`"
    return format(Decimal(repr(node.value)), "f") if type(node.value) is float else str(node)


def unbound(node: Any) -> Any:
    """The same tree of formulae's own classes, which compute as Bambi will."""
    if isinstance(node, LazyCall):
        return LazyCall(node.callee, [*map(unbound, node.args)], {k: unbound(v) for k, v in node.kwargs.items()})
    if isinstance(node, LazyOperator):
        return LazyOperator(node.op, *map(unbound, node.args))
    if isinstance(node, LazyVariable):
        return LazyVariable(node.name)
    return LazyValue(node.value, node.lexeme)
