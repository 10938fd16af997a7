"""The contract with TRL, transformers and PEFT: one test for each undocumented name that Fairlead relies on.

With a new TRL, run this file first. What fails here has to be mended in `training/trl_compat.py`, and nowhere else.
"""

from __future__ import annotations

import ast
import inspect
import re
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
import trl
from peft import LoraConfig, get_peft_model
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS
from trl.trainer import dpo_trainer as trl_dpo_trainer

from fairlead.errors import TrainingError
from fairlead.training import trl_compat
from fairlead.training.dpo_trainer import reference_pass
from fairlead.training.trl_compat import SUPPORTED_TRL, OpenDPOTrainer, require_supported_trl
from tests.support.preference_rows import ROWS, STEP, llama, trainer_of
from tests.support.processes import Forked
from tests.support.projects import REPO

ROW = ([5, 6, 7, 8, 9], [False, False, True, True, True])


def parameters(function: Any) -> list[str]:
    return list(inspect.signature(function).parameters)


@pytest.fixture
def trainer(tiny_model: Path, tmp_path: Path) -> Any:
    """TRL's trainer, with nothing replaced."""
    return trainer_of(trl.DPOTrainer, tiny_model, tmp_path, extra={"ref_model": llama(1)}, **STEP)


# The version


def test_the_pinned_minor_is_the_supported_one() -> None:
    project = tomllib.loads((REPO / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    (pin,) = [entry for entry in project["dependencies"] if entry.startswith("trl")]
    assert pin == f"trl>={SUPPORTED_TRL},<1.{int(SUPPORTED_TRL.split('.')[1]) + 1}"
    require_supported_trl(trl.__version__)


@pytest.mark.parametrize("version", ["1.15.2", "1.17.0", "1.17.0.dev0", "2.0", "1.1", "1.160.0"])
def test_another_minor_is_one_line_that_names_both_versions(version: str) -> None:
    with pytest.raises(TrainingError) as error:
        require_supported_trl(version)
    message = str(error.value)
    assert f"TRL {version} is installed" in message
    assert f"TRL {SUPPORTED_TRL} only" in message
    assert f"pip install 'trl=={SUPPORTED_TRL}.*'" in message
    assert "\n" not in message
    require_supported_trl(f"{SUPPORTED_TRL}.7")


def test_the_trainer_cannot_be_imported_with_another_minor() -> None:
    """The line comes before any of TRL's private names is imported, which might not be there."""
    process = Forked(import_with_another_minor)
    out, errors = process.communicate()
    assert process.returncode == 1
    last = errors.splitlines()[-1]
    assert last.startswith(
        "fairlead.errors.TrainingError: fairlead.DPOTrainer, fairlead.SFTTrainer: TRL 1.17.0 is installed"
    )
    assert "trl" in out.split()
    assert not [name for name in out.split() if name.startswith(("trl.trainer", "trl.models"))]


def import_with_another_minor() -> None:
    """Imports the trainer as in a new process; then prints what is imported of TRL."""
    for name in list(sys.modules):
        if name.split(".")[0] in ("fairlead", "trl"):
            del sys.modules[name]
    import trl

    trl.__version__ = "1.17.0"
    try:
        from fairlead import DPOTrainer  # noqa: F401
    finally:
        print(*sorted(name for name in sys.modules if name.split(".")[0] == "trl"))


def test_no_other_file_uses_a_private_name_of_trl() -> None:
    """Outside this file only names that `trl` itself exports are imported, and no private hook is overridden."""
    hooks = {name for name, value in vars(OpenDPOTrainer).items() if re.match("_[a-z]", name) and callable(value)}
    assert len(hooks) == 6
    files = [path for path in (REPO / "src" / "fairlead").rglob("*.py") if path.name != "trl_compat.py"]
    assert len(files) > 100
    for path in files:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "trl":
                assert node.module == "trl", path
                assert {alias.name for alias in node.names} <= set(trl.__all__), path
            if isinstance(node, ast.FunctionDef) and "training" in path.parts:
                assert node.name not in hooks, f"{path}: {node.name}"


# The head that returns log-probabilities


def test_add_fused_lm_head_and_its_output() -> None:
    model = llama()
    trl_compat.add_log_prob_head(model, ("log_probs", "entropy", "mean_logits", "is_top1", "log_sum_sq_probs"))
    assert "forward" in vars(model), "TRL puts the new forward on the class and not on the instance"
    ids = torch.tensor([ROW[0]])
    labels = torch.tensor([[-100, -100, 7, 8, 9]])
    output = model(input_ids=ids, attention_mask=torch.ones_like(ids), labels=labels, fused_lm_head=True)
    assert type(output) is type(trl_compat.log_prob_output())
    logits = model(input_ids=ids).logits[0, :-1]
    log_probs = logits.log_softmax(-1).gather(1, ids[0, 1:, None])[:, 0]
    expected = torch.where(torch.tensor([False, True, True, True]), log_probs, 0.0)
    torch.testing.assert_close(output.log_probs[0], expected, atol=1e-5, rtol=1e-5)
    for name in ("entropy", "mean_logits", "is_top1", "log_sum_sq_probs"):
        assert getattr(output, name).shape == output.log_probs.shape, name
    assert output.loss.item() == pytest.approx(-log_probs[1:].mean().item(), abs=1e-5)


def test_the_fields_of_fused_causal_lm_output() -> None:
    fields = ("loss", "log_probs", "entropy", "log_sum_sq_probs", "mean_logits", "is_top1", "aux_loss", "label_mask")
    output = trl_compat.log_prob_output(**{name: torch.tensor(number) for number, name in enumerate(fields)})
    assert [int(getattr(output, name)) for name in fields] == list(range(len(fields)))
    assert trl_compat.log_prob_output(loss=torch.tensor(0.0)).aux_loss is None


def test_maybe_gather_lm_head_ctx_does_nothing_without_zero_3() -> None:
    weight = torch.ones(3, 2)
    for bias in (None, torch.ones(3)):
        with trl_compat.gathered_head(weight, bias):
            assert weight.shape == (3, 2)


def test_scored_log_probs_do_not_depend_on_what_stands_beside_a_row() -> None:
    model = llama()
    trl_compat.add_log_prob_head(model)
    rows = [ROW, ([5, 6, 7], [False, True, True]), ([4] * 9, [False] * 8 + [True])]
    with torch.no_grad():
        together = trl_compat.scored_log_probs(model, rows, pad_id=0, device=torch.device("cpu"))
        alone = [trl_compat.scored_log_probs(model, [row], pad_id=0, device=torch.device("cpu"))[0] for row in rows]
    assert [len(values) for values in together] == [3, 2, 1]
    for one, other in zip(together, alone, strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-5)


# The reference


def test_trl_names_its_frozen_copy_of_an_adapter_ref(tiny_model: Path, tmp_path: Path) -> None:
    lora = LoraConfig(target_modules=["q_proj"], task_type="CAUSAL_LM")
    given_model = trainer_of(trl.DPOTrainer, tiny_model, tmp_path / "given", model=get_peft_model(llama(), lora))
    assert trl_compat.reference_adapter(given_model.model) == "ref"
    fresh = trainer_of(trl.DPOTrainer, tiny_model, tmp_path / "fresh", extra={"peft_config": lora})
    assert trl_compat.reference_adapter(fresh.model) is None


def test_use_adapter_switches_and_switches_back() -> None:
    torch.manual_seed(0)
    lora = LoraConfig(target_modules=["q_proj"], task_type="CAUSAL_LM", init_lora_weights=False)
    model = get_peft_model(llama(), lora)
    model.add_adapter("ref", lora)
    ids = torch.tensor([ROW[0]])

    def logits() -> torch.Tensor:
        with torch.no_grad():
            result: torch.Tensor = model(input_ids=ids).logits
            return result

    policy = logits()
    with trl_compat.adapter_in_use(model, None):
        bare = logits()
    with trl_compat.adapter_in_use(model, "ref"):
        reference = logits()
    torch.testing.assert_close(logits(), policy)
    torch.testing.assert_close(bare, llama()(input_ids=ids).logits)
    assert not torch.allclose(reference, policy)
    assert not torch.allclose(reference, bare)


def test_disable_gradient_checkpointing_switches_it_on_again() -> None:
    model = llama()
    model.gradient_checkpointing_enable()
    assert model.model.layers[0].gradient_checkpointing
    with trl_compat.without_checkpointing(model, None):
        assert not model.model.layers[0].gradient_checkpointing
    assert model.model.layers[0].gradient_checkpointing


def test_hash_module_is_a_global_that_the_constructor_calls(tiny_model: Path, tmp_path: Path) -> None:
    original = trl_dpo_trainer.hash_module
    seen: list[Any] = []

    class Watched(trl.DPOTrainer):
        leaves_reference_to_trl = False

        def __init__(self, *args: Any, **kwargs: Any) -> None:
            with trl_compat.without_weight_hash(self):  # type: ignore[arg-type]
                seen.append(trl_dpo_trainer.hash_module(torch.nn.Linear(1, 1)))
                super().__init__(*args, **kwargs)

    watched = trainer_of(Watched, tiny_model, tmp_path, precompute_ref_log_probs=True)
    assert seen == [None]
    assert watched._precompute_model_hash is None
    assert trl_dpo_trainer.hash_module is original
    assert original(torch.nn.Linear(1, 1))


def test_get_config_model_id_is_where_the_model_came_from(tiny_model: Path) -> None:
    model = transformers.AutoModelForCausalLM.from_pretrained(tiny_model)
    assert trl_compat.model_id(model.config) == str(tiny_model)
    assert trl_compat.model_id(llama().config) == ""


# transformers


def test_attn_implementation_is_what_the_layers_look_up() -> None:
    model = llama()
    assert trl_compat.attention_implementation(model.config) == "sdpa"
    seen = []

    def attention(*args: Any, **kwargs: Any) -> Any:
        seen.append(1)
        return ALL_ATTENTION_FUNCTIONS["sdpa"](*args, **kwargs)

    ALL_ATTENTION_FUNCTIONS.register("contract", attention)
    trl_compat.set_attention_implementation(model.config, "contract")
    model(input_ids=torch.tensor([ROW[0]]))
    assert len(seen) == model.config.num_hidden_layers


def test_supports_attention_backend_is_declared_by_models() -> None:
    assert trl_compat.calls_registered_attention(llama())
    assert "_supports_attention_backend" in vars(transformers.PreTrainedModel)


def test_eager_attention_forward_stands_beside_the_attention_module() -> None:
    function = trl_compat.eager_attention(llama().model.layers[0].self_attn)
    assert function is transformers.models.llama.modeling_llama.eager_attention_forward
    assert parameters(function)[:5] == ["module", "query", "key", "value", "attention_mask"]
    assert trl_compat.eager_attention(torch.nn.Linear(1, 1)) is None


def test_load_balancing_loss_func_counts_a_token_as_often_as_its_mask_says() -> None:
    config = transformers.MixtralConfig(num_local_experts=4, num_experts_per_tok=2)
    torch.manual_seed(0)
    logits = tuple(torch.randn(3, 4) for _ in range(2))
    twice = tuple(torch.cat([layer, layer[:1]]) for layer in logits)
    weighted = trl_compat.load_balancing_loss(logits, config, torch.tensor([[2, 1, 1]]))
    torch.testing.assert_close(weighted, trl_compat.load_balancing_loss(twice, config, torch.ones(1, 4)))


def test_get_train_sampler_orders_the_training_rows(trainer: Any) -> None:
    assert parameters(transformers.Trainer._get_train_sampler) == ["self", "train_dataset"]
    assert sorted(trainer._get_train_sampler()) == list(range(len(ROWS)))


def test_load_callback_state_is_called_at_resume() -> None:
    assert parameters(transformers.Trainer._load_callback_state) == ["self"]
    assert "self._load_callback_state()" in inspect.getsource(transformers.Trainer)


# PEFT


def test_the_names_of_pefts_tensors() -> None:
    lora = LoraConfig(target_modules=["q_proj"], modules_to_save=["lm_head"], task_type="CAUSAL_LM")
    model = get_peft_model(llama(), lora)
    names = {trl_compat.without_peft_names(name, {"default"}): name for name in model.state_dict()}
    plain = {name for name, owner in names if owner is None}
    assert plain == set(llama().state_dict())
    default_names = [name for (_, owner), name in names.items() if owner == "default"]
    kinds = {trl_compat.lora_matrix(name) for name in default_names if "lm_head" not in name}
    assert kinds == {"A", "B"}
    assert any("lm_head" in name for name in default_names)


# TRL's trainer: hooks


def test_prepare_dataset_tokenises_and_keeps_other_columns(trainer: Any) -> None:
    assert parameters(trl.DPOTrainer._prepare_dataset)[1:] == [
        "dataset", "processing_class", "args", "dataset_name",
    ]  # fmt: skip
    assert {"prompt_ids", "chosen_ids", "rejected_ids"} <= set(trainer.train_dataset.column_names)
    numbered = trainer.train_dataset.select_columns(["prompt", "chosen", "rejected"]).add_column("_row", [0, 1, 2, 3])
    again = trainer._prepare_dataset(numbered, trainer.processing_class, trainer.args, "train")
    assert again["_row"][:] == [0, 1, 2, 3]
    assert again["chosen_ids"][:] == trainer.train_dataset["chosen_ids"][:]


def test_precompute_ref_logps_adds_the_references_columns(trainer: Any, tiny_model: Path, tmp_path: Path) -> None:
    assert parameters(trl.DPOTrainer._precompute_ref_logps)[1:] == ["dataset", "name", "batch_size"]
    theirs = trainer_of(trl.DPOTrainer, tiny_model, tmp_path / "precomputed", precompute_ref_log_probs=True)
    assert {"ref_chosen_logps", "ref_rejected_logps"} <= set(theirs.train_dataset.column_names)


def test_compute_loss_calls_the_model_once_with_the_log_prob_head(trainer: Any) -> None:
    assert parameters(trl.DPOTrainer._compute_loss)[1:] == ["model", "inputs", "return_outputs"]
    batch = trainer.data_collator([trainer.train_dataset[row] for row in range(2)])
    assert set(batch) == {"input_ids", "attention_mask", "completion_mask"}
    calls: list[dict[str, Any]] = []

    def model(**kwargs: Any) -> Any:
        calls.append(kwargs)
        return trainer.model(**kwargs)

    trainer._compute_loss(model, batch, False)
    assert len(calls) == 1
    assert calls[0]["fused_lm_head"] is True
    assert (calls[0]["labels"] != -100).equal(batch["completion_mask"].bool())


def test_the_collator_puts_chosen_rows_first_and_pads_on_the_right(trainer: Any) -> None:
    rows = [trainer.train_dataset[row] for row in range(3)]
    batch = trainer.data_collator(rows)
    expected = [(row["prompt_ids"], row[side]) for side in ("chosen_ids", "rejected_ids") for row in rows]
    for (prompt, completion), (tokens, scored) in zip(expected, reference_pass.pair_rows(batch), strict=True):
        assert tokens == prompt + completion
        assert scored == [False] * len(prompt) + [True] * len(completion)
    assert batch["attention_mask"][:, 0].all()


def test_signature_columns_are_those_that_reach_the_collator(trainer: Any) -> None:
    trainer._set_signature_columns_if_needed()
    assert trainer._signature_columns == [
        "prompt_ids", "chosen_ids", "rejected_ids", "ref_chosen_logps", "ref_rejected_logps",
    ]  # fmt: skip


def test_every_hook_is_called_under_its_public_name(tiny_model: Path, tmp_path: Path) -> None:
    called: list[str] = []

    class Noting(OpenDPOTrainer):
        def tokenize_pairs(self, *args: Any) -> Any:
            called.append("tokenize_pairs")
            return super().tokenize_pairs(*args)

        def add_reference_log_probs(self, *args: Any) -> Any:
            called.append("add_reference_log_probs")
            return super().add_reference_log_probs(*args)

        def batch_loss(self, *args: Any) -> Any:
            called.append("batch_loss")
            return super().batch_loss(*args)

        def columns_in_batches(self, columns: list[str]) -> list[str]:
            called.append("columns_in_batches")
            return super().columns_in_batches(columns)

        def train_sampler(self, *args: Any) -> Any:
            called.append("train_sampler")
            return super().train_sampler(*args)

        def restore_callbacks(self) -> None:
            called.append("restore_callbacks")
            super().restore_callbacks()

    settings = {**STEP, "precompute_ref_log_probs": True, "save_strategy": "steps", "save_steps": 1}
    first = trainer_of(Noting, tiny_model, tmp_path, **settings)
    first.train()
    theirs = trainer_of(trl.DPOTrainer, tiny_model, tmp_path / "theirs", **settings)
    theirs.train()
    for name, parameter in theirs.model.named_parameters():
        torch.testing.assert_close(first.model.get_parameter(name), parameter)
    again = trainer_of(Noting, tiny_model, tmp_path, **{**settings, "max_steps": 2})
    again.train(resume_from_checkpoint=str(tmp_path / "checkpoint-1"))
    assert set(called) == {
        "tokenize_pairs", "add_reference_log_probs", "batch_loss", "columns_in_batches", "train_sampler",
        "restore_callbacks",
    }  # fmt: skip


# TRL's trainer: attributes


def test_metrics_are_lists_by_mode_and_name(trainer: Any) -> None:
    assert set(trainer._metrics) == {"train", "eval"}
    batch = trainer.data_collator([trainer.train_dataset[0]])
    trainer.compute_loss(trainer.model, batch)
    names = {"rewards/chosen", "rewards/rejected", "rewards/margins", "rewards/accuracies", "entropy", "num_tokens"}
    names |= {"logps/chosen", "logps/rejected", "logits/chosen", "logits/rejected", "mean_token_accuracy"}
    assert set(trainer._metrics["train"]) == names
    assert all(len(values) == 1 for values in trainer._metrics["train"].values())


def test_total_train_tokens_counts_the_tokens_of_the_batches_trained_on(tiny_model: Path, tmp_path: Path) -> None:
    trainer: Any = trainer_of(OpenDPOTrainer, tiny_model, tmp_path, extra={"ref_model": llama(1)}, **STEP)
    assert trainer.trained_tokens == 0
    trainer.train()
    logged = [row["num_tokens"] for row in trainer.state.log_history if "num_tokens" in row]
    assert trainer.trained_tokens == logged[-1] > 0
    trainer.trained_tokens = 7
    assert trainer._total_train_tokens == 7


def test_is_vision_dataset_and_tokenizer(trainer: Any) -> None:
    assert trainer._is_vision_dataset is False
    assert trainer._tokenizer is trainer.processing_class
    assert isinstance(trainer._tokenizer.pad_token_id, int)


def test_precompute_model_hash_names_trls_cache(tiny_model: Path, tmp_path: Path) -> None:
    theirs = trainer_of(trl.DPOTrainer, tiny_model, tmp_path, precompute_ref_log_probs=True)
    assert re.fullmatch("[0-9a-f]{64}", theirs._precompute_model_hash)


def test_the_undocumented_attributes_follow_the_config(tiny_model: Path, tmp_path: Path) -> None:
    settings = {"beta": 0.7, "loss_type": ["sigmoid", "sft"], "loss_weights": [1.0, 0.5], "ld_alpha": 0.3}
    reference = llama(1)
    trainer = trainer_of(
        trl.DPOTrainer, tiny_model, tmp_path, use_weighting=True, extra={"ref_model": reference}, **settings
    )
    assert trainer.beta == 0.7
    assert trainer.loss_types == ["sigmoid", "sft"]
    assert trainer.loss_weights == [1.0, 0.5]
    assert trainer.ld_alpha == 0.3
    assert trainer.use_weighting is True
    assert trainer.f_divergence_type == "reverse_kl"
    assert trainer.precompute_ref_logps is False
    assert trainer.aux_loss_enabled is False
    assert trainer.ref_model is reference
