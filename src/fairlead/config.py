"""`fairlead.yaml` as types.

Every key has one line of documentation (it becomes the comment that `fairlead init` writes), a default that stands
nowhere else, and a reader. Unknown keys, wrong types and combinations that cannot work are refused, all at once, each
naming its key. A default that depends on another key (the learning rate of LoRA and of full weights) is filled in
here, so that the resolved config that a run saves says everything.
"""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from fairlead.checks import CheckSettings
from fairlead.decide.settings import DecideSection
from fairlead.errors import ConfigError
from fairlead.evaluation.settings import ProbeSettings
from fairlead.judges.settings import JudgeCheckSettings, JudgeSettings
from fairlead.preferences.settings import DataCheckSettings
from fairlead.release.settings import Criterion as Criterion
from fairlead.release.settings import GateSection, ReleaseSettings, default_criteria
from fairlead.training.watch_settings import WatchSettings

CONFIG_NAME = "fairlead.yaml"

Fraction = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]
Count = Annotated[int, Field(ge=1)]


class Section(BaseModel):
    """A frozen section of the YAML that refuses unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class ModelSection(Section):
    name: str = Field(description="base model: a folder, or a hub id such as Qwen/Qwen2.5-0.5B-Instruct")
    revision: str | None = Field(None, description="branch, tag or commit of a hub model")
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = Field(
        "auto", description="weights' type; auto is bfloat16 where the hardware computes in it, else float32"
    )
    quantization: Literal["4bit"] | None = Field(
        None, description="4bit loads the base as NF4 for QLoRA (needs CUDA and bitsandbytes)"
    )
    trust_remote_code: bool = Field(False, description="run Python code that the model's repository ships")
    chat_template: str | None = Field(
        None, description="file with a Jinja chat template to use instead of the tokenizer's own"
    )


class DataSection(Section):
    sft: str | None = Field(None, description="rows {prompt, answer} that SFT learns from (JSON, JSONL, Parquet)")
    prompts: str | None = Field(
        None, description="rows {prompt, gold?} whose completions are sampled and judged into preference pairs"
    )
    preferences: str | None = Field(
        None,
        description="ready preference pairs instead of sampled ones: a JSON, JSONL or Parquet file, or a hub id",
    )
    preferences_split: str = Field("train", description="split of a hub data set of preferences")
    preferences_format: str | None = Field(None, description="name of the rows' form, where detecting it goes wrong")
    eval: str = Field(description="rows {prompt, gold?} held out for the comparison; never trained on")
    dev: str | None = Field(
        None, description="rows {prompt, gold?} on which the decision is made; never trained on, and none of eval"
    )
    dev_prompts: Count = Field(
        150,
        description="without data.dev: training prompts that are kept out for the decision, at most a fifth of them",
    )
    system: str | None = Field(None, description="system instruction put before every prompt that has none")
    similarity: Fraction = Field(
        0.8, description="Jaccard similarity of 5-word shingles from which two prompts count as near-duplicates"
    )
    on_leak: Literal["drop", "fail"] = Field(
        "drop",
        description="a training row whose prompt is an eval prompt, or nearly: drop the row (counted), or fail",
    )

    @model_validator(mode="after")
    def _one_source_of_pairs(self) -> Self:
        if self.prompts and self.preferences:
            raise ValueError(
                "set either data.prompts (pairs are built) or data.preferences (pairs are ready), not both"
            )
        return self


class LoraSection(Section):
    r: Count = Field(16, description="rank of the update")
    alpha: Positive = Field(32.0, description="scale of the update (alpha / r)")
    dropout: Fraction = Field(0.05, description="dropout on the adapter's input while training")
    targets: list[str] | Literal["all-linear"] = Field(
        ["q_proj", "k_proj", "v_proj", "o_proj"], description="module names that get an adapter, or all-linear"
    )


class TrainSection(Section):
    """What SFT and DPO share."""

    method: Literal["lora", "full"] = Field("lora", description="lora trains an adapter, full trains all weights")
    learning_rate: Positive = Field(description="peak learning rate")
    epochs: Positive = Field(1.0, description="passes over the training rows")
    batch_size: Count = Field(8, description="rows per device and step")
    gradient_accumulation: Count = Field(1, description="steps summed into one update")
    max_length: Count = Field(1024, description="tokens of prompt and answer together; longer rows are cut at the end")
    warmup: Fraction = Field(0.1, description="share of the updates in which the learning rate rises from 0")
    schedule: Literal["linear", "cosine", "constant_with_warmup"] = Field("linear", description="after the warmup")
    weight_decay: Annotated[float, Field(ge=0)] = Field(0.0, description="AdamW's decay")
    max_grad_norm: Positive = Field(1.0, description="gradients are clipped to this norm")
    gradient_checkpointing: bool = Field(False, description="recompute activations: less memory, slower")
    log_every: Count = Field(5, description="updates between two lines of metrics.jsonl")
    eval_every: Count = Field(25, description="updates between two passes over the validation rows")
    save_every: Count = Field(25, description="updates between two checkpoints; a killed run goes on from the last")
    report_to: list[str] = Field(
        [], description="trackers that transformers knows: wandb, mlflow, tensorboard, trackio"
    )

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
    validation: Fraction = Field(0.1, description="share of the rows, whole prompts, kept out to watch the training")

    @model_validator(mode="before")
    @classmethod
    def _rate(cls, data: Any) -> Any:
        return _default_rate(data, lora=2e-4, full=2e-5)


class SampleSection(Section):
    temperatures: Annotated[list[Annotated[float, Field(ge=0)]], Field(min_length=1)] = Field(
        [0.7, 1.2], description="temperatures of the SFT model's completions, per prompt"
    )
    per_temperature: Count = Field(1, description="completions at each temperature")
    top_p: Annotated[float, Field(gt=0, le=1)] = Field(1.0, description="nucleus; 1 keeps the whole distribution")
    max_new_tokens: Count = Field(256, description="longest completion, in tokens")
    few_shot: Annotated[int, Field(ge=0)] = Field(
        0, description="also draw completions after so many examples of data.sft; 0 draws none"
    )
    constitution: str | None = Field(
        None,
        description="YAML file of principles: the model criticises and revises its first completion by one of them",
    )
    models: list[str] = Field([], description="other models that answer too: folders or hub ids")
    batch_size: Count = Field(32, description="completions generated at once; also the size of a resumable chunk")

    @model_validator(mode="after")
    def _two_at_least(self) -> Self:
        others = bool(self.few_shot) + bool(self.constitution) + len(self.models)
        if len(self.temperatures) * self.per_temperature + others < 2:
            raise ValueError("a pair needs two completions per prompt: give two temperatures or per_temperature 2")
        own = sorted({"base", "sft", "dpo"} & set(self.models))
        if own:
            raise ValueError(f"models: {own[0]} is the name of this project's own model; write ./{own[0]} for a folder")
        if self.per_temperature > 1 and 0 in self.temperatures:
            raise ValueError("temperature 0 gives one text: per_temperature above 1 would repeat it")
        return self


class PairsSection(Section):
    recipe: Literal["best_worst", "all", "revision", "models"] = Field(
        "best_worst",
        description="the best against the worst, all pairs above the margin, a revision that the judge prefers against "
        "what it revises, or answers of different models",
    )
    judged_by: Literal["comparisons", "scores"] = Field(
        "comparisons",
        description="scores asks for one score per completion instead of a verdict per pair; it has a margin",
    )
    margin: Annotated[float, Field(ge=0)] = Field(
        0.0, description="a pair is kept when the winner is better by more than this, in the judge's units"
    )
    max_missing: Fraction = Field(0.1, description="share of judgements without a verdict above which the stage fails")
    validation: Fraction = Field(0.1, description="share of the pairs, whole prompts, kept out to watch the training")


class DpoSection(TrainSection):
    log_every: Count = Field(1, description="updates between two lines of metrics.jsonl")
    beta: Positive = Field(0.1, description="strength of the tie to the reference; 0.01 loose, 1.0 hardly any change")
    loss_type: list[str] = Field(
        ["sigmoid"], description="TRL's losses, summed: sigmoid is DPO, also ipo, robust, sft …"
    )
    loss_weights: list[float] | None = Field(None, description="weight of each loss; 1 each if not given")
    label_smoothing: Annotated[float, Field(ge=0, lt=0.5)] = Field(
        0.0, description="probability that a label is wrong, for the losses that use it (robust, exo_pair, aot)"
    )
    batch_by: Literal["row", "prompt"] = Field(
        "row", description="prompt puts pairs of one prompt into one batch, where they share it: for pairs.recipe all"
    )
    label_noise: Literal["none", "measured"] = Field(
        "none", description="measured takes the judge's measured error into the loss: cDPO, or the robust loss"
    )
    label_checks: str | None = Field(
        None, description="rows {correct, margin?} of comparisons that people judged too (JSONL), for label_noise"
    )
    max_dropped: Fraction = Field(
        0.01, description="share of pairs that truncation may make empty or equal before training refuses to start"
    )

    @model_validator(mode="before")
    @classmethod
    def _rate(cls, data: Any) -> Any:
        return _default_rate(data, lora=5e-5, full=5e-6)

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


class AnswersSection(Section):
    temperature: Annotated[float, Field(ge=0)] = Field(0.0, description="0 answers greedily")
    top_p: Annotated[float, Field(gt=0, le=1)] = Field(1.0, description="nucleus; 1 keeps the whole distribution")
    max_new_tokens: Count = Field(256, description="longest answer, in tokens")
    batch_size: Count = Field(32, description="answers generated at once; also the size of a resumable chunk")


class EvalSection(Section):
    metrics: list[CheckSettings] = Field([], description="checks on every answer, each a row of the table")
    judge: JudgeSettings | None = Field(
        None, description="judge of the comparison; the judge of the pairs if not given"
    )
    pairwise: list[Literal["dpo_vs_sft", "sft_vs_base", "dpo_vs_base"]] = Field(
        ["dpo_vs_sft", "sft_vs_base", "dpo_vs_base"], description="which models are judged against each other"
    )
    scores: bool = Field(False, description="also ask the judge for a score from 1 to 10 for every answer")
    max_missing: Fraction = Field(0.1, description="share of judgements without a verdict above which the stage fails")


class ReportSection(Section):
    samples: Annotated[int, Field(ge=0)] = Field(10, description="answers shown side by side")


def _has_margins(judge: JudgeSettings | None) -> bool:
    """Whether a judge's verdicts on comparisons have margins: those of endpoints have none, of local models some."""
    return judge is None or judge.kind not in ("openai", "anthropic")


