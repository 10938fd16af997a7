"""`reflection.md`: what DPO did to this model and what it did not.

Every sentence comes from figures and has a number under which the page names them, by plain rules and no model: the
same figures give the same page. A cause is named only where the interval of a figure excludes that it is none.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from fairlead.documents.evaluation import Conclusion
from fairlead.documents.report import PairFigures, Report, drift_figures
from fairlead.escape import code_span, markdown
from fairlead.records import Interval, ModelPair, VerdictState
from fairlead.report.examples import Example, example_markdown
from fairlead.report.markdown import diagnosis_of, monitor_actions
from fairlead.report.outcome import STARTS, by_model, conclusion, decisive, longer_by, number, rows_that, start_of
from fairlead.statistics.intervals import proportion_interval

_COIN = 0.5  # accuracy of the implicit reward on held-out pairs, if nothing was learnt
_SMALL_KL, _LARGE_KL = 0.5, 20.0  # nats per answer: nothing moved; far from where it started
_MOST_CAVEATS = 3  # told in full, so that the page stays short
_NOISY_ORDERS = 0.2  # share of pairs whose verdict depends on the order


@dataclass(frozen=True)
class Sentence:
    """A sentence without its full stop, and the paths in report.json of the figures that it rests on."""

    text: str
    figures: tuple[str, ...]


def reflection(report: Report, examples: Sequence[Example] = ()) -> str:
    """The page: numbered sentences, examples, and under each number the figures that a sentence rests on.

    Sentences whose figure was not measured are left out.
    """
    paragraphs = [
        list(paragraph(report))
        for paragraph in (_waiver, _brought, _outcome, _metrics, _cost, _training, _causes, _caveats)
    ]
    numbers = {
        figures: number
        for number, figures in enumerate(dict.fromkeys(s.figures for p in paragraphs for s in p), start=1)
    }
    texts = [" ".join(f"{s.text} [{numbers[s.figures]}]." for s in paragraph) for paragraph in paragraphs if paragraph]
    sources = [f"{number}. {', '.join(map(code_span, figures))}" for figures, number in numbers.items()]
    start = STARTS[start_of(report)]
    return (
        "\n\n".join(
            [
                "# What DPO did to this model, and what it didn't",
                *texts,
                *(example_markdown(example, f"{start[0].upper()}{start[1:]}") for example in examples),
                "## Figures",
                "What each sentence rests on, in [report.json](report.json):",
                "\n".join(sources),
            ]
        )
        + "\n"
    )


def _sentence(text: str, *figures: str) -> Sentence:
    return Sentence(text, figures)


def _waiver(report: Report) -> Iterator[Sentence]:
    if report.decision.verdict == "waived":
        reason = report.decision.why.rstrip(" .")
        yield _sentence(f"Whether to fine-tune at all was not measured but waived: {reason}", "decision.why")


def _brought(report: Report) -> Iterator[Sentence]:
    for model, title in (("sft", "SFT"), ("dpo", "DPO")):
        if source := report.figures.get(model, {}).get("brought_from"):
            yield _sentence(
                f"The {title} model was not trained here but brought from {code_span(str(source))}",
                f"figures.{model}.brought_from",
            )


def _outcome(report: Report) -> Iterator[Sentence]:
    gate = report.gate
    yield _sentence(f"The gate says {gate.status}, and its advice is to {gate.advice}", "gate.status", "gate.advice")
    compared = decisive(report)
    if compared is None:
        return
    pair, figures = compared
    other = STARTS[pair.reference]
    at = f"pairwise.{pair}"
    interval = "" if figures.low is None else f", with a 95 % interval from {figures.low:.1%} to {figures.high:.1%}"
    yield _sentence(
        f"Against {other} it won {figures.win_rate:.1%} of {figures.n} judged prompts, ties counted half{interval}",
        f"{at}.win_rate",
        f"{at}.low",
        f"{at}.n",
    )
    seen = figures.detectable
    limit = "" if seen is None else f"; a difference of {seen:.1%} would have been seen in 8 of 10 such comparisons"
    verdicts = {
        Conclusion.UNDEFINED: f"So few prompts say nothing of whether it is better than {other}: there is no interval",
        Conclusion.BETTER: f"That is better than {other} beyond what chance explains",
        Conclusion.WORSE: f"That is worse than {other} beyond what chance explains: DPO failed",
        Conclusion.NOT_SHOWN: f"No difference was shown, in either direction{limit}",
    }
    yield _sentence(verdicts[conclusion(figures)], f"{at}.word")
    if figures.missing:
        yield _sentence(
            f"{figures.missing} verdicts are missing; if all were losses the win rate would be {figures.worst:.1%}, "
            f"if all were wins {figures.best:.1%}",
            f"{at}.missing",
            f"{at}.worst",
            f"{at}.best",
        )


def _metrics(report: Report) -> Iterator[Sentence]:
    for concluded, verb in ((Conclusion.BETTER, "rose"), (Conclusion.WORSE, "fell")):
        for row in rows_that(report, concluded):
            before = row.sft if row.against == "sft" else row.base
            least = min(row.delta_low or 0.0, row.delta_high or 0.0, key=abs)
            yield _sentence(
                f"{code_span(row.metric)} {verb} from {before:.3f} to {row.dpo:.3f} (Δ {row.delta:+.3f}, at least "
                f"{least:+.3f})",
                f"table.{row.metric}.{row.against}",
                f"table.{row.metric}.dpo",
                f"table.{row.metric}.delta",
            )
    for concluded, text in (
        (Conclusion.NOT_SHOWN, "no difference was shown"),
        (Conclusion.UNDEFINED, "the difference is undefined"),
    ):
        if rows := rows_that(report, concluded):
            names = ", ".join(code_span(row.metric) for row in rows)
            yield _sentence(f"In {names} {text}", *(f"table.{row.metric}.word" for row in rows))


def _cost(report: Report) -> Iterator[Sentence]:
    longer = longer_by(report)
    if longer is not None:
        yield _sentence(
            f"Answers are {abs(longer):.0%} {'longer' if longer > 0 else 'shorter'} than before, "
            f"{report.answers['dpo'].mean_characters:.0f} characters on average",
            "answers.dpo.mean_characters",
            f"answers.{start_of(report)}.mean_characters",
        )
    perplexity = by_model(report, "perplexity")
    if "base" in perplexity and "dpo" in perplexity:
        yield _sentence(
            f"On general text the perplexity went from {perplexity['base'].value:.2f} to {perplexity['dpo'].value:.2f}",
            "probe.perplexity.base",
            "probe.perplexity.dpo",
        )
    for name in sorted(drift_figures(report.probe)):
        figures = by_model(report, name)
        if name.startswith("general") and "base" in figures and "dpo" in figures:
            yield _sentence(
                f"On the general task {code_span(name.removeprefix('general_'))} it scores "
                f"{figures['dpo'].value:.3f}, where the base scored {figures['base'].value:.3f}",
                f"probe.{name}.base",
                f"probe.{name}.dpo",
            )


def _drift(report: Report, name: str) -> Interval:
    """A figure of the drift; without value and ends where it was not measured."""
    figure = drift_figures(report.probe).get(name)
    return figure if isinstance(figure, Interval) else Interval(None, None, None, 0, "undefined: not measured")


def _training(report: Report) -> Iterator[Sentence]:
    dpo = report.figures.get("dpo", {})
    accuracy = _drift(report, "implicit_reward_accuracy")
    if accuracy.value is not None:
        yield _sentence(
            f"Its implicit reward prefers the chosen answer in {accuracy.value:.1%} of {accuracy.n} held-out pairs",
            "probe.implicit_reward_accuracy",
        )
    diagnosis = diagnosis_of(report)
    if diagnosis is not None:
        seen = markdown(diagnosis.sentence.rstrip(" ."))
        yield _sentence(f"The monitor says of the training: {seen}", "stages.dpo.watch.sentence")
    for action in monitor_actions(dpo):
        yield _sentence(action, "figures.dpo.stopped_on", "figures.dpo.kept_step")
    gap = number(dpo, "validation_reward_gap")
    if gap is not None:
        yield _sentence(
            f"The reward gap on validation pairs ended at {gap:.2f}, which is necessary for better answers and not "
            "sufficient",
            "figures.dpo.validation_reward_gap",
        )
    kl = _drift(report, "kl_from_reference")
    if kl.value is not None:
        beta = number(dpo, "beta")
        yield _sentence(
            f"A sampled answer lies {kl.value:.2f} nats from the reference" + (f" at β {beta}" if beta else ""),
            "probe.kl_from_reference",
            *(["figures.dpo.beta"] if beta else []),
        )


def _causes(report: Report) -> Iterator[Sentence]:
    """What the figures suggest where DPO did not win."""
    compared = decisive(report)
    if compared is None or conclusion(compared[1]) is Conclusion.BETTER:
        return
    pair, figures = compared
    causes = [*_moved(report), *_told_apart(report), *_noise(pair, figures)]
    if not causes:
        causes = [*_preferences(report, pair, figures)]
    yield from causes
    accuracy = _drift(report, "implicit_reward_accuracy")
    low, high = accuracy.low, accuracy.high
    if accuracy.value is not None and low is not None and high is not None and low <= _COIN <= high:
        yield _sentence(
            f"That held-out pairs are told apart better than by a coin is not shown ({accuracy.value:.0%} of "
            f"{accuracy.n}), so whether the pairs taught anything is open",
            "probe.implicit_reward_accuracy",
        )
    if not causes and figures.low is not None:
        yield _sentence(
            "No cause is named, because no interval excludes that there is none; more prompts would tell",
            f"pairwise.{pair}.low",
            f"pairwise.{pair}.high",
        )


def _moved(report: Report) -> Iterator[Sentence]:
    """Whether the whole interval of the KL says that the model stayed where it was, or went far."""
    kl, beta = _drift(report, "kl_from_reference"), number(report.figures.get("dpo", {}), "beta")
    if beta is None:  # it was trained elsewhere, and nothing is known of how
        return
    if kl.value is not None and kl.high is not None and kl.high < _SMALL_KL:
        yield _sentence(
            f"The model hardly moved ({kl.value:.2f} nats, at most {kl.high:.2f}): β {beta} is too high, or the "
            "learning rate too low, and nothing was learnt",
            "probe.kl_from_reference",
        )
    if kl.value is not None and kl.low is not None and kl.low > _LARGE_KL:
        yield _sentence(
            f"The model drifted far ({kl.value:.0f} nats, at least {kl.low:.0f}): β {beta} is too low to hold it",
            "probe.kl_from_reference",
        )


def _told_apart(report: Report) -> Iterator[Sentence]:
    """Whether the whole interval of the implicit reward's accuracy says that the pairs contradict each other."""
    accuracy = _drift(report, "implicit_reward_accuracy")
    if accuracy.value is not None and accuracy.high is not None and accuracy.high < _COIN:
        yield _sentence(
            f"Held-out pairs are told apart worse than by a coin ({accuracy.value:.0%} of {accuracy.n}, at most "
            f"{accuracy.high:.0%}): they contradict the pairs of the training",
            "probe.implicit_reward_accuracy",
        )


