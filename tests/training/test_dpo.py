"""The reference is the model that DPO starts from: base+SFT with LoRA, the SFT weights with full fine-tuning."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from fairlead import Project
from fairlead.errors import ReferenceMismatchError
from fairlead.models import hardware
from fairlead.models.adapters import dpo_start, variants_of
from fairlead.pipeline import datasets
from fairlead.training.dpo import build_trainer
from tests.support.projects import tiny_config, write_config


def context_and_trainer(folder: Path, *, dtype: str = "auto", **dpo: Any) -> Any:
    """The trainer as the stage builds it, before its first step."""
    config = tiny_config()
    config["model"]["dtype"] = dtype
    config["dpo"].update(dpo)
    config["lora"]["dropout"] = 0.5  # the reference must not see it
    config["sft"]["learning_rate"] = 2e-2  # far enough from the base that no rounding hides the adapter
    write_config(folder, config)
    project = Project(folder)
    made = project.run("pairs")
    context = project.context("dpo", made, folder / "scratch" / "dpo")
    pairs = datasets.preferences(made["pairs"].file("train.jsonl"))
    start = dpo_start(variants_of({"sft": made["sft"].file("model")}))
    return build_trainer(context, project.config.dpo, project.config.model, start, pairs, pairs[:4])


@pytest.fixture(params=[torch.float32, torch.bfloat16], ids=str)
def auto_dtype(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> torch.dtype:
    """What `dtype: auto` means: in one test bfloat16, in the other float32, whatever this machine computes in."""
    monkeypatch.setattr(hardware, "computes_bf16", lambda _: request.param == torch.bfloat16)
    dtype: torch.dtype = request.param
    return dtype


@pytest.mark.parametrize("method", ["lora", "full"])
def test_before_the_first_step_the_loss_is_ln_2_and_every_log_ratio_is_0(
    tiny_project: Path, method: str, auto_dtype: torch.dtype
) -> None:
    trainer = context_and_trainer(tiny_project, method=method)
    assert trainer.model.dtype == auto_dtype
    assert trainer.args.bf16 == (auto_dtype == torch.bfloat16)
    trainer.check_policy_is_reference()
    metrics = trainer.evaluate()
    rounding = 1e-5 if auto_dtype == torch.float32 else 5e-3
    assert metrics["eval_loss"] == pytest.approx(math.log(2), abs=rounding)
    assert metrics["eval_rewards/chosen"] == pytest.approx(0, abs=rounding)
    assert metrics["eval_rewards/rejected"] == pytest.approx(0, abs=rounding)


def test_float32_is_kept_where_the_hardware_computes_in_bfloat16(
    tiny_project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hardware, "computes_bf16", lambda _: True)
    trainer = context_and_trainer(tiny_project, dtype="float32")
    assert trainer.model.dtype == torch.float32
    assert not trainer.args.bf16
    assert trainer.evaluate()["eval_loss"] == pytest.approx(math.log(2), abs=1e-5)


def test_the_sft_adapter_is_on_and_is_not_the_bare_base(tiny_project: Path, auto_dtype: torch.dtype) -> None:
    """The reference's log-probabilities are those of base+SFT, and the bare base gives others."""
    trainer = context_and_trainer(tiny_project)
    rows = list(trainer.train_dataset)
    trainer.model.eval()

    def logp(row: dict[str, Any]) -> float:
        batch = trainer.data_collator([row])
        with torch.no_grad(), trainer.accelerator.autocast():
            logits = trainer.model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits
        taken = logits[:, :-1].float().log_softmax(-1).gather(-1, batch["input_ids"][:, 1:, None])[..., 0]
        return float((taken * batch["completion_mask"][:, 1:])[0].sum())

    # In bfloat16 the product of a whole row may round otherwise than that of the row in a batch.
    rounding = 1e-3 if auto_dtype == torch.float32 else 0.05
    assert [row["ref_chosen_logps"] for row in rows] == pytest.approx([logp(row) for row in rows], abs=rounding)
    with trainer.model.disable_adapter():
        assert max(abs(row["ref_chosen_logps"] - logp(row)) for row in rows) > 4 * rounding


def test_a_policy_that_is_not_the_reference_is_refused(tiny_project: Path) -> None:
    trainer = context_and_trainer(tiny_project)
    with torch.no_grad():
        for name, parameter in trainer.model.named_parameters():
            if "lora_B.default" in name:
                parameter.add_(0.5)
    with pytest.raises(ReferenceMismatchError, match=f"is not the reference {trainer.reference}"):
        trainer.train()


def test_dpo_continues_the_sft_adapter_on_the_same_base(project: Project) -> None:
    made = project.run("dpo")
    sft = load_file(made["sft"].file("model") / "adapter_model.safetensors")
    dpo = load_file(made["dpo"].file("model") / "adapter_model.safetensors")
    assert sft.keys() == dpo.keys()
    assert any(not torch.equal(sft[name], dpo[name]) for name in sft)
    assert all(path.suffix != ".bin" and path.suffix != ".pt" for path in made["dpo"].path.rglob("*"))


def test_full_weights_are_trained_from_the_merged_sft_model(project: Project) -> None:
    config = tiny_config()
    config["dpo"]["method"] = "full"
    write_config(project.folder, config)
    made = Project(project.folder).run()
    assert (made["dpo"].file("model") / "model.safetensors").is_file()
    assert made["gate"].manifest.figures["status"] in ("passed", "failed", "insufficient")
