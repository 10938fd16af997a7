"""The `prepare` stage: reads every data file once, drops duplicates and leaks, writes one form for all that follows."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Generic, TypeVar

from fairlead.config.data import DataSection
from fairlead.config.stage_settings import PrepareSettings
from fairlead.data.reading.fields import quoted
from fairlead.data.reading.readers import (
    Loaded,
    LoadedPreferences,
    left_out,
    load_examples,
    load_prompts,
    read_preferences,
)
from fairlead.data.splits import split_by_prompt
from fairlead.documents.prepare import PrepareCounts, PreparedRows
from fairlead.errors import DataError, LeakError
from fairlead.files import write_jsonl
from fairlead.pipeline.stage import Context, Metrics, resolve
from fairlead.records import Example, Message, Preference, Prompt, to_json
from fairlead.text.near_duplicates import overlaps
from fairlead.text.words import asked

Row = TypeVar("Row", Prompt, Example, Preference)

_LARGEST_DEV_SHARE = 0.2  # of the training prompts; the rest is to be learned from


@dataclass(frozen=True)
class _Kept(Generic[Row]):
    """The rows of one kind that are kept, and how many were left out."""

    rows: list[Row]
    counts: PreparedRows


def run(context: Context[PrepareSettings]) -> Metrics:
    """Writes sft, prompts, preferences, dev and eval, each a .jsonl that is empty where the config names none.

    counts.json says how many rows of each were left out, and why.
    """
    context.progress.line("      reading the data, looking for duplicates and leaks")
    data = context.settings.data
    dev_prompts = context.settings.dev_prompts
    counts = prepare_files(data, context.folder, context.out, dev_prompts=dev_prompts, seed=context.seed)
    counts.write(context.out / "counts.json")
    for line in left_out_lines(counts):
        context.progress.line(f"      {line}")
    return figures_of(counts)


def prepare_files(data: DataSection, folder: Path, out: Path, *, dev_prompts: int, seed: int) -> PrepareCounts:
    """Reads the data files and writes the rows that are kept.

    Args:
        folder: the project folder, against which the paths of `data` are resolved.
        dev_prompts: without `data.dev`, how many training prompts are kept out for the decision; 0 keeps out none.

    Raises:
        DataError: if a file cannot be read or a row of it cannot be used.
        LeakError: if an eval prompt stands in training data and `data.on_leak` is fail.
    """
    ignored: dict[str, Mapping[str, int]] = {}
    evals = _clean_prompts("eval", folder, [], data, ignored)
    eval_texts = [asked(prompt) for prompt in evals.rows]
    imported = _imported(folder, data)
    examples = load_examples(resolve(folder, data.sft)) if data.sft else Loaded[Example]([], {})
    ignored |= {"preferences": imported.ignored_fields, "sft": examples.ignored_fields}
    sft = _clean("sft", _with_system(examples.rows, data), lambda e: (e.prompt.id, e.answer), eval_texts, data)
    tasks = _clean_prompts("prompts", folder, eval_texts, data, ignored)
    pairs = _clean("preferences", _with_system(imported.preferences, data), lambda p: p.id, eval_texts, data)
    training = tasks.rows or [e.prompt for e in sft.rows] or [p.prompt for p in pairs.rows]
    if data.dev:
        dev = _clean_prompts("dev", folder, eval_texts, data, ignored)
    else:
        dev = _drawn_dev(training, dev_prompts, seed, data)
    dev_texts = [asked(prompt) for prompt in dev.rows]
    sft, tasks, pairs = (
        _without_dev(sft, dev_texts, data),
        _without_dev(tasks, dev_texts, data),
        _without_dev(pairs, dev_texts, data),
    )
    for name, rows in (
        ("eval", evals.rows),
        ("dev", dev.rows),
        ("sft", sft.rows),
        ("prompts", tasks.rows),
        ("preferences", pairs.rows),
    ):
        write_jsonl(out / f"{name}.jsonl", (to_json(row) for row in rows))
    return PrepareCounts(
        eval=evals.counts,
        dev=dev.counts,
        sft=sft.counts,
        prompts=tasks.counts,
        preferences=pairs.counts,
        dropped_import=imported.dropped_by_reason,
        ignored_fields={name: fields for name, fields in ignored.items() if fields},
    )


def figures_of(counts: PrepareCounts) -> Metrics:
    """The counts under flat names, for people."""
    figures: Metrics = {"dropped_import": {str(reason): n for reason, n in counts.dropped_import.items()}}
    for name, rows in counts.by_kind().items():
        figures[name] = rows.kept
        figures[f"{name}_duplicates"] = rows.duplicates
        figures[f"{name}_leaks_dropped"] = rows.leaks_dropped
        figures[f"{name}_dev_dropped"] = rows.dev_dropped
    return figures


def left_out_lines(counts: PrepareCounts) -> list[str]:
    """What was left out of each data file, in words; files that are used whole have no line."""
    lines = []
    for name, rows in counts.by_kind().items():
        reasons = {
            "duplicates": rows.duplicates,
            "eval prompts, or nearly": rows.leaks_dropped,
            "dev prompts, or nearly": rows.dev_dropped,
        }
        if name == "preferences":
            reasons |= {str(reason): count for reason, count in counts.dropped_import.items()}
        dropped = {reason: count for reason, count in reasons.items() if count}
        words = left_out(dropped, counts.ignored_fields.get(name, {}))
        lines += [f"{name}: {words}"] if words else []
    return lines


def _imported(folder: Path, data: DataSection) -> LoadedPreferences:
    if data.preferences is None:
        return LoadedPreferences([], [], [], "")
    return read_preferences(data.preferences, folder, split=data.preferences_split, format=data.preferences_format)


def _refuse_contradictions(prompts: Sequence[Prompt], source: str) -> None:
    """Refuses rows that ask the same and have different gold, because only one of them can be right."""
    first: dict[str, tuple[int, Prompt]] = {}
    for number, prompt in enumerate(prompts, 1):
        earlier, same = first.setdefault(prompt.id, (number, prompt))
        if same.gold != prompt.gold:
            raise DataError(
                f"prompts {earlier} and {number} ask the same ({quoted(asked(prompt))}) with different gold: "
                f"{quoted(same.gold)} and {quoted(prompt.gold)}",
                where=source,
                remedy="correct the gold of one of them, or delete it",
            )


def _clean_prompts(
    name: str, folder: Path, eval_texts: Sequence[str], data: DataSection, ignored: dict[str, Mapping[str, int]]
) -> _Kept[Prompt]:
    """The prompts of a file, if the config names one, without repeats and eval prompts.

    Args:
        ignored: takes the fields of messages that are not read.
    """
    source: str | None = getattr(data, name)
    if source is None:
        return _Kept([], PreparedRows())
    loaded = load_prompts(resolve(folder, source))
    _refuse_contradictions(loaded.rows, source)
    ignored[name] = loaded.ignored_fields
    return _clean(name, _with_system(loaded.rows, data), lambda p: p.id, eval_texts, data)


def _clean(
    name: str,
    rows: Sequence[Row],
    identity: Callable[[Row], object],
    eval_texts: Sequence[str],
    data: DataSection,
) -> _Kept[Row]:
    """Rows without repeats and without any that an eval prompt overlaps."""
    distinct = _distinct(rows, identity)
    texts = [asked(row if isinstance(row, Prompt) else row.prompt) for row in distinct]
    leaks = overlaps(texts, eval_texts, data.similarity)
    if leaks and data.on_leak == "fail":
        raise LeakError(
            f"{len(leaks)} prompts are eval prompts or nearly so, such as {texts[min(leaks)][:60]!r}",
            where=str(getattr(data, name)),
            remedy="take them out of the file, or set data.on_leak: drop",
        )
    remaining = [row for number, row in enumerate(distinct) if number not in leaks]
    return _Kept(
        remaining, PreparedRows(kept=len(remaining), duplicates=len(rows) - len(distinct), leaks_dropped=len(leaks))
    )


def _drawn_dev(training: Sequence[Prompt], count: int, seed: int, data: DataSection) -> _Kept[Prompt]:
    """Some of the training prompts, drawn by content and kept out of training for the decision."""
    if not count or not training:
        return _Kept([], PreparedRows())
    distinct = _distinct(training, lambda p: p.id)
    share = min(count / len(distinct), _LARGEST_DEV_SHARE)
    _, drawn = split_by_prompt(distinct, share, seed=seed, threshold=data.similarity)
    return _Kept([distinct[number] for number in drawn], PreparedRows(kept=len(drawn)))


def _without_dev(prepared: _Kept[Row], dev_texts: Sequence[str], data: DataSection) -> _Kept[Row]:
    """Rows that no dev prompt overlaps."""
    if not dev_texts:
        return prepared
    texts = [asked(row if isinstance(row, Prompt) else row.prompt) for row in prepared.rows]
    near = overlaps(texts, dev_texts, data.similarity)
    rows = [row for number, row in enumerate(prepared.rows) if number not in near]
    return _Kept(rows, prepared.counts.model_copy(update={"kept": len(rows), "dev_dropped": len(near)}))


def _distinct(rows: Sequence[Row], identity: Callable[[Row], object]) -> list[Row]:
    first: dict[object, Row] = {}
    for row in rows:
        first.setdefault(identity(row), row)
    return list(first.values())


def _with_system(rows: Sequence[Row], data: DataSection) -> list[Row]:
    """The rows with the system instruction of the config before every prompt that has none."""
    return [
        with_system(row, data.system)
        if isinstance(row, Prompt)
        else replace(row, prompt=with_system(row.prompt, data.system))
        for row in rows
    ]


def with_system(prompt: Prompt, system: str | None) -> Prompt:
    """The prompt with the project's system instruction before it, unless it has one of its own."""
    if system is None or any(message.role == "system" for message in prompt.messages):
        return prompt
    return replace(prompt, messages=(Message("system", system), *prompt.messages))
