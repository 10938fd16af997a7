"""How each decoder family of transformers is trained and decoded: `make architectures`; prints a Markdown table.

Every family is measured on a tiny model with random weights (`tiny_decoders`): its forward of training against TRL's on
a padded batch, in float32, and its decoding with continuous batching against `model.generate`, one prompt at a time.
With names of families as arguments only those are measured.
"""

from __future__ import annotations

import logging
import sys
import time
import warnings
from dataclasses import dataclass

import transformers as hf
from transformers.models.auto.modeling_auto import (
    MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
    MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES,
)

from benchmarks import OUT
from benchmarks.architectures.checks import Trained, check_decoding, check_training
from benchmarks.architectures.tiny_decoders import tiny_model

FIGURES = OUT / "architectures.md"

# Encoders, and decoders beside an encoder; speech and music; parts of other models; no longer fine-tuned;
# Llama under another name.
LEFT_OUT = """
bart bert bert-generation big_bird bigbird_pegasus blenderbot blenderbot-small camembert data2vec-text electra ernie
marian mbart megatron-bert mvp pegasus plbart prophetnet rembert roberta roberta-prelayernorm roc_bert roformer trocr
whisper xlm xlm-roberta xlm-roberta-xl xlnet xmod
moshi musicgen musicgen_melody moss_transcribe_diarize
aria_text blt cohere_compass_text emu3 fuyu gemma4_assistant gemma4_unified_assistant git got_ocr2
cpmant ctrl gpt-sw3 gpt_neox_japanese openai-gpt reformer rwkv xglm
internlm3 iquestcoder
"""
WITH_IMAGES = """
aya_vision cohere2_vision exaone4_5 gemma3 gemma3n gemma4 gemma4_unified glm4v glm4v_moe idefics3 internvl kimi_k25
lfm2_vl llama4 llava llava_next llava_onevision mistral3 mllama nemotron_h_omni ovis2 paligemma qwen2_vl qwen2_5_vl
qwen3_5 qwen3_5_moe qwen3_vl qwen3_vl_moe smolvlm
"""

WAYS = {
    "packed": "packed",
    "carried": "prompt's state carried on",
    "rows": "distinct rows",
    "trl": "TRL's own",
}


@dataclass(frozen=True)
class Family:
    """A row of the table."""

    name: str
    takes_images: bool
    trained: Trained
    decoded: tuple[bool, str | None]

    def cells(self) -> list[str]:
        trained, (same, why) = self.trained, self.decoded
        way = WAYS[trained.way]
        if trained.way == "packed" and trained.long_rows:
            way += "; distinct rows where a row is longer than the window or chunk"
        reason = "" if trained.why is None else f": {trained.why}"
        engine = "no: " + why if why is not None else "yes" if same else "other tokens than `generate`"
        return [
            f"`{self.name}`",
            way + reason,
            f"{trained.log_probs:.0e}" + ("" if trained.by_trl else "*"),
            f"{trained.gradients:.0e}",
            engine,
            "yes" if self.takes_images else "",
        ]


HEAD = ["family", "training", "log-prob. differ by", "gradients by", "continuous batching", "takes images too"]


def families() -> list[str]:
    """The `model_type` of all families of decoders that people fine-tune, in alphabetical order."""
    return sorted(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.keys() - set(LEFT_OUT.split()) | set(WITH_IMAGES.split()))


def measure(name: str) -> Family:
    """Measures one family.

    Raises:
        Exception: whatever its tiny model raises, if it cannot be built or computed.
    """
    decoded = check_decoding(tiny_model(name))
    return Family(name, name in MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES, check_training(tiny_model(name)), decoded)


def line(cells: list[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def summary(measured: list[Family]) -> str:
    """How many families go which way, in one line."""
    ways = [f"{sum(row.trained.way == way for row in measured)} {name}" for way, name in WAYS.items()]
    engine = sum(row.decoded == (True, None) for row in measured)
    worst = max((row.trained.log_probs for row in measured), default=0.0)
    gradients = max((row.trained.gradients for row in measured), default=0.0)
    return (
        f"{len(measured)} families: {', '.join(ways)}; {engine} with continuous batching. Log-probabilities differ by "
        f"{worst:.0e} at most, gradients by {gradients:.0e}."
    )


def main() -> None:
    warnings.filterwarnings("ignore")
    hf.logging.set_verbosity_error()
    logging.disable(logging.INFO)
    names, measured, failed = sys.argv[1:] or families(), list[Family](), list[str]()
    lines = [line(HEAD), "|" + "---|" * len(HEAD)]
    print("\n".join(lines))
    for name in names:
        start = time.monotonic()
        try:
            measured.append(measure(name))
            lines.append(line(measured[-1].cells()))
            print(lines[-1], flush=True)
        except Exception as error:
            first = (str(error).strip().splitlines() or [""])[0][:200]
            failed.append(f"`{name}` ({type(error).__name__}: {first})")
        print(f"{name}: {time.monotonic() - start:.1f} s", file=sys.stderr)
    after = ["", summary(measured)]
    if failed:
        after += ["", f"Not measured, because no tiny model of them computes: {'; '.join(failed)}."]
    print("\n".join(after))
    lines += after
    FIGURES.parent.mkdir(exist_ok=True)
    FIGURES.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
