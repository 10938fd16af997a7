"""The `lora`, `sft` and `dpo` sections: trainings, or models that were trained elsewhere (`from`)."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Discriminator, Field, Tag, field_validator, model_validator

from fairlead.config.base import (
    Count,
    FilePath,
    Fraction,
    Integer,
    NotNegative,
    Number,
    Positive,
    Section,
    WeightsPath,
)
from fairlead.errors import known_names, some

LOSSES = (
    "sigmoid", "hinge", "ipo", "exo_pair", "nca_pair", "robust", "bco_pair", "sppo_hard", "aot", "aot_unpaired",
    "apo_zero", "apo_down", "discopop", "sft", "sigmoid_norm",
)  # fmt: skip
"""The losses of TRL's `DPOConfig.loss_type`."""

_NO_REFERENCE = (
    "which is no loss of DPO but of a method without a reference model; the nearest here are sigmoid_norm, which "
    "counts an answer per token, and [sigmoid, sft], which also learns the chosen answer"
)
_OTHER_TRAINERS = {
    **dict.fromkeys(("simpo", "cpo", "orpo"), _NO_REFERENCE),
    "kto": "which is no loss of DPO but learns from single rated answers; of pairs, sigmoid is DPO's own",
}
"""What to say of the losses of related methods, where the nearest spelling would mislead."""

TRACKERS = (
    "azure_ml", "clearml", "codecarbon", "comet_ml", "dagshub", "dvclive", "flyte", "kubeflow", "mlflow", "neptune",
    "swanlab", "tensorboard", "trackio", "wandb",
)  # fmt: skip
"""The trackers that transformers reports to."""

BelowOne = Annotated[Number, Field(ge=0, lt=1)]


class LoraSection(Section):
    """The adapters that SFT and DPO train with `method: lora`."""

    r: Count = Field(16, description="rank of the update")
    alpha: Positive = Field(32.0, description="scale of the update (alpha / r)")
    dropout: BelowOne = Field(0.05, description="dropout on the adapter's input while training")
    targets: list[str] | Literal["all-linear"] = Field(
        ["q_proj", "k_proj", "v_proj", "o_proj"], description="module names that get an adapter, or all-linear"
    )

    @field_validator("targets")
    @classmethod
    def _names_modules(cls, targets: list[str] | str) -> list[str] | str:
        if not targets or not all(targets):
            raise ValueError("names no module, so nothing would be trained: name some, or set all-linear")
        return targets


class TrainSection(Section):
    """Settings that SFT and DPO share."""

    method: Literal["lora", "full"] = Field("lora", description="lora trains an adapter, full trains all weights")
    learning_rate: Positive = Field(description="peak learning rate")
    epochs: Positive = Field(1.0, description="passes over the training rows")
    batch_size: Count = Field(8, description="rows per device and step")
    gradient_accumulation: Count = Field(1, description="steps summed into one update")
    max_length: Annotated[Integer, Field(ge=2)] = Field(
        1024, description="tokens of prompt and answer together; longer rows are cut at the end"
    )
    warmup: BelowOne = Field(0.1, description="share of the updates in which the learning rate rises from 0")
    schedule: Literal["linear", "cosine", "constant_with_warmup"] = Field("linear", description="after the warmup")
    weight_decay: NotNegative = Field(0.0, description="AdamW's decay")
    max_grad_norm: Positive = Field(1.0, description="gradients are clipped to this norm")
    gradient_checkpointing: bool = Field(False, description="recompute activations: less memory, slower")
    log_every: Count = Field(5, description="updates between two lines of metrics.jsonl")
    eval_every: Count = Field(25, description="updates between two passes over the validation rows")
    save_every: Count = Field(25, description="updates between two checkpoints; a killed run resumes from the last")
    report_to: list[str] = Field(
        [], description="trackers that transformers knows: wandb, mlflow, tensorboard, trackio"
    )

    @field_validator("report_to")
    @classmethod
    def _trackers_are_known(cls, trackers: list[str]) -> list[str]:
        for tracker in trackers:
            if tracker not in TRACKERS:
                raise ValueError(f"unknown tracker {tracker[:40]!r}, {known_names(tracker, TRACKERS, 20)}")
        return trackers

    @model_validator(mode="after")
    def _curve_resumes(self) -> Self:
        if self.save_every % self.log_every:
            raise ValueError(
                f"save_every {self.save_every} must be a multiple of log_every {self.log_every}, "
                "so that a resumed run logs what an undisturbed one does"
            )
        return self


def _default_rate(data: Any, *, lora: float, full: float) -> Any:
    """Fills in the learning rate that the method's literature uses."""
    if isinstance(data, dict) and data.get("learning_rate") is None:
        return {**data, "learning_rate": full if data.get("method") == "full" else lora}
    return data


class SftSection(TrainSection):
    """Supervised fine-tuning; `sft: null` starts DPO from the base model."""

    filled_in: ClassVar[dict[str, str]] = {"learning_rate": "`2.0e-4` with `lora`, `2.0e-5` with `full`"}

    validation: BelowOne = Field(0.1, description="share of the rows, whole prompts, kept out for validation")

    @model_validator(mode="before")
    @classmethod
    def _rate(cls, data: Any) -> Any:
        return _default_rate(data, lora=2e-4, full=2e-5)


