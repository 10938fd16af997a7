"""A DPO model as a reward model, and as one to talk to: `fairlead score FILE` and `fairlead try PROMPT`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from fairlead.data.prepare import with_system
from fairlead.data.reading.readers import read_examples, read_preferences
from fairlead.data.reading.rows import read_rows
from fairlead.errors import DataError
from fairlead.evaluation.drift import accuracy, log_ratios
from fairlead.evaluation.table import as_json
from fairlead.files import write_jsonl
from fairlead.models.adapters import VariantLoader, reference_name, variants_of
from fairlead.models.generation import CompletionRequest, LocalGenerator
from fairlead.models.log_probs import answer_row, prompt_length
from fairlead.pipeline.project import Project
from fairlead.records import Completion, Example, Interval, Preference, Prompt, Sampling, to_json

_BATCH = 8


@dataclass(frozen=True)
class ScoredAnswer:
    """An answer with its implicit reward."""

    row: Example
    reward: float

    @property
    def rewards(self) -> dict[str, float]:
        """The rewards by their published names."""
        return {"reward": self.reward}


@dataclass(frozen=True)
class ScoredPair:
    """A preference pair with the implicit rewards of its answers."""

    row: Preference
    chosen_reward: float
    rejected_reward: float

    @property
    def rewards(self) -> dict[str, float]:
        """The rewards and their margin by their published names."""
        margin = self.chosen_reward - self.rejected_reward
        return {"chosen_reward": self.chosen_reward, "rejected_reward": self.rejected_reward, "margin": margin}


@dataclass(frozen=True)
class ScoredFile:
    """The implicit rewards of a file's answers.

    Attributes:
        model: hash of the DPO model's artifact.
        prompt_too_long: numbers of the rows that leave no room for an answer and are not scored.
        answer_cut: numbers of the rows of which only the beginning of an answer is scored.
        accuracy: of pairs: the share whose chosen answer is preferred; None for single answers.
        scores: the rows that are scored.
    """

    file: str
    model: str
    beta: float
    prompt_too_long: tuple[int, ...]
    answer_cut: tuple[int, ...]
    accuracy: Interval | None
    scores: tuple[ScoredAnswer | ScoredPair, ...]

    def content(self) -> dict[str, Any]:
        """The result as JSON values, as `fairlead score --json` prints it."""
        return {
            "file": self.file,
            "model": self.model,
            "beta": self.beta,
            "rows": len(self.scores),
            "prompt_too_long": list(self.prompt_too_long),
            "answer_cut": list(self.answer_cut),
            "accuracy": None if self.accuracy is None else as_json(self.accuracy),
            "scores": [_content(scored) for scored in self.scores],
        }


def _content(scored: ScoredAnswer | ScoredPair) -> dict[str, Any]:
    return {**to_json(scored.row), **scored.rewards}


def score_file(project: Project, file: Path, out: Path | None = None) -> ScoredFile:
    """Implicit rewards β·(log π - log π_ref) of a file's answers; the reference is the model that DPO started from.

    Rows are {prompt, answer}, or preference pairs of any form that `data.preferences` takes. A reward has meaning only
    beside another one of the same prompt: the partition function of the prompt is in both.

    Args:
        out: file for the rows with `reward`, or `chosen_reward`, `rejected_reward` and `margin`; None writes none.

    Raises:
        DataError: if no row can be scored.
    """
    every = _read(file, project.config.data.system)
    variants = variants_of(trained(project))
    host = VariantLoader(project.config.model, project.folder, variants)
    section, most = project.config.dpo, _most_tokens(project)
    rows = {n: r for n, r in enumerate(every, 1) if prompt_length(r.prompt, host.tokenizer) < most}
    if not rows:
        raise DataError(f"no prompt is shorter than dpo.max_length {most}", where=str(file))
    texts = [(row.prompt, answer) for row in rows.values() for answer in _answers(row)]
    cut = {
        number: any(answer_row(row.prompt, a, host.tokenizer, most).cut for a in _answers(row))
        for number, row in rows.items()
    }
    ratios = log_ratios(host, reference_name(variants), texts, most, _BATCH, project.progress)
    rewards = iter([section.beta * ratio for ratio in ratios])
    scores = tuple(_scored(row, [next(rewards) for _ in _answers(row)]) for row in rows.values())
    if out is not None:
        write_jsonl(out, map(_content, scores))
    pairs = [(scored.chosen_reward, scored.rejected_reward) for scored in scores if isinstance(scored, ScoredPair)]
    return ScoredFile(
        file=str(file),
        model=project.artifact("dpo").hash,
        beta=section.beta,
        prompt_too_long=tuple(number for number in range(1, len(every) + 1) if number not in rows),
        answer_cut=tuple(number for number, is_cut in cut.items() if is_cut),
        accuracy=accuracy(pairs) if pairs else None,
        scores=scores,
    )


def _most_tokens(project: Project) -> int:
    """Prompt and answer are scored as long as they were trained."""
    return project.config.dpo.max_length


def trained(project: Project) -> dict[str, Path]:
    """The folders of the trained models, by stage.

    Raises:
        ArtifactError: if one has not been made, naming the command that makes it.
    """
    names = {stage.name for stage in project.stages}
    return {name: project.artifact(name).file("model") for name in ("sft", "dpo") if name in names}


def _read(file: Path, system: str | None) -> Sequence[Example | Preference]:
    first = read_rows(file)[0].fields
    rows: Sequence[Example | Preference]
    if "answer" in first or "completion" in first:
        rows = read_examples(file)
    else:
        rows = read_preferences(str(file.resolve()), Path()).preferences
    return [replace(row, prompt=with_system(row.prompt, system)) for row in rows]


def _answers(row: Example | Preference) -> tuple[str, ...]:
    return (row.answer,) if isinstance(row, Example) else (row.chosen, row.rejected)


def _scored(row: Example | Preference, rewards: Sequence[float]) -> ScoredAnswer | ScoredPair:
    return ScoredAnswer(row, rewards[0]) if isinstance(row, Example) else ScoredPair(row, rewards[0], rewards[1])


def try_prompt(project: Project, text: str, *, temperature: float | None = None) -> Mapping[str, Completion]:
    """The answers of base, SFT and DPO to one prompt, drawn as the `answers` stage draws them.

    Args:
        temperature: instead of `answers.temperature`.
    """
    variants = variants_of(trained(project))
    host = VariantLoader(project.config.model, project.folder, variants)
    section = project.config.answers
    degrees = section.temperature if temperature is None else temperature
    sampling = Sampling(degrees, section.top_p, section.max_new_tokens)
    prompt = with_system(Prompt.of(text), project.config.data.system)
    generator = LocalGenerator(host, batch_size=len(variants))
    requests = [CompletionRequest(prompt, sampling, model=name) for name in variants]
    return {answer.model: answer for answer in generator.generate(requests, seed=project.config.seed)}
