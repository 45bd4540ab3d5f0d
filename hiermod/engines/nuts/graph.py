"""Design -> Bambi model -> PyMC graph with correlated group effects.

Bambi reads ``design.bambi_formula`` with every group effect independent and brings its names, priors and families;
the Design's blocks then become correlated (correlation.py).  What Bambi encodes differently is refused."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from hiermod.core import versions
from hiermod.core.memory import check_room, room
from hiermod.engines.nuts.hierarchical_centring import sum_of, totals
from hiermod.engines.nuts.quiet import collected
from hiermod.errors import ArgumentError, UnsupportedError
from hiermod.families.catalogue import FAMILIES
from hiermod.formula.bambi_text import check_for_bambi
from hiermod.formula.design import Block, Column, Design
from hiermod.formula.parts import parts_of
from hiermod.priors.distributions import Distribution
from hiermod.priors.given import PriorSet, resolve_priors
from hiermod.priors.model_priors import Law, ModelPriors, common_law, evaluable, model_priors
from hiermod.priors.thresholds import ascending_start

MULTIVARIATE = ("categorical", "multinomial", "dirichlet_multinomial")  # one coefficient per response category


def build_bambi(
    design: Design,
    family: Any = "gaussian",
    link: Any = None,
    priors: PriorSet | Mapping[str, Any] | None = None,
    *,
    center_predictors: bool = True,
    noncentered: bool | str = "auto",
    centred: Mapping[str, float] | None = None,
    extra_namespace: dict[str, Any] | None = None,
) -> Any:
    """A built ``bambi.Model``; its ``backend.model`` is the PyMC graph with correlated blocks, and stays it when built
    again (bambi_model.py).  Takes about a second.

    noncentered: "auto" or True samples group effects as sd * standard normal, False as they are.  With "auto", those of
    the factors in ``centred`` are sampled as sums with what the common predictors add to their levels (centred_sums).
    Raises UnsupportedError where Bambi's model would not be the Design's, saying how to write it instead."""
    if noncentered not in (True, False, "auto"):
        raise ArgumentError(f"noncentered is {noncentered!r}; it must be True, False or 'auto'")
    if not isinstance(priors, PriorSet):
        priors = resolve_priors(priors, design, family)
    _check_special(design, family)
    found = model_priors(design, priors, family, link, center_predictors)
    given = _nested(_all_priors(design, family, found, priors), design)
    chosen = _family(design, family, given)
    layout: dict[str, tuple[str, ...] | None] = {}
    chosen_centred = centred or {} if noncentered == "auto" else {}

    def finish(model: Any) -> None:
        _patch(model, design=design, priors=priors, layout=layout, centred=chosen_centred)
        _start_in_order(model.backend.model, design, family, found)

    with collected():
        model = unbuilt_bambi(
            design,
            finish=finish,
            family=chosen,
            link=link,
            priors=given or None,
            extra_namespace=extra_namespace,
            noncentered=noncentered is not False,
            center_predictors=center_predictors,
        )
        for one, component, prefix in _predictors(model, design):
            _check_common(component, one, prefix)
            layout.update(_layout(component, one, prefix))
            _check_group_priors(model, component)
    model.build()
    return model


HELD = 1.2  # times 8 n J bytes for each indicator, measured with rows and graph beside them
AT_ONCE = "Bambi makes a dense indicator of the rows by the levels of each grouping factor"


def graph_bytes(design: Design) -> float:
    """What building the graph takes at its peak: n x J numbers for each factor's levels, and once more for the largest
    while a slope is multiplied into it (measured on both stacks: 1.3, 2.3 and 3.3 times 8 n J for (1 | g), (x | g) and
    (x | g) + (x | h))."""
    blocks = [block for one in (design, *parts_of(design).values()) for block in one.blocks]
    sizes = [8.0 * design.nobs * len(block.levels) for block in blocks]
    slopes = [size for size, block in zip(sizes, blocks, strict=True) if block.labels != ("Intercept",)]
    return HELD * sum(sizes) + max(slopes, default=0.0)


def check_graph_room(design: Design, otherwise: str) -> None:
    """UnsupportedError, with what would fit, where building the graph takes more memory than there is.

    otherwise: what fits such a model without a graph."""
    size = graph_bytes(design)
    if not size:
        return
    blocks = [block for one in (design, *parts_of(design).values()) for block in one.blocks]
    largest = max(blocks, key=lambda block: len(block.levels))
    mine = [block for block in blocks if block.factor == largest.factor]
    slope = any(block.labels != ("Intercept",) for block in mine)
    per_level = 8.0 * design.nobs * (HELD * len(mine) + slope)
    levels = int(max(0.0, room() - max(0.0, size - per_level * len(largest.levels))) / per_level)
    fits = f"With {design.nobs:,} rows about {levels:,} levels of {largest.factor} fit, or as much fewer rows. "
    check_room(
        f"The graph of {design.formula!r} ({AT_ONCE}: {design.nobs:,} rows, {len(largest.levels):,} levels of "
        f"{largest.factor})",
        size,
        (fits if levels > 1 else "Take fewer rows and levels. ") + otherwise,
        UnsupportedError,
    )


def _predictors(model: Any, design: Design) -> list[tuple[Design, Any, str]]:
    """Each linear predictor as Design, Bambi's component, and what its names in the graph begin with."""
    components = versions.bambi_parameters(model)
    further = [(part, components[name], f"{name}_") for name, part in parts_of(design).items()]
    return [(design, versions.bambi_parent(model), ""), *further]


