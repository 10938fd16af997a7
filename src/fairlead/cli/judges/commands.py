"""`fairlead judge …`: how far a judge can be trusted, its cost, its stored replies. No logic lives here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fairlead.cli.common import (
    NOT_PASSED,
    AsJson,
    JustEstimate,
    ProjectArgument,
    ProjectOption,
    interval_cells,
    out,
    print_json,
    show_table,
    value_text,
)
from fairlead.cli.judges.estimates import show_estimates
from fairlead.errors import ConfigError
from fairlead.records.judge_names import legend, short_name

if TYPE_CHECKING:  # statistics takes seconds to import, and every command imports this file
    from fairlead.config.judges import JudgeCheckSettings, JudgeSettings
    from fairlead.config.project import Config
    from fairlead.cost.judge_cost import Estimate
    from fairlead.documents.qualification import Agreement, JudgeQualification
    from fairlead.judges.base import Judge
    from fairlead.judges.qualification.human_labels import LabelledComparison
    from fairlead.records import Interval

app = typer.Typer(no_args_is_help=True, help="Check how far a judge can be trusted, and show what judges were asked.")

File = Annotated[
    Path, typer.Argument(metavar="FILE", help="comparisons that people have judged: PandaLM's, LLMBar's or your own")
]
ForEval = Annotated[
    bool, typer.Option("--eval", help="use the judge of the comparison instead of the judge of the pairs")
]

Named = Annotated[
    str | None,
    typer.Option(
        "--judge", metavar="JUDGE", help="a judge such as openai:MODEL@http://HOST/v1 (default: the project's judge)"
    ),
]

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
    folder: ProjectOption = Path(),
    named: Named = None,
    evaluation: ForEval = False,
    rows: Annotated[
        int | None, typer.Option(min=1, help="ask about this many rows, evenly spread (default: all)")
    ] = None,
    estimate: JustEstimate = False,
    as_json: AsJson = False,
) -> None:
    """Measure how far a judge agrees with people: accuracy, Cohen's κ, position and length bias, missing verdicts."""
    from fairlead.judges.qualification import agreement as people

    if verdicts is not None:
        if rows is not None or estimate or evaluation or named is not None:
            raise ConfigError(
                "--judge, --rows, --estimate and --eval are about a judge, which is not asked beside --verdicts",
                where="judge agreement",
                remedy="leave them out, or leave out --verdicts",
            )
        measured = people.of_file(file, verdicts)
    else:
        _, settings = _judge_of(folder, named, evaluation=evaluation)
        labelled = _labelled(file, rows)
        with _one_order(settings, folder) as judge:
            if estimate:
                show_estimates(_estimates(judge, labelled), as_json=as_json)
                return
            measured = people.agreement(labelled, people.ask(judge, labelled))
    if as_json:
        print_json(measured.model_dump(mode="json"))
        return
    _show_agreement(measured)
    _line(
        f"rows {measured.rows}, without a majority of people {measured.undecided_rows}; "
        f"verdicts: {_counts(measured.states)}"
    )


@app.command()
def check(
    file: Annotated[
        Path | None, typer.Argument(metavar="FILE", help="labelled comparisons (default: judge_check.labelled)")
    ] = None,
    folder: ProjectOption = Path(),
    named: Named = None,
    evaluation: ForEval = False,
    estimate: JustEstimate = False,
    as_json: AsJson = False,
) -> None:
    """Check that a judge meets the project's demands. Exit status: 0 it does, 5 it does not."""
    from fairlead.judges.qualification.human_labels import read_labelled
    from fairlead.judges.qualification.model_families import shared_lineage
    from fairlead.judges.qualification.qualify import families_of, planned, qualify

    config, settings = _judge_of(folder, named, evaluation=evaluation)
    demands = _demands(config, file)
    rows, families = read_labelled(folder / demands.labelled), families_of(settings)
    with _one_order(settings, folder) as judge:
        if estimate:
            probes = planned(rows, demands, families)
            show_estimates(_estimates(judge, [row for probe in probes.values() for row in probe]), as_json=as_json)
            return
        qualification = qualify(judge, rows, demands, families)
    lineage = None if config is None else shared_lineage(config.judge, config.eval_judge)
    warning = None if lineage is None else lineage.sentence
    if as_json:
        derived = {"passed": qualification.passed, "unmeasured": qualification.unmeasured, "shared_lineage": warning}
        print_json(qualification.model_dump(mode="json", exclude={"checked"}) | derived)
    else:
        _show_qualification(qualification, warning)
    raise typer.Exit(0 if qualification.passed else NOT_PASSED)


