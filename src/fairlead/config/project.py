"""`fairlead.yaml` as types.

Every key has one line of documentation (it becomes the comment that `fairlead init` writes), a default that stands
nowhere else, and a reader. Unknown keys, wrong types and combinations that cannot work are refused, all at once, each
naming its key. A default that depends on another key (the learning rate of LoRA and of full weights) is filled in
here, so that the resolved config that a run saves says everything.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import Field, ValidationError, model_validator

from fairlead.config.base import Integer, Section
from fairlead.config.data import DataCheckSettings, DataSection
from fairlead.config.decide import DecideSection
from fairlead.config.evaluation import AnswersSection, EvalSection, ProbeSettings
from fairlead.config.figures import Names, measured_figures, why_unmeasured
from fairlead.config.judges import JudgeCheckSettings, JudgeSettings
from fairlead.config.loading.explain import explain
from fairlead.config.loading.judge_text import expand_judges
from fairlead.config.loading.yaml_file import read_yaml
from fairlead.config.model import ModelSection
from fairlead.config.monitoring import WatchSettings
from fairlead.config.release import Criterion as Criterion
from fairlead.config.release import (
    GateSection,
    ReleaseSettings,
    ReportSection,
    default_criteria,
)
from fairlead.config.sampling import PairsSection, SampleSection
from fairlead.config.training import DpoForm, DpoSection, ImportedModel, LoraSection, SftForm, SftSection, TrainSection
from fairlead.config.values.arms import MODELS, PROMPTED, Arm, default_pairs, name_of_arm
from fairlead.errors import ConfigError, known_names

CONFIG_NAME = "fairlead.yaml"
NOTHING_IS_TRAINED = "nothing is trained here: the models were made elsewhere"


def _has_margins(judge: JudgeSettings | None) -> bool:
    """Whether a judge's verdicts on comparisons have margins: those of endpoints have none, of local models some."""
    return judge is None or judge.kind not in ("openai", "anthropic")


def _computes(judge: JudgeSettings | None) -> bool:
    """Whether a judge, or a member of a panel, computes checks and is no model."""
    if judge is None:
        return False
    return any(_computes(member) for member in judge.judges) if judge.kind == "panel" else judge.kind == "rubric"


