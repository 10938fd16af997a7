"""The reward-KL frontier of the demo task, whose reward can be computed: `make bench-frontier`.

DPO over β, against SFT on the chosen answers alone, best-of-n with its analytic KL, and TRL's RLOO, which has the true
reward. All begin at one SFT model, learn from the same prompts, and are scored on the same held-out prompts by one
sampled answer each. Printed are the settings, and of each method the difference to DPO's frontier at equal KL.
"""

from __future__ import annotations

import argparse
import math
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

os.environ.setdefault("TQDM_DISABLE", "1")
os.environ.setdefault("HF_DATASETS_DISABLE_PROGRESS_BARS", "1")
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
os.environ.setdefault("TRL_EXPERIMENTAL_SILENCE", "1")

import numpy as np
from datasets import Dataset
from diagnosis_lab import LONGEST, Case, Lab
from frontier_compare import Setting, compare, verdict_markdown
from rich.console import Console
from trl import RLOOConfig, RLOOTrainer

from fairlead.demo.project import make_project
from fairlead.files import write_json
from fairlead.models.chat import conversation
from fairlead.models.generation import CompletionRequest, LocalGenerator
from fairlead.models.hardware import computes_bf16
from fairlead.models.loading import load_adapter, load_base, load_tokenizer
from fairlead.pipeline import datasets
from fairlead.progress import Lines
from fairlead.records import Prompt, Sampling
from fairlead.statistics.intervals import mean_interval
from fairlead.training import hf_trainer

OUT = Path(__file__).parent / "out"
SEEDS, HELD_OUT = 3, 200
BEST_OF = (2, 4, 8, 16, 32, 64)
BETAS = (0.05, 0.1, 0.3, 1.0, 3.0, 5.0)  # the paper's, and two between them
PAIRS = 640
LEARNING = {"learning_rate": 5e-4, "loss_type": ["sigmoid"], "epochs": 2}


@dataclass(frozen=True)
class Measured:
    """Scores and log-ratios of one policy's answers; the KL of best-of-n is known and needs none."""

    method: str
    setting: str
    seed: int
    prompts: list[str]
    scores: list[float]
    ratios: list[float]


def expected_best(scores: Sequence[float], n: int) -> float:
    """Mean of the best of n answers, over all choices of n out of those drawn; unbiased."""
    ordered = sorted(scores)
    all_choices = math.comb(len(ordered), n)
    return sum(score * math.comb(i, n - 1) / all_choices for i, score in enumerate(ordered))


def best_of_n_kl(n: int) -> float:
    """log n − (n − 1) / n nats: exact where no two answers score the same, an upper bound where they do."""
    return math.log(n) - (n - 1) / n


def trained(
    lab: Lab, method: str, setting: str, settings: dict[str, Any], seed: int, eval_prompts: list[Prompt]
) -> Measured:
    trainer, context = lab.trainer(Case(f"{method} {setting}", LEARNING | settings, pairs=PAIRS), seed)
    hf_trainer.train(trainer, context, method)
    scores, ratios = lab.sampled(trainer, eval_prompts)
    return Measured(method, setting, seed, [prompt.id for prompt in eval_prompts], scores, ratios)


def best_of_n(lab: Lab, eval_prompts: list[Prompt]) -> list[Measured]:
    """One draw of 64 answers a prompt of the SFT model serves every n; n 1 is that model itself. Nothing is trained."""
    trainer, _ = lab.trainer(Case("start"), 0)
    generator = LocalGenerator.of(trainer.model.eval(), trainer.processing_class, name="sft", batch_size=128)
    sampling = Sampling(1.0, 1.0, LONGEST)
    requests = [CompletionRequest(prompt, sampling, i, "sft") for prompt in eval_prompts for i in range(max(BEST_OF))]
    texts = [completion.text for completion in generator.generate(requests, seed=0)]
    scores = lab.scores([request.prompt for request in requests], texts)
    groups = [scores[i : i + max(BEST_OF)] for i in range(0, len(scores), max(BEST_OF))]
    ids = [prompt.id for prompt in eval_prompts]
    return [
        Measured("best of n", f"n {n}", 0, ids, [expected_best(s, n) for s in groups], [best_of_n_kl(n)] * len(groups))
        for n in (1, *BEST_OF)
    ]


