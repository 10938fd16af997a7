"""The `prepare` stage: reads every data file once, drops duplicates and leaks, writes one form for all that follows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TypeVar

from fairlead.config.data import DataSection
from fairlead.data.readers import read_examples, read_preferences, read_prompts
from fairlead.data.splits import split_by_prompt
from fairlead.errors import LeakError
from fairlead.files import write_jsonl
from fairlead.pipeline.stage import Context, Figures
from fairlead.records import Example, Message, Preference, Prompt, to_json
from fairlead.text.near_duplicates import asked, overlaps

Row = TypeVar("Row", Prompt, Example, Preference)

_MOST_FOR_DEV = 0.2  # of the training prompts; the rest is to be learned from


def run(context: Context) -> Figures:
    """Writes sft, prompts, preferences, dev and eval, each a .jsonl that is empty where the config names none."""
    data: DataSection = context.section("data")
    context.progress.line("      reading the data, looking for duplicates and leaks")
    evals = _distinct(_with_system(read_prompts(context.path(data.eval)), data.system), lambda p: p.id)
    examples = read_examples(context.path(data.sft)) if data.sft else []
    prompts = read_prompts(context.path(data.prompts)) if data.prompts else []
    preferences: Sequence[Preference] = []
    dropped_import: dict[str, int] = {}
    if data.preferences:
        imported = read_preferences(
            data.preferences, context.folder, split=data.preferences_split, format=data.preferences_format
        )
        preferences = imported.preferences
        for row in imported.dropped:
            dropped_import[row.reason] = dropped_import.get(row.reason, 0) + 1
    figures: Figures = {"eval": len(evals), "dropped_import": dropped_import}
    write_jsonl(context.out / "eval.jsonl", map(to_json, evals))
    eval_texts = [asked(prompt) for prompt in evals]
    examples = [replace(e, prompt=_add_system(e.prompt, data.system)) for e in examples]
    preferences = [replace(p, prompt=_add_system(p.prompt, data.system)) for p in preferences]
    sft = _clean("sft", examples, lambda e: (e.prompt.id, e.answer), eval_texts, data, figures)
    tasks = _clean("prompts", _with_system(prompts, data.system), lambda p: p.id, eval_texts, data, figures)
    pairs = _clean("preferences", preferences, lambda p: p.id, eval_texts, data, figures)
    dev = _dev(context, data, eval_texts, tasks or [e.prompt for e in sft] or [p.prompt for p in pairs], figures)
    write_jsonl(context.out / "dev.jsonl", map(to_json, dev))
    dev_texts = [asked(prompt) for prompt in dev]
    sft = _without("sft", sft, dev_texts, data, figures)
    tasks = _without("prompts", tasks, dev_texts, data, figures)
    pairs = _without("preferences", pairs, dev_texts, data, figures)
    write_jsonl(context.out / "sft.jsonl", map(to_json, sft))
    write_jsonl(context.out / "prompts.jsonl", map(to_json, tasks))
    write_jsonl(context.out / "preferences.jsonl", map(to_json, pairs))
    return figures


def _clean(
    name: str,
    rows: Sequence[Row],
    identity: Callable[[Row], object],
    eval_texts: Sequence[str],
    data: DataSection,
    figures: Figures,
) -> list[Row]:
    """Rows without repeats and without any that an eval prompt overlaps."""
    distinct = _distinct(rows, identity)
    texts = [asked(row if isinstance(row, Prompt) else row.prompt) for row in distinct]
    leaks = overlaps(texts, eval_texts, data.similarity)
    if leaks and data.on_leak == "fail":
        where = getattr(data, name)
        raise LeakError(
            f"{len(leaks)} prompts are eval prompts or nearly so, such as {texts[min(leaks)][:60]!r}",
            where=str(where),
            remedy="take them out of the file, or set data.on_leak: drop",
        )
    figures[name] = len(distinct) - len(leaks)
    figures[f"{name}_duplicates"] = len(rows) - len(distinct)
    figures[f"{name}_leaks_dropped"] = len(leaks)
    return [row for number, row in enumerate(distinct) if number not in leaks]


def _dev(
    context: Context, data: DataSection, eval_texts: Sequence[str], training: Sequence[Prompt], figures: Figures
) -> list[Prompt]:
    """The prompts of the decision: those of `data.dev`, else some of the training prompts, kept out by content."""
    if data.dev:
        rows = _with_system(read_prompts(context.path(data.dev)), data.system)
        return _clean("dev", rows, lambda p: p.id, eval_texts, data, figures)
    wanted: int = context.section("dev_prompts")
    if not wanted or not training:
        figures["dev"] = 0
        return []
    distinct = _distinct(training, lambda p: p.id)
    share = min(wanted / len(distinct), _MOST_FOR_DEV)
    _, chosen = split_by_prompt(distinct, share, seed=context.seed, threshold=data.similarity)
    figures["dev"] = len(chosen)
    return [distinct[number] for number in chosen]


def _without(name: str, rows: list[Row], dev_texts: Sequence[str], data: DataSection, figures: Figures) -> list[Row]:
    """Rows that no dev prompt overlaps."""
    if not dev_texts:
        return rows
    near = overlaps([asked(row if isinstance(row, Prompt) else row.prompt) for row in rows], dev_texts, data.similarity)
    figures[name] = len(rows) - len(near)
    figures[f"{name}_dev_dropped"] = len(near)
    return [row for number, row in enumerate(rows) if number not in near]


def _distinct(rows: Sequence[Row], identity: Callable[[Row], object]) -> list[Row]:
    seen: dict[object, Row] = {}
    for row in rows:
        seen.setdefault(identity(row), row)
    return list(seen.values())


def _with_system(prompts: Sequence[Prompt], system: str | None) -> list[Prompt]:
    return [_add_system(prompt, system) for prompt in prompts]


def _add_system(prompt: Prompt, system: str | None) -> Prompt:
    if system is None or any(m.role == "system" for m in prompt.messages):
        return prompt
    return Prompt((Message("system", system), *prompt.messages), prompt.gold, prompt.cluster)
