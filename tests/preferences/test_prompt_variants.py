"""What a model is asked for when pairs are built, and which answers are compared then."""

from __future__ import annotations

from pathlib import Path

import pytest

from fairlead.errors import DataError
from fairlead.preferences import prompt_variants
from fairlead.preferences.pairing import Recipe, comparisons_for, preferences_from
from fairlead.records import (
    Comparison,
    Completion,
    Example,
    Message,
    Prompt,
    PromptVariant,
    Sampled,
    Sampling,
    Verdict,
    VerdictState,
)

SYSTEM, ASK = Message("system", "Be brief."), Message("user", "Is the disk full?")
PROMPT = Prompt((SYSTEM, ASK), {"answer": "yes"})
EXAMPLES = [Example(Prompt((SYSTEM, Message("user", f"question {n}"))), f"answer {n}") for n in range(5)]
W, L = VerdictState.WIN, VerdictState.LOSS


def test_examples_stand_between_the_system_turn_and_the_question() -> None:
    turns = prompt_variants.few_shot(PROMPT, EXAMPLES, 2, seed=0).messages
    assert [turn.role for turn in turns] == ["system", "user", "assistant", "user", "assistant", "user"]
    assert (turns[0], turns[-1]) == (SYSTEM, ASK)
    assert turns[1].content.removeprefix("question") == turns[2].content.removeprefix("answer")


def test_examples_differ_from_prompt_to_prompt_and_are_the_same_next_time() -> None:
    prompts = [Prompt.of(f"q{n}") for n in range(20)]
    prefixes = [prompt_variants.few_shot(prompt, EXAMPLES, 1, seed=0).messages[0].content for prompt in prompts]
    assert len(set(prefixes)) > 1
    assert prefixes == [prompt_variants.few_shot(prompt, EXAMPLES, 1, seed=0).messages[0].content for prompt in prompts]
    assert prefixes != [prompt_variants.few_shot(prompt, EXAMPLES, 1, seed=1).messages[0].content for prompt in prompts]


def test_a_prompt_is_never_its_own_example() -> None:
    same_prompt = Example(PROMPT, "yes")
    assert prompt_variants.few_shot(PROMPT, [same_prompt], 3, seed=0) == Prompt(PROMPT.messages)


def test_critique_and_revision_continue_the_conversation() -> None:
    turns = prompt_variants.revision(PROMPT, "yes", "too short", "Answers give a reason.").messages
    assert [turn.role for turn in turns] == ["system", "user", "assistant", "user", "assistant", "user"]
    assert turns[2].content == "yes"
    assert "Answers give a reason." in turns[3].content
    assert turns[4].content == "too short"


@pytest.mark.parametrize("text", ["- Be honest.\n- Be kind.\n", "principles:\n  - Be honest.\n  - Be kind.\n"])
def test_a_constitution_is_a_list_of_principles(tmp_path: Path, text: str) -> None:
    (tmp_path / "c.yaml").write_text(text)
    assert prompt_variants.read_constitution(tmp_path / "c.yaml") == ["Be honest.", "Be kind."]


@pytest.mark.parametrize("text", ["", "principles: []", "be: kind", "- 3", "- ''", "just a text"])
def test_what_holds_no_principles_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "c.yaml").write_text(text)
    with pytest.raises(DataError, match="holds no list of principles"):
        prompt_variants.read_constitution(tmp_path / "c.yaml")


def test_every_principle_is_used_for_some_prompt() -> None:
    principles = ["Be honest.", "Be kind.", "Be brief."]
    assert {prompt_variants.principle_for(Prompt.of(f"q{n}"), principles, 0) for n in range(30)} == set(principles)


def drawn(model: str, text: str, index: int = 0, variant: PromptVariant = "plain") -> Completion:
    return Completion(PROMPT.id, text, model, Sampling(), index=index, variant=variant)


COMPLETIONS = [
    drawn("sft", "first"),
    drawn("sft", "second", 1),
    drawn("sft", "shown", variant="few_shot"),
    drawn("sft", "revised", variant="revision"),
    drawn("other", "foreign"),
]


def compared(recipe: Recipe) -> set[tuple[str, str]]:
    comparisons, _ = comparisons_for([PROMPT], COMPLETIONS, recipe)
    return {(item.first, item.second) for item in comparisons}


def test_a_revision_is_compared_with_what_its_author_wrote_in_that_draw() -> None:
    assert compared("revision") == {("first", "revised"), ("shown", "revised")}


def test_models_are_compared_with_each_other_and_not_with_themselves() -> None:
    assert compared("models") == {(text, "foreign") for text in ("first", "second", "shown", "revised")}


@pytest.mark.parametrize("recipe", ["all", "best_worst"])
def test_the_other_recipes_compare_everything(recipe: Recipe) -> None:
    assert len(compared(recipe)) == 10


def judged(first: str, second: str, state: VerdictState) -> Verdict:
    return Verdict(Comparison(PROMPT, first, second).id, state, "j")


def test_a_revision_becomes_chosen_only_if_the_judge_agrees() -> None:
    for state, pairs, reason in ((L, 1, "pairs"), (W, 0, "revision_is_worse"), (VerdictState.TIE, 0, "tie")):
        verdicts = [judged("first", "revised", state)]
        preferences, counts = preferences_from([PROMPT], COMPLETIONS, verdicts, recipe="revision", margin=0)
        assert len(preferences) == pairs
        assert counts[reason] == 1
    assert counts["unjudged"] == 1


def test_the_provenance_names_the_models_that_stood_against_each_other() -> None:
    [pair], _ = preferences_from(
        [PROMPT], [drawn("sft", "a"), drawn("other", "b")], [judged("a", "b", L)], recipe="models", margin=0
    )
    assert isinstance(pair.provenance, Sampled)
    assert (pair.provenance.chosen.model, pair.provenance.rejected.model) == ("other", "sft")


def test_a_models_name_says_nothing_of_what_it_was_asked() -> None:
    """A folder may be called as it likes."""
    completions = [drawn("models/a+revision", "a"), drawn("models/a", "b")]
    assert comparisons_for([PROMPT], completions, "revision")[0] == []
    assert len(comparisons_for([PROMPT], completions, "models")[0]) == 1


def test_the_provenance_names_what_the_model_was_asked() -> None:
    completions = [drawn("sft", "a"), drawn("sft", "b", variant="revision")]
    [pair], _ = preferences_from([PROMPT], completions, [judged("a", "b", L)], recipe="revision", margin=0)
    assert isinstance(pair.provenance, Sampled)
    assert (pair.provenance.chosen.model, pair.provenance.chosen.variant) == ("sft", "revision")
    assert pair.provenance.rejected.variant == "plain"


def test_an_empty_answer_never_makes_a_pair() -> None:
    preferences, counts = preferences_from(
        [PROMPT], [drawn("sft", "a"), drawn("sft", " ", 1)], [judged("a", " ", W)], recipe="all", margin=0
    )
    assert preferences == []
    assert counts["empty"] == 1
