"""The model card, made with huggingface_hub: evaluation, the gate's verdict, training data, licence and limits."""

from __future__ import annotations

from collections.abc import Mapping

from huggingface_hub import EvalResult, ModelCard, ModelCardData

from fairlead.config.release import ReleaseSettings
from fairlead.documents.gate import Candidate, GateRecord
from fairlead.documents.release import ReleaseEvidence
from fairlead.documents.report import Report
from fairlead.documents.training import Origin
from fairlead.escape import code_span, markdown, one_line
from fairlead.gate.output import criteria_markdown, waiver
from fairlead.records import ModelPair
from fairlead.release.gguf_base import GgufBase
from fairlead.report.markdown import pairwise_markdown, table_markdown

_TEMPLATE = """---
{{ card_data }}
---

# {{ title }}

{% for warning in overridden %}> **Released despite the gate.** {{ warning }}
{% endfor %}{% if reason %}>
> Reason given: {{ reason }}
{% endif %}
{{ what }}

## How to use

```python
{{ usage }}
```

## Evaluation

{{ evaluation }}

## Gate

{{ gate }}

## Training data

{{ data }}

## Licence and limits

{{ limits }}

## Traces

{{ traces }}
"""


def model_card(
    *,
    name: str,
    version: str,
    candidate: Candidate,
    form: str,
    base: str,
    revision: str | None,
    dtype: str,
    local: bool,
    gguf: GgufBase | None = None,
    settings: ReleaseSettings,
    evidence: ReleaseEvidence,
    record: GateRecord | None,
    report: Report | None,
) -> str:
    """The card's text.

    Args:
        form: adapter or full weights.
        base: the base model's name, at `revision`; its answers were generated in `dtype`.
        local: whether that name is a folder or file on this machine, which readers of the card do not have.
        gguf: the file that the base model was unpacked from, if it was.
    """
    title = one_line(f"{name} {version}")
    what = _what(candidate, form, base, local and gguf is None, evidence.brought_from)
    data = ModelCardData(
        base_model=None if local else base,
        library_name="peft" if form == "adapter" else "transformers",
        license=settings.license,
        language=settings.language or None,
        pipeline_tag="text-generation",
        tags=["fairlead", candidate, *(["lora"] if form == "adapter" else [])],
        model_name=title,
        eval_results=_results(report, candidate, one_line(name)) or None,
        ignore_metadata_errors=False,
    )
    card = ModelCard.from_template(
        data,
        template_str=_TEMPLATE,
        title=markdown(title),
        overridden=[markdown(problem) for problem in evidence.problems],
        reason=markdown(evidence.despite or ""),
        what=what if gguf is None else f"{what}\n\n{gguf.note}",
        usage=_usage(form, base, revision, dtype, gguf if local else None),
        evaluation=_evaluation(report),
        gate=_gate(record, candidate),
        data=_data(report, settings),
        limits=_limits(settings),
        traces=_traces(evidence),
    )
    return str(card)


def _results(report: Report | None, candidate: Candidate, name: str) -> list[EvalResult]:
    """The win rate of the candidate over what it was trained from, where it was judged."""
    pair = ModelPair("dpo", "sft") if candidate == "dpo" else ModelPair("sft", "base")
    figures = None if report is None else report.pairwise.get(str(pair))
    if figures is None or figures.win_rate is None:
        return []
    return [
        EvalResult(
            task_type="text-generation",
            dataset_type="held-out",
            dataset_name=f"{name}, {figures.n} held-out prompts",
            metric_type="win_rate",
            metric_name=f"win rate over {pair.reference}, ties half",
            metric_value=round(figures.win_rate, 4),
        )
    ]


def _what(candidate: Candidate, form: str, base: str, local: bool, brought_from: Mapping[str, Origin]) -> str:
    trained: dict[Candidate, str] = {
        "sft": "supervised fine-tuning",
        "dpo": "direct preference optimisation, after supervised fine-tuning if the project has that stage",
    }
    weights = "A LoRA adapter on" if form == "adapter" else "The full weights of"
    sentence = f"{weights} {code_span(base)}, trained by {trained[candidate]}. `reflection.md` says what that changed."
    sentence += "".join(
        f"\n\nThe {stage.upper()} model was not trained in this project. It was brought from "
        f"{code_span(origin.address)} as {'an adapter' if origin.form == 'adapter' else origin.form}; `evidence.json` "
        "has the hashes of its files."
        for stage, origin in brought_from.items()
    )
    if local and form == "adapter":
        sentence += (
            f"\n\nThe base model {code_span(base)} was a local folder: the adapter works only on the same weights."
        )
    return sentence


