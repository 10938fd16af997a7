"""The reward-KL frontier of the demo task, whose reward can be computed: `make bench-frontier`.

DPO over β, against SFT on the chosen answers alone, best-of-n with its analytic KL, and TRL's RLOO, which has the true
reward. All begin at one SFT model, learn from the same prompts, and are scored on the same held-out prompts by one
sampled answer each. Printed are the settings, and of each method the difference to DPO's frontier at equal KL.
`--model` (`make bench-frontier MODEL=smollm2`) takes a pretrained model in the place of the demo's small one.
"""

from __future__ import annotations

import argparse
import math
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

os.environ.setdefault("TQDM_DISABLE", "1")
os.environ.setdefault("HF_DATASETS_DISABLE_PROGRESS_BARS", "1")
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
os.environ.setdefault("TRL_EXPERIMENTAL_SILENCE", "1")

import numpy as np
from datasets import Dataset
from trl import RLOOConfig, RLOOTrainer

from benchmarks import OUT
from benchmarks.diagnosis.cases import Case
from benchmarks.diagnosis.lab import LONGEST, Lab, lab_name, make_lab
from benchmarks.frontier.compare import Setting, compare, verdict_markdown
from fairlead.files import write_json
from fairlead.models.chat import conversation
from fairlead.models.generation import CompletionRequest, LocalGenerator
from fairlead.models.hardware import computes_bf16
from fairlead.models.loading import load_adapter, load_base, load_tokenizer
from fairlead.pipeline import datasets
from fairlead.records import Prompt, Sampling
from fairlead.statistics.intervals import mean_interval
from fairlead.training import hf_trainer


@dataclass(frozen=True)
class Plan:
    """What the methods are trained with.

    Attributes:
        held_out: prompts that every method answers.
        best_of: numbers of answers out of which the best is taken.
        pairs: that DPO and SFT on chosen learn from; RLOO learns from their prompts.
        settings: of a `dpo` section.
        sft_epochs: of SFT on the chosen answers.
        rloo_betas, rloo_steps, rloo_batch: of RLOO; a batch holds four answers to each of its prompts.
    """

    seeds: int
    held_out: int
    best_of: tuple[int, ...]
    betas: tuple[float, ...]
    pairs: int
    settings: Mapping[str, Any]
    sft_epochs: tuple[int, ...]
    rloo_betas: tuple[float, ...]
    rloo_steps: int
    rloo_batch: int


SMALL_PLAN = Plan(
    seeds=3,
    held_out=200,
    best_of=(2, 4, 8, 16, 32, 64),
    betas=(0.05, 0.1, 0.3, 1.0, 3.0, 5.0),  # the paper's, and two between them
    pairs=640,
    settings={"learning_rate": 5e-4, "loss_type": ["sigmoid"], "epochs": 2},
    sft_epochs=(1, 3),
    rloo_betas=(0.03, 0.3),
    rloo_steps=60,
    rloo_batch=32,
)
PRETRAINED_PLAN = Plan(
    seeds=2,
    held_out=60,
    best_of=(2, 4, 8),
    betas=(0.05, 0.1, 0.3, 1.0),
    pairs=96,
    settings={"learning_rate": 2e-4, "loss_type": ["sigmoid"], "epochs": 1},
    sft_epochs=(1,),
    rloo_betas=(0.03,),
    rloo_steps=16,
    rloo_batch=16,
)


@dataclass(frozen=True)
class Measured:
    """Scores and KLs of one policy's answers; the KL of best-of-n is known and measured on none."""

    method: str
    setting: str
    seed: int
    prompts: list[str]
    scores: list[float]
    kls: list[float]


def expected_best(scores: Sequence[float], n: int) -> float:
    """Mean of the best of n answers, over all choices of n out of those drawn; unbiased."""
    ordered = sorted(scores)
    all_choices = math.comb(len(ordered), n)
    return sum(score * math.comb(i, n - 1) / all_choices for i, score in enumerate(ordered))


def best_of_n_kl(n: int) -> float:
    """log n − (n − 1) / n nats: exact where no two answers score the same, an upper bound where they do."""
    return math.log(n) - (n - 1) / n


def trained(
    lab: Lab, plan: Plan, method: str, setting: str, settings: dict[str, Any], seed: int, eval_prompts: list[Prompt]
) -> Measured:
    case = Case(f"{method} {setting}", settings={**plan.settings, **settings}, pairs=plan.pairs)
    trainer, context = lab.trainer(case, seed)
    hf_trainer.train(trainer, context, method)
    scores, kls = lab.sampled(trainer, eval_prompts)
    return Measured(method, setting, seed, [prompt.id for prompt in eval_prompts], scores, kls)