class Config(Section):
    """The whole of `fairlead.yaml`."""

    name: str = Field("project", description="name of the project, shown on the report")
    seed: Annotated[Integer, Field(ge=0, lt=2**32)] = Field(0, description="seed of everything random")
    currency: Annotated[str, Field(min_length=1, max_length=10)] | None = Field(
        None, description="currency of all prices, such as USD, shown beside every cost"
    )
    model: ModelSection
    data: DataSection
    decide: DecideSection = DecideSection()
    lora: LoraSection = LoraSection()
    sft: SftForm | None = Field(default_factory=lambda: SftSection.model_validate({}))
    sample: SampleSection = SampleSection()
    judge: JudgeSettings | None = Field(
        None, description="who judges the pairs, and the comparison where eval.judge is not given"
    )
    judge_check: JudgeCheckSettings | None = Field(
        None, description="labelled comparisons on which the judges are qualified before they judge; see docs/judges.md"
    )
    pairs: PairsSection = PairsSection()
    data_check: DataCheckSettings = DataCheckSettings()
    dpo: DpoForm = Field(default_factory=lambda: DpoSection.model_validate({}))
    watch: WatchSettings = WatchSettings()
    answers: AnswersSection = AnswersSection()
    eval: EvalSection = EvalSection()
    probe: ProbeSettings | None = ProbeSettings()
    gate: GateSection = GateSection()
    report: ReportSection = ReportSection()
    release: ReleaseSettings = ReleaseSettings()

    @model_validator(mode="before")
    @classmethod
    def _nothing_to_decide(cls, data: Any) -> Any:
        """Where no stage trains, there is no training to decide on."""
        if not isinstance(data, dict) or "decide" in data:
            return data
        sft, dpo = data.get("sft", {}), data.get("dpo")
        brings_dpo = isinstance(dpo, dict) and "from" in dpo
        trains_sft = isinstance(sft, dict) and "from" not in sft
        return {**data, "decide": {"waive": NOTHING_IS_TRAINED}} if brings_dpo and not trains_sft else data

    @model_validator(mode="after")
    def _combinations(self) -> Self:
        problems: list[str] = []
        if self.trains_sft and self.data.sft is None:
            problems.append(
                "data.sft is missing: give the rows SFT learns from, or set sft: null to start from the base"
            )
        if self.sft is None and self.data.sft is not None:
            problems.append("data.sft is read by nothing while sft is null: remove one of them")
        if not self.trains_dpo and self.data.prompts:
            problems.append(
                "data.prompts is read by nothing: dpo.from brings a trained model, which needs no pairs; remove it"
            )
        if self.trains_dpo and not self.data.prompts and not self.data.preferences:
            problems.append("data.prompts or data.preferences is missing: DPO needs pairs, built or ready")
        if self.data.prompts and self.judge is None:
            problems.append("judge is missing: completions of data.prompts need a judge")
        if self.eval_judge is None and self.eval.asks_judge:
            problems.append("eval.judge is missing: set one, or eval.pairwise: [], eval.scores: false and no criteria")
        if self.eval.criteria and _computes(self.eval_judge):
            problems.append("eval.criteria needs a language model as eval.judge: a rubric cannot be told a criterion")
        if self.judge_check is not None and self.judge is None and self.eval_judge is None:
            problems.append("judge_check has no judge to check: remove it, or give judge or eval.judge")
        if self.sample.few_shot and self.data.sft is None:
            problems.append("sample.few_shot needs data.sft: its examples come from there")
        if self.pairs.recipe == "revision" and self.sample.constitution is None:
            problems.append("pairs.recipe revision needs sample.constitution")
        if self.pairs.margin and self.pairs.judged_by == "comparisons" and not _has_margins(self.judge):
            problems.append("pairs.margin is read by nothing: this judge gives no margin; set pairs.judged_by: scores")
        if self.pairs.recipe == "models" and not self.sample.models:
            problems.append("pairs.recipe models needs sample.models")
        trained = {"sft": self.sft, "dpo": self.dpo}
        full = [name for name, part in trained.items() if isinstance(part, TrainSection) and part.method == "full"]
        if self.model.quantization and full:
            problems.append(f"{full[0]}.method: full cannot train a 4-bit base: use lora, or model.quantization: null")
        problems += self._wrong_arms()
        if not self.eval.metrics and not self.eval.asks_judge:
            problems.append("eval compares nothing: give eval.metrics, eval.pairwise, eval.scores or eval.criteria")
        names = self._judged_rows + [metric.name for metric in self.eval.metrics]
        problems += self._unmeasured_criteria()
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            problems.append(f"eval has two rows named {twice[0]}: rename one of eval.metrics and eval.criteria")
        if problems:
            raise ValueError("; ".join(problems))
        return self

    def _wrong_arms(self) -> list[str]:
        """What is wrong with the arms of the comparison and its pairs."""
        problems: list[str] = []
        names = self.arm_names
        if PROMPTED in names and self.decide.waive is not None:
            problems.append("eval.arms names prompted, and the decision, which finds the best prompt, is waived")
        twice = sorted({name for name in names if names.count(name) > 1 or name in MODELS})
        if twice:
            problems.append(f"eval.arms has two arms named {twice[0]}: give one of them another name")
        known = [name for name in MODELS if name != "sft" or self.sft is not None] + names
        for pair in self.eval.pairwise or []:
            candidate, _, reference = pair.partition("_vs_")
            unknown = [name for name in (candidate, reference) if name not in known]
            if unknown:
                problems.append(f"eval.pairwise: {pair}: {known_names(unknown[0], known)}")
            elif candidate == reference:
                problems.append(f"eval.pairwise: {pair} compares {candidate} with itself")
        return problems

    @property
    def arms(self) -> list[Arm]:
        """What answers the held-out prompts besides base, SFT and DPO."""
        if self.eval.arms is not None:
            return self.eval.arms
        return [] if self.decide.waive is not None else ["prompted"]

    @property
    def arm_names(self) -> list[str]:
        return [name_of_arm(arm) for arm in self.arms]

    @property
    def judged_pairs(self) -> list[str]:
        """The pairs of arms that are judged against each other, as in dpo_vs_sft."""
        written = self.eval.pairwise
        return default_pairs(self.arm_names, with_sft=self.sft is not None) if written is None else written

    def _unmeasured_criteria(self) -> list[str]:
        measured = self.measured_figures
        return [
            f"gate.criteria names {criterion.figure}, which {why}"
            for criterion in self.gate.criteria or []
            if (why := why_unmeasured(criterion.figure, measured, margin=criterion.not_worse_by is not None))
        ]

    @property
    def measured_figures(self) -> Names:
        """The names of all figures that the stages measure."""
        return measured_figures(
            metrics=[*(metric.name for metric in self.eval.metrics), *self._judged_rows],
            pairwise=self.judged_pairs,
            arms=self.arm_names,
            sliced=self.eval.slices is not None,
            labelled=self.eval.human is not None,
            with_sft=self.sft is not None,
            trained=[*(["sft"] if self.trains_sft else []), *(["dpo"] if self.trains_dpo else [])],
            judged_pairs=bool(self.data.prompts),
            dropped=self.data_check.drop,
            label_noise=isinstance(self.dpo, DpoSection) and self.dpo.label_noise == "measured",
            probe=self.probe,
        )

    @property
    def _judged_rows(self) -> list[str]:
        """The rows of the table that a judge's scores fill."""
        return [*(["judge_score"] if self.eval.scores else []), *(criterion.name for criterion in self.eval.criteria)]

    @property
    def trains_sft(self) -> bool:
        return isinstance(self.sft, SftSection)

    @property
    def trains_dpo(self) -> bool:
        return isinstance(self.dpo, DpoSection)

    @property
    def learnt_elsewhere(self) -> list[str]:
        """The keys of data whose rows a model made elsewhere has learnt from already."""
        learnt = {"sft": self.sft, "preferences": self.dpo}
        return [key for key, model in learnt.items() if isinstance(model, ImportedModel) and getattr(self.data, key)]

    @property
    def unknown_training(self) -> list[str]:
        """The models made elsewhere whose training rows are not given, so that eval prompts may be among them."""
        rows = {"sft": (self.sft, self.data.sft), "dpo": (self.dpo, self.data.preferences)}
        return [name for name, (model, source) in rows.items() if isinstance(model, ImportedModel) and not source]

    @property
    def dev_prompts(self) -> int:
        """How many training prompts are kept out for the decision: none where it is waived or has a file of its own."""
        return 0 if self.decide.waive is not None or self.data.dev else self.data.dev_prompts

    @property
    def sft_max_length(self) -> int | None:
        """Tokens that a row of SFT may have; None where no SFT is trained."""
        return self.sft.max_length if isinstance(self.sft, SftSection) else None

    @property
    def gate_criteria(self) -> list[Criterion]:
        """What the gate demands: its criteria, else the defaults for the pairs that are judged."""
        written = self.gate.criteria
        return default_criteria(self.judged_pairs, self.arm_names) if written is None else written

    @property
    def eval_judge(self) -> JudgeSettings | None:
        """The judge of the comparison."""
        return self.eval.judge if self.eval.judge is not None else self.judge


def load_config(folder: Path) -> Config:
    """Reads and checks `fairlead.yaml` in `folder`.

    Raises:
        ConfigError: with every problem in one line, each naming its key.
    """
    path = Path(folder) / CONFIG_NAME
    try:
        data = read_yaml(path)
    except FileNotFoundError as error:
        raise ConfigError("no such file", where=str(path), remedy=f"make one: fairlead init {folder}") from error
    return parse_config(data, where=str(path), folder=Path(folder))


def parse_config(data: dict[str, Any], *, where: str = CONFIG_NAME, folder: Path = Path()) -> Config:
    """Checks a mapping that has the form of the YAML.

    Args:
        folder: the project folder, from which the files are found that hold a part of the config.
    """
    data = expand_judges(data, folder)
    data = {key: value for key, value in data.items() if not str(key).startswith("x-")}  # room for YAML anchors
    try:
        return Config.model_validate(data, context={"folder": folder})
    except ValidationError as error:
        raise ConfigError(explain(error, data, Config), where=where) from error
