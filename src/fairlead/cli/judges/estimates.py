"""`--estimate`: what judges, and the models of the decision, would be asked and what it would cost. Asks nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from fairlead.cli.common import print_json, print_line
from fairlead.records.judge_names import legend, short_name

if TYPE_CHECKING:  # judges take seconds to import, and every command imports this file
    from fairlead.cost.judge_cost import Estimate


def show_estimates(estimates: Sequence[Estimate], *, as_json: bool) -> None:
    """One line for every judge that is asked by requests."""
    if as_json:
        print_json([asdict(row) | {"calls": row.calls} for row in estimates])
        return
    if not estimates:
        print_line("costs nothing: this judge computes and asks nobody")
    for row in estimates:
        cost = "not known (no prices in the judge section)" if row.cost is None else f"{row.cost:.4g}"
        at_most = "" if row.most_cost is None else f", at most {row.most_cost:.4g}"
        tokens = f"{_count(row.input_tokens)} tokens in, {_count(row.output_tokens)} out"
        name = short_name(row.judge)
        print_line(
            f"{name}: {row.calls:,} calls ({row.questions:,} questions, {row.stored:,} in the ledger), "
            f"{tokens}, cost {cost}{at_most}; from {row.basis}"
        )
    for full in dict.fromkeys(legend(row.judge) for row in estimates):
        if full:
            print_line(full)


def show_stage_estimate(folder: Path, stage: str | None, *, as_json: bool) -> None:
    """For the commands that run stages: what the judges of a stage would cost, or, without one, all of a run."""
    from fairlead.cost.planned_calls import estimate_run, estimate_stages
    from fairlead.pipeline.project import Project

    project = Project(folder)
    if stage is None:
        estimates = estimate_run(project, [node.name for node in project.remaining()])
    else:
        estimates = estimate_stages(project, stage)
    if as_json:
        rows = [(row.stage, judge) for row in estimates for judge in row.judges]
        print_json([asdict(judge) | {"calls": judge.calls, "stage": name} for name, judge in rows])
        return
    if not estimates:
        print_line("costs nothing: no stage asks a judge")
    for row in estimates:
        print_line(f"{row.stage}:")
        show_estimates(row.judges, as_json=False)
    costs = [judge.cost for row in estimates for judge in row.judges]
    known = [cost for cost in costs if cost is not None]
    if len(known) > 1 and len(known) == len(costs):
        print_line(f"together: cost {sum(known):.4g}")


def _count(tokens: int | None) -> str:
    return "—" if tokens is None else f"{tokens:,}"