def _noise(pair: ModelPair, figures: PairFigures) -> Iterator[Sentence]:
    """Whether the whole interval of the share of contradicting orders is above a fifth."""
    states = figures.states
    inconsistent = states[VerdictState.INCONSISTENT]
    judged = inconsistent + sum(states[state] for state in (VerdictState.WIN, VerdictState.LOSS, VerdictState.TIE))
    low = proportion_interval(inconsistent, judged).low
    if low is not None and low > _NOISY_ORDERS:
        yield _sentence(
            f"{inconsistent} of {judged} verdicts change with the order of the answers: the judge is noisy",
            f"pairwise.{pair}.states",
        )


def _preferences(report: Report, pair: ModelPair, figures: PairFigures) -> Iterator[Sentence]:
    """Whether the pairs were learnt for certain, and the answers got worse for certain."""
    accuracy = _drift(report, "implicit_reward_accuracy")
    if accuracy.value is None or accuracy.low is None or accuracy.low <= _COIN:
        return
    if conclusion(figures) is Conclusion.WORSE:
        yield _sentence(
            f"It learnt its pairs ({accuracy.value:.0%} of {accuracy.n} held-out ones), and answers got worse: the "
            "preference data was off, because what it prefers is not what the judge prefers",
            "probe.implicit_reward_accuracy",
            f"pairwise.{pair}.high",
        )


def _caveats(report: Report) -> Iterator[Sentence]:
    caveats = report.warnings
    for place, caveat in enumerate(caveats[:_MOST_CAVEATS]):
        yield _sentence(f"To be doubted: {markdown(caveat.text)}", f"warnings.{place}")
    if len(caveats) > _MOST_CAVEATS:
        names = ", ".join(dict.fromkeys(markdown(caveat.name) for caveat in caveats[_MOST_CAVEATS:]))
        yield _sentence(f"{len(caveats) - _MOST_CAVEATS} more warnings stand in the report: {names}", "warnings")