def _all_priors(design: Design, family: str, found: ModelPriors, priors: PriorSet) -> dict[str, Any]:
    """A ``bambi.Prior`` (a number: fixed) for every parameter: as given, else the default of model_priors.

    So the graph has the same priors as every other engine, whatever Bambi would make of the data."""
    import pymc as pm

    out = priors.to_bambi()
    given = set(out)
    predictors = [(design, found, ("common", "group_specific"))]
    predictors += [(part, found.further[name], ("", "")) for name, part in parts_of(design).items()]
    for one, own, (common, groups) in predictors:
        laws: dict[str, list[Law]] = {}
        for term, law in zip(one.common_terms, own.common, strict=True):
            if not given & {term, common}:
                laws.setdefault(term, []).append(law)
        out |= {term: _stacked(columns).to_bambi() for term, columns in laws.items()}
        laws = {}
        for block, sds in zip(one.blocks, own.sds, strict=True):
            for column, law in zip(block.columns, sds, strict=True):
                if not given & {column.variable, groups}:
                    laws.setdefault(column.variable, []).append(law)
        for variable, columns in laws.items():
            out[variable] = Distribution("Normal", (("mu", 0.0), ("sigma", _stacked(columns)))).to_bambi()
    for name, value in found.auxiliary.items():
        if isinstance(value, Distribution) and name not in given:
            out[name] = value.to_bambi()
        if FAMILIES[family].parameter(name).support == "ascending":
            out[name].args.setdefault("transform", pm.distributions.transforms.ordered)
    return out


def _stacked(laws: Sequence[Law]) -> Distribution:
    """Distributions of one kind as one with a list for each argument, as Bambi has the columns of a term."""
    records = [evaluable(law) for law in laws]
    if len(records) == 1:
        return records[0]
    values = [one.values or {} for one in records]
    return Distribution(records[0].name, tuple((name, tuple(one[name] for one in values)) for name in values[0]))


def _start_in_order(graph: Any, design: Design, family: str, priors: ModelPriors) -> None:
    """Start ascending thresholds where they ascend: PyMC would at the medians of their priors, which may be one place.

    To be done when the graph is finished, since PyMC rewrites no graph with starts of its own."""
    for name, law in priors.auxiliary.items():
        if FAMILIES[family].parameter(name).support != "ascending" or not isinstance(law, Distribution):
            continue
        start = ascending_start(law, len(design.categories) - 1)
        if start is not None:
            graph.set_initval(graph[name], start)


def _nested(given: dict[str, Any], design: Design) -> dict[str, Any]:
    """Priors for Bambi, those of a further parameter's coefficients in a dict of their own, without its prefix."""
    for name, part in parts_of(design).items():
        own = {*part.common_terms, *(column.variable for block in part.blocks for column in block.columns)}
        found = {key.removeprefix(f"{name}_"): given.pop(key) for key in list(given) if key in own}
        if found:
            given[name] = found
    return given


