"""From settings to a judge."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fairlead.config.judges import (
    AnthropicSettings,
    JudgeSettings,
    LocalSettings,
    OpenAISettings,
    PanelSettings,
    RubricSettings,
)
from fairlead.config.values.criteria import JudgedCriterion
from fairlead.errors import ConfigError
from fairlead.judges.base import Judge
from fairlead.judges.rubric import RubricJudge
from fairlead.llm.store.reply_store import ReplyStore


@contextmanager
def open_judge(settings: JudgeSettings, folder: Path) -> Iterator[Judge]:
    """The judge that the settings describe, with the project's ledger where it costs money or time.

    Args:
        folder: the project folder.
    """
    if not keeps_replies(settings):
        yield build_judge(settings, store=None, folder=folder)
        return
    with ReplyStore.of_project(folder) as store:
        yield build_judge(settings, store=store, folder=folder)


def keeps_replies(settings: JudgeSettings) -> bool:
    """Whether a judge's replies are worth keeping."""
    if isinstance(settings, PanelSettings):
        return any(keeps_replies(member) for member in settings.judges)
    return not isinstance(settings, RubricSettings)


def build_judge(settings: JudgeSettings, *, store: ReplyStore | None, folder: Path) -> Judge:
    """The judge that the settings describe.

    Args:
        store: where replies are kept; None keeps none, and a question that comes again is paid for again.
        folder: the project folder, for the files that the settings name.

    Raises:
        ConfigError: if a file that the settings name is missing or wrong.
        ModelError: if a local model cannot be loaded.
    """
    match settings:
        case RubricSettings():
            return RubricJudge(settings, folder)
        case OpenAISettings() | AnthropicSettings():
            return _endpoint(settings, store, folder)
        case LocalSettings():
            from fairlead.judges.local import build_local  # loads torch

            return build_local(settings, store=store, folder=folder)
        case PanelSettings():
            from fairlead.judges.panel import PanelJudge

            members = [build_judge(member, store=store, folder=folder) for member in settings.judges]
            return PanelJudge(members, settings.rule)


def check_keys(settings: JudgeSettings) -> None:
    """Looks the keys up that the judge's endpoints need, before anything is made that they would have to judge.

    Raises:
        JudgeError: naming the variable that is not set.
    """
    from fairlead.llm.http_errors import ApiKey

    if isinstance(settings, PanelSettings):
        for member in settings.judges:
            check_keys(member)
    elif isinstance(settings, OpenAISettings | AnthropicSettings):
        _ = ApiKey(settings.api_key_env, f"judge {settings.model}").value


def by_criterion(judge: Judge, criterion: JudgedCriterion) -> Judge:
    """The judge asked by one criterion alone; what it spends counts in the same budget.

    Raises:
        ConfigError: if it is not a language model and so cannot be told a criterion.
    """
    from fairlead.judges.panel import PanelJudge
    from fairlead.judges.prompted import PromptedJudge

    match judge:
        case PromptedJudge():
            return judge.by_criterion(criterion)
        case PanelJudge():
            return judge.by_criterion(criterion, by_criterion)
        case _:
            raise ConfigError(
                f"cannot judge by the criterion {criterion.name}: it is not a language model that can be told one",
                where=judge.name,
                remedy="take a judge of kind openai, anthropic or local (a causal LM), or leave the criteria out",
            )


def _endpoint(settings: OpenAISettings | AnthropicSettings, store: ReplyStore | None, folder: Path) -> Judge:
    from fairlead.judges.prompted import PromptedJudge
    from fairlead.llm.budget import Budget
    from fairlead.llm.endpoint import Endpoint
    from fairlead.llm.open_client import open_client
    from fairlead.llm.retry import RetryPolicy

    endpoint = Endpoint.of_judge(settings)
    return PromptedJudge(
        settings,
        folder,
        lambda: open_client(endpoint),
        kind=settings.kind,
        model=settings.model,
        store=store,
        budget=Budget(
            settings.max_calls,
            settings.max_cost,
            settings.price_per_million_input_tokens,
            settings.price_per_million_output_tokens,
        ),
        retry_policy=RetryPolicy(settings.timeout_s, settings.max_retries),
        concurrency=settings.concurrency,
        expected_scores=isinstance(settings, OpenAISettings) and settings.expected_score,
    )
