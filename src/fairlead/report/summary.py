"""`reflection.md`: what DPO did to this model and what it did not.

Every sentence comes from a figure and links to it, by plain rules and no model: the same figures give the same page.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from fairlead.escape import code_span, markdown
from fairlead.gate.output import watch_actions
from fairlead.statistics.intervals import proportion_interval

_COIN = 0.5  # accuracy of the implicit reward on held-out pairs, if nothing was learnt
_SMALL_KL, _LARGE_KL = 0.5, 20.0  # nats per answer: nothing moved; far from where it started
_MOST_DOUBTS = 3  # warnings told in full, so that the page stays short
_NOISY_ORDERS = 0.2  # share of pairs whose verdict depends on the order


def reflection(report: Mapping[str, Any]) -> str:
    """The page, from `report.json`. Sentences whose figure was not measured are left out."""
    paragraphs = [
        _waiver(report),
        _outcome(report),
        _metrics(report),
        _cost(report),
        _training(report),
        _causes(report),
        _doubts(report),
    ]
    texts = [" ".join(sentences) for sentences in map(list, paragraphs) if sentences]
    return "\n\n".join(["# What DPO did to this model, and what it didn't", *texts]) + "\n"


def _said(text: str, *figures: str) -> str:
    """A sentence with a link to each figure that it rests on."""
    links = ", ".join(f"[{figure}](report.json#{figure})" for figure in figures)
    return f"{text} ({links})."


def _pair(report: Mapping[str, Any]) -> tuple[str, Mapping[str, Any]] | None:
    """The comparison that DPO is judged by."""
    for name in ("dpo_vs_sft", "dpo_vs_base"):
        if name in report["pairwise"] and report["pairwise"][name]["win_rate"] is not None:
            return name, report["pairwise"][name]
    return None


def _waiver(report: Mapping[str, Any]) -> Iterator[str]:
    decision = report.get("decision") or {}
    if decision.get("verdict") == "waived":
        yield _said(
            f"Whether to fine-tune at all was not measured but waived: {decision['why'].rstrip(' .')}", "decision.why"
        )


def _outcome(report: Mapping[str, Any]) -> Iterator[str]:
    gate = report["gate"]
    yield _said(f"The gate says {gate['status']}, and its advice is to {gate['advice']}", "gate.status", "gate.advice")
    found = _pair(report)
    if found is None:
        return
    name, pair = found
    other = name.removeprefix("dpo_vs_").replace("sft", "SFT").replace("base", "the base model")
    at = f"pairwise.{name}"
    interval = "" if pair["low"] is None else f", with a 95 % interval from {pair['low']:.1%} to {pair['high']:.1%}"
    yield _said(
        f"Against {other} it won {pair['win_rate']:.1%} of {pair['n']} judged prompts, ties counted half{interval}",
        f"{at}.win_rate",
        f"{at}.low",
        f"{at}.n",
    )
    verdict = {
        "undefined": f"So few prompts say nothing of whether it is better than {other}: there is no interval",
        "better": f"That is better than {other} beyond what chance explains",
        "worse": f"That is worse than {other} beyond what chance explains: DPO failed",
    }.get(pair["word"])
    if verdict is None:
        seen = pair["detectable"]
        limit = "" if seen is None else f"; a difference of {seen:.1%} would have been seen in 8 of 10 such comparisons"
        verdict = f"No difference was shown: DPO did not do what it was meant to{limit}"
    yield _said(verdict, f"{at}.word")
    if pair["missing"]:
        yield _said(
            f"{pair['missing']} verdicts are missing; if all were losses the win rate would be {pair['worst']:.1%}, "
            f"if all were wins {pair['best']:.1%}",
            f"{at}.missing",
            f"{at}.worst",
            f"{at}.best",
        )


def _metrics(report: Mapping[str, Any]) -> Iterator[str]:
    for word, verb in (("better", "rose"), ("worse", "fell")):
        for row in report["table"]:
            if row["word"] == word:
                yield _said(
                    f"`{row['metric']}` {verb} from {row[row['against']]:.3f} to {row['dpo']:.3f} "
                    f"(Δ {row['delta']:+.3f}, at least {min(row['delta_low'], row['delta_high'], key=abs):+.3f})",
                    f"table.{row['metric']}.{row['against']}",
                    f"table.{row['metric']}.dpo",
                    f"table.{row['metric']}.delta",
                )
    rest = [row for row in report["table"] if row["word"] not in ("better", "worse")]
    undefined = [row for row in rest if row["word"] == "undefined"]
    still = [row for row in rest if row["word"] != "undefined"]
    for rows, said in ((still, "no difference was shown"), (undefined, "the difference is undefined")):
        if rows:
            names = ", ".join(code_span(row["metric"]) for row in rows)
            yield _said(f"In {names} {said}", *(f"table.{row['metric']}.word" for row in rows))


def _cost(report: Mapping[str, Any]) -> Iterator[str]:
    answers = report["answers"]
    before, after = answers.get("sft", answers.get("base")), answers.get("dpo")
    if before and after and before["mean_characters"] and after["mean_characters"] is not None:
        change = after["mean_characters"] / before["mean_characters"] - 1
        yield _said(
            f"Answers are {abs(change):.0%} {'longer' if change > 0 else 'shorter'} than before, "
            f"{after['mean_characters']:.0f} characters on average",
            "answers.dpo.mean_characters",
            f"answers.{'sft' if 'sft' in answers else 'base'}.mean_characters",
        )
    probe = report["probe"] or {}
    perplexity = probe.get("perplexity", {})
    if "base" in perplexity and "dpo" in perplexity:
        yield _said(
            f"On general text the perplexity went from {perplexity['base']['value']:.2f} to "
            f"{perplexity['dpo']['value']:.2f}",
            "probe.perplexity.base",
            "probe.perplexity.dpo",
        )
    for name, figures in probe.items():
        if name.startswith("general") and "base" in figures and "dpo" in figures:
            yield _said(
                f"On the general task `{name.removeprefix('general_')}` it scores {figures['dpo']['value']:.3f}, "
                f"where the base scored {figures['base']['value']:.3f}",
                f"probe.{name}.base",
                f"probe.{name}.dpo",
            )


def _training(report: Mapping[str, Any]) -> Iterator[str]:
    probe, dpo = report["probe"] or {}, report["figures"].get("dpo", {})
    accuracy = probe.get("implicit_reward_accuracy", {}).get("value")
    if accuracy is not None:
        n = probe["implicit_reward_accuracy"]["n"]
        yield _said(
            f"Its implicit reward prefers the chosen answer in {accuracy:.1%} of {n} held-out pairs",
            "probe.implicit_reward_accuracy",
        )
    watch = report["stages"]["dpo"]["watch"]
    if watch is not None:
        yield _said(watch["sentence"].rstrip(" ."), "stages.dpo.watch.sentence")
    if acted := watch_actions(dpo):
        yield _said(f"The watch {acted}", "figures.dpo.stopped_on", "figures.dpo.kept_step")
    gap = dpo.get("validation_reward_gap")
    if gap is not None:
        yield _said(
            f"The reward gap on validation pairs ended at {gap:.2f}, which is necessary for better answers and not "
            "sufficient",
            "figures.dpo.validation_reward_gap",
        )
    kl = probe.get("kl_from_reference", {}).get("value")
    if kl is not None:
        yield _said(
            f"A sampled answer lies {kl:.2f} nats from the reference at β {dpo.get('beta')}",
            "probe.kl_from_reference",
            "figures.dpo.beta",
        )


def _causes(report: Mapping[str, Any]) -> Iterator[str]:
    """What the figures suggest where DPO did not win."""
    found = _pair(report)
    if found is None or found[1]["word"] == "better":
        return
    name, pair = found
    causes = [*_moved(report), *_told_apart(report), *_noise(name, pair)]
    yield from causes
    accuracy = (report["probe"] or {}).get("implicit_reward_accuracy", {})
    if not causes and accuracy.get("low") is not None and accuracy["low"] > _COIN:
        yield _said(
            f"It learnt its pairs ({accuracy['value']:.0%} of {accuracy['n']} held-out ones), and answers did not get "
            "better: the preference data was off, because what it prefers is not what the judge prefers",
            "probe.implicit_reward_accuracy",
        )


def _moved(report: Mapping[str, Any]) -> Iterator[str]:
    """Whether the whole interval of the KL says that the model stayed where it was, or went far."""
    kl, beta = (report["probe"] or {}).get("kl_from_reference", {}), report["figures"].get("dpo", {}).get("beta")
    low, high = kl.get("low"), kl.get("high")
    if high is not None and high < _SMALL_KL:
        yield _said(
            f"The model hardly moved ({kl['value']:.2f} nats, at most {high:.2f}): β {beta} is too high, or the "
            "learning rate too low, and nothing was learnt",
            "probe.kl_from_reference",
        )
    if low is not None and low > _LARGE_KL:
        yield _said(
            f"The model drifted far ({kl['value']:.0f} nats, at least {low:.0f}): β {beta} is too low to hold it",
            "probe.kl_from_reference",
        )


def _told_apart(report: Mapping[str, Any]) -> Iterator[str]:
    accuracy = (report["probe"] or {}).get("implicit_reward_accuracy", {})
    if accuracy.get("low") is not None and accuracy["low"] <= _COIN:
        yield _said(
            f"That held-out pairs are told apart better than by a coin is not shown ({accuracy['value']:.0%} of "
            f"{accuracy['n']}): the pairs contradict each other, or are too few",
            "probe.implicit_reward_accuracy",
        )


def _noise(name: str, pair: Mapping[str, Any]) -> Iterator[str]:
    states = pair["states"]
    judged = sum(states[state] for state in ("win", "loss", "tie", "inconsistent"))
    low = proportion_interval(states["inconsistent"], judged).low
    if low is not None and low > _NOISY_ORDERS:
        yield _said(
            f"{states['inconsistent']} of {judged} verdicts change with the order of the answers: the judge is noisy",
            f"pairwise.{name}.states",
        )


def _doubts(report: Mapping[str, Any]) -> Iterator[str]:
    warnings = report["warnings"]
    for number, warning in enumerate(warnings[:_MOST_DOUBTS]):
        yield _said(f"To be doubted: {markdown(warning['text'])}", f"warnings.{number}")
    if len(warnings) > _MOST_DOUBTS:
        named = ", ".join(dict.fromkeys(markdown(warning["name"]) for warning in warnings[_MOST_DOUBTS:]))
        yield _said(f"{len(warnings) - _MOST_DOUBTS} more warnings stand in the report: {named}", "warnings")