def _check_special(design: Design, family: Any) -> None:
    name = family if isinstance(family, str) else getattr(family, "name", type(family).__name__)
    if name in MULTIVARIATE:
        raise UnsupportedError(
            f"family {name!r} has a coefficient for every category of the response, which hiermod's tables cannot "
            "hold. Use bambi.Model directly"
        )
    if not design.precision.is_iid:
        what = f"{design.precision.kind}="
        if not (isinstance(family, str) and name in FAMILIES and FAMILIES[name].normal_errors):
            raise UnsupportedError(
                f"{what} needs family='gaussian' (residual variance by row), got {name!r}. "
                "For counts write p(successes, trials); to weigh the log likelihood write weighted(y, w) on the left"
            )
        if design.formulas:
            raise UnsupportedError(
                f"{what} and a formula for {', '.join(design.formulas)} both set the residual sd of each row: use one. "
                f"A column of log sds can be an offset in the formula: parameters={{'sigma': 'x + offset(log_sd)'}}"
            )
        if design.special is not None:
            raise UnsupportedError(
                f"{what} and {design.special}(...) on the left of the formula both change the likelihood: use one"
            )


def _family(design: Design, family: Any, priors: dict[str, Any]) -> Any:
    """The family for Bambi; a known residual sd fixes sigma at 1 in ``priors``."""
    if design.precision.is_iid:
        known = FAMILIES.get(family) if isinstance(family, str) else None
        return family if known is None or known.bambi is None else known.bambi()
    from hiermod.families.gaussian_for_bambi import known_sd, prior_weighted

    if not design.precision.sigma_known:
        return prior_weighted(design.precision.of_each_row)
    priors["sigma"] = 1
    return known_sd(design.precision.sd(1.0))


def unbuilt_bambi(design: Design, extra_namespace: Mapping[str, Any] | None, **arguments: Any) -> Any:
    """The model of a Design as Bambi has it, its graph still to be built; arguments: those of ``bambi.Model``."""
    import bambi

    from hiermod.engines.nuts.bambi_model import HierarchicalModel

    further = [f"{name} ~{part.bambi_formula.partition('~')[2]}" for name, part in parts_of(design).items()]
    formula = bambi.Formula(design.bambi_formula, *further) if further else design.bambi_formula
    names: dict[str, Any] = {}
    for one in (design, *parts_of(design).values()):
        names |= check_for_bambi(one.bambi_formula, design.frame.columns, extra_namespace)
    try:
        return HierarchicalModel(formula, design.frame, names=names, **arguments)
    except ValueError as error:  # such as poly() with a response whose priors Bambi scales itself
        raise UnsupportedError(f"Bambi cannot build the model {design.formula!r}: {error}") from error


def _check_common(component: Any, design: Design, prefix: str) -> None:
    """Bambi's common columns are the Design's, term by term and in the same order."""
    terms = {prefix + name: term for name, term in component.common_terms.items()}
    if component.intercept_term is not None:
        terms[f"{prefix}Intercept"] = component.intercept_term
    for term in dict.fromkeys(design.common_terms):
        if term not in terms:
            raise _other_model(design, f"Bambi has no common term {term!r}")
        mine = design.X[:, [owner == term for owner in design.common_terms]]
        theirs = np.asarray(terms[term].data, dtype=float).reshape(design.nobs, -1)
        if mine.shape != theirs.shape or not np.allclose(mine, theirs, rtol=1e-9, atol=1e-12):
            raise _other_model(design, f"Bambi's columns of {term!r} have other values")
    extra = set(terms) - set(design.common_terms)
    if extra:
        raise _other_model(design, f"Bambi has the common terms {', '.join(sorted(extra))} besides")


