"""One look for every figure, colours that colour-blind readers can tell apart (Okabe and Ito 2008); nothing global."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.colors import to_hex, to_rgb, to_rgba
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.text import Text

from hiermod.errors import ArgumentError, nearest


def ink(share: float = 1.0) -> str:
    """The colour of text, or that share of it on the ground of the axes: black, and greys, unless the style is dark."""
    text, ground = (np.array(to_rgb(mpl.rcParams[name])) for name in ("text.color", "axes.facecolor"))
    return to_hex(share * text + (1.0 - share) * ground)


class Colours(Mapping[str, str]):
    """Colours by what they stand for; black is the ink of the style in which a figure is drawn."""

    def __init__(self, given: Mapping[str, str | None]) -> None:
        self._given = dict(given)

    def __getitem__(self, name: str) -> str:
        return self._given[name] or ink()

    def __iter__(self) -> Iterator[str]:
        return iter(self._given)

    def __len__(self) -> int:
        return len(self._given)


class Palette(Sequence[str]):
    """Colours one after the other, None being the ink."""

    def __init__(self, *given: str | None) -> None:
        self._given = given

    def __getitem__(self, at: Any) -> Any:
        if isinstance(at, slice):
            return Palette(*self._given[at])
        return self._given[at] or ink()

    def __len__(self) -> int:
        return len(self._given)


COLOURS = Colours({"none": "#8c8c8c", "complete": None, "REML": "#D55E00", "Bayes": "#0072B2", "population": None})
PALETTE = Palette("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", None, "#8c8c8c")
MARKERS = ("o", "D", "s", "^", "v", "P", "X", "*")
LETTER, LINE = 0.58, 1.3  # width of an average letter and height of a line as shares of the size of the font
MOST_LINES, LONGEST_SLANTED, SLANT = 5, 45, 40  # of the name of a level below an axis: lines, letters, degrees
MANY = 300  # levels that a figure draws one by one; of more ...
SAMPLE = 150  # ... so many
GRID = 0.1  # of the ink
STYLE: dict[str, Any] = {  # where a person has set nothing else
    "font.size": 12,
    "axes.titleweight": "bold",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "legend.frameon": False,
    "savefig.dpi": 150,
}
ALWAYS: dict[str, Any] = {
    "figure.constrained_layout.use": True,
    # A name from the data is drawn as it is: a "$" begins no formula, and TeX never sees it.
    "text.parse_math": False,
    "text.usetex": False,
    "axes.formatter.use_mathtext": False,
}
THEMES: dict[str, dict[str, Any]] = {
    "paper": {"font.size": 9, "axes.linewidth": 0.6, "grid.linewidth": 0.5, "savefig.dpi": 300, "pdf.fonttype": 42},
    "slides": {"font.size": 14, "axes.linewidth": 1.2, "lines.linewidth": 2.4, "savefig.dpi": 200},
    "print": {"axes.grid": False, "savefig.dpi": 300, "pdf.fonttype": 42, "ps.fonttype": 42},
    "dark": {
        **dict.fromkeys(("figure.facecolor", "axes.facecolor", "savefig.facecolor"), "#16181d"),
        **dict.fromkeys(("text.color", "axes.edgecolor", "axes.labelcolor", "patch.edgecolor"), "#e8e8e8"),
        **dict.fromkeys(("xtick.color", "ytick.color", "lines.color"), "#e8e8e8"),
    },
}


def theme(name: str) -> AbstractContextManager[Any]:
    """Figures for one purpose inside the block, what a person has set untouched after it.

    name: "paper" (small type and thin lines for a column of text), "slides" (large type), "print" (no grid, fonts that
    journals take) or "dark" (a dark ground).  Any style sheet of matplotlib does as well: figures obey the rcParams in
    force, and black is the colour of their text.  ArgumentError for another name.

    >>> import hiermod as hm
    >>> reml = hm.Model("Reaction ~ Days + (Days | Subject)", hm.load_dataset("sleepstudy")).reml()
    >>> with hm.plots.theme("dark"):
    ...     ax = hm.plots.forest(reml)
    >>> ax.title.get_color()
    '#e8e8e8'
    """
    if name not in THEMES:
        raise ArgumentError(f"theme is {name!r}.{nearest(name, THEMES)} There are {', '.join(THEMES)}")
    return mpl.rc_context(THEMES[name])


@contextmanager
def styled() -> Iterator[None]:
    """hiermod's style inside the block, where the person has none; their rcParams are untouched after it."""
    own = {key: value for key, value in STYLE.items() if mpl.rcParams[key] == mpl.rcParamsDefault[key]}
    if "axes.grid" in own:  # a grid that only we ask for is a faint one
        own |= {"grid.color": ink(GRID), "grid.linewidth": 0.8, "grid.linestyle": "-", "grid.alpha": 1.0}
    with mpl.rc_context(own | ALWAYS):
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

    What is drawn on them has the ink of their own labels, whatever style is in force now."""
    ground = to_rgba(ax.get_facecolor())
    mpl.rcParams["axes.facecolor"] = to_hex(ground if ground[3] else ax.figure.get_facecolor())
    mpl.rcParams["text.color"] = to_hex(ax.xaxis.label.get_color())
    for axis in (ax.xaxis, ax.yaxis):
        axis.label.set_parse_math(False)
        axis.label.set_usetex(False)
        if axis.get_scale() == "log":
            plain_log(axis)
    title = ax.set_title(ax.get_title(loc="left"), loc="left")
    title.set_parse_math(False)
    title.set_usetex(False)
    return ax


def titled(ax: Axes, text: str, **settings: Any) -> Text:
    """A title from the left edge of the axes, on several lines where it is longer than they are wide."""
    width = 72.0 * ax.get_window_extent().width / ax.figure.dpi
    told = _wrapped(text, width, settings.get("fontsize", mpl.rcParams["axes.titlesize"]))
    return ax.set_title(told, loc="left", **settings)


def over_all(figure: Figure, text: str, **settings: Any) -> None:
    """A title over all panels, on several lines where it is longer than the figure is wide."""
    size = settings.get("fontsize", mpl.rcParams["figure.titlesize"])
    figure.suptitle(_wrapped(text, 72.0 * 0.97 * figure.get_figwidth(), size), **settings)


def _wrapped(text: str, width: float, font: Any) -> str:
    """width: in points.  Lines end at spaces, and within names of columns behind a mark such as | or _."""
    most = max(int(width / (LETTER * FontProperties(size=font).get_size_in_points())), 12)
    found = []
    for line in text.split("\n"):
        now = ""
        for word in re.findall(r"\S+\s*", line):
            for part in [word] if len(word) <= most else re.findall(r"[^|,:_\[]*[|,:_\[]?", word):
                if now and len(now) + len(part.rstrip()) > most:
                    found.append(now.rstrip())
                    now = ""
                now += part
        found.append(now.rstrip())
    return "\n".join(found)


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
