"""The `prepare` stage: reads every data file once, leaves out duplicates and leaks, and writes the rows in one form."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from fairlead.config.data import DataSection
from fairlead.config.stage_settings import PrepareSettings
from fairlead.data.leaks import KeptRows, Row, drawn_dev_prompts, without_dev_prompts, without_eval_prompts
from fairlead.data.reading.fields import quoted
from fairlead.data.reading.readers import (
    Loaded,
    LoadedPreferences,
    left_out,
    load_examples,
    load_prompts,
    read_preferences,
)
from fairlead.documents.prepare import PrepareCounts, PreparedRows
from fairlead.errors import DataError, LeakError
from fairlead.files import write_jsonl
from fairlead.pipeline.stage import Context, Metrics, resolve
from fairlead.records import Example, Message, Prompt, to_json
from fairlead.text.words import asked


def run(context: Context[PrepareSettings]) -> Metrics:
    """Writes sft, prompts, preferences, dev and eval, each a .jsonl that is empty where the config names none.

    counts.json says how many rows of each were left out, and why.
    """
    context.progress.line("      reading the data, looking for duplicates and leaks")
    data = context.settings.data
    dev_prompts = context.settings.dev_prompts
    counts = prepare_files(
        data,
        context.folder,
        context.out,
        dev_prompts=dev_prompts,
        seed=context.seed,
        needs_source=context.settings.needs_source,
        learnt_elsewhere=context.settings.learnt_elsewhere,
    )
    counts.write(context.out / "counts.json")
    for line in left_out_lines(counts):
        context.progress.line(f"      {line}")
    return figures_of(counts)


def prepare_files(
    data: DataSection,
    folder: Path,
    out: Path,
    *,
    dev_prompts: int,
    seed: int,
    needs_source: bool = False,
    learnt_elsewhere: Sequence[str] = (),
) -> PrepareCounts:
    """Reads the data files and writes the rows that are kept.

    Args:
        folder: the project folder, against which the paths of `data` are resolved.
        dev_prompts: without `data.dev`, how many training prompts are kept out for the decision; 0 keeps out none.
        needs_source: whether every eval row must have a text that its answers rest on.
        learnt_elsewhere: keys of `data` whose rows a model made elsewhere has learnt already, so that no eval prompt
            may be among them, and leaving them out would hide it.

    Raises:
        DataError: if a file cannot be read or a row of it cannot be used.
        LeakError: if an eval prompt stands in training data and `data.on_leak` is fail, or the rows are learnt already.
    """
    ignored: dict[str, Mapping[str, int]] = {}
    evals = _clean_prompts("eval", folder, [], data, ignored, with_source=needs_source)
    eval_texts = [asked(prompt) for prompt in evals.rows]
    imported = _imported(folder, data)
    examples = load_examples(resolve(folder, data.sft)) if data.sft else Loaded[Example]([], {})
    ignored |= {"preferences": imported.ignored_fields, "sft": examples.ignored_fields}
    sft = without_eval_prompts(
        "sft", _with_system(examples.rows, data), lambda e: (e.prompt.id, e.answer), eval_texts, data
    )
    tasks = _clean_prompts("prompts", folder, eval_texts, data, ignored)
    pairs = without_eval_prompts(
        "preferences", _with_system(imported.preferences, data), lambda p: p.id, eval_texts, data
    )
    learnt = {"sft": sft.counts, "preferences": pairs.counts}
    for key in learnt_elsewhere:
        _refuse_learnt_eval_prompts(learnt[key], f"data.{key}")
    training = tasks.rows or [e.prompt for e in sft.rows] or [p.prompt for p in pairs.rows]
    if data.dev:
        dev = _clean_prompts("dev", folder, eval_texts, data, ignored)
    else:
        dev = drawn_dev_prompts(training, dev_prompts, seed, data)
    dev_texts = [asked(prompt) for prompt in dev.rows]
    sft, tasks, pairs = (
        without_dev_prompts(sft, dev_texts, data),
        without_dev_prompts(tasks, dev_texts, data),
        without_dev_prompts(pairs, dev_texts, data),
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


def _refuse_learnt_eval_prompts(counts: PreparedRows, key: str) -> None:
    """Refuses eval prompts among rows that a model made elsewhere has learnt: it has seen them, whatever is dropped."""
    if counts.leaks_dropped:
        raise LeakError(
            f"{counts.leaks_dropped} of its rows are eval prompts or nearly so, and a model has learnt them elsewhere",
            where=key,
            remedy="take these prompts out of data.eval",
        )


def _clean_prompts(
    name: str,
    folder: Path,
    eval_texts: Sequence[str],
    data: DataSection,
    ignored: dict[str, Mapping[str, int]],
    *,
    with_source: bool = False,
) -> KeptRows[Prompt]:
    """The prompts of a file, if the config names one, without repeats and eval prompts.

    Args:
        ignored: takes the fields of messages that are not read.
    """
    source: str | None = getattr(data, name)
    if source is None:
        return KeptRows([], PreparedRows())
    loaded = load_prompts(resolve(folder, source), with_source=with_source)
    _refuse_contradictions(loaded.rows, source)
    ignored[name] = loaded.ignored_fields
    return without_eval_prompts(name, _with_system(loaded.rows, data), lambda p: p.id, eval_texts, data)


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