def _layout(component: Any, design: Design, prefix: str) -> dict[str, tuple[str, ...] | None]:
    """Bambi's group variables -> the coordinates of their vector (None: scalar), once seen to be the Design's."""
    terms = {prefix + name: term for name, term in component.group_specific_terms.items()}
    wanted = [column.variable for block in design.blocks for column in block.columns]
    scalar_twice = {
        column.variable
        for block in design.blocks
        for column in block.columns
        if column.level is None and wanted.count(column.variable) > 1
    }
    if scalar_twice:
        raise UnsupportedError(
            f"{design.formula!r} has the group effect {sorted(scalar_twice)[0]!r} in two terms, and Bambi keeps one. "
            "Merge the two terms, or separate them: (1 | g) + (0 + x | g)"
        )
    if set(terms) != set(wanted):
        raise _other_model(design, f"Bambi has the group effects {', '.join(terms)}, the model {', '.join(wanted)}")
    layout: dict[str, tuple[str, ...] | None] = {}
    seen: dict[str, tuple[str, ...]] = {}
    for name, term in terms.items():
        coords = {dim: tuple(str(one) for one in values) for dim, values in term.coords.items()}
        expression = next((values for dim, values in coords.items() if dim.endswith("__expr_dim")), None)
        layout[name] = expression
        for dim, values in coords.items():
            if seen.setdefault(dim, values) != values:
                raise UnsupportedError(
                    f"{name!r} has the levels {', '.join(values)} where another term of the same left side has "
                    f"{', '.join(seen[dim])}, and Bambi keeps one set per left side. Write both terms with the "
                    "intercept, (f | g), or both without, (0 + f | g)"
                )
    for block in design.blocks:
        _check_block(block, terms, layout, design)
    return layout


def _check_block(block: Block, terms: Any, layout: Mapping[str, tuple[str, ...] | None], design: Design) -> None:
    for i, column in enumerate(block.columns):
        term, expression = terms[column.variable], layout[column.variable]
        values = np.asarray(term.predictor, dtype=float).reshape(len(block.codes), -1)
        position = 0
        if expression is not None:
            if (column.level is None and len(expression) > 1) or column.level not in (None, *expression):
                raise _other_model(design, f"Bambi encodes {column.variable!r} as {', '.join(expression)}", block)
            position = 0 if column.level is None else expression.index(column.level)
        if not np.allclose(values[:, position], block.values[:, i], rtol=1e-9, atol=1e-12):
            raise _other_model(design, f"Bambi's columns of {column.variable!r} have other values", block)
        labels = np.array([str(level) for level in term.groups], dtype=object)
        mine = np.array(block.levels, dtype=object)
        if not np.array_equal(labels, mine) or (np.asarray(term.group_index) != block.codes).any():
            raise _other_model(design, f"Bambi numbers the levels of {block.factor!r} differently", block)
    for variable in {column.variable for column in block.columns}:
        width = len(layout[variable] or ("",))
        if block.size > 1 and sum(column.variable == variable for column in block.columns) != width:
            raise _other_model(design, f"{variable!r} has {width} columns in Bambi", block)


def _other_model(design: Design, found: str, block: Block | None = None) -> UnsupportedError:
    where = f" In {block.term}:" if block is not None else ""
    labels = [label for label in (block.labels if block is not None else ()) if label != "Intercept"]
    advice = "Keep the intercept and the factor in one term, (f | g), if that is what you mean"
    if block is None:
        advice = "Write an interaction's factors side by side, and what it contains as terms of their own: f + h + f:h"
    elif labels:
        advice += f"; else add a numeric column to the data for each of {', '.join(labels)}, and write those instead"
    return UnsupportedError(
        f"NUTS on the graph cannot fit {design.formula!r} as written.{where} {found}, so it would fit another model. "
        f"{advice}"
    )


def _check_group_priors(model: Any, component: Any) -> None:
    for name, term in component.group_specific_terms.items():
        if _is_noncentered(model, term) and term.prior.name != "Normal":
            raise UnsupportedError(
                f"the prior of {name!r} is {term.prior}, and only Normal group effects can be sampled non-centred. "
                "Build the model with noncentered=False, or use a Normal"
            )


def _is_noncentered(model: Any, term: Any) -> bool:
    own = getattr(term.prior, "noncentered", None)  # Bambi 0.21 lets a prior decide for itself
    return bool(model.noncentered if own is None else own)


