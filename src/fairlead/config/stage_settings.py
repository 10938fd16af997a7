"""What each stage reads of `fairlead.yaml`: one frozen type per stage, whose fields name their place in the config.

A stage is given its settings and nothing else of the config, so a key made from them cannot miss a value that the
stage reads.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from operator import attrgetter
from typing import Annotated, Any, Self, cast

from fairlead.config.base import Count, CountOrZero, Fraction, NamedPath, NotInKey, NotNegative, Section
from fairlead.config.checks import CheckSettings
from fairlead.config.data import CheckName, DataCheckSettings, DataSection
from fairlead.config.decide import DecideSection
from fairlead.config.evaluation import AnswersSection, EvalSection, ProbeSettings
from fairlead.config.judges import JudgeCheckSettings, JudgeSettings
from fairlead.config.model import ModelSection
from fairlead.config.monitoring import WatchSettings
from fairlead.config.project import Config
from fairlead.config.release import Criterion, GateSection, ReportSection
from fairlead.config.sampling import JudgedBy, PairsSection, Recipe, SampleSection
from fairlead.config.training import DpoSection, ImportedModel, LoraSection, SftForm, SftSection
from fairlead.config.values.arms import PROMPTED, Arm


@dataclass(frozen=True)
class From:
    """The dotted path of a field in the config, where its name alone does not say it."""

    path: str


class StageSettings(Section):
    """The base: a field holds the config's value of the same name, or of its `From` path."""

    @classmethod
    def paths(cls) -> dict[str, str]:
        """The dotted path in the config of every field."""
        return {
            name: next((item.path for item in field.metadata if isinstance(item, From)), name)
            for name, field in cls.model_fields.items()
        }

    @classmethod
    def of(cls, config: Config) -> Self:
        """The settings of a project; its values have been checked already."""
        values = {name: attrgetter(path)(config) for name, path in cls.paths().items()}
        return cast(Self, cls.model_construct(**values))

    def key_values(self) -> dict[str, Any]:
        """What is part of the stage's key, by dotted path."""
        values, paths = super().key_values(), self.paths()
        return {paths[name]: value for name, value in values.items()}

    def named_paths(self, at: str = "") -> list[NamedPath]:
        """The files, models and data sets that the settings name, by their dotted path in the config."""
        paths = self.paths()
        named = []
        for path in super().named_paths(at):
            field, dot, rest = path.key.partition(".")
            named.append(replace(path, key=f"{paths[field]}{dot}{rest}"))
        return named


class PrepareSettings(StageSettings):
    """How the data files are read; how many prompts are kept out for the decision; whether eval rows have a source."""

    data: DataSection
    dev_prompts: CountOrZero
    needs_source: Annotated[bool, From("eval.needs_source")]
    learnt_elsewhere: list[str]

    def key_values(self) -> dict[str, Any]:
        """Only where models were made elsewhere does the last one matter."""
        return {name: value for name, value in super().key_values().items() if name != "learnt_elsewhere" or value}


class DecideSettings(StageSettings):
    """The candidates, the models that answer, and the targets of the answers."""

    decide: DecideSection
    model: ModelSection
    answers: AnswersSection
    metrics: Annotated[list[CheckSettings], From("eval.metrics")]
    max_missing: Annotated[Fraction, From("eval.max_missing")]
    judge: Annotated[JudgeSettings | None, From("eval_judge")]
    criteria: Annotated[list[Criterion] | None, From("gate.criteria")]
    similarity: Annotated[Fraction, From("data.similarity")]
    data_check: DataCheckSettings

    def key_values(self) -> dict[str, Any]:
        """A waived decision depends on nothing else; a candidate answers each dev prompt once."""
        if self.decide.waive is not None:
            return {"decide.waive": True}
        values = super().key_values()
        values["answers"] = {name: value for name, value in values["answers"].items() if name != "per_prompt"}
        return values

    def named_paths(self, at: str = "") -> list[NamedPath]:
        return super().named_paths(at) if self.decide.waive is None else []


class JudgeCheckStageSettings(StageSettings):
    """The judges that are qualified, and on what."""

    judge: JudgeSettings | None
    eval_judge: JudgeSettings | None
    judge_check: JudgeCheckSettings


class RowsCheckSettings(StageSettings):
    """The checks of the SFT rows and prompts, with the tokenizer that counts; the files' names are for the remedy."""

    model: ModelSection
    data_check: DataCheckSettings
    similarity: Annotated[Fraction, From("data.similarity")]
    sft_max_length: Count | None
    sft_file: Annotated[str | None, From("data.sft"), NotInKey]
    prompts_file: Annotated[str | None, From("data.prompts"), NotInKey]


