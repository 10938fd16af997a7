"""`fairlead serve`: base, SFT and DPO behind an OpenAI-compatible endpoint, served by vLLM or transformers.

vLLM serves the base with the adapters as LoRA modules; transformers' server gets one folder of merged weights per
model. The models are named base, sft and dpo.
"""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from transformers.utils.import_utils import is_serve_available

from fairlead.errors import ConfigError, ModelError
from fairlead.evaluation.reward_model import trained
from fairlead.files import disk_errors, read_json, write_atomic
from fairlead.models.adapters import ModelName, ModelVariant, variants_of
from fairlead.models.generation import greedy_config
from fairlead.models.loading import load_adapter, load_base, load_tokenizer, locate
from fairlead.pipeline.project import Project
from fairlead.pipeline.stage import resolve
from fairlead.records import content_id
from fairlead.release.guarded_server import KEY_VARIABLE

Engine = Literal["vllm", "transformers"]
_VLLM_RANKS = (8, 16, 32, 64, 128, 256, 320, 512)  # of its LoRAConfig


@dataclass(frozen=True)
class Server:
    """A command, the folder to run it in (where the models' folders are), the names that it serves, and variables to
    add to its environment.
    """

    argv: tuple[str, ...]
    folder: Path
    models: tuple[ModelName, ...]
    env: Mapping[str, str] = field(default_factory=dict)


def choose_engine(name: str | None) -> Engine:
    """The named engine; without a name vLLM if it is installed, else transformers' server.

    Raises:
        ModelError: if the named engine is unknown or not installed, or if neither is installed.
    """
    installed: dict[Engine, bool] = {
        "vllm": importlib.util.find_spec("vllm") is not None,
        "transformers": is_serve_available(),
    }
    for engine, is_installed in installed.items():
        if is_installed and name in (None, engine):
            return engine
    raise ModelError(
        f"{name or 'no server'} is not installed" if name in (None, *installed) else f"unknown engine {name!r}",
        where="fairlead serve",
        remedy="pip install 'transformers[serving]', or pip install vllm where there is a GPU",
    )


def server(project: Project, engine: Engine, *, host: str, port: int, origins: Sequence[str] = ()) -> Server:
    """The command that serves the project's models; writes the files that it needs.

    Args:
        origins: web pages, as `http://localhost:3000`, whose scripts may call the endpoint (CORS).
    """
    refuse_open_address(host)
    models = trained(project)
    variants = variants_of(models)
    folder = project.folder / ".fairlead" / "serve"
    if engine == "vllm":
        key = os.environ.get(KEY_VARIABLE)
        environment = {"VLLM_API_KEY": key} if key else {}  # not an argument: other users can list those
        command = vllm_command(project, variants, folder, host=host, port=port)
        allowed = ("--allowed-origins", json.dumps(list(origins))) if origins else ()
        return Server((*command, *allowed), project.folder, tuple(variants), environment)
    for name, variant in variants.items():
        # A hash, because a model that is trained again has the same path.
        mark = content_id(
            {n: project.artifact(n).hash for n in models}, project.artifact("dpo").manifest.inputs.get("model.name")
        )
        merge_into(project, variant, folder, name, mark)
    guarded = (sys.executable, "-m", "fairlead.release.guarded_server")
    allow = [f"--allow-origin={origin}" for origin in origins]
    argv = (*guarded, "--host", host, "--port", str(port), *allow, *variants)
    return Server(argv, folder, tuple(variants), {"HF_HUB_OFFLINE": "1"})


def example_call(host: str, port: int, models: Iterable[str]) -> str:
    """A command that asks the server a question, as one asks OpenAI's."""
    listed = list(models)
    address = f"http://{'localhost' if host in ('0.0.0.0', '::') else f'[{host}]' if ':' in host else host}:{port}/v1"
    key = f' -H "Authorization: Bearer ${KEY_VARIABLE}"' if os.environ.get(KEY_VARIABLE) else ""
    body = json.dumps({"model": listed[-1], "messages": [{"role": "user", "content": "Hello"}]})
    return (
        f"models {', '.join(listed)} at {address}, for any client of OpenAI's API; for example:\n"
        f"  curl {address}/chat/completions{key} -H 'Content-Type: application/json' -d '{body}'"
    )


