"""Conditional-effect plots: the population's expected response along one predictor, with its interval, and the data
behind it (Gelman and Hill 2007, chapter 12; the display of brms' conditional_effects)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from matplotlib.colors import to_rgb

from hiermod.errors import ArgumentError, ArgumentTypeError
from hiermod.families.responses import check_mean
from hiermod.formula.data import level_labels
from hiermod.formula.roles import FACTOR, variable_roles
from hiermod.inference.marginal_effects.reference_grid import check_variable, levels_of, typical_values
from hiermod.plots.style import COLOURS, PALETTE, level_ticks, new_axes, plain_name, styled, titled

if TYPE_CHECKING:
    from matplotlib.axes import Axes

POINTS = 80  # of a line
LINES, MARKERS = ("-", "--", "-.", ":"), ("o", "D", "s", "^")
DARKER = 0.5  # a further fit's share of the line's brightness
WIDTH = 0.6  # of a factor's level that its points and bars share


def effects(
    fit: Any,
    x: str,
    by: str | None = None,
    interval: float = 0.95,
    data: bool = True,
    at: Mapping[str, Any] | None = None,
    weights: str = "equal",
    target: str = "population",
    ax: Axes | None = None,
) -> Axes:
    """Expected response along ``x``: a line with a ribbon for a number, points with bars for a factor.

    fit: one fit, or several of the same data beside each other, ``{"REML": reml, "Bayes": fit}``.  by: another
    predictor, a line for each level (a number: its mean and one sd to either side, or the values in ``at``).  The
    values are ``fit.means(..., scale="response")``: other factors averaged over by ``weights``, numbers at their mean
    or at ``at``, for a typical group or, with target "new_group", averaged over groups.  data: the rows behind.
    interval: confidence, or of the posterior.  Returns the Axes.  Raises UnknownNameError, ArgumentTypeError.

    >>> import hiermod as hm
    >>> fit = hm.Model("Reaction ~ Days + (Days | Subject)", hm.load_dataset("sleepstudy")).reml()
    >>> ax = hm.plots.effects(fit, "Days")
    >>> ax.get_xlabel(), ax.get_ylabel()
    ('Days', 'Reaction')
    """
    fits = _several(fit)
    design = next(iter(fits.values())).design
    for one in fits.values():
        check_mean(one.family)
        check_variable(one.design, x)
    if by is not None and check_variable(design, by) == x:
        raise ArgumentError(f"by must be another predictor than x, got {x!r} for both")
    factor = variable_roles(design)[x] == FACTOR
    settings: dict[str, Any] = {"weights": weights, "target": target, "level": interval, "scale": "response"}
    values = _along(design, x, by, at, factor)
    names = [x] if by is None else [by, x]
    tables = {name: _table(one.means(names, at=values, **settings), x, by) for name, one in fits.items()}
    lines = list(dict.fromkeys(next(iter(tables.values()))["line"]))
    with styled():
        ax = new_axes(7.2, 4.8, ax)
        places = {label: i for i, label in enumerate(_texts(values[x]))} if factor else None
        shifts = {line: WIDTH * ((j + 0.5) / len(lines) - 0.5) if places else 0.0 for j, line in enumerate(lines)}
        if data:
            _rows(ax, design, x, by, shifts, places)
        for i, (name, table) in enumerate(tables.items()):
            for j, line in enumerate(lines):
                look = _look(name, i, line, fits)
                look = look | {"color": _shade(PALETTE[j % len(PALETTE)], i)} if by is not None else look
                part = table[table["line"] == line]
                if places is None:
                    _ribbon(ax, part, look, i)
                else:
                    room = WIDTH / len(lines)
                    _bars(ax, part, look, places, shifts[line] + room * ((i + 0.5) / len(tables) - 0.5))
        _dress(ax, design, x, by, places, fits, target, len(lines) > 1 or len(tables) > 1)
    return ax


def _several(fit: Any) -> dict[str, Any]:
    """Names and fits.  ArgumentTypeError for what is neither a fit nor a dict of fits."""
    fits = dict(fit) if isinstance(fit, Mapping) else {"": fit}
    if not fits or not all(hasattr(one, "means") and hasattr(one, "design") for one in fits.values()):
        raise ArgumentTypeError('effects needs a fit, or a dict of fits such as {"REML": reml, "Bayes": fit}')
    return {str(name): one for name, one in fits.items()}


def _along(design: Any, x: str, by: str | None, at: Mapping[str, Any] | None, factor: bool) -> dict[str, Any]:
    """``at`` for the means: x along its range, by at typical values, unless told otherwise."""
    values = dict(at or {})
    if factor:
        values.setdefault(x, levels_of(design.frame[x]))
    elif x not in values:
        seen = design.frame[x].to_numpy(dtype=float)
        values[x] = np.linspace(seen.min(), seen.max(), POINTS)
    if by is not None:
        values.setdefault(by, typical_values(design, by))
    return values


def _table(means: pd.DataFrame, x: str, by: str | None) -> pd.DataFrame:
    """x, line and the numbers as plain columns."""
    index = means.index
    table = means[["estimate", "lower", "upper"]].reset_index(drop=True)
    table["x"] = np.asarray(index.get_level_values(x))
    table["line"] = "" if by is None else _texts(index.get_level_values(by))
    return table


def _texts(values: Any) -> list[str]:
    series = pd.Series(np.asarray(list(values) if not isinstance(values, str) else [values], dtype=object))
    return [f"{v:.4g}" if isinstance(v, float) else t for v, t in zip(series, level_labels(series), strict=True)]


def _look(name: str, i: int, line: str, fits: Mapping[str, Any]) -> dict[str, Any]:
    """Colour, line style and marker that tell fits apart, by their names or, for a fit alone, its kind."""
    kind = "Bayes" if hasattr(fits[name], "idata") else "REML"
    colour = COLOURS[kind] if len(fits) == 1 else COLOURS.get(name, PALETTE[i % len(PALETTE)])
    label = ", ".join(part for part in (line, name) if part)
    return {"color": colour, "ls": LINES[i % len(LINES)], "marker": MARKERS[i % len(MARKERS)], "label": label}


def _shade(colour: str, i: int) -> tuple[float, float, float]:
    """The line's colour for the i-th fit, darker each time: where fits coincide the dashes stay visible."""
    red, green, blue = (float(part) * DARKER**i for part in to_rgb(colour))
    return red, green, blue


