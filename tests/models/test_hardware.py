"""`dtype: auto` is what this machine multiplies faster, measured once and kept."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from fairlead.cli.doctor import examine
from fairlead.files import read_json
from fairlead.models import hardware

CPU = torch.device("cpu")


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty cache, on a CPU with instructions for bfloat16."""
    monkeypatch.setenv("FAIRLEAD_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: True)
    hardware.cpu_speeds.cache_clear()
    yield tmp_path / "cache"
    hardware.cpu_speeds.cache_clear()


def measured(monkeypatch: pytest.MonkeyPatch, float32: float, bfloat16: float) -> list[int]:
    calls: list[int] = []

    def measure(*dtypes: torch.dtype) -> list[float]:
        calls.append(len(dtypes))
        return [float32, bfloat16]

    monkeypatch.setattr(hardware, "_measure", measure)
    return calls


@pytest.mark.parametrize(
    ("float32", "bfloat16", "dtype"),
    [(200e9, 900e9, torch.bfloat16), (148e9, 44e9, torch.float32), (200e9, 210e9, torch.float32)],
)
def test_auto_is_the_faster_type_measured_once(
    cache: Path, monkeypatch: pytest.MonkeyPatch, float32: float, bfloat16: float, dtype: torch.dtype
) -> None:
    calls = measured(monkeypatch, float32, bfloat16)
    assert hardware.resolve_dtype("auto", CPU) == dtype
    hardware.cpu_speeds.cache_clear()  # as another process
    assert hardware.resolve_dtype("auto", CPU) == dtype
    assert len(calls) == 1
    [kept] = cache.glob("cpu-*.json")
    assert read_json(kept) == {"float32": float32, "bfloat16": bfloat16}
    kept.write_text("{}")
    hardware.cpu_speeds.cache_clear()
    assert hardware.resolve_dtype("auto", CPU) == dtype
    assert len(calls) == 2, "a damaged file is measured anew"


def test_without_instructions_nothing_is_measured(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: False)
    assert hardware.resolve_dtype("auto", CPU) == torch.float32
    assert not cache.exists()


def test_a_cache_that_cannot_be_written_is_no_error(
    cache: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("FAIRLEAD_CACHE", str(tmp_path / "file" / "cache"))
    measured(monkeypatch, 1e9, 9e9)
    assert hardware.computes_bf16(CPU)
    assert not cache.exists()


def test_the_speeds_are_real_and_doctor_tells_them(cache: Path) -> None:
    speeds = hardware.cpu_speeds()
    assert speeds is not None
    assert 1e8 < speeds.float32 < 1e14
    assert 1e8 < speeds.bfloat16 < 1e14
    [finding] = [finding for finding in examine() if finding.what == "bfloat16"]
    if hardware.device().type == "cpu":
        assert f"{speeds.bfloat16 / 1e9:.0f} GFLOP/s" in finding.found
    name = "bfloat16" if hardware.computes_bf16(hardware.device()) else "float32"
    assert finding.means == f"dtype auto is {name}"