def refuse_open_address(host: str) -> None:
    """Requires a key if other machines can reach the server.

    Raises:
        ConfigError: naming the variable that holds the key.
    """
    if host in ("localhost", "::1") or host.startswith("127.") or os.environ.get(KEY_VARIABLE):
        return
    raise ConfigError(
        f"{host} can be reached from other machines, and no key is set",
        where="fairlead serve",
        remedy=f"set {KEY_VARIABLE} to a key that clients must send, or leave out --host",
    )


def vllm_command(
    project: Project, variants: Mapping[ModelName, ModelVariant], folder: Path, *, host: str, port: int
) -> tuple[str, ...]:
    """`vllm serve` with every adapter as a LoRA module, and the chat template of the training.

    Args:
        folder: where the template is written.

    Raises:
        ModelError: if a model is not an adapter on the base, because one server holds one set of base weights, or if
            its adapter is DoRA.
    """
    full = [name for name, variant in variants.items() if variant.base is not None]
    if full:
        raise ModelError(
            f"{', '.join(full)} has full weights, and one vLLM server holds one set",
            where="fairlead serve",
            remedy="use --engine transformers",
        )
    dora = [name for name, variant in variants.items() if variant.adapter and _config_of(variant.adapter)["use_dora"]]
    if dora:
        raise ModelError(
            f"the adapter of {', '.join(dora)} is DoRA, which vLLM does not serve",
            where="fairlead serve",
            remedy="use --engine transformers",
        )
    section = project.config.model
    template = folder / "chat_template.jinja"
    write_atomic(template, str(load_tokenizer(section, project.folder).chat_template))
    adapters = {name: variant.adapter.resolve() for name, variant in variants.items() if variant.adapter is not None}
    base = locate(section.name, project.folder)
    command = ["vllm", "serve", base, "--served-model-name", "base"]
    command += ["--chat-template", str(template.resolve())]
    if section.tokenizer is not None:
        tokenizer = resolve(project.folder, section.tokenizer)
        command += ["--tokenizer", str(tokenizer.resolve()) if tokenizer.is_dir() else section.tokenizer]
    if section.revision is not None and not Path(base).is_dir():
        command += ["--revision", section.revision]
    if adapters:
        modules = [f"{name}={adapter}" for name, adapter in adapters.items()]
        command += ["--enable-lora", "--max-lora-rank", str(_rank(adapters.values())), "--lora-modules", *modules]
    return (*command, "--host", host, "--port", str(port))


def _config_of(adapter: Path) -> dict[str, Any]:
    config: dict[str, Any] = {"use_dora": False, **read_json(adapter / "adapter_config.json")}
    return config


def _rank(adapters: Iterable[Path]) -> int:
    """The smallest `--max-lora-rank` of vLLM that is enough for every adapter."""
    configs = [_config_of(adapter) for adapter in adapters]
    rank = max(max([config["r"], *(config.get("rank_pattern") or {}).values()]) for config in configs)
    return next((allowed for allowed in _VLLM_RANKS if allowed >= rank), rank)


def merge_into(project: Project, variant: ModelVariant, folder: Path, name: str, mark: str) -> Path:
    """Writes a variant's full weights and tokenizer to `folder`/`name`, unless those of the same `mark` are there.

    Full weights that are already in a folder are linked, not copied.
    """
    target = folder / name
    stamp = target / "fairlead-mark"
    if stamp.is_file() and stamp.read_text(encoding="utf-8") == mark:
        return target
    section = project.config.model
    tokenizer = load_tokenizer(section, project.folder)
    base_weights = variant.base or Path(locate(section.name, project.folder))
    with disk_errors(target):
        shutil.rmtree(target, ignore_errors=True)
        target.mkdir(parents=True)
    if variant.adapter is None and base_weights.is_dir():
        _link(target, base_weights)
    else:
        model = load_base(section, project.folder, str(variant.base) if variant.base else None)
        merged = load_adapter(model, variant.adapter).merge_and_unload() if variant.adapter else model
        with disk_errors(target):
            merged.save_pretrained(str(target))
    with disk_errors(target):
        tokenizer.save_pretrained(str(target))
        generation = greedy_config(str(base_weights), section, tokenizer, project.config.answers.max_new_tokens)
        generation.save_pretrained(str(target))
        stamp.write_text(mark, encoding="utf-8")  # last, so that an interrupted write is repeated
    return target


def _link(target: Path, source: Path) -> None:
    """Links only the files of the weights: the others are written to `target`, which must not happen through a link."""
    with disk_errors(target):
        for pattern in ("config.json", "*.safetensors", "*.safetensors.index.json", "*.py"):
            for path in source.glob(pattern):
                (target / path.name).symlink_to(path.resolve())