def _patch(
    model: Any,
    design: Design,
    priors: PriorSet,
    layout: Mapping[str, tuple[str, ...] | None],
    centred: Mapping[str, float],
) -> None:
    import pymc as pm

    from hiermod.engines.nuts.correlation import Correlated, Slot, correlate

    predictors = _predictors(model, design)
    terms = {prefix + name: t for _, part, prefix in predictors for name, t in part.group_specific_terms.items()}
    common = _common_variables(predictors)
    changed = [block for block in design.blocks if block.size > 1 or block.factor in centred]
    beside = [block for part in parts_of(design).values() for block in part.blocks if block.size > 1]
    rewritten = {column.variable for block in (*changed, *beside) for column in block.columns}
    graph = model.backend.model
    means = _lost_means(graph, model, {name: term for name, term in terms.items() if name not in rewritten})
    if means:
        graph = pm.do(graph, means)
    work = []

    def effects(block: Block, i: int) -> Any:
        """(J,) effects of one column, in Bambi's order of levels, which is the Design's (``_check_block``)."""
        column = block.columns[i]
        slot = Slot(_label(terms[column.variable]), _position(layout, column))
        return slot.pick(graph[slot.variable])

    sums = {
        (factor, label): sum_of(design, total, lambda term: graph[common[term]], effects, bool(model.center_predictors))
        for (factor, label), total in totals(design, changed, centred).items()
    }
    for block in (*changed, *beside):
        slots = []
        for i, column in enumerate(block.columns):
            term = terms[column.variable]
            mean = term.prior.args.get("mu", 0.0)
            total = 0.0 if block in beside else sums.get((block.factor, block.labels[i]), 0.0)
            where, centre = _position(layout, column), mean if _is_number(mean) else 0.0
            slots.append(Slot(_label(term), where, centre, total, dict(term.hyperprior_alias)))
        chosen = {_is_noncentered(model, terms[column.variable]) for column in block.columns}
        if len(chosen) > 1:
            raise UnsupportedError(
                f"the priors of the correlated effects {block.term} disagree on noncentered=: give them all the same"
            )
        noncentered = chosen.pop() and (block in beside or block.factor not in centred)
        sd = _common_sd(block, terms, layout) if block.structure.hom else None
        work.append(Correlated(block, priors.eta.get(block.corr_name, 1.0), tuple(slots), noncentered, sd))
    model.backend.model = correlate(graph, work)


def _common_sd(
    block: Block, terms: Mapping[str, Any], layout: Mapping[str, tuple[str, ...] | None]
) -> tuple[str, dict[str, Any]]:
    """Name and arguments of the prior of the one sd of all columns, from those that Bambi has for each."""
    laws = []
    for column in block.columns:
        whole = Distribution.from_bambi(terms[column.variable].prior.args["sigma"], f"{column.variable}_sigma")
        laws.append(whole.column(_position(layout, column) or 0))
    law = common_law(block, laws)
    return law.name, dict(law.args)


def _label(term: Any) -> str:
    """What the graph calls a term: its alias, where Bambi's ``set_alias`` has given it one."""
    return str(term.alias or term.name)


def _common_variables(predictors: list[tuple[Design, Any, str]]) -> dict[str, str]:
    """Each common term of the Designs -> its variable in the graph."""
    found = {}
    for _, component, prefix in predictors:
        terms = dict(component.common_terms)
        if component.intercept_term is not None:
            terms["Intercept"] = component.intercept_term
        found.update({prefix + name: _label(term) for name, term in terms.items()})
    return found


def _position(layout: Mapping[str, tuple[str, ...] | None], column: Column) -> int | None:
    """Where a column stands in the vector of Bambi's variable; None for a scalar."""
    expression = layout[column.variable]
    return None if expression is None else expression.index(column.level or expression[0])


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float | np.ndarray)


def _lost_means(graph: Any, model: Any, terms: Any) -> dict[str, Any]:
    """Bambi forgets ``mu`` of a non-centred Normal group prior (bambi issue 1003): the variables, with it added."""
    out = {}
    for term in terms.values():
        mean = term.prior.args.get("mu", 0)
        if not _is_noncentered(model, term) or (_is_number(mean) and not np.any(mean)):
            continue
        label, aliases = _label(term), term.hyperprior_alias
        sigma = graph[f"{label}_{aliases.get('sigma', 'sigma')}"]
        value = mean if _is_number(mean) else graph[f"{label}_{aliases.get('mu', 'mu')}"]
        out[label] = value + graph[f"{label}_offset"] * sigma
    return out


def picture(model: Any) -> Any:
    """The graph of a built Bambi model as a ``graphviz.Digraph``; ImportError, from PyMC, without graphviz."""
    import pymc

    return pymc.model_to_graphviz(model.backend.model)
