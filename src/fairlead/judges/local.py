"""Judges on this machine: a causal LM that is asked like an endpoint, or a reward model that scores."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from transformers import AutoConfig

from fairlead.config.judges import LocalSettings
from fairlead.errors import ModelError
from fairlead.judges.base import Judge
from fairlead.judges.prompted import PromptedJudge
from fairlead.judges.reward import RewardJudge
from fairlead.llm.budget import Budget
from fairlead.llm.local import LocalClient
from fairlead.llm.retry import RetryPolicy
from fairlead.llm.store.reply_store import ReplyStore
from fairlead.models.loading import locate
from fairlead.pipeline.hash_cache import HashCache

_NO_LIMIT_S = 24 * 3600.0  # a model on this machine answers when it is done


def build_local(settings: LocalSettings, *, store: ReplyStore | None, folder: Path) -> Judge:
    """The judge that a model folder makes: by its architecture.

    Raises:
        ModelError: if it is no model, or a classifier with more than one output.
    """
    where = locate(settings.model, folder)
    try:
        config = AutoConfig.from_pretrained(where, trust_remote_code=False)
    except (OSError, ValueError) as error:
        raise ModelError(f"cannot be loaded: {str(error).splitlines()[0][:200]}", where=where) from error
    identity = _identity(where, config, folder)
    if any(name.endswith("ForSequenceClassification") for name in config.architectures or []):
        if config.num_labels != 1:
            raise ModelError(
                f"has {config.num_labels} outputs, a reward model has one",
                where=where,
                remedy="use a causal LM, or a classifier trained with num_labels=1",
            )
        return RewardJudge(settings, where, identity)
    client = LocalClient(
        settings.model,
        folder,
        identity,
        max_tokens=settings.max_tokens,
        batch_size=settings.batch_size,
        too_long_remedy="lower max_chars or max_tokens in the judge section, or take a model with a longer context",
    )
    return PromptedJudge(
        settings,
        folder,
        lambda: client,
        kind="local",
        model=identity,
        store=store,
        budget=Budget(),
        retry_policy=RetryPolicy(_NO_LIMIT_S, 0),
        concurrency=2 * settings.batch_size,
    )


def _identity(where: str, config: Any, folder: Path) -> str:
    """Name and content of a model: weights that change under the same name make another judge."""
    path = Path(where)
    if path.is_dir():
        hashes = HashCache(Path(folder) / ".fairlead" / "hashes.json")
        digest = hashes.hash(path)
        hashes.save()
        return f"{path.name}@{digest[:12]}"
    return f"{where}@{getattr(config, '_commit_hash', None) or 'unknown'}"