def _usage(form: str, base: str, revision: str | None, dtype: str, gguf: GgufBase | None = None) -> str:
    """Python that generates the evaluated answers: the same base, number type, chat template and decoding settings."""
    at = "" if revision is None else f", revision={revision!r}"
    load = f"base = AutoModelForCausalLM.from_pretrained({base!r}{at}, dtype={dtype!r})"
    adapter = [
        *(gguf.loading(dtype) if gguf is not None else [load]),
        "model = PeftModel.from_pretrained(base, folder).eval()",
        "model.generation_config = GenerationConfig.from_pretrained(folder)",
    ]
    full_weights = [f"model = AutoModelForCausalLM.from_pretrained(folder, dtype={dtype!r}).eval()"]
    imports = "AutoModelForCausalLM, AutoTokenizer" + (", GenerationConfig" if form == "adapter" else "")
    return "\n".join(
        [
            *(["from peft import PeftModel"] if form == "adapter" else []),
            f"from transformers import {imports}",
            "",
            'folder = "."  # this folder',
            *(adapter if form == "adapter" else full_weights),
            "tokenizer = AutoTokenizer.from_pretrained(folder)",
            'messages = [{"role": "user", "content": "…"}]',
            "inputs = tokenizer.apply_chat_template(",
            '    messages, add_generation_prompt=True, return_tensors="pt", return_dict=True',
            ").to(model.device)",
            'answer = model.generate(**inputs)[0, inputs["input_ids"].shape[1] :]',
            "print(tokenizer.decode(answer, skip_special_tokens=True))",
        ]
    )


def _evaluation(report: Report | None) -> str:
    if report is None:
        return "There is no report of the evaluation."
    judge, missing = code_span(str(report.judge)), report.missing
    intro = f"{report.prompts} held-out prompts, judge {judge}, {missing:.1%} of the judgements missing."
    intro += " Intervals are 95 %."
    caveats = "\n".join(f"- **{caveat.name}**: {markdown(caveat.text)}" for caveat in report.warnings)
    parts = [intro, table_markdown(report.table), pairwise_markdown(report.pairwise), caveats]
    return "\n\n".join(part for part in parts if part)


def _gate(record: GateRecord | None, candidate: Candidate) -> str:
    if record is None:
        return "The gate has not judged this model."
    judged, waived = record.candidates[candidate], waiver(record.waived)
    return f"**{judged.status}** for {candidate}.\n\n{criteria_markdown(judged.criteria)}" + (
        f"\n\n{waived}" if waived else ""
    )


def _data(report: Report | None, settings: ReleaseSettings) -> str:
    stated = settings.data or "Source and licence of the training data were not stated."
    if report is None:
        return stated
    lines = ["| Stage | Figure | Value |", "|---|---|---|"]
    for stage in ("prepare", "sft", "pairs"):
        for key, value in report.figures.get(stage, {}).items():
            if isinstance(value, int):
                lines.append(f"| {stage} | {key.replace('_', ' ')} | {value} |")
    inputs = report.lineage["prepare"].inputs if "prepare" in report.lineage else {}
    sources = "\n".join(f"| {name} | `{digest}` |" for name, digest in inputs.items() if name.startswith("data."))
    return "\n\n".join([stated, "\n".join(lines), f"| Source | Hash |\n|---|---|\n{sources}"])


def _limits(settings: ReleaseSettings) -> str:
    licence = f"Licence: {settings.license}." if settings.license else "No licence was stated."
    return f"{licence} {settings.limits or 'Limits of use were not stated.'}"


def _traces(evidence: ReleaseEvidence) -> str:
    rows = [
        ("eval prompts", evidence.eval_prompts),
        ("judge", evidence.judge),
        ("chat template", evidence.template),
        ("config", evidence.config),
        ("gate record", evidence.gate_record),
        *evidence.weights.items(),
        *evidence.versions.items(),
    ]
    return "\n".join(
        ["| What | Hash or version |", "|---|---|", *(f"| {k} | {code_span(str(v))} |" for k, v in rows if v)]
    )
