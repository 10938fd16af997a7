"""What an adapter's config says: whether it is of a kind that can be continued and compared, and of which base.

Reads JSON only, so that it can be asked before anything runs.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from fairlead.errors import ModelError, some
from fairlead.models.imported.source import ModelFiles
from fairlead.pipeline.stage import looks_like_path, resolve

_MERGE = "merge it into its base (PEFT's merge_and_unload, then save_pretrained) and give that folder of full weights"
# Initialisations that take a part out of the base's weights, so that the adapter is none of the base as it is.
_CHANGES_BASE = ("pissa", "olora", "corda", "loftq", "lora_ga")
# What makes of LoRA another computation than B·A beside a frozen layer; PEFT has neither mixed batches nor a frozen
# copy of all of them.
_EXTENSIONS = (
    *("trainable_token_indices", "layer_replication", "target_parameters", "alora_invocation_tokens", "lora_bias"),
    *("megatron_config", "use_qalora", "use_bdlora", "arrow_config", "monteclora_config", "kasa_config"),
    "velora_config",
)


@dataclass(frozen=True)
class BaseModel:
    """The model that an adapter lies on.

    Attributes:
        key: the config's key that names it.
        name: what stands there.
    """

    key: str
    name: str


def check_adapter_config(files: ModelFiles, base: BaseModel, folder: Path, *, known_as: str | None) -> list[str]:
    """Refuses an adapter that cannot be used, or is of another base.

    Args:
        base: the model that it will lie on.
        folder: the project folder.
        known_as: the name of that model in the adapter's config, as the project's config says; None where it does not.

    Returns:
        What was assumed, one sentence each.

    Raises:
        ModelError: with the reason and what to do instead.
    """
    if reason := why_unusable(files):
        raise ModelError(reason, where=files.where, remedy=_MERGE)
    named = files.config.get("base_model_name_or_path")
    if not isinstance(named, str) or not named:
        return [f"the adapter names no base model, and is taken to be of {base.name}"]
    if named == known_as or is_same_model(named, base.name, folder):
        return []
    if looks_the_same(named, base.name, folder):
        return [f"the adapter's base {named} is taken to be {base.name}"]
    section = files.key.partition(".")[0]
    raise ModelError(
        f"the adapter's base is {named}, and {base.key} is {base.name}",
        where=files.where,
        remedy=f"set {base.key}: {named}; if both are the same weights, say so with {section}.base: {named}",
    )


def why_unusable(files: ModelFiles) -> str | None:
    """Why an adapter of this config cannot be used; None if it can."""
    config = files.config
    kind, task, initial = config.get("peft_type"), config.get("task_type"), config.get("init_lora_weights")
    if kind != "LORA":
        return f"its peft_type is {kind}, and only LORA can be trained on and compared in one pass"
    if task not in (None, "CAUSAL_LM"):
        return f"its task_type is {task}, not CAUSAL_LM"
    if modules := config.get("modules_to_save"):
        return f"it has whole modules beside the adapter (modules_to_save: {some(modules)})"
    if config.get("bias", "none") != "none":
        return f"it changes the base's biases (bias: {config['bias']}), so the base could not be compared with it"
    if isinstance(initial, str) and initial.startswith(_CHANGES_BASE):
        return f"it lies on a base that its initialisation changed (init_lora_weights: {initial})"
    extension = next((name for name in _EXTENSIONS if config.get(name)), None)
    return None if extension is None else f"it uses {extension}, which cannot be trained on and compared in one pass"


def is_same_model(named: str, name: str, folder: Path) -> bool:
    """Whether two names are one, or two paths of one folder."""
    if named == name:
        return True
    first, second = resolve(folder, named), resolve(folder, name)
    return first.is_dir() and second.is_dir() and first.resolve() == second.resolve()


def looks_the_same(named: str, name: str, folder: Path) -> bool:
    """Whether one of two names is the path of a folder that can be a copy of the other: it ends in the same name.

    Two hub ids with the same ending are two models; so are two folders that are both here.
    """
    here = [resolve(folder, text).is_dir() for text in (named, name)]
    paths = [is_path or _is_path(text) for text, is_path in zip((named, name), here, strict=True)]
    return not all(here) and any(paths) and _ending(named) == _ending(name)


def _is_path(text: str) -> bool:
    return looks_like_path(text) or "\\" in text


def _ending(text: str) -> str:
    return text.replace("\\", "/").rstrip("/").rpartition("/")[2].lower()
