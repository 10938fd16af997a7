"""Who answers: a model that is loaded already, one that is named, or a function of the user's own."""

from __future__ import annotations

import asyncio
import copy
import inspect
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from fairlead.errors import DataError, ModelError
from fairlead.escape import shorten
from fairlead.llm.async_map import async_map_ordered
from fairlead.models.generation import CompletionRequest
from fairlead.records import Completion, Prompt, message_dicts

Answerer = Callable[[Sequence[CompletionRequest]], list[Completion | None]]

_AT_ONCE = 16  # calls of an async function under way together
_KINDS = "a transformers model with its tokenizer, a folder or hub id, or a function from a prompt to an answer"


@contextmanager
def open_answerer(
    model: Any, tokenizer: Any, *, batch_size: int, seed: int, advance: Callable[[int], None]
) -> Iterator[Answerer]:
    """Whoever answers requests, in their order; None in place of an answer that a function did not give.

    Args:
        model: a transformers or PEFT model, a pipeline, a folder or hub id (also of an adapter), or a function.
        tokenizer: of a model that is loaded already; that of its repository if None. A function has none.
        advance: called with the number of completions that have ended.

    Raises:
        ModelError: if it is none of these, or cannot be loaded.
    """
    if hasattr(model, "model") and hasattr(model, "tokenizer") and callable(model):  # a transformers pipeline
        model, tokenizer = model.model, tokenizer or model.tokenizer
    if isinstance(model, str | Path):
        loaded, known = load(str(model))
        yield _of_model(loaded, known if tokenizer is None else _tokenizer(tokenizer), batch_size, seed, advance)
    elif hasattr(model, "generate") and hasattr(model, "config"):
        with _in_evaluation_mode(model):
            yield _of_model(model, _tokenizer_of(model, tokenizer), batch_size, seed, advance)
    elif callable(model) and not inspect.isclass(model):
        yield partial(_of_function, model, advance)
    else:
        raise ModelError(f"is of type {type(model).__name__}", where="model", remedy=f"give {_KINDS}")


def name_of(model: Any) -> str:
    """The name that completions of a model carry."""
    if isinstance(model, str | Path):
        return str(model)
    config = getattr(getattr(model, "model", model), "config", None)
    return getattr(config, "_name_or_path", "") or getattr(model, "__name__", "") or type(model).__name__


def load(name: str, adapter: str | None = None) -> tuple[Any, Any]:
    """The model, in evaluation mode, and tokenizer of a folder or hub id.

    Args:
        name: of a model; or of an adapter by itself, which is put on the base that it names.
        adapter: folder or hub id of a PEFT adapter on the model.

    Raises:
        ModelError: if one of them cannot be loaded, or the adapter does not fit.
    """
    from fairlead.config.model import ModelSection
    from fairlead.config.training import ImportedModel
    from fairlead.models.imported.source import find_files
    from fairlead.models.loading import load_adapter, load_base, load_tokenizer

    if adapter is not None:
        section = ModelSection(name=name)
        lies_in = find_files(ImportedModel.model_validate({"from": adapter}), Path(), "adapter")
        if not lies_in.is_adapter:
            raise ModelError("is no PEFT adapter", where=adapter, remedy="give it as a model by itself")
        on_base = load_adapter(load_base(section, Path()), lies_in.folder)
        return on_base.eval(), load_tokenizer(section, Path())
    files = find_files(ImportedModel.model_validate({"from": name}), Path(), "model")
    if not files.is_adapter:
        section = ModelSection(name=str(files.folder))
        return load_base(section, Path()), load_tokenizer(section, Path())
    base = files.config.get("base_model_name_or_path")
    if not isinstance(base, str) or not base:
        raise ModelError("the adapter names no base model", where=name, remedy="load both, and give the model itself")
    section = ModelSection(name=base)
    tokenizer_folder = str(files.folder) if files.has_tokenizer else None
    try:
        loaded_base = load_base(section, Path())
    except ModelError as error:
        raise ModelError(
            f"the base that the adapter names cannot be used: {error.where}: {error.what}",
            where=name,
            remedy="load the base with transformers and the adapter with PEFT, and give that model and its tokenizer",
        ) from error
    model = load_adapter(loaded_base, files.folder)
    return model.eval(), load_tokenizer(section, Path(), tokenizer_folder)


