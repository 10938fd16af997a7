"""Any number of models on the same prompts: who answers, what it took, and every pair compared."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from fairlead.config.base import Section
from fairlead.config.checks import CheckSettings
from fairlead.config.evaluation import EvalSection
from fairlead.config.judges import judge_settings
from fairlead.config.loading.explain import explain
from fairlead.config.values.arms import EndpointArm
from fairlead.decide.answerers import EndpointAnswerer, LocalAnswerer, Reply
from fairlead.decide.candidates import with_own_system
from fairlead.decide.runner import StoredCandidate
from fairlead.decide.scoring import usage_of
from fairlead.documents.decision import Usage
from fairlead.documents.evaluation import Arm
from fairlead.documents.imported import ImportedComparison
from fairlead.documents.report import ArmFigures
from fairlead.errors import ConfigError, DataError
from fairlead.evaluation.external.compare import Comparing, compare_answers
from fairlead.evaluation.metrics import measure
from fairlead.evaluation.table import mean_of
from fairlead.models.generation import CompletionRequest
from fairlead.progress import Progress, adding
from fairlead.records import Interval, Prompt, Sampling, content_id
from fairlead.standalone.answering import load, open_answerer
from fairlead.standalone.inputs import prompts_from
from fairlead.standalone.judging import MAX_MISSING, progress_of

ARM_FORMS = "MODEL, MODEL+ADAPTER, an adapter's folder, openai:MODEL@http://HOST/v1 or anthropic:MODEL"
_KEPT = ".fairlead/compare"  # answers of finished arms, so that a rerun does not ask again


@dataclass(frozen=True)
class _Asking:
    """What all arms have in common."""

    prompts: Sequence[Prompt]
    sampling: Sampling
    seed: int
    batch_size: int
    folder: Path
    progress: Progress


def compare(
    prompts: Any,
    arms: Mapping[str, Any],
    judge: Any = None,
    *,
    metrics: Sequence[Any] = (),
    system: str | None = None,
    temperature: float = 0.0,
    top_p: float = 1.0,
    max_new_tokens: int = 256,
    batch_size: int = 32,
    seed: int = 0,
    max_missing: float = MAX_MISSING,
    folder: Path | str = ".",
    progress: bool | Progress = True,
) -> ImportedComparison:
    """Lets models that were made elsewhere answer the same prompts, and compares every pair of them.

    Args:
        prompts: texts, rows {prompt, gold?, cluster?}, or a file of such rows.
        arms: by name, each a text (a folder, a hub id, `MODEL+ADAPTER`, `openai:MODEL@http://HOST/v1`), settings
            {endpoint, system?}, a transformers or PEFT model, or a function from a prompt to an answer.
        judge: a text such as `openai:gpt-4.1`, or the settings of a judge; None compares by metrics alone.
        metrics: checks on every answer, as in `eval.metrics`.
        system: system instruction for prompts that have none.
        temperature: 0 answers greedily. An endpoint has one of its own.
        max_missing: share of the judgements that may be missing.
        folder: where the ledger and the answers of finished arms are kept (`.fairlead`), and files are found.
        progress: whether bars are shown.

    Returns:
        Differences of every metric and win rates for every pair, and under `arms` what each answered with and took.

    Raises:
        FairleadError: with what is wrong and what would be right.
    """
    home, bars = Path(folder), progress_of(progress)
    if len(arms) < 2:
        raise ConfigError("one arm is not enough to compare", where="arms", remedy=f"give two or more: {ARM_FORMS}")
    checks = _checks(metrics)
    settings = None if judge is None else judge_settings(judge, home)
    if settings is None and not checks:
        raise ConfigError("neither a judge nor a metric is given", where="compare", remedy="give judge= or metrics=")
    asked = prompts_from(prompts, system=system)
    by_id = {prompt.id: prompt for prompt in asked}
    sampling = Sampling(temperature, top_p, max_new_tokens)
    asking = _Asking(list(by_id.values()), sampling, seed, batch_size, home, bars)
    readers = {name: _answerer(name, arm, asking) for name, arm in arms.items()}  # a wrong form is found at once
    replies = {name: answer() for name, answer in readers.items()}
    answers = {
        name: dict(zip(by_id, (reply.text for reply in of_arm), strict=True)) for name, of_arm in replies.items()
    }
    silent = [name for name, texts in answers.items() if all(text is None for text in texts.values())]
    if silent:
        raise DataError("gave no answer to any prompt", where=f"arms: {silent[0]}", remedy=replies[silent[0]][0].why)
    cut = {name: [reply.cut for reply in of_arm if reply.text is not None] for name, of_arm in replies.items()}
    comparison, _ = compare_answers(by_id, answers, Comparing(settings, checks, home, max_missing, bars), cut=cut)
    figures = {
        name: _figures(_words(arm), replies[name], answers[name], by_id, checks, home) for name, arm in arms.items()
    }
    return comparison.model_copy(update={"arms": figures})


def _checks(metrics: Sequence[Any]) -> list[CheckSettings]:
    data = {"metrics": [dict(metric) if isinstance(metric, Mapping) else metric for metric in metrics]}
    try:
        return EvalSection.model_validate(data).metrics
    except ValidationError as error:
        raise ConfigError(explain(error, data, EvalSection), where="metrics") from error


def _words(arm: Any) -> str:
    """What an arm is, for people."""
    if isinstance(arm, Mapping):
        return str(arm.get("endpoint", {}).get("model", "an endpoint"))
    if isinstance(arm, Section):
        return type(arm).__name__
    return str(arm) if isinstance(arm, str | Path) else getattr(arm, "__name__", type(arm).__name__)


def _answerer(name: str, arm: Any, asking: _Asking) -> Callable[[], list[Reply]]:
    """Asks one arm all prompts, when it is called."""
    endpoint = _endpoint(name, arm)
    if endpoint is not None:
        key = content_id("compare", endpoint.key_values(), asdict(asking.sampling), [p.id for p in asking.prompts])
        return lambda: _kept(key, asking, lambda: _of_endpoint(endpoint, asking))
    if isinstance(arm, str | Path):
        base, adapter = _parts(str(arm))
        ids = [prompt.id for prompt in asking.prompts]
        key = content_id("compare", base, adapter, asdict(asking.sampling), asking.seed, ids)
        return lambda: _kept(key, asking, lambda: _of_model(name, base, adapter, asking))
    return lambda: _of_object(name, arm, asking)


def _endpoint(name: str, arm: Any) -> EndpointArm | None:
    """The endpoint that an arm is; None where it is something else.

    Raises:
        ConfigError: if it looks like one and is none.
    """
    data: Any = arm
    if isinstance(arm, str) and arm.partition(":")[0] in ("openai", "anthropic"):
        kind, _, rest = arm.partition(":")
        model, at, address = rest.partition("@")
        data = {"endpoint": {"kind": kind, "model": model, **({"base_url": address} if at else {})}}
    if not isinstance(data, Mapping):
        return None
    data = {"name": "arm", **data}
    try:
        return EndpointArm.model_validate(data)
    except ValidationError as error:
        raise ConfigError(explain(error, data, EndpointArm), where=f"arms: {name}") from error


def _parts(text: str) -> tuple[str, str | None]:
    """A model, and the adapter behind a +; a folder whose name holds one is a folder."""
    base, plus, adapter = text.partition("+")
    return (text, None) if not plus or Path(text).exists() else (base, adapter)


def _kept(key: str, asking: _Asking, ask: Callable[[], list[Reply]]) -> list[Reply]:
    """The replies of an arm, from an earlier call where none was missing."""
    path = asking.folder / _KEPT / f"{key}.json"
    stored = StoredCandidate.complete(path)
    if stored is None:
        stored = StoredCandidate(replies=tuple(ask()), shots=(), passages=(), recall=())
        stored.write(path)
    return list(stored.replies)


def _of_endpoint(arm: EndpointArm, asking: _Asking) -> list[Reply]:
    answerer = EndpointAnswerer(arm.endpoint, asking.folder, asking.sampling)
    with asking.progress.task("answers", answerer.name, len(asking.prompts)) as bar:
        return answerer.answer([with_own_system(prompt, arm.system) for prompt in asking.prompts], adding(bar))


def _of_model(name: str, base: str, adapter: str | None, asking: _Asking) -> list[Reply]:
    model, tokenizer = load(base, adapter)
    answerer = LocalAnswerer(
        name,
        model,
        tokenizer,
        asking.sampling,
        batch_size=asking.batch_size,
        seed=asking.seed,
        price_per_hour=None,
    )
    with asking.progress.task("answers", name, len(asking.prompts)) as bar:
        return answerer.answer(asking.prompts, adding(bar))


def _of_object(name: str, arm: Any, asking: _Asking) -> list[Reply]:
    """The answers of a loaded model, or of a function, which may have none."""
    with (
        asking.progress.task("answers", name, len(asking.prompts)) as bar,
        open_answerer(arm, None, batch_size=asking.batch_size, seed=asking.seed, advance=adding(bar)) as answer,
    ):
        started = time.perf_counter()
        completions = answer([CompletionRequest(prompt, asking.sampling, model=name) for prompt in asking.prompts])
    seconds = (time.perf_counter() - started) / max(1, len(completions))
    return [
        Reply(None, False, None, None, seconds, None, "it returned None")
        if completion is None
        else Reply(completion.text, completion.finish == "length", None, completion.tokens or None, seconds, None)
        for completion in completions
    ]


def _figures(
    what: str,
    replies: Sequence[Reply],
    answers: Mapping[str, str | None],
    prompts: Mapping[str, Prompt],
    checks: Sequence[CheckSettings],
    folder: Path,
) -> ArmFigures:
    usage = Usage(**asdict(usage_of(replies)))
    values = measure(checks, list(prompts.values()), {"arm": list(answers.values())}, folder)
    means: dict[str, Interval] = {}
    for metric, of_metric in values.items():
        both = zip(of_metric["arm"], prompts.values(), strict=True)
        known = [(value, prompt.cluster or prompt.id) for value, prompt in both if value is not None]
        means[metric] = mean_of([value for value, _ in known], [cluster for _, cluster in known], judged=False)
    return ArmFigures.of(Arm(what=what, per_1000_answers=usage), means)
