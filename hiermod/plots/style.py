"""One look for every figure, colours that colour-blind readers can tell apart (Okabe and Ito 2008); nothing global."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.colors import to_rgba
from matplotlib.font_manager import FontProperties

COLOURS = {
    "none": "#8c8c8c",
    "complete": "#000000",
    "REML": "#D55E00",
    "Bayes": "#0072B2",
    "population": "#000000",
}
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#8c8c8c")
MARKERS = ("o", "D", "s", "^", "v", "P", "X", "*")
LETTER, LINE = 0.58, 1.3  # width of an average letter and height of a line as shares of the size of the font
MOST_LINES, LONGEST_SLANTED, SLANT = 5, 45, 40  # of the name of a level below an axis: lines, letters, degrees
MANY = 300  # levels that a figure draws one by one; of more ...
SAMPLE = 150  # ... so many
GROUND, INK = "white", "black"  # what the colours above are to be seen on, whatever style a person has
STYLE: dict[str, Any] = {
    "figure.facecolor": GROUND,
    "axes.facecolor": GROUND,
    "legend.facecolor": GROUND,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.titlecolor": "auto",
    "legend.labelcolor": INK,
    "patch.edgecolor": INK,
    "text.color": INK,
    "xtick.color": INK,
    "xtick.labelcolor": INK,
    "ytick.color": INK,
    "ytick.labelcolor": INK,
    "font.size": 12,
    "axes.titleweight": "bold",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e6e6e6",
    "grid.linewidth": 0.8,
    "legend.frameon": False,
    "figure.constrained_layout.use": True,
    "savefig.dpi": 150,
    # A name from the data is drawn as it is: a "$" begins no formula, and TeX never sees it.
    "text.parse_math": False,
    "text.usetex": False,
    "axes.formatter.use_mathtext": False,
}


@contextmanager
def styled() -> Iterator[None]:
    """hiermod's style inside the block, the person's rcParams untouched after it."""
    with mpl.rc_context(STYLE):
        yield
        shown = mpl.is_interactive()
    mpl.interactive(shown)  # a notebook's backend turns this on with its first figure: undone, no other would show


def looks(names: Iterable[str]) -> dict[str, dict[str, Any]]:
    """A colour and a marker for each name: Bayes, REML and ML always theirs, others the next that nobody has."""
    names, own = list(names), {name: COLOURS[name] for name in ("Bayes", "REML")} | {"ML": PALETTE[2]}
    free = [colour for colour in PALETTE if colour not in {own.get(name) for name in names}]
    chosen: dict[str, dict[str, Any]] = {}
    for i, name in enumerate(names):
        colour = own.get(name) or (free.pop(0) if free else PALETTE[i % len(PALETTE)])
        chosen[name] = {"color": colour, "marker": MARKERS[i % len(MARKERS)]}
    return chosen


def sampled(*estimates: pd.Series) -> pd.Index:
    """Levels to draw one by one: all up to 300, else 150 evenly spaced over the ordered estimates, extremes included.

    estimates: by level; with several, each has its share, and a level that two would choose stands once."""
    first = estimates[0]
    if len(first) <= MANY:
        return first.index
    share = SAMPLE // len(estimates)
    places = np.linspace(0, len(first) - 1, share).round().astype(int)
    chosen = np.concatenate(
        [np.argsort(one.reindex(first.index).to_numpy(), kind="stable")[places] for one in estimates]
    )
    return first.index[np.unique(chosen)]


def counted(shown: int, total: int, group: str) -> str:
    """For a title, "150 of 20000 levels of g"; empty where all are shown."""
    return "" if shown == total else f"{shown} of {total} levels of {group}"


def new_axes(width: float, height: float, given: Axes | None = None) -> Axes:
    """A pyplot figure's axes, so that notebooks show it and ``plt.close`` ends it; or those given, for plain text."""
    if given is not None:
        return _for_plain_text(given)
    import matplotlib.pyplot as plt

    return plt.subplots(figsize=(width, height))[1]


def _for_plain_text(ax: Axes) -> Axes:
    """Axes made outside hiermod's style, their labels and left title (a person's own stay) as those made inside it.

    A dark ground becomes white: black lines would not be seen on it."""
    ground = to_rgba(ax.get_facecolor())
    if np.mean((ground if ground[3] else to_rgba(ax.figure.get_facecolor()))[:3]) < 0.5:
        ax.set_facecolor(GROUND)
    for axis in (ax.xaxis, ax.yaxis):
        axis.label.set_parse_math(False)
        axis.label.set_usetex(False)
        if axis.get_scale() == "log":
            plain_log(axis)
    title = ax.set_title(ax.get_title(loc="left"), loc="left")
    title.set_parse_math(False)
    title.set_usetex(False)
    return ax


def plain_name(name: str) -> str:
    """A column or response for a label: the formula's backticks are not part of a name."""
    return name.replace("`", "")


def level_ticks(ax: Axes, places: Sequence[float], labels: Sequence[str]) -> None:
    """Levels along the x axis: names on several lines where these fit side by side, else slanted or upright.

    Judged by the width of the axes and of an average letter; the layout then makes the room that the names need."""
    width = 72.0 * ax.get_window_extent().width / ax.figure.dpi / max(len(places), 1)
    for font in (mpl.rcParams["xtick.labelsize"], "small"):
        size = FontProperties(size=font).get_size_in_points()
        letters = int(width / (LETTER * size) - 0.5)  # half a letter between two names
        texts = [textwrap.wrap(label, max(letters, 1), break_long_words=False) or [""] for label in labels]
        if letters > 0 and all(len(lines) <= MOST_LINES and max(map(len, lines)) <= letters for lines in texts):
            ax.set_xticks(places, ["\n".join(lines) for lines in texts], fontsize=font)
            return
    short = [textwrap.shorten(label, LONGEST_SLANTED, placeholder=" \u2026") for label in labels]
    told = short if len(set(short)) == len(set(labels)) else labels  # names that only their ends tell apart stay whole
    apart = width * np.sin(np.radians(SLANT))
    if apart < LINE**2 * size:
        ax.set_xticks(places, told, rotation=90, fontsize="small")
        return
    if apart > 2 * LINE * size:
        told = ["\n".join(textwrap.wrap(one, max(12, len(one) // 2 + 4))) for one in told]
    ax.set_xticks(places, told, rotation=SLANT, ha="right", rotation_mode="anchor", fontsize="small")


def plain_log(axis: Axis) -> None:
    """Numbers at the ticks of a logarithmic axis without mathematical typesetting: 0.1, 1, 10."""
    from matplotlib.ticker import LogFormatter

    axis.set_major_formatter(LogFormatter())
    axis.set_minor_formatter(LogFormatter())
