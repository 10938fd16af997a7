"""Endpoints: whether the key is set, and whether one tiny request is answered."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace

from fairlead.config.judges import AnthropicSettings, JudgeSettings, OpenAISettings, PanelSettings
from fairlead.config.values.arms import EndpointArm
from fairlead.config.values.asked_models import EndpointModel
from fairlead.errors import JudgeError
from fairlead.llm.client import ChatRequest, RejectedError, TransientError
from fairlead.llm.endpoint import Endpoint
from fairlead.llm.open_client import open_client
from fairlead.preflight.problem import Problem
from fairlead.preflight.scope import Scope
from fairlead.preflight.targets import decision_asks_judge
from fairlead.records import Message

_PATIENCE_S = 30.0
_TINY = ChatRequest("preflight", "plain", "", (Message("user", "Reply with the one word OK."),))


@dataclass(frozen=True)
class NamedEndpoint:
    """An endpoint, and the key of the YAML under which it stands."""

    key: str
    endpoint: Endpoint


def endpoints_of(scope: Scope, answered: Collection[str] = ()) -> list[NamedEndpoint]:
    """The endpoints that are still to be asked, each once.

    Args:
        answered: stages all of whose questions have stored replies.
    """
    config = scope.config
    asking: list[tuple[str, JudgeSettings | None]] = []
    if scope.runs(*({"judge", "judge_check"} - set(answered))):
        asking.append(("judge", config.judge))
    if decision_asks_judge(scope) or scope.runs(*({"eval", "judge_check"} - set(answered))):
        asking.append(("judge" if config.eval.judge is None else "eval.judge", config.eval_judge))
    named = [item for key, judge in asking if judge is not None for item in _of_judge(key, judge)]
    if scope.decides:
        named += _of_decision(scope)
    if scope.runs("arms"):
        named += _of_arms(scope)
    by_endpoint = {item.endpoint: item for item in reversed(named)}
    return list(reversed(by_endpoint.values()))


def _of_judge(key: str, judge: JudgeSettings) -> Iterator[NamedEndpoint]:
    if isinstance(judge, PanelSettings):
        for number, member in enumerate(judge.judges):
            yield from _of_judge(f"{key}.judges.{number}", member)
    elif isinstance(judge, OpenAISettings | AnthropicSettings):
        yield _named(key, replace(Endpoint.of_judge(judge), structured=False))


def _of_decision(scope: Scope) -> Iterator[NamedEndpoint]:
    section = scope.config.decide
    models = [(f"decide.models.{number}", model) for number, model in enumerate(section.models)]
    if section.instruction_optimizer is not None:
        models.append(("decide.instruction_optimizer.model", section.instruction_optimizer.model))
    for key, model in models:
        if isinstance(model, EndpointModel):
            yield _named(key, Endpoint.of_model(model, scope.config.answers.max_new_tokens))


def _of_arms(scope: Scope) -> Iterator[NamedEndpoint]:
    for number, arm in enumerate(scope.config.arms):
        if isinstance(arm, EndpointArm):
            yield _named(
                f"eval.arms.{number}.endpoint", Endpoint.of_model(arm.endpoint, scope.config.answers.max_new_tokens)
            )


def _named(key: str, endpoint: Endpoint) -> NamedEndpoint:
    """An endpoint that is asked with less patience than a run has."""
    return NamedEndpoint(key, replace(endpoint, timeout_s=min(endpoint.timeout_s, _PATIENCE_S), section=key))


def missing_keys(endpoints: Sequence[NamedEndpoint]) -> Iterator[Problem]:
    """Keys that the environment does not hold."""
    for item in endpoints:
        variable = item.endpoint.api_key_env
        if variable is not None and not os.environ.get(variable, "").strip():
            yield Problem(
                f"{item.key}.api_key_env",
                f"the environment variable {variable} is not set",
                f"export {variable}=… with the key, or name another variable (null for a server without keys)",
            )


def unanswering(endpoints: Sequence[NamedEndpoint]) -> list[Problem]:
    """Endpoints that do not answer a tiny request. One that is only too busy is no problem: a run waits for it."""
    return asyncio.run(_ask_all(endpoints))


async def _ask_all(endpoints: Sequence[NamedEndpoint]) -> list[Problem]:
    results = await asyncio.gather(*map(_ask, endpoints))
    return [problem for problem in results if problem is not None]


async def _ask(item: NamedEndpoint, tries: int = 2) -> Problem | None:
    client = open_client(item.endpoint)
    try:
        await client.send(client.body(_TINY))
    except JudgeError as error:
        return Problem.of(item.key, error)
    except RejectedError as error:
        return Problem(item.key, f"{item.endpoint.model} rejects a tiny request: {error.reason}", error.remedy)
    except TransientError as error:
        if error.crowded:
            return None
        if tries > 1:
            await asyncio.sleep(0.5)
            return await _ask(item, tries - 1)
        where = f"{client.endpoint} (model {item.endpoint.model})"
        return Problem(
            item.key,
            f"{where}: {error.reason}",
            "start the server, or correct base_url; --offline checks without asking",
        )
    finally:
        await client.close()
    return None