class DpoSection(TrainSection):
    """Direct preference optimisation."""

    filled_in: ClassVar[dict[str, str]] = {"learning_rate": "`5.0e-5` with `lora`, `5.0e-6` with `full`"}

    log_every: Count = Field(1, description="updates between two lines of metrics.jsonl")
    beta: Positive = Field(0.1, description="strength of the tie to the reference; 0.01 loose, 1.0 hardly any change")
    loss_type: list[str] = Field(
        ["sigmoid"], description="TRL's losses, summed: sigmoid is DPO, also ipo, robust, sft …"
    )
    loss_weights: list[NotNegative] | None = Field(None, description="weight of each loss; 1 each if not given")
    label_smoothing: Annotated[Number, Field(ge=0, lt=0.5)] = Field(
        0.0, description="probability that a label is wrong, for the losses that use it (robust, exo_pair, aot)"
    )
    batch_by: Literal["row", "prompt"] = Field(
        "row", description="prompt puts pairs of one prompt into one batch, where they share it: for pairs.recipe all"
    )
    label_noise: Literal["none", "measured"] = Field(
        "none", description="measured takes the judge's measured error into the loss: cDPO, or the robust loss"
    )
    label_checks: FilePath | None = Field(
        None, description="rows {correct, margin?} of comparisons that people judged too (JSONL), for label_noise"
    )
    max_dropped: Fraction = Field(
        0.01, description="share of pairs that truncation may make empty or equal before training refuses to start"
    )

    @model_validator(mode="before")
    @classmethod
    def _rate(cls, data: Any) -> Any:
        return _default_rate(data, lora=5e-5, full=5e-6)

    @field_validator("loss_type")
    @classmethod
    def _losses_are_known(cls, losses: list[str]) -> list[str]:
        if not losses:
            raise ValueError("names no loss; DPO's own is [sigmoid]")
        for loss in losses:
            if loss not in LOSSES:
                advice = _OTHER_TRAINERS.get(loss) or known_names(loss, LOSSES, 20)
                raise ValueError(f"unknown loss {loss[:40]!r}, {advice}")
        return losses

    @field_validator("loss_weights")
    @classmethod
    def _some_loss_counts(cls, weights: list[float] | None) -> list[float] | None:
        if weights is not None and not any(weights):
            raise ValueError("must not all be 0: nothing would be learnt")
        return weights

    @model_validator(mode="after")
    def _losses_fit(self) -> Self:
        if self.loss_weights is not None and len(self.loss_weights) != len(self.loss_type):
            raise ValueError(f"loss_weights has {len(self.loss_weights)} entries for {len(self.loss_type)} losses")
        smoothed = {"robust", "exo_pair", "aot", "aot_unpaired"}
        if self.label_smoothing and not smoothed & set(self.loss_type):
            raise ValueError(f"label_smoothing is read only by the losses {', '.join(sorted(smoothed))}")
        if "exo_pair" in self.loss_type and not self.label_smoothing:
            raise ValueError("the loss exo_pair needs label_smoothing above 0; its paper recommends 0.001")
        if self.label_noise == "measured" and self.loss_type not in (["sigmoid"], ["robust"]):
            raise ValueError("label_noise: measured works with loss_type [sigmoid] (cDPO) or [robust]")
        if self.label_noise == "measured" and self.label_smoothing:
            raise ValueError("label_smoothing and label_noise: measured both say how many labels are wrong: remove one")
        if self.label_checks and self.label_noise != "measured":
            raise ValueError("label_checks is read only with label_noise: measured")
        return self


class ImportedModel(Section):
    """A model that was trained elsewhere."""

    source: WeightsPath = Field(
        alias="from",
        min_length=1,
        description="a PEFT adapter or full weights made elsewhere: a folder, or a hub id; nothing is trained then",
    )
    revision: str | None = Field(None, description="branch, tag or commit of a hub id")
    base: str | None = Field(
        None, description="the base's name in the adapter's config, where that is model.name under another name"
    )

    @model_validator(mode="before")
    @classmethod
    def _is_not_trained(cls, data: Any) -> Any:
        trains = {*SftSection.model_fields, *DpoSection.model_fields} - cls.fields_by_key().keys()
        if isinstance(data, dict) and (keys := [key for key in data if key in trains]):
            raise ValueError(
                f"from brings a trained model, so nothing reads {some(keys, 4)}: remove what trains, or from"
            )
        return data


class ImportedDpo(ImportedModel):
    """A DPO model that was trained elsewhere; it is evaluated only."""

    beta: Positive = Field(0.1, description="β that it was trained with, by which fairlead score scales its rewards")
    max_length: Annotated[Integer, Field(ge=2)] = Field(
        1024, description="tokens of prompt and answer that fairlead score reads"
    )


def _form(value: Any) -> Literal["trained", "imported"]:
    """Which of the two forms of a section this is."""
    brings = "from" in value if isinstance(value, dict) else isinstance(value, ImportedModel)
    return "imported" if brings else "trained"


SftForm = Annotated[
    Annotated[SftSection, Tag("trained")] | Annotated[ImportedModel, Tag("imported")], Discriminator(_form)
]
DpoForm = Annotated[
    Annotated[DpoSection, Tag("trained")] | Annotated[ImportedDpo, Tag("imported")], Discriminator(_form)
]
