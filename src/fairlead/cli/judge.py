"""`fairlead judge …`: how far a judge can be trusted, what it would cost, and what it has said. No logic lives here."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from fairlead.cli.common import AsJson, FolderOption, JustEstimate, out, print_json
from fairlead.errors import ConfigError

if TYPE_CHECKING:  # statistics takes seconds to import, and every command imports this file
    from fairlead.records import Interval

app = typer.Typer(no_args_is_help=True, help="Judges: agreement with people, qualification, cost, and the ledger.")

File = Annotated[Path, typer.Argument(help="comparisons that people have judged: PandaLM's, LLMBar's or your own")]
ForEval = Annotated[bool, typer.Option("--eval", help="the judge of the comparison instead of that of the pairs")]

_FIGURES = {
    "accuracy": "right, of readable verdicts",
    "accuracy_missing_as_tie": "right, unreadable counted as ties",
    "accuracy_missing_as_wrong": "right, unreadable counted as wrong",
    "pair_accuracy": "right, of pairs whose orders agree",
    "kappa": "Cohen's κ with people",
    "people": "people with each other",
    "order_agreement": "pairs whose two orders agree",
    "first_place": "prefers what stands first",
    "first_place_people": "people prefer what stands first",
    "longer": "prefers the longer answer",
    "longer_people": "people prefer the longer answer",
    "missing": "no verdict",
}


@app.command()
def agreement(
    file: File,
    verdicts: Annotated[
        str | None, typer.Option(help="field of the file that holds stored verdicts; the project's judge is not asked")
    ] = None,
    folder: FolderOption = Path(),
    evaluation: ForEval = False,
    rows: Annotated[
        int | None, typer.Option(min=1, help="ask about this many rows, evenly spread; all if not given")
    ] = None,
    estimate: JustEstimate = False,
    as_json: AsJson = False,
) -> None:
    """How far a judge agrees with people: accuracy, Cohen's κ, taste for a place and for length, missing share."""
    from fairlead.cli import judge_commands
    from fairlead.judges.qualification.agreement import of_file

    if verdicts is not None:
        if rows is not None or estimate or evaluation:
            raise ConfigError(
                "--rows, --estimate and --eval are about the project's judge, which is not asked beside --verdicts",
                where="judge agreement",
                remedy="leave them out, or leave out --verdicts",
            )
        found = of_file(file, verdicts)
    else:
        bench = judge_commands.open_project(folder, evaluation=evaluation)
        if estimate:
            _show_estimates(bench.estimate_agreement(file, rows), as_json)
            return
        found = bench.agreement(file, rows)
    if as_json:
        print_json(asdict(found))
        return
    out.print(_agreement_table(found))
    _line(f"rows {found.rows}, without a majority of people {found.undecided_rows}; verdicts: {_counts(found.states)}")


@app.command()
def check(
    file: Annotated[Path | None, typer.Argument(help="labelled comparisons; judge_check.labelled if not given")] = None,
    folder: FolderOption = Path(),
    evaluation: ForEval = False,
    estimate: JustEstimate = False,
    as_json: AsJson = False,
) -> None:
    """Qualify a judge before it is trusted. Exit status 0: it meets what is demanded; 1: it does not."""
    from fairlead.cli import judge_commands

    bench = judge_commands.open_project(folder, evaluation=evaluation)
    if estimate:
        _show_estimates(bench.estimate_check(file), as_json)
        return
    found = bench.check(file)
    if as_json:
        print_json(asdict(found) | {"passed": found.passed, "unmeasured": found.unmeasured, "kinship": bench.kinship})
    else:
        _show_qualification(found, bench.kinship)
    raise typer.Exit(0 if found.passed else 1)


@app.command()
def ledger(
    folder: FolderOption = Path(),
    find: Annotated[
        str | None, typer.Option(help="show the replies whose subject or key begins so, such as a comparison's id")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """What models were asked and what it cost; with --find, their replies as they came."""
    from fairlead.cli import judge_ledger
    from fairlead.llm.reply_store import ReplyStore

    with ReplyStore.of_project(folder) as store:
        if find is not None:
            judge_ledger.show_replies(store.about(find), as_json=as_json)
        else:
            judge_ledger.show_totals(store.totals(), as_json=as_json)


def _show_qualification(found: Any, kinship: str | None) -> None:
    _line(f"judge: {found.judge}")
    table = _agreement_table(found.agreement)
    table.add_row("prefers the same answer said twice", *_cells(found.padded_wins))
    for name, share in found.canary_wins.items():
        table.add_row(f"a constant answer does not lose ({name})", *_cells(share))
    if found.own_family is not None:
        table.add_row("prefers its own family, more than people do", *_cells(found.own_family))
    out.print(table)
    demands = Table("demanded", "bound", "found", "status")
    for demand in found.demands:
        value = "—" if demand.value is None else f"{demand.value:.4f}"
        demands.add_row(demand.name.replace("_", " "), f"{demand.bound:g}", value, demand.status)
    out.print(demands)
    _line(f"verdicts: {_counts(found.agreement.states)}")
    if found.unmeasured is not None:
        _line(f"not measured: {found.unmeasured}")
    if kinship is not None:
        _line(f"warning: {kinship}")
    _line(f"qualified: {'yes' if found.passed else 'no'}")


def _show_estimates(estimates: Any, as_json: bool) -> None:
    if as_json:
        print_json([asdict(row) | {"calls": row.calls} for row in estimates])
        return
    if not estimates:
        _line("costs nothing: this judge computes and asks nobody")
    for row in estimates:
        cost = "not known (no prices in the judge section)" if row.cost is None else f"{row.cost:.4g}"
        most = "" if row.most_cost is None else f", at most {row.most_cost:.4g}"
        _line(
            f"{row.judge}: {row.calls:,} calls ({row.questions:,} questions, {row.stored:,} in the ledger), "
            f"{row.input_tokens:,} tokens in, {row.output_tokens:,} out, cost {cost}{most}; from {row.basis}"
        )


def _agreement_table(found: Any) -> Table:
    table = Table("figure", "value", "95 % interval", "n")
    for name, words in _FIGURES.items():
        interval = getattr(found, name)
        if interval is not None:
            table.add_row(words, *_cells(interval))
    return table


def _cells(interval: Interval) -> tuple[str, str, str]:
    value = "—" if interval.value is None else f"{interval.value:.4f}"
    ends = "—" if interval.low is None or interval.high is None else f"{interval.low:.4f} to {interval.high:.4f}"
    return value, ends, str(interval.n)


def _counts(states: dict[str, int]) -> str:
    return ", ".join(f"{count} {state}" for state, count in states.items())


def _line(text: str) -> None:
    out.print(text, soft_wrap=True)


def show_stage_estimate(folder: Path, stage: str | None, *, as_json: bool) -> None:
    """For `--estimate` of the commands that run stages: says what their judges would cost, and asks nothing."""
    from fairlead.cost.planned_calls import estimate_stages
    from fairlead.pipeline.project import Project

    found = estimate_stages(Project(folder), stage)
    if as_json:
        rows = [asdict(row) | {"calls": row.calls, "stage": name} for name, part in found.items() for row in part]
        print_json(rows)
        return
    if not found:
        _line("costs nothing: no stage asks a judge")
    for name, part in found.items():
        _line(f"{name}:")
        _show_estimates(part, as_json=False)
    costs = [row.cost for part in found.values() for row in part]
    if len(costs) > 1 and None not in costs:
        _line(f"together: cost {sum(cost for cost in costs if cost is not None):.4g}")