def _ribbon(ax: Axes, part: pd.DataFrame, look: Mapping[str, Any], i: int) -> None:
    """i: which fit; later ones lie on top, their lines thinner and not solid."""
    x = part["x"].to_numpy(dtype=float)
    ax.fill_between(x, part["lower"], part["upper"], color=look["color"], alpha=0.18, lw=0, zorder=2)
    for edge in ("lower", "upper"):
        ax.plot(x, part[edge], color=look["color"], ls=look["ls"], lw=0.7, alpha=0.7, zorder=3)
    width = 2.6 if i == 0 else 1.8
    ax.plot(x, part["estimate"], color=look["color"], ls=look["ls"], lw=width, zorder=4 + 0.1 * i, label=look["label"])


def _bars(ax: Axes, part: pd.DataFrame, look: Mapping[str, Any], places: Mapping[str, int], shift: float) -> None:
    at = np.array([places[text] for text in _texts(part["x"])]) + shift
    ax.vlines(at, part["lower"], part["upper"], color=look["color"], lw=2.2, zorder=4)
    ax.plot(
        at, part["estimate"], ls="none", marker=look["marker"], ms=8, color=look["color"], zorder=5, label=look["label"]
    )


def _rows(
    ax: Axes, design: Any, x: str, by: str | None, shifts: Mapping[str, float], places: Mapping[str, int] | None
) -> None:
    """The data, pale; in the colours (and for a factor at the places) of the lines where ``by`` is a factor."""
    y = np.asarray(design.y / design.trials if design.trials is not None else design.y, dtype=float)
    colour, shift = [COLOURS["none"]] * len(y), np.zeros(len(y))
    if by is not None and variable_roles(design)[by] == FACTOR:
        labels = _texts(design.frame[by])
        known = {line: PALETTE[j % len(PALETTE)] for j, line in enumerate(shifts)}
        colour = [known.get(label, COLOURS["none"]) for label in labels]
        shift = np.array([shifts.get(label, np.nan) for label in labels])
    if places is None:
        at = design.frame[x].to_numpy(dtype=float)
    else:
        room = 0.8 * WIDTH / (len(shifts) if shift.any() else 1)
        at = np.array([places.get(text, np.nan) for text in _texts(design.frame[x])], dtype=float) + shift
        at = at + room * _spread(len(at))
    ax.scatter(at, y, s=14, c=colour, alpha=0.35, lw=0, zorder=1)


def _spread(n: int) -> np.ndarray:
    """(n,) shifts between -0.5 and 0.5 that look random and are always the same (a golden-ratio sequence)."""
    return np.asarray(np.mod(0.5 + 0.6180339887498949 * np.arange(n), 1.0) - 0.5)


def _dress(
    ax: Axes,
    design: Any,
    x: str,
    by: str | None,
    places: Mapping[str, int] | None,
    fits: Mapping[str, Any],
    target: str,
    legend: bool,
) -> None:
    ax.set_xlabel(x)
    ax.set_ylabel(plain_name(design.response))
    if places is not None:
        level_ticks(ax, list(places.values()), list(places))
        ax.set_xlim(-0.6, len(places) - 0.4)
        ax.grid(False, axis="x")
    link = {str(getattr(fit, "link", "identity")) for fit in fits.values()}
    about = ""
    if design.blocks and link != {"identity"}:
        about = ", averaged over groups" if target == "new_group" else ", a typical group"
    titled(ax, f"Effect of {x}{f' by {by}' if by else ''}{about}")
    if legend:
        ax.legend(title=by, fontsize="small")