def best_of_n(lab: Lab, ns: Sequence[int], eval_prompts: list[Prompt]) -> list[Measured]:
    """One draw of answers of the SFT model serves every n; n 1 is that model itself. Nothing is trained."""
    trainer, _ = lab.trainer(Case("start"), 0)
    generator = LocalGenerator.of(trainer.model.eval(), trainer.processing_class, name="sft", batch_size=128)
    sampling = Sampling(1.0, 1.0, LONGEST)
    drawn = max(ns)
    requests = [CompletionRequest(prompt, sampling, i, "sft") for prompt in eval_prompts for i in range(drawn)]
    texts = [completion.text for completion in generator.generate(requests, seed=0)]
    scores = lab.scores([request.prompt for request in requests], texts)
    groups = [scores[i : i + drawn] for i in range(0, len(scores), drawn)]
    ids = [prompt.id for prompt in eval_prompts]
    return [
        Measured("best of n", f"n {n}", 0, ids, [expected_best(s, n) for s in groups], [best_of_n_kl(n)] * len(groups))
        for n in (1, *ns)
    ]


def rloo(lab: Lab, plan: Plan, beta: float, seed: int, eval_prompts: list[Prompt]) -> Measured:
    """TRL's RLOO from the SFT adapter on the prompts of DPO's pairs, with the task's own score as its reward."""
    model = lab.project.config.model
    base = load_base(model, lab.project.folder)
    policy = load_adapter(base, lab.made["sft"].file("model"), trainable=True)
    pairs, _ = lab.pairs_of(Case("RLOO", pairs=plan.pairs), seed)
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
            learning_rate=plan.settings["learning_rate"],
            max_steps=plan.rloo_steps,
            per_device_train_batch_size=plan.rloo_batch,
            num_generations=4,
            max_completion_length=LONGEST,
            seed=seed,
            report_to="none",
            save_strategy="no",
            logging_strategy="no",
            use_cpu=policy.device.type == "cpu",
            bf16=computes_bf16(policy.device),
            disable_tqdm=True,
        ),
        train_dataset=Dataset.from_list([{"prompt": conversation(prompt)} for prompt in prompts]),
        processing_class=load_tokenizer(model, lab.project.folder),
    )
    trainer.train()
    trainer.tokenizer = trainer.processing_class
    scores, kls = lab.sampled(trainer, eval_prompts)
    return Measured("RLOO", f"beta {beta:g}", seed, [prompt.id for prompt in eval_prompts], scores, kls)


def table(measured: Sequence[Measured]) -> list[dict[str, Any]]:
    """One row per method and setting over its seeds; prompts are the clusters."""
    table_rows = []
    for method, setting in dict.fromkeys((m.method, m.setting) for m in measured):
        of = [m for m in measured if (m.method, m.setting) == (method, setting)]
        ids = [i for m in of for i in m.prompts]
        score = mean_interval([s for m in of for s in m.scores], ids)
        kl = mean_interval([kl for m in of for kl in m.kls], ids)
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
        scores, kls = np.array([m.scores for m in of]), np.array([m.kls for m in of])
        made.append(Setting(method, setting, scores, kls))
    return made


def measure(lab: Lab, plan: Plan) -> list[Measured]:
    """Trains and measures every method at every setting."""
    eval_prompts = datasets.prompts(lab.made["prepare"].file("eval.jsonl"))[: plan.held_out]
    measured = best_of_n(lab, plan.best_of, eval_prompts)

    def add(one: Measured) -> None:
        measured.append(one)
        score, kl = (sum(values) / len(values) for values in (one.scores, one.kls))
        print(f"{one.method} {one.setting} seed {one.seed}: KL {kl:.3f}, score {score:.3f}", flush=True)

    for seed in range(plan.seeds):
        for beta in plan.betas:
            add(trained(lab, plan, "DPO", f"beta {beta:g}", {"beta": beta}, seed, eval_prompts))
        for epochs in plan.sft_epochs:
            settings = {"loss_type": ["sft"], "epochs": epochs}
            add(trained(lab, plan, "SFT on chosen", f"{epochs} epochs", settings, seed, eval_prompts))
        for beta in plan.rloo_betas:
            add(rloo(lab, plan, beta, seed, eval_prompts))
    return measured


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", help="a pretrained model, as fairlead demo --model takes it")
    parser.add_argument("--project", type=Path, help="folder of the lab's project")
    parser.add_argument("--seeds", type=int)
    parser.add_argument("--held-out", type=int, help="prompts that every method answers")
    parser.add_argument("--rloo-steps", type=int)
    options = parser.parse_args()
    given = {name: getattr(options, name) for name in ("seeds", "held_out", "rloo_steps")}
    plan = PRETRAINED_PLAN if options.model else SMALL_PLAN
    plan = replace(plan, **{name: value for name, value in given.items() if value is not None})
    started = time.monotonic()
    measured = measure(make_lab(options.model, options.project, well_formed=False), plan)
    start, *others = settings_of(measured)
    differences = compare(others, start)
    print(f"\n{markdown(table(measured))}\n\n{verdict_markdown(differences)}\n")
    print(f"{time.monotonic() - started:.0f} s")
    verdicts = [{**asdict(one), "word": one.word} for one in differences]
    write_json(OUT / f"{lab_name('frontier', options.model)}.json", {"rows": table(measured), "differences": verdicts})


if __name__ == "__main__":
    main()
