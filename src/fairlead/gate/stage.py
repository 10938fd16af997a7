"""The `gate` stage: whether the evidence allows a release, for every candidate."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from fairlead.config.stage_settings import GateSettings
from fairlead.config.values.arms import PROMPTED
from fairlead.documents.evaluation import EvalResult
from fairlead.documents.gate import Candidate, CandidateResult, GateRecord
from fairlead.documents.pairs import PairOutcome
from fairlead.documents.report import Figures, drift_figures
from fairlead.files import dump_json, read_json, write_atomic
from fairlead.gate.criteria import advice, is_enough, judge_candidate
from fairlead.gate.figures import DPO_OVER_BASE, DPO_OVER_SFT, SFT_OVER_BASE, figure_tree, pair_faults
from fairlead.gate.output import gate_markdown, junit
from fairlead.pipeline import outputs as files
from fairlead.pipeline.artifacts import Manifest, package_versions
from fairlead.pipeline.stage import Context, Metrics
from fairlead.records import ModelPair, content_id
from fairlead.text.near_duplicates import overlaps
from fairlead.text.words import asked


def run(context: Context[GateSettings]) -> Metrics:
    """Writes gate.json (`GateRecord`), gate.md and gate.xml (JUnit)."""
    settings = context.settings
    for artifact in context.inputs.artifacts.values():
        artifact.verify(may_lack_weights=True)  # it records their hashes; a release reads them
    manifests = context.inputs.manifests()
    result = context.read(files.COMPARISON)
    candidates = _candidates(context, result)
    criteria = [criterion.model_dump(mode="json") for criterion in settings.criteria]
    record = GateRecord(
        status=candidates["dpo"].status,
        criteria=candidates["dpo"].criteria,
        candidates=candidates,
        advice=advice(
            {name: candidate.status for name, candidate in candidates.items()},
            prompting=is_enough(result.result_of(ModelPair("dpo", PROMPTED))),
        ),
        prompts=result.prompts,
        judge=result.judge,
        judged={name: manifest.hash for name, manifest in sorted(manifests.items())},
        eval_prompts=manifests["prepare"].files["eval.jsonl"],
        adapter=weights(manifests["dpo"]),
        adapters={name: weights(manifests[name]) for name in candidates},
        template=template_hash(context.inputs.path(files.DPO_MODEL), manifests["dpo"]),
        config=settings.gate.model_dump(mode="json") | {"criteria": criteria},
        waived=settings.waived,
        config_hash=content_id({name: manifest.config for name, manifest in sorted(manifests.items())}),
        versions=package_versions(),
    )
    record.write(context.out / "gate.json")
    write_atomic(context.out / "gate.md", gate_markdown(record))
    write_atomic(context.out / "gate.xml", junit(record.candidates))
    return {"status": record.status, "advice": record.advice}


def _candidates(context: Context[GateSettings], result: EvalResult) -> dict[Candidate, CandidateResult]:
    """DPO, and SFT where it was trained, each judged by the figures that compare it with what it was trained from."""
    manifests = context.inputs.manifests()
    pairs: dict[Candidate, ModelPair] = {"dpo": DPO_OVER_SFT if "sft" in manifests else DPO_OVER_BASE}
    if "sft" in manifests:
        pairs["sft"] = SFT_OVER_BASE
    leaks = count_leaks(context)
    trains = context.inputs.has(files.TRAIN_PAIRS)  # a DPO model made elsewhere has no pairs here
    data = pair_faults(context.read(files.TRAIN_PAIRS), context.read(files.VALIDATION_PAIRS)) if trains else {}
    data_check = _data_check(context) if trains else {}
    training = _training(manifests)
    drift = drift_figures(context.read(files.DRIFT)) if context.inputs.has(files.DRIFT) else {}
    candidates: dict[Candidate, CandidateResult] = {}
    for name, pair in pairs.items():
        figures = figure_tree(
            result,
            pair,
            leaks=leaks,
            data=data,
            data_check=data_check,
            training=training,
            drift=drift,
            arms=files.arms_of(context.inputs, context.settings.price_per_hour),
        )
        minimum = context.settings.gate.min_prompts
        candidates[name] = judge_candidate(context.settings.criteria, figures, pair, min_prompts=minimum)
    return candidates


def _training(manifests: Mapping[str, Manifest]) -> dict[str, Figures]:
    """What the stages of the training measured; an outcome that no comparison had is counted too, as 0."""
    figures: dict[str, Figures] = {
        name: manifests[name].figures for name in ("sft", "pairs", "dpo") if name in manifests
    }
    counts = figures["pairs"]["counts"] if "pairs" in figures else None
    if isinstance(counts, dict) and counts:
        figures["pairs"] = {**figures["pairs"], "counts": {**dict.fromkeys(map(str, PairOutcome), 0), **counts}}
    return figures


def weights(manifest: Manifest) -> dict[str, str]:
    """SHA-256 of every file of a trained model."""
    return {name: digest for name, digest in manifest.files.items() if name.startswith("model/")}


def template_hash(model: Path, manifest: Manifest) -> str | None:
    """SHA-256 of the chat template that the model is asked with, in a file of its own or in the tokenizer's config."""
    digest = manifest.files.get("model/chat_template.jinja")
    if digest is not None or "model/tokenizer_config.json" not in manifest.files:
        return digest
    template = read_json(model / "tokenizer_config.json").get("chat_template")
    if template is None:
        return None
    text = template if isinstance(template, str) else dump_json(template)  # several templates, by name
    return hashlib.sha256(text.encode()).hexdigest()


def count_leaks(context: Context[GateSettings]) -> int:
    """Training prompts that are eval prompts or near-duplicates of one, compared by content once more."""
    eval_set = [asked(prompt) for prompt in context.read(files.EVAL_PROMPTS)]
    trained = [asked(example.prompt) for example in context.read(files.SFT_ROWS)]
    for output in (files.TRAIN_PAIRS, files.VALIDATION_PAIRS):
        trained += [asked(pair.prompt) for pair in context.read(output)] if context.inputs.has(output) else []
    return len(overlaps(trained, eval_set, context.settings.similarity))


def _data_check(context: Context[GateSettings]) -> dict[str, int]:
    """How many checks of the pairs failed (all of them waived, or training would not have begun), and warned."""
    findings = context.read(files.DATA_CHECK).findings
    states = Counter(finding.status for finding in findings)
    return {"failed": states["fail"], "warned": states["warn"]}
