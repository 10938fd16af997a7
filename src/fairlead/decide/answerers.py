"""Who answers: the base model, another model on this machine, or a model behind an endpoint."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from transformers import PreTrainedTokenizerBase

from fairlead.config.decide import BASE
from fairlead.config.evaluation import AnswersSection
from fairlead.config.model import ModelSection
from fairlead.config.values.asked_models import EndpointModel, LocalModel, name_of
from fairlead.llm.async_map import async_map_ordered
from fairlead.llm.budget import Budget
from fairlead.llm.client import ChatRequest
from fairlead.llm.endpoint import Endpoint
from fairlead.llm.open_client import open_client
from fairlead.llm.rate_limit import Concurrency
from fairlead.llm.retry import RetryPolicy
from fairlead.llm.session import NoReplyError, Session
from fairlead.llm.store.reply_store import ReplyStore, StoredReply
from fairlead.models.chat import prompt_tokens
from fairlead.models.generation import CompletionRequest, LocalGenerator
from fairlead.models.loading import load_adapter, load_base, load_tokenizer
from fairlead.records import Message, Prompt, Sampling
from fairlead.text.encoding import storable


@dataclass(frozen=True, slots=True)
class Reply:
    """One answer with its tokens, seconds and cost.

    Attributes:
        text: None if there is no answer, as after an outage; that counts as missing, not as a bad answer.
        cut: whether the token limit ended it.
        input_tokens, output_tokens: None where the endpoint did not report them.
        seconds: for a model on this machine its share of the batch's computing time, for an endpoint the latency.
        cost: None where no price is configured.
        why: why there is no answer.
    """

    text: str | None
    cut: bool
    input_tokens: int | None
    output_tokens: int | None
    seconds: float
    cost: float | None
    why: str = ""


class Answerer(Protocol):
    """A model that answers prompts, greedily or as the project's `answers` section says."""

    @property
    def name(self) -> str: ...

    def fits(self, prompt: Prompt) -> bool:
        """Whether the prompt leaves room for an answer."""

    def answer(self, prompts: Sequence[Prompt], advance: Callable[[int], None]) -> list[Reply]:
        """One reply per prompt, in order; `advance` is called with the number of replies that have arrived."""


class LocalAnswerer:
    """A model on this machine.

    Args:
        model, tokenizer: loaded, in evaluation mode.
        price_per_hour: of the machine; None where it has no price.
    """

    def __init__(
        self,
        name: str,
        model: Any,
        tokenizer: PreTrainedTokenizerBase,
        sampling: Sampling,
        *,
        batch_size: int,
        seed: int,
        price_per_hour: float | None,
    ) -> None:
        self.name = name
        self._model, self._tokenizer = model, tokenizer
        self._sampling, self._batch_size, self._seed = sampling, batch_size, seed
        self._price = price_per_hour
        context = getattr(self._model.config.get_text_config(), "max_position_embeddings", None)
        self._room = None if context is None else int(context) - sampling.max_new_tokens

    def tokens(self, prompt: Prompt) -> int:
        """Length of the prompt as the model reads it."""
        return len(prompt_tokens(prompt, self._tokenizer))

    def count(self, text: str) -> int:
        """Tokens of an answer, including the end-of-sequence token."""
        return len(self._tokenizer(text, add_special_tokens=False)["input_ids"]) + 1

    def fits(self, prompt: Prompt) -> bool:
        return self._room is None or self.tokens(prompt) <= self._room

    def answer(self, prompts: Sequence[Prompt], advance: Callable[[int], None]) -> list[Reply]:
        generator = LocalGenerator.of(
            self._model, self._tokenizer, name=self.name, batch_size=self._batch_size, advance=advance
        )
        lengths = [self.tokens(prompt) for prompt in prompts]
        started = time.perf_counter()
        draws: Counter[str] = Counter()  # a prompt that comes again is drawn again
        requests = []
        for prompt in prompts:
            requests.append(CompletionRequest(prompt, self._sampling, index=draws[prompt.id], model=self.name))
            draws[prompt.id] += 1
        completions = list(generator.generate(requests, seed=self._seed))
        seconds = (time.perf_counter() - started) / max(1, len(completions))
        cost = None if self._price is None else seconds / 3600 * self._price
        return [
            Reply(c.text, c.finish == "length", length, c.tokens, seconds, cost)
            for c, length in zip(completions, lengths, strict=True)
        ]