def rloo(lab: Lab, beta: float, seed: int, eval_prompts: list[Prompt], steps: int) -> Measured:
    """TRL's RLOO from the SFT adapter on the prompts of DPO's pairs, with the task's own score as its reward."""
    model = lab.project.config.model
    base = load_base(model, lab.project.folder)
    policy = load_adapter(base, lab.made["sft"].file("model"), trainable=True)
    pairs, _ = lab.pairs_of(Case("RLOO", pairs=PAIRS), seed)
    paired = {pair.prompt.id for pair in pairs}
    prompts = [p for p in datasets.prompts(lab.made["prepare"].file("prompts.jsonl")) if p.id in paired]
    known = {prompt.messages[-1].content: prompt for prompt in prompts}

    def reward(prompts: list[Any], completions: list[Any], **_: Any) -> list[float]:
        return lab.scores([known[p[-1]["content"]] for p in prompts], [c[-1]["content"] for c in completions])

    trainer = RLOOTrainer(
        model=policy,
        reward_funcs=reward,
        args=RLOOConfig(
            output_dir=str(lab.scratch / "rloo"),
            beta=beta,
            learning_rate=LEARNING["learning_rate"],
            max_steps=steps,
            per_device_train_batch_size=32,
            num_generations=4,
            max_completion_length=LONGEST,
            seed=seed,
            report_to="none",
            save_strategy="no",
            logging_strategy="no",
            use_cpu=True,
            bf16=computes_bf16(policy.device),
            disable_tqdm=True,
        ),
        train_dataset=Dataset.from_list([{"prompt": conversation(prompt)} for prompt in prompts]),
        processing_class=load_tokenizer(model, lab.project.folder),
    )
    trainer.train()
    trainer.tokenizer = trainer.processing_class
    scores, ratios = lab.sampled(trainer, eval_prompts)
    return Measured("RLOO", f"beta {beta:g}", seed, [prompt.id for prompt in eval_prompts], scores, ratios)


def table(measured: Sequence[Measured]) -> list[dict[str, Any]]:
    """One row per method and setting over its seeds; prompts are the clusters."""
    table_rows = []
    for method, setting in dict.fromkeys((m.method, m.setting) for m in measured):
        of = [m for m in measured if (m.method, m.setting) == (method, setting)]
        ids = [i for m in of for i in m.prompts]
        score = mean_interval([s for m in of for s in m.scores], ids)
        kl = mean_interval([r for m in of for r in m.ratios], ids)
        row = {"method": method, "setting": setting, "seeds": len(of), "n": len(ids)}
        for name, figure in (("score", score), ("kl", kl)):
            row |= {name: figure.value, f"{name}_low": figure.low, f"{name}_high": figure.high}
        table_rows.append(row)
    return table_rows


def markdown(table_rows: Sequence[dict[str, Any]]) -> str:
    def cell(row: dict[str, Any], name: str) -> str:
        ends = "" if row[f"{name}_low"] is None else f" [{row[f'{name}_low']:.3f}, {row[f'{name}_high']:.3f}]"
        return f"{row[name]:.3f}{ends}"

    lines = ["| method | setting | KL, nats per answer | score | seeds |", "|---|---|---|---|---|"]
    lines += [
        f"| {r['method']} | {r['setting']} | {cell(r, 'kl')} | {cell(r, 'score')} | {r['seeds']} |" for r in table_rows
    ]
    return "\n".join(lines)


def settings_of(measured: Sequence[Measured]) -> list[Setting]:
    """Every method and setting with its seeds side by side."""
    made = []
    for method, setting in dict.fromkeys((m.method, m.setting) for m in measured):
        of = [m for m in measured if (m.method, m.setting) == (method, setting)]
        scores, ratios = np.array([m.scores for m in of]), np.array([m.ratios for m in of])
        made.append(Setting(method, setting, scores, ratios))
    return made


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--project", type=Path, default=OUT / "diagnosis-project")
    parser.add_argument("--seeds", type=int, default=SEEDS)
    parser.add_argument("--held-out", type=int, default=HELD_OUT, help="prompts that every method answers")
    parser.add_argument("--rloo-steps", type=int, default=60)
    options = parser.parse_args()
    make_project(options.project, seed=0, progress=Lines(Console(stderr=True)))
    lab = Lab(options.project, OUT / "frontier-scratch", well_formed=False)
    eval_prompts = datasets.prompts(lab.made["prepare"].file("eval.jsonl"))[: options.held_out]
    measured = best_of_n(lab, eval_prompts)
    for seed in range(options.seeds):
        for beta in BETAS:
            measured.append(trained(lab, "DPO", f"beta {beta:g}", {"beta": beta}, seed, eval_prompts))
        for epochs in (1, 3):
            settings = {"loss_type": ["sft"], "epochs": epochs}
            measured.append(trained(lab, "SFT on chosen", f"{epochs} epochs", settings, seed, eval_prompts))
        for beta in (0.03, 0.3):
            measured.append(rloo(lab, beta, seed, eval_prompts, options.rloo_steps))
        print(f"seed {seed} done", flush=True)
    start, *others = settings_of(measured)
    differences = compare(others, start)
    print(f"\n{markdown(table(measured))}\n\n{verdict_markdown(differences)}\n")
    verdicts = [{**asdict(one), "word": one.word} for one in differences]
    write_json(OUT / "frontier.json", {"rows": table(measured), "differences": verdicts})


if __name__ == "__main__":
    main()
