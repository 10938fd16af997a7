"""What is found before a run, for people: the problems as a list, then cost and time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import typer
from rich.console import Console

from fairlead.cli.common import err, print_line
from fairlead.errors import ConfigError, FairleadError
from fairlead.pipeline.project import Project

if TYPE_CHECKING:  # judges take seconds to import, and every command imports this file
    from fairlead.cost.forecast import Forecast
    from fairlead.cost.judge_cost import Estimate
    from fairlead.preflight.check import Preflight


def demand_ready(project: Project, until: str | None, *, force: Sequence[str], offline: bool) -> None:
    """Before a run: says what it would cost and take, or lists all that would stop it and ends with status 3.

    Raises:
        ConfigError: if it is one problem: that is one line, as every error.
    """
    from fairlead.preflight.check import check

    preflight = check(project, until, force=force, offline=offline)
    if len(preflight.problems) == 1:
        [problem] = preflight.problems
        raise ConfigError(problem.what, where=problem.where, remedy=problem.remedy)
    show_preflight(preflight, to=err, everything=False)
    if preflight.problems:
        raise typer.Exit(FairleadError.exit_code)


def show_preflight(preflight: Preflight, *, to: Console, everything: bool) -> None:
    """The problems, and cost and time.

    Args:
        everything: also say what is in order.
    """
    count = len(preflight.problems)
    if count:
        print_line(f"{count} problem{'s' * (count > 1)} would stop the run:", to=to)
    for problem in preflight.problems:
        print_line(f"- {problem}", to=to)
    if everything and not preflight.stages:
        print_line("nothing to run: every stage is up to date", to=to)
    elif everything:
        print_line(f"to run: {', '.join(preflight.stages)}", to=to)
        for key, rows in preflight.rows.items():
            print_line(f"{key}: {rows:,} rows", to=to)
    if preflight.forecast is not None:
        for line in forecast_lines(preflight.forecast):
            print_line(line, to=to)
    for note in preflight.notes:
        print_line(f"note: {note}", to=to)
    if everything and preflight.stages and not count:
        print_line("nothing would stop the run", to=to)


def forecast_lines(forecast: Forecast) -> Iterator[str]:
    """What is asked and paid, and how long it takes, a line each."""
    estimates = [(row.stage, judge) for row in forecast.judges for judge in row.judges]
    if not estimates:
        yield "cost: none, no stage asks an endpoint"
    for stage, judge in estimates:
        yield f"cost of {stage}: {_judge_line(judge, forecast.currency)}"
    if forecast.times:
        stages = ", ".join(f"{row.stage} {_duration(row.seconds)}" for row in forecast.times)
        yield f"time, roughly: {stages}; together {_duration(forecast.seconds)}"


def _judge_line(judge: Estimate, currency: str | None) -> str:
    name = ":".join(judge.judge.split(":")[:2])
    if not judge.calls:
        return f"none, {name} has answered all {judge.questions:,} questions"
    tokens = f"{_count(judge.input_tokens)} tokens in, {_count(judge.output_tokens)} out"
    line = f"about {judge.calls:,} calls of {name}, {tokens}; {_money(judge, currency)}; from {judge.basis}"
    if judge.runs > 1:
        budget = "max_calls" if judge.max_calls and judge.calls > judge.max_calls else "max_cost"
        value = judge.max_calls if budget == "max_calls" else judge.max_cost
        line += f"; {budget} {value:,} will stop it: {judge.runs} runs of the same command are needed"
    return line


def _money(judge: Estimate, currency: str | None) -> str:
    if judge.cost is None or judge.most_cost is None:
        return "no prices are set, so the cost is not known"
    unit = f" {currency}" if currency else " (in the currency of the prices)"
    return f"about {judge.cost:.2f}{unit}, at most {judge.most_cost:.2f}"


def _count(tokens: int | None) -> str:
    if tokens is None:
        return "—"
    if tokens < 10_000:
        return f"{tokens:,}"
    return f"{tokens / 1e3:.0f} thousand" if tokens < 1_000_000 else f"{tokens / 1e6:.1f} million"


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    if seconds < 5400:
        return f"{round(seconds / 60)} min"
    return f"{seconds / 3600:.0f} h" if seconds < 172_800 else f"{seconds / 86_400:.0f} days"
