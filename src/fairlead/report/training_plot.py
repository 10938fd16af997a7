"""The curves of a DPO training as an SVG: the reward gap on training and validation pairs, and the KL."""

from __future__ import annotations

from pathlib import Path

from fairlead.files import disk_errors
from fairlead.training.diagnosis.curves import Curves

Points = list[tuple[int, float]]  # (step, value)


def draw(curves: Curves, path: Path) -> bool:
    """Writes the picture, and says whether there was anything to draw; the same curves give the same bytes."""
    gaps: Points = [(step.step, step.gap) for step in curves.train if step.gap is not None]
    validation: Points = [(result.step, result.gap) for result in curves.validation if result.gap is not None]
    checks = [(check.step, check.kl.kl, check.kl.kl_error) for check in curves.checks if check.kl.kl is not None]
    if not (gaps or validation or checks):
        return False
    from matplotlib import rc_context
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    with rc_context({"svg.hashsalt": "fairlead", "svg.fonttype": "none"}), disk_errors(path):
        figure = Figure(figsize=(9, 3), layout="constrained")
        FigureCanvasSVG(figure)
        left, right = figure.subplots(1, 2)
        for points, label, style in ((gaps, "training", "-"), (validation, "validation", "o-")):
            if points:
                left.plot(*zip(*points, strict=True), style, label=label, markersize=4, linewidth=1.2)
                left.legend(frameon=False)
        left.set_title("reward gap of chosen over rejected", fontsize=10)
        if checks:
            steps, values, errors = zip(*checks, strict=True)
            bars = [1.96 * (error or 0.0) for error in errors]
            right.errorbar(steps, values, yerr=bars, fmt="o-", markersize=4, linewidth=1.2, capsize=2)
        right.set_title("KL from the reference, nats per answer", fontsize=10)
        for axes in (left, right):
            axes.set_xlabel("step")
            axes.axhline(0.0, color="0.8", linewidth=0.8)
        figure.savefig(path, metadata={"Date": None})  # a date in the file would make equal trainings differ
    return True