def _tokenizer_of(model: Any, tokenizer: Any) -> Any:
    """The tokenizer of a loaded model: the one given, else that of the repository that the model came from."""
    source = getattr(model.config, "_name_or_path", "")
    if tokenizer is None and not source:
        raise ModelError("comes without its tokenizer", where="model", remedy="give tokenizer=")
    return _tokenizer(source if tokenizer is None else tokenizer)


def _tokenizer(tokenizer: Any) -> Any:
    """A tokenizer with a pad token and a chat template: the one given, or a copy where it lacks one of them."""
    from fairlead.config.model import ModelSection
    from fairlead.models.loading import complete_tokenizer, load_tokenizer

    if isinstance(tokenizer, str | Path):
        return load_tokenizer(ModelSection(name=str(tokenizer)), Path())
    if not hasattr(tokenizer, "apply_chat_template"):
        remedy = "pass the other arguments by name: prompts=, judge="
        raise ModelError(f"is of type {type(tokenizer).__name__}", where="tokenizer", remedy=remedy)
    if tokenizer.pad_token is None or tokenizer.chat_template is None:
        tokenizer = copy.deepcopy(tokenizer)
        complete_tokenizer(tokenizer, str(tokenizer.name_or_path or "the tokenizer"))
    return tokenizer


def _of_model(model: Any, tokenizer: Any, batch_size: int, seed: int, advance: Callable[[int], None]) -> Answerer:
    from fairlead.models.generation import LocalGenerator

    def answer(requests: Sequence[CompletionRequest]) -> list[Completion | None]:
        if not requests:
            return []
        name = requests[0].model
        generator = LocalGenerator.of(model, tokenizer, name=name, batch_size=batch_size, advance=advance)
        return list(generator.generate(requests, seed=seed))

    return answer


@contextmanager
def _in_evaluation_mode(model: Any) -> Iterator[None]:
    """Every module in evaluation mode, and afterwards in the mode in which it was."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training


def _of_function(
    function: Callable[..., Any], advance: Callable[[int], None], requests: Sequence[CompletionRequest]
) -> list[Completion | None]:
    """A function's answers: one call after the other, or several together where it is async."""
    takes_temperature = _takes(function, "temperature")

    def call(request: CompletionRequest) -> Any:
        options = {"temperature": request.sampling.temperature} if takes_temperature else {}
        return function(_asked(request.prompt), **options)

    answers = _async_answers(call, requests) if _is_async(function) else (call(request) for request in requests)
    completions = []
    for request, answer in zip(requests, answers, strict=True):
        completions.append(_completion(request, answer))
        advance(1)
    return completions


def _async_answers(call: Callable[[CompletionRequest], Awaitable[Any]], requests: Sequence[CompletionRequest]) -> Any:
    async def work(places: _Places, number: int, request: CompletionRequest) -> Any:
        del number
        async with places.semaphore:
            return await call(request)

    return async_map_ordered(requests, _Places, work)


class _Places:
    """How many calls may be under way on one event loop."""

    def __init__(self) -> None:
        self.semaphore = asyncio.Semaphore(_AT_ONCE)

    async def close(self, drain_s: float) -> None:
        del drain_s


def _is_async(function: Callable[..., Any]) -> bool:
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(getattr(function, "__call__", None))  # noqa: B004


def _takes(function: Callable[..., Any], name: str) -> bool:
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):  # a function of C code has no signature
        return False
    return any(p.name == name or p.kind is p.VAR_KEYWORD for p in parameters)


def _asked(prompt: Prompt) -> str | list[dict[str, str]]:
    """What a function is given: the text of a single user turn, else the turns as {role, content}."""
    if len(prompt.messages) == 1 and prompt.messages[0].role == "user":
        return prompt.messages[0].content
    return message_dicts(prompt.messages)


def _completion(request: CompletionRequest, answer: Any) -> Completion | None:
    if answer is None:
        return None
    if not isinstance(answer, str):
        raise DataError(
            f"returned {shorten(repr(answer))} for the prompt {shorten(request.prompt.text, 60)!r}",
            where=f"model ({request.model})",
            remedy="return the answer as text, or None where there is none",
        )
    return Completion(
        request.prompt.id, answer, request.model, request.sampling, index=request.index, variant=request.variant
    )