class SftSettings(StageSettings):
    """Supervised fine-tuning."""

    model: ModelSection
    lora: LoraSection
    sft: SftSection


class ImportedModelSettings(StageSettings):
    """A model made elsewhere, and the base that it is held against."""

    model: ModelSection
    source: ImportedModel


class ImportedSftSettings(ImportedModelSettings):
    """An SFT model made elsewhere."""

    source: Annotated[ImportedModel, From("sft")]

    @property
    def sft(self) -> None:
        """It starts from the base."""
        return None


class ImportedDpoSettings(ImportedModelSettings):
    """A DPO model made elsewhere, and the SFT model that it may lie on."""

    source: Annotated[ImportedModel, From("dpo")]
    sft: SftForm | None


class SampleSettings(StageSettings):
    """How completions are drawn."""

    model: ModelSection
    sample: SampleSection


class JudgeStageSettings(StageSettings):
    """The judge of the pairs, and which completions it compares."""

    judge: JudgeSettings
    recipe: Annotated[Recipe, From("pairs.recipe")]
    judged_by: Annotated[JudgedBy, From("pairs.judged_by")]
    max_missing: Annotated[Fraction, From("pairs.max_missing")]


class PairsSettings(StageSettings):
    """How verdicts become pairs, and which faulty pairs are dropped."""

    pairs: PairsSection
    similarity: Annotated[Fraction, From("data.similarity")]
    drop: Annotated[list[CheckName], From("data_check.drop")]


class DataCheckStageSettings(StageSettings):
    """The checks of the pairs."""

    data_check: DataCheckSettings
    similarity: Annotated[Fraction, From("data.similarity")]


class DpoSettings(StageSettings):
    """DPO and how it is monitored."""

    model: ModelSection
    lora: LoraSection
    dpo: DpoSection
    watch: WatchSettings


class AnswersSettings(StageSettings):
    """How the held-out prompts are answered."""

    model: ModelSection
    answers: AnswersSection


class ArmsSettings(StageSettings):
    """The arms besides base, SFT and DPO, and how the held-out prompts are answered."""

    arms: list[Arm]
    model: ModelSection
    answers: AnswersSection
    decide: DecideSection

    def key_values(self) -> dict[str, Any]:
        """The decision is read by the best prompt alone."""
        values = super().key_values()
        return values if PROMPTED in self.arms else {name: v for name, v in values.items() if name != "decide"}

    def named_paths(self, at: str = "") -> list[NamedPath]:
        """Under the keys of the YAML, where the arms stand in `eval`."""
        paths = [
            path for path in super().named_paths(at) if PROMPTED in self.arms or path.key.split(".")[0] != "decide"
        ]
        return [replace(path, key=f"eval.{path.key}") if path.key.startswith("arms.") else path for path in paths]


class EvalSettings(StageSettings):
    """The comparison; the judge of the pairs is read to see whether it is the same."""

    eval: EvalSection
    judged_pairs: list[str]
    eval_judge: JudgeSettings | None
    judge: JudgeSettings | None
    unknown_training: list[str]

    def key_values(self) -> dict[str, Any]:
        """Only where models were made elsewhere does the last one matter; who answers is another stage's."""
        values = super().key_values()
        values["eval"] = {name: value for name, value in values["eval"].items() if name not in ("arms", "pairwise")}
        return {name: value for name, value in values.items() if name != "unknown_training" or value}

    def named_paths(self, at: str = "") -> list[NamedPath]:
        return [path for path in super().named_paths(at) if not path.key.startswith("eval.arms.")]


class DriftSettings(StageSettings):
    """Forgetting, drift and the implicit reward."""

    model: ModelSection
    probe: ProbeSettings


class GateSettings(StageSettings):
    """The criteria, and what the record says of a waived decision."""

    gate: GateSection
    criteria: Annotated[list[Criterion], From("gate_criteria")]
    similarity: Annotated[Fraction, From("data.similarity")]
    waived: Annotated[str | None, From("decide.waive"), NotInKey]
    price_per_hour: Annotated[NotNegative | None, From("decide.price_per_hour")]


class ReportSettings(StageSettings):
    """The name on the report, how many answers it shows, and what an hour of the machine costs."""

    name: str
    report: ReportSection
    price_per_hour: Annotated[NotNegative | None, From("decide.price_per_hour")]
