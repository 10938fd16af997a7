"""The reward-KL frontier of a sweep as PNG and SVG (figure 2 of Rafailov et al. 2023)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from fairlead.files import disk_errors
from fairlead.sweep.recommend import Point, Recommendation

FORMATS = ("png", "svg")


def draw(points: Sequence[Point], recommendation: Recommendation, folder: Path) -> list[Path]:
    """Writes frontier.png and frontier.svg; the same points give the same bytes.

    Each point stands at its KL and win rate with both 95 % intervals; the recommended one is filled.
    """
    from matplotlib import rc_context
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    with rc_context({"svg.hashsalt": "fairlead", "svg.fonttype": "none"}):
        figure = Figure(figsize=(7, 4.5), layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.add_subplot()
        axes.axhline(0.5, color="0.7", linewidth=1)
        measured = [(i, p) for i, p in enumerate(points) if p.win_rate.value is not None and p.kl.value is not None]
        for i, point in measured:
            x, y = point.kl.value or 0.0, point.win_rate.value or 0.0
            axes.errorbar(
                x,
                y,
                xerr=_error_bar(x, point.kl.low, point.kl.high),
                yerr=_error_bar(y, point.win_rate.low, point.win_rate.high),
                fmt="o",
                color="tab:blue" if i in recommendation.equal else "0.45",
                markerfacecolor="tab:blue" if i == recommendation.index else "white",
                capsize=2,
            )
            axes.annotate(point.name, (x, y), xytext=(5, 5), textcoords="offset points", fontsize=8)
        axes.set_xlabel("KL from the reference, nats per answer")
        axes.set_ylabel("win rate over the model that DPO started from")
        if measured and max(p.kl.value or 0.0 for _, p in measured) > 0:
            axes.set_xscale("symlog", linthresh=0.1)
        axes.set_ylim(0, 1)
        written = []
        with disk_errors(folder):
            folder.mkdir(parents=True, exist_ok=True)
            for form in FORMATS:
                path = folder / f"frontier.{form}"
                # A date in the file would make equal sweeps differ.
                figure.savefig(path, dpi=150, metadata={"Date": None} if form == "svg" else {"Software": None})
                written.append(path)
    return written


def _error_bar(value: float, low: float | None, high: float | None) -> list[list[float]] | None:
    """matplotlib's error bar: lengths below and above."""
    if low is None or high is None:
        return None
    return [[max(0.0, value - low)], [max(0.0, high - value)]]
