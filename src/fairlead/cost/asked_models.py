"""What models behind endpoints would be asked: those of the decision, and those that are arms of the comparison.

What the ledger has already is not taken off, because it is not known beforehand which prompts will be asked.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

from fairlead.config.values.arms import EndpointArm
from fairlead.config.values.asked_models import EndpointModel
from fairlead.cost.judge_cost import Estimate, seconds_together, usual_lengths
from fairlead.cost.questions import usual_tokens
from fairlead.data.reading.readers import read_prompts
from fairlead.llm.budget import Budget
from fairlead.llm.endpoint import Endpoint
from fairlead.llm.open_client import open_client
from fairlead.llm.store.reply_store import ReplyStore
from fairlead.pipeline.project import Project
from fairlead.pipeline.stage import resolve
from fairlead.records import Prompt


@dataclass(frozen=True)
class Asked:
    """Requests to one model: how many, and the characters of all together."""

    questions: int
    chars: float


def estimate_arms(project: Project) -> list[Estimate]:
    """What every arm behind an endpoint would be asked: the held-out prompts, once."""
    arms = [arm for arm in project.config.arms if isinstance(arm, EndpointArm)]
    if not arms:
        return []
    prompts = read_prompts(resolve(project.folder, project.config.data.eval))
    most = project.config.answers.max_new_tokens
    usual = usual_tokens(project, most)
    chars = mean_chars(prompts)
    return [
        estimate_model(
            project, arm.endpoint, Asked(len(prompts), len(prompts) * (chars + len(arm.system or ""))), usual, most
        )
        for arm in arms
    ]


def estimate_model(
    project: Project, settings: EndpointModel, asked: Asked, usual: int, most: int, *, basis: str = ""
) -> Estimate:
    """What a model behind an endpoint would be asked, read and write, and cost.

    Args:
        usual, most: tokens of a reply, expected and by the config's limit.
        basis: what else it rests on, for people.
    """
    client = open_client(Endpoint.of_model(settings, most))
    try:
        with ReplyStore.of_project(project.folder) as store:
            lengths = usual_lengths(client, store, plain=True, reply_tokens=usual)
    finally:
        asyncio.run(client.close())
    prices = settings.price_per_million_input_tokens, settings.price_per_million_output_tokens
    budget = Budget(settings.max_calls, settings.max_cost, *prices)
    read, written = round(asked.chars / lengths.chars_per_token), round(asked.questions * lengths.tokens_per_reply)
    return Estimate(
        judge=f"{settings.kind}:{settings.model}",
        questions=asked.questions,
        stored=0,
        input_tokens=read,
        output_tokens=written,
        cost=budget.cost(read, written),
        most_cost=budget.cost(read, asked.questions * most),
        basis=f"{lengths.basis}{basis}",
        max_calls=settings.max_calls,
        max_cost=settings.max_cost,
        seconds=seconds_together(asked.questions, lengths.seconds_per_reply, settings.concurrency),
    )


def mean_chars(prompts: Sequence[Prompt]) -> float:
    """Characters of a prompt."""
    return fmean([sum(len(message.content) for message in prompt.messages) for prompt in prompts] or [0])