@app.command()
def ledger(
    folder: ProjectArgument = Path(),
    find: Annotated[
        str | None,
        typer.Option(help="show the replies whose subject or key begins with this, such as a comparison's id"),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Show how often models were asked and what it cost; with --find, their replies."""
    from fairlead.cli.judges import ledger
    from fairlead.llm.store.reply_store import ReplyStore

    with ReplyStore.of_project(folder) as store:
        if find is not None:
            ledger.show_replies(store.about(find), as_json=as_json)
        else:
            ledger.show_totals(store.totals(), as_json=as_json)


def _judge_of(folder: Path, named: str | None, *, evaluation: bool) -> tuple[Config | None, JudgeSettings]:
    """The project's config, and the judge that is named, else the project's of the pairs or of the comparison.

    Raises:
        ConfigError: if there is no judge.
    """
    from fairlead.config.judges import judge_settings
    from fairlead.config.project import CONFIG_NAME, load_config

    if named is not None:
        config = load_config(folder) if (folder / CONFIG_NAME).is_file() else None
        return config, judge_settings(named, folder, where="--judge")
    config = load_config(folder)
    settings = config.eval_judge if evaluation else config.judge or config.eval_judge
    if settings is None:
        raise ConfigError("there is no judge", where=str(folder), remedy="write a judge section into fairlead.yaml")
    return config, settings


def _one_order(settings: JudgeSettings, folder: Path) -> AbstractContextManager[Judge]:
    """The judge asked in one order at a time, so that each order is seen by itself."""
    from fairlead.judges.build import open_judge
    from fairlead.judges.qualification.qualify import one_order

    return open_judge(one_order(settings), folder)


def _labelled(file: Path, most: int | None) -> list[LabelledComparison]:
    from fairlead.judges.qualification.human_labels import read_labelled
    from fairlead.judges.qualification.probes import evenly_spread

    rows = read_labelled(file)
    return rows if most is None else evenly_spread(rows, most)


def _demands(config: Config | None, file: Path | None) -> JudgeCheckSettings:
    """The project's demands, on the file that is named on the command line where one is."""
    from fairlead.config.judges import JudgeCheckSettings

    demanded = None if config is None else config.judge_check
    if file is not None:
        demands = {} if demanded is None else demanded.model_dump()
        return JudgeCheckSettings.model_validate({**demands, "labelled": str(file.resolve())})
    if demanded is None:
        raise ConfigError(
            "no labelled comparisons are named",
            where="judge_check",
            remedy="fairlead judge check FILE, or judge_check: {labelled: FILE} in fairlead.yaml",
        )
    return demanded


def _estimates(judge: Judge, rows: Sequence[LabelledComparison]) -> list[Estimate]:
    from fairlead.cost.judge_cost import estimate
    from fairlead.judges.qualification.agreement import both_ways

    return estimate(judge, both_ways(rows))


def _show_qualification(qualification: JudgeQualification, warning: str | None) -> None:
    _line(f"judge: {short_name(qualification.judge)}")
    further = {"prefers the same answer said twice": qualification.padded_wins}
    further |= {f"a constant answer does not lose ({name})": s for name, s in qualification.canary_wins.items()}
    if qualification.votes is not None:
        further["independent votes that the panel is worth"] = qualification.votes
    if qualification.own_family is not None:
        further["prefers its own family, more than people do"] = qualification.own_family
    _show_agreement(qualification.agreement, further)
    show_table(
        ("demanded", "bound", "measured", "status"),
        [
            (demand.name.replace("_", " "), f"{demand.bound:g}", value_text(demand.value, ".4f"), demand.status)
            for demand in qualification.demands
        ],
        words=("demanded", "status"),
    )
    _line(f"verdicts: {_counts(qualification.agreement.states)}")
    if qualification.unmeasured is not None:
        _line(f"not measured: {qualification.unmeasured}")
    if warning is not None:
        _line(f"warning: {warning}")
    _line(f"qualified: {'yes' if qualification.passed else 'no'}")
    if full := legend(qualification.judge):
        _line(full)


def _show_agreement(measured: Agreement, further: Mapping[str, Interval] | None = None) -> None:
    """The figures that were measured, and further ones by what they are called."""
    named = {words: getattr(measured, name) for name, words in _FIGURES.items()} | dict(further or {})
    show_table(
        ("figure", "value", "95 % interval", "n"),
        # Four digits, as agreement is published.
        [(words, *interval_cells(interval, ".4f")) for words, interval in named.items() if interval is not None],
        words=("figure",),
    )


def _counts(states: dict[str, int]) -> str:
    return ", ".join(f"{count} {state}" for state, count in states.items())


def _line(text: str) -> None:
    out.print(text, soft_wrap=True)