def base_answerer(
    section: ModelSection, folder: Path, answers: AnswersSection, *, seed: int, price_per_hour: float | None
) -> LocalAnswerer:
    """The project's base model, with the generation settings of the comparison."""
    return local_answerer(BASE, section, folder, answers, seed=seed, price_per_hour=price_per_hour)


def local_answerer(
    name: str,
    section: ModelSection,
    folder: Path,
    answers: AnswersSection,
    *,
    seed: int,
    price_per_hour: float | None,
    adapter: Path | None = None,
) -> LocalAnswerer:
    """A model on this machine, loaded, with the generation settings of the comparison.

    Args:
        adapter: folder of a PEFT adapter on it.
    """
    tokenizer, base = load_tokenizer(section, folder), load_base(section, folder)
    return LocalAnswerer(
        name,
        base if adapter is None else load_adapter(base, adapter),
        tokenizer,
        sampling_of(answers),
        batch_size=answers.batch_size,
        seed=seed,
        price_per_hour=price_per_hour,
    )


def open_answerer(
    settings: LocalModel | EndpointModel, folder: Path, answers: AnswersSection, *, seed: int
) -> Answerer:
    """A model of `decide.models`."""
    if isinstance(settings, EndpointModel):
        return EndpointAnswerer(settings, folder, sampling_of(answers))
    return local_answerer(
        name_of(settings),
        ModelSection(name=settings.model),
        folder,
        answers.model_copy(update={"batch_size": settings.batch_size}),
        seed=seed,
        price_per_hour=settings.price_per_hour,
    )


def sampling_of(answers: AnswersSection) -> Sampling:
    return Sampling(answers.temperature, answers.top_p, answers.max_new_tokens)


_TEMPLATE = "decide/1"
_BYTES_PER_TOKEN = 3  # overestimates the length of English; an endpoint's tokenizer is not known here


class EndpointAnswerer:
    """Asks an endpoint; `answers.temperature` and `top_p` do not apply, see `EndpointModel`."""

    def __init__(self, settings: EndpointModel, folder: Path, sampling: Sampling) -> None:
        self.name = name_of(settings)
        self._settings, self._folder, self._max_tokens = settings, folder, sampling.max_new_tokens
        self._endpoint = Endpoint.of_model(settings, sampling.max_new_tokens)
        self._budget = Budget(
            settings.max_calls,
            settings.max_cost,
            settings.price_per_million_input_tokens,
            settings.price_per_million_output_tokens,
        )

    def fits(self, prompt: Prompt) -> bool:
        limit = self._settings.context_tokens
        size = sum(len(m.content.encode("utf-8", "surrogatepass")) for m in prompt.messages)
        return limit is None or size / _BYTES_PER_TOKEN + self._max_tokens <= limit

    def answer(self, prompts: Sequence[Prompt], advance: Callable[[int], None]) -> list[Reply]:
        replies: list[Reply] = []
        with ReplyStore.of_project(self._folder) as store:

            def open_session() -> Session:
                retry_policy = RetryPolicy(self._settings.timeout_s, self._settings.max_retries)
                gate = Concurrency(self._settings.concurrency)
                return Session(open_client(self._endpoint), store, self._budget, retry_policy, gate)

            for reply in async_map_ordered(prompts, open_session, self._ask):
                replies.append(reply)
                advance(1)
        return replies

    async def _ask(self, session: Session, number: int, prompt: Prompt) -> Reply:
        messages = tuple(_sendable(message) for message in prompt.messages)
        try:
            stored = await session.ask(ChatRequest(prompt.id, "plain", _TEMPLATE, messages, priority=number))
        except NoReplyError as error:
            return Reply(None, False, None, None, 0.0, None, str(error))
        return self._read(stored, session.client.truncated)

    def _read(self, stored: StoredReply, truncated: frozenset[str]) -> Reply:
        """A refusal counts as an answer: the checks are applied to its text."""
        text = stored.refusal if stored.refusal is not None else stored.text
        cost = self._budget.cost(stored.input_tokens, stored.output_tokens)
        return Reply(text, stored.finish in truncated, stored.input_tokens, stored.output_tokens, stored.latency, cost)


def _sendable(message: Message) -> Message:
    """The message with a role and a text that every endpoint accepts."""
    role = message.role if message.role in ("system", "assistant") else "user"
    return Message(role, storable(message.content))