class Config(Section):
    """The whole of `fairlead.yaml`."""

    name: str = Field("project", description="name of the project, shown on the report")
    seed: Annotated[int, Field(ge=0)] = Field(0, description="seed of everything random")
    model: ModelSection
    data: DataSection
    decide: DecideSection = DecideSection()
    lora: LoraSection = LoraSection()
    sft: SftSection | None = Field(default_factory=lambda: SftSection.model_validate({}))
    sample: SampleSection = SampleSection()
    judge: JudgeSettings | None = None
    judge_check: JudgeCheckSettings | None = Field(
        None, description="labelled comparisons on which the judges are qualified before they judge; see docs/judges.md"
    )
    pairs: PairsSection = PairsSection()
    data_check: DataCheckSettings = DataCheckSettings()
    dpo: DpoSection = Field(default_factory=lambda: DpoSection.model_validate({}))
    watch: WatchSettings = WatchSettings()
    answers: AnswersSection = AnswersSection()
    eval: EvalSection = EvalSection()
    probe: ProbeSettings | None = ProbeSettings()
    gate: GateSection = GateSection()
    report: ReportSection = ReportSection()
    release: ReleaseSettings = ReleaseSettings()

    @model_validator(mode="after")
    def _combinations(self) -> Self:
        problems: list[str] = []
        if self.sft is not None and self.data.sft is None:
            problems.append(
                "data.sft is missing: give the rows SFT learns from, or set sft: null to start from the base"
            )
        if self.sft is None and self.data.sft is not None:
            problems.append("data.sft is read by nothing while sft is null: remove one of them")
        if not self.data.prompts and not self.data.preferences:
            problems.append("data.prompts or data.preferences is missing: DPO needs pairs, built or ready")
        if self.data.prompts and self.judge is None:
            problems.append("judge is missing: completions of data.prompts need a judge")
        if self.judge is None and self.eval.judge is None and (self.eval.pairwise or self.eval.scores):
            problems.append("eval.judge is missing: set one, or eval.pairwise: [] and eval.scores: false")
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
        full = [s for s in ("sft", "dpo") if (sec := getattr(self, s)) is not None and sec.method == "full"]
        if self.model.quantization and full:
            problems.append(f"{full[0]}.method: full cannot train a 4-bit base: use lora, or model.quantization: null")
        if self.sft is None and any("sft" in pair for pair in self.eval.pairwise):
            problems.append("eval.pairwise names sft, and sft is null: set eval.pairwise: [dpo_vs_base]")
        if not self.eval.metrics and not self.eval.pairwise and not self.eval.scores:
            problems.append("eval compares nothing: give eval.metrics, eval.pairwise or eval.scores")
        names = [metric.name for metric in self.eval.metrics]
        table = [*names, *(["judge_score"] if self.eval.scores else [])]
        measured: dict[str, list[str]] = {"table": table, "pairwise": list(self.eval.pairwise)}
        for criterion in self.gate.criteria or []:
            kind, _, rest = criterion.figure.partition(".")
            if kind in measured and rest.split(".")[0] not in measured[kind]:
                known = ", ".join(measured[kind]) or "none"
                problems.append(
                    f"gate.criteria names {criterion.figure}, which eval does not measure ({kind}: {known})"
                )
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            problems.append(f"eval.metrics has two metrics named {twice[0]}")
        if problems:
            raise ValueError("; ".join(problems))
        return self

    @property
    def dev_prompts(self) -> int:
        """How many training prompts are kept out for the decision: none where it is waived or has a file of its own."""
        return 0 if self.decide.waive is not None or self.data.dev else self.data.dev_prompts

    @property
    def gate_criteria(self) -> list[Criterion]:
        """What the gate demands: its criteria, else the defaults for the pairs that are judged."""
        given = self.gate.criteria
        return default_criteria(self.eval.pairwise) if given is None else given

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
        text = path.read_text(encoding="utf-8")
    except (FileNotFoundError, NotADirectoryError) as error:
        raise ConfigError("no such file", where=str(path), remedy=f"make one: fairlead init {folder}") from error
    except UnicodeDecodeError as error:
        raise ConfigError("not UTF-8", where=str(path), remedy="save it as UTF-8") from error
    except OSError as error:
        raise ConfigError(f"cannot be read ({error.strerror})", where=str(path)) from error
    try:
        data = yaml.safe_load(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f":{mark.line + 1}" if mark else ""
        problem = getattr(error, "problem", None) or "not YAML"
        raise ConfigError(f"not YAML: {problem}", where=f"{path}{line}") from error
    if not isinstance(data, dict):
        raise ConfigError("must be a mapping of keys to values", where=str(path), remedy="see fairlead init")
    return parse_config(data, where=str(path))


def parse_config(data: dict[str, Any], *, where: str = CONFIG_NAME) -> Config:
    """Checks a mapping that has the form of the YAML."""
    data = {key: value for key, value in data.items() if not str(key).startswith("x-")}  # room for YAML anchors
    try:
        return Config.model_validate(data)
    except ValidationError as error:
        raise ConfigError("; ".join(_explain(item) for item in error.errors()), where=where) from error


def _explain(item: Any) -> str:
    """One problem of pydantic's as `key: what is wrong`."""
    # Names of union members in the location are pydantic's, not the user's: drop those of a discriminated union.
    loc = [str(part) for part in item["loc"] if not str(part).startswith(("function-", "tagged-union"))]
    key = ".".join(loc) or "config"
    if item["type"] == "extra_forbidden":
        return f"{key}: unknown key{_nearest(loc)}"
    if item["type"] == "missing":
        return f"{key}: is missing"
    message = str(item["msg"]).removeprefix("Value error, ")
    if item["type"] == "value_error" and not item["loc"]:
        return message
    given = item.get("input")
    shown = f" (given: {given!r})" if isinstance(given, str | int | float | bool) or given is None else ""
    return f"{key}: {message[0].lower()}{message[1:]}{shown}"


def _nearest(loc: list[str]) -> str:
    """The known key nearest to an unknown one, as a suggestion."""
    section: Any = Config
    for part in loc[:-1]:
        annotation = section.model_fields[part].annotation if part in getattr(section, "model_fields", {}) else None
        candidates = [annotation, *getattr(annotation, "__args__", ())]
        section = next((c for c in candidates if isinstance(c, type) and issubclass(c, BaseModel)), None)
        if section is None:
            return ""
    near = difflib.get_close_matches(loc[-1], section.model_fields, n=1)
    return f", did you mean {near[0]}?" if near else f" (known: {', '.join(section.model_fields)})"
