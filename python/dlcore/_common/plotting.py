"""What all pictures share: figures without pyplot, panels, saving."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dlcore._common.optional import require

if TYPE_CHECKING:
    from os import PathLike

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Panels side by side in a picture.
_COLUMNS = 3


def new_figure(function: str, panels: int = 1) -> tuple[Figure, list[Axes]]:
    """Make a figure of panels, at most three in a row, for a function of this name.

    It is made without pyplot: no window opens, and nothing is left to close.
    """
    columns = max(1, min(panels, _COLUMNS))
    rows = max(1, -(-panels // columns))
    figure: Figure = require("matplotlib.figure", function).Figure(
        figsize=(5.2 * columns, 3.8 * rows), layout="constrained"
    )
    return figure, [figure.add_subplot(rows, columns, i + 1) for i in range(panels)]


def finish_panel(axes: Axes, x: str, title: str) -> None:
    """Add what all panels over epochs, iterations or rows have: whole numbers, a grid, a legend."""
    from matplotlib.ticker import MaxNLocator

    axes.set_xlabel(x)
    axes.set_title(title)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10]))
    axes.grid(alpha=0.3)
    axes.legend()


def saved(figure: Figure, path: str | PathLike[str] | None) -> Figure:
    """Save a figure, if there is a path; return it."""
    if path is not None:
        figure.savefig(path, dpi=150)
    return figure
