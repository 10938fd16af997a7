"""The `arms` stage: the decision's best prompt, and models made elsewhere, answer the held-out prompts.

Each arm asks through the runner of the decision: what is finished is kept, and a prompt that does not fit is refused.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from fairlead.config.decide import BASE
from fairlead.config.model import ModelSection
from fairlead.config.stage_settings import ArmsSettings
from fairlead.config.values.arms import Arm, EndpointArm, ModelArm, ReleaseArm, name_of_arm
from fairlead.config.values.asked_models import name_of as name_of_model
from fairlead.decide.answerers import Answerer, LocalAnswerer, base_answerer, local_answerer, open_answerer
from fairlead.decide.candidates import Instruction, Recipe, with_own_system
from fairlead.decide.prompt_material import PromptMaterial, examples_of, gather
from fairlead.decide.runner import CandidateResult, CandidateRunner, NoRoomError
from fairlead.decide.scoring import usage_of
from fairlead.documents.decision import Candidate, Usage
from fairlead.documents.evaluation import Arm as ArmDocument
from fairlead.documents.evaluation import Arms
from fairlead.errors import JudgeError, ModelError
from fairlead.evaluation.arms_files import files_of
from fairlead.files import write_jsonl
from fairlead.pipeline import outputs as files
from fairlead.pipeline.stage import Context, Metrics
from fairlead.records import Completion, Example, Prompt, Sampling, to_json


@dataclass(frozen=True)
class _Asked:
    """Who answers an arm's prompts, and how they are asked.

    Attributes:
        what: in words, for tables.
        here: whether it computes on the project's machine, at the price of `decide.price_per_hour`.
    """

    answerer: Answerer
    what: str
    recipe: Recipe = field(default_factory=Recipe)
    material: PromptMaterial = field(default_factory=PromptMaterial)
    system: str | None = None
    here: bool = False


def run(context: Context[ArmsSettings]) -> Metrics:
    """Writes answers.jsonl (every arm's answers, arm by arm) and arms.json (what each is and costs)."""
    prompts = context.read(files.EVAL_PROMPTS)
    section = context.settings.answers
    sampling = Sampling(section.temperature, section.top_p, section.max_new_tokens)
    arms: dict[str, ArmDocument] = {}
    answers: list[Completion] = []
    for arm in context.settings.arms:
        name = name_of_arm(arm)
        arms[name], result = _answered(arm, prompts, context)
        answers += _completions(name, prompts, result, sampling)
    write_jsonl(context.out / files.ARM_ANSWERS.name, map(to_json, answers))
    Arms(arms=arms).write(context.out / files.ARMS.name)
    return {
        "answers": len(answers),
        "prompts": len(prompts),
        "asked": {name: arm.what for name, arm in arms.items()},
    }


def _answered(
    arm: Arm, prompts: Sequence[Prompt], context: Context[ArmsSettings]
) -> tuple[ArmDocument, CandidateResult]:
    """What an arm is and what it answered; its weights are gone when the next one is loaded."""
    asked = _asked(arm, context)
    draws = context.settings.answers.per_prompt
    several = isinstance(asked.answerer, LocalAnswerer)  # an endpoint is asked once, and counts for all draws
    repeated = [prompt for prompt in prompts for _ in range(draws if several else 1)]
    result = _answers(name_of_arm(arm), asked, repeated, context)
    if not several:
        replies = tuple(reply for reply in result.replies for _ in range(draws))
        result = replace(result, replies=replies)
    usage = Usage(**asdict(usage_of(result.replies)))
    return ArmDocument(what=asked.what, per_1000_answers=usage, here=asked.here), result


def _asked(arm: Arm, context: Context[ArmsSettings]) -> _Asked:
    answers, model, seed = context.settings.answers, context.settings.model, context.seed
    if isinstance(arm, EndpointArm):
        answerer = open_answerer(arm.endpoint, context.folder, answers, seed=seed)
        return _Asked(answerer, f"{name_of_model(arm.endpoint)} behind an endpoint", system=arm.system)
    if isinstance(arm, ModelArm | ReleaseArm):
        section, adapter = _weights(arm, model, context)
        what = section.name if adapter is None else f"{section.name} with the adapter {adapter.name}"
        local = local_answerer(what, section, context.folder, answers, seed=seed, price_per_hour=None, adapter=adapter)
        return _Asked(local, what, here=True)
    decision = context.read(files.DECISION)
    best = decision.winner or decision.nearest
    assert best is not None  # a waived decision has no such arm
    material, _ = gather(context.settings.decide, context.folder, _examples(context), seed)
    return _Asked(
        _of_decision(best, context), f"{best.candidate}, {best.model}", _recipe(best), material, here=best.model == BASE
    )


def _weights(
    arm: ModelArm | ReleaseArm, base: ModelSection, context: Context[ArmsSettings]
) -> tuple[ModelSection, Path | None]:
    """The base weights of an arm and its adapter; a released adapter lies on the project's base."""
    if isinstance(arm, ModelArm):
        section = base.model_copy(update={"name": arm.model, "chat_template": None})
        return section, None if arm.adapter is None else files_of(arm, context.settings, context.folder).folder
    released = files_of(arm, context.settings, context.folder)
    if released.is_adapter:
        return base, released.folder
    return base.model_copy(update={"name": str(released.folder), "chat_template": None}), None


def _of_decision(best: Candidate, context: Context[ArmsSettings]) -> Answerer:
    """The model that the candidate was measured on."""
    answers, seed, section = context.settings.answers, context.seed, context.settings.decide
    if best.model == BASE:
        return base_answerer(context.settings.model, context.folder, answers, seed=seed, price_per_hour=None)
    settings = next(model for model in section.models if name_of_model(model) == best.model)
    return open_answerer(settings, context.folder, answers, seed=seed)


def _recipe(best: Candidate) -> Recipe:
    recipe = best.recipe
    instruction = Instruction(recipe.instruction.name, recipe.instruction.text)
    return Recipe(instruction, recipe.shots, recipe.selection, recipe.passages, recipe.search)


def _examples(context: Context[ArmsSettings]) -> Sequence[Example]:
    return examples_of(context.read(files.SFT_ROWS), context.read(files.READY_PAIRS))


def _answers(name: str, asked: _Asked, prompts: Sequence[Prompt], context: Context[ArmsSettings]) -> CandidateResult:
    """Every prompt's answer.

    Raises:
        ModelError: if the prompts do not fit into the context of the model.
        JudgeError: if a reply is missing.
    """
    with context.progress.task("arms", name, len(prompts)) as bar:
        done = 0

        def advance(_label: str, count: int) -> None:
            nonlocal done
            done += count
            bar.update(done)

        runner = CandidateRunner(asked.answerer, asked.material, context.out / "candidates" / name, advance)
        try:
            result = runner.run(asked.recipe, [with_own_system(prompt, asked.system) for prompt in prompts])
        except NoRoomError as error:
            raise ModelError(
                str(error), where=f"eval.arms: {name}", remedy="take the arm out of eval.arms, or shorten the prompts"
            ) from error
    missing = [reply.why for reply in result.replies if reply.text is None]
    if missing:
        raise JudgeError(
            f"{len(missing)} of {len(prompts)} answers are missing, the last because {missing[-1]}",
            where=f"eval.arms: {name}",
            remedy="run the same command again, which asks for those alone; or take the arm out of eval.arms",
        )
    return result


def _completions(name: str, prompts: Sequence[Prompt], result: CandidateResult, sampling: Sampling) -> list[Completion]:
    draws = len(result.replies) // max(1, len(prompts))
    return [
        Completion(
            prompts[number // draws].id,
            reply.text or "",
            name,
            sampling,
            index=number % draws,
            finish="length" if reply.cut else "stop",
            tokens=reply.output_tokens or 0,
        )
        for number, reply in enumerate(result.replies)
    ]
