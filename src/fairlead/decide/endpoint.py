"""A model behind an endpoint: every reply is in the project's ledger before it is used, as with judges."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from fairlead.decide.respondents import Reply
from fairlead.decide.settings import EndpointModel, name_of
from fairlead.judges.anthropic_chat import AnthropicChat
from fairlead.judges.chat import Chat, Purse, Question, Turn
from fairlead.judges.concurrency import Concurrency
from fairlead.judges.ledger import Ledger
from fairlead.judges.ledger import Reply as Stored
from fairlead.judges.openai_chat import OpenAIChat
from fairlead.judges.session import NoReplyError, Patience, Session
from fairlead.judges.settings import AnthropicSettings, OpenAISettings
from fairlead.judges.stream import ordered
from fairlead.records import Prompt, Sampling

_TEMPLATE = "decide/1"
_BYTES_PER_TOKEN = 3  # errs on the long side for English; an endpoint's tokenizer is not known here


class EndpointRespondent:
    """Asks an endpoint; `answers.temperature` and `top_p` are the endpoint's own affair, see `EndpointModel`."""

    def __init__(self, settings: EndpointModel, folder: Path, sampling: Sampling) -> None:
        self.name = name_of(settings)
        self._settings, self._folder, self._max_tokens = settings, folder, sampling.max_new_tokens
        self._purse = Purse(
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
        with Ledger.of_project(self._folder) as ledger:

            def open_session() -> Session:
                patience = Patience(self._settings.timeout_s, self._settings.max_retries)
                return Session(self._chat(), ledger, self._purse, patience, Concurrency(self._settings.concurrency))

            for reply in ordered(prompts, open_session, self._ask):
                replies.append(reply)
                advance(1)
        return replies

    async def _ask(self, session: Session, number: int, prompt: Prompt) -> Reply:
        turns = tuple(_turn(m.role, m.content) for m in prompt.messages)
        try:
            stored = await session.ask(Question(prompt.id, "score", _TEMPLATE, turns, number))
        except NoReplyError as error:
            return Reply(None, False, None, None, 0.0, None, str(error))
        return self._read(stored, session.chat.cut)

    def _read(self, stored: Stored, cut: frozenset[str]) -> Reply:
        """A refusal is an answer, and a bad one: its text is what the checks see."""
        text = stored.refusal if stored.refusal is not None else stored.text
        cost = self._purse.cost(stored.input_tokens, stored.output_tokens)
        return Reply(text, stored.finish in cut, stored.input_tokens, stored.output_tokens, stored.latency, cost)

    def _chat(self) -> Chat:
        s = self._settings
        if s.kind == "anthropic":
            return AnthropicChat(
                AnthropicSettings(
                    kind="anthropic",
                    model=s.model,
                    base_url=s.base_url,
                    api_key_env=s.key_variable or "",
                    structured="off",
                    timeout_s=s.timeout_s,
                    max_tokens=self._max_tokens,
                )
            )
        return OpenAIChat(
            OpenAISettings(
                kind="openai",
                model=s.model,
                base_url=s.base_url,
                api_key_env=s.key_variable,
                temperature=s.temperature,
                structured="off",
                timeout_s=s.timeout_s,
                max_tokens=self._max_tokens,
            )
        )


def _turn(role: str, content: str) -> Turn:
    if role == "system":
        return Turn("system", content)
    return Turn("assistant" if role == "assistant" else "user", content)
