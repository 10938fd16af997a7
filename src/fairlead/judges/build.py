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
from fairlead.judges.base import Judge
from fairlead.judges.rubric import RubricJudge
from fairlead.llm.reply_store import Ledger


@contextmanager
def open_judge(settings: JudgeSettings, folder: Path) -> Iterator[Judge]:
    """The judge that the settings describe, with the project's ledger where it costs money or time.

    Args:
        folder: the project folder.
    """
    if not needs_ledger(settings):
        yield build_judge(settings, ledger=None, folder=folder)
        return
    with Ledger.of_project(folder) as ledger:
        yield build_judge(settings, ledger=ledger, folder=folder)


def needs_ledger(settings: JudgeSettings) -> bool:
    """Whether a judge's replies are worth keeping."""
    if isinstance(settings, PanelSettings):
        return any(needs_ledger(member) for member in settings.judges)
    return not isinstance(settings, RubricSettings)


def build_judge(settings: JudgeSettings, *, ledger: Ledger | None, folder: Path) -> Judge:
    """The judge that the settings describe.

    Args:
        ledger: where replies are kept; None keeps none, and a question that comes again is paid for again.
        folder: the project folder, for the files that the settings name.

    Raises:
        ConfigError: if a file that the settings name is missing or wrong.
        ModelError: if a local model cannot be loaded.
    """
    match settings:
        case RubricSettings():
            return RubricJudge(settings, folder)
        case OpenAISettings() | AnthropicSettings():
            return _endpoint(settings, ledger, folder)
        case LocalSettings():
            from fairlead.judges.local import build_local  # loads torch

            return build_local(settings, ledger=ledger, folder=folder)
        case PanelSettings():
            from fairlead.judges.panel import PanelJudge

            members = [build_judge(member, ledger=ledger, folder=folder) for member in settings.judges]
            return PanelJudge(members, settings.rule)


def _endpoint(settings: OpenAISettings | AnthropicSettings, ledger: Ledger | None, folder: Path) -> Judge:
    from fairlead.judges.prompted import PromptedJudge
    from fairlead.llm.client import Chat, Purse
    from fairlead.llm.session import Patience

    def open_chat() -> Chat:
        # The clients take a second to import.
        if isinstance(settings, OpenAISettings):
            from fairlead.llm.openai import OpenAIChat

            return OpenAIChat(settings)
        from fairlead.llm.anthropic import AnthropicChat

        return AnthropicChat(settings)

    return PromptedJudge(
        settings,
        folder,
        open_chat,
        kind=settings.kind,
        model=settings.model,
        ledger=ledger,
        purse=Purse(
            settings.max_calls,
            settings.max_cost,
            settings.price_per_million_input_tokens,
            settings.price_per_million_output_tokens,
        ),
        patience=Patience(settings.timeout_s, settings.max_retries),
        concurrency=settings.concurrency,
        expected_scores=isinstance(settings, OpenAISettings) and settings.expected_score,
    )
