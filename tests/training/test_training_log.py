"""Logs of other trainers are read by their own names; what a log does not hold is named and not taken for passed."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from fairlead.cli import train
from fairlead.errors import DataError
from fairlead.training.diagnosis.coverage import NEEDS, not_judged
from fairlead.training.diagnosis.curves import Curves
from fairlead.training.diagnosis.rules import RULES, diagnose
from fairlead.training.training_log import read_log
from tests.training.diagnosis.test_diagnosis import FAILURE_MODES


def history(steps: int, **last_step: Any) -> list[dict[str, Any]]:
    """`log_history` as TRL writes it, with a validation pass at every second logged step."""
    rows: list[dict[str, Any]] = []
    for n in range(1, steps // 10 + 1):
        rows.append(
            {
                "epoch": n / 10,
                "grad_norm": 1.0,
                "learning_rate": 1e-5 * (1 - n / 12),
                "loss": 0.69 - 0.02 * n,
                "rewards/accuracies": 0.7,
                "rewards/chosen": 0.02 * n,
                "rewards/margins": 0.05 * n,
                "rewards/rejected": -0.03 * n,
                "step": 10 * n,
            }
        )
        if n % 2 == 0:
            rows.append(
                {
                    "epoch": n / 10,
                    "eval_loss": 0.68 - 0.01 * n,
                    "eval_rewards/accuracies": 0.75,
                    "eval_rewards/chosen": 0.02 * n,
                    "eval_rewards/margins": 0.04 * n,
                    "eval_rewards/rejected": -0.02 * n,
                    "eval_runtime": 2.5012,
                    "eval_samples_per_second": 39.981,
                    "step": 10 * n,
                }
            )
    return [*rows[:-1], rows[-1] | last_step]


def write_state(folder: Path, steps: int = 100, **last_step: Any) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    state = {"global_step": steps, "max_steps": 100, "num_train_epochs": 1, "log_history": history(steps, **last_step)}
    path = folder / "trainer_state.json"
    path.write_text(json.dumps(state), encoding="utf-8")
    return path


def test_a_trainer_state_has_the_curves_that_its_log_history_holds(tmp_path: Path) -> None:
    curves = Curves.from_metrics(read_log(write_state(tmp_path, kl=1.5)).rows)
    assert len(curves.train) == 10
    assert [result.pairs for result in curves.validation] == [100] * 5
    assert curves.last_validation_gap == pytest.approx(0.4)
    assert curves.last_kl == 1.5
    assert curves.done == 1.0
    assert curves.facts.learning_rate == pytest.approx(1e-5 * 11 / 12)


def test_of_a_folder_of_checkpoints_the_newest_is_read(tmp_path: Path) -> None:
    for steps in (20, 100):
        write_state(tmp_path / f"checkpoint-{steps}", steps)
    (tmp_path / "checkpoint-200").mkdir()
    log = read_log(tmp_path)
    assert log.path == tmp_path / "checkpoint-100" / "trainer_state.json"


@pytest.mark.parametrize("content", ["[]", "{}", '{"log_history": 3}', "{"])
def test_a_state_without_a_history_is_one_line(tmp_path: Path, content: str) -> None:
    path = tmp_path / "trainer_state.json"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(DataError, match=r"trainer_state\.json"):
        read_log(path)


def test_every_rule_says_what_it_needs() -> None:
    assert [rule.__name__ for rule in RULES] == list(NEEDS)


def test_a_log_of_another_trainer_names_what_it_cannot_judge(tmp_path: Path) -> None:
    rows = read_log(write_state(tmp_path)).rows
    lacking = not_judged(rows)
    assert lacking["forgetting"] == "no loss on general text (watch.general)"
    assert lacking["too_aggressive"] == "β is not known (--beta)"
    assert {"not_a_number", "overfitting", "loss_not_falling", "kl_spike"}.isdisjoint(lacking)
    assert "too_aggressive" not in not_judged([*rows, {"step": 0, "run/beta": 0.1}])


def test_a_rule_that_speaks_is_not_said_to_be_unjudged(tmp_path: Path) -> None:
    """Whatever is cut out of a log, the rules' own conditions and the list of what is missing agree."""
    for rows in FAILURE_MODES.values():
        for key in dict.fromkeys(key for row in rows for key in row):
            cut = [{name: value for name, value in row.items() if name != key} for row in rows]
            spoken = {finding.rule for finding in diagnose(cut)}
            assert spoken.isdisjoint(not_judged(cut)), key


@pytest.mark.parametrize("row", [{}, {"epoch": 1.0}, {"note": "text"}, {"eval_runtime": 2.0}])
def test_a_log_without_figures_is_nothing_to_judge_and_no_healthy_training(tmp_path: Path, row: dict[str, Any]) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text(json.dumps({"step": 1, **row}) + "\n", encoding="utf-8")
    with pytest.raises(DataError, match="nothing to judge: no row has a loss") as refused:
        train.diagnose(path)
    assert refused.value.exit_code == 3


def test_the_command_reads_a_trainer_state_without_importing_torch(tmp_path: Path) -> None:
    path = write_state(tmp_path, 100)
    code = (
        "import sys; from fairlead.cli.main import main\n"
        "try: main()\n"
        "finally: print('imported:', sorted({'torch', 'transformers', 'trl'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, "diagnose", str(path), "--beta", "0.1"],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    assert done.stdout.startswith("no alarm: validation gap 0.4\n")
    assert "not judged: forgetting: no loss on general text (watch.general)" in done.stdout
    assert "imported: []" in done.stdout
