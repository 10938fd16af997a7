"""Every rule speaks on the curve of its failure mode, is silent on its neighbour's, and says what to do."""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args

import pytest

from fairlead.config.monitoring import Thresholds
from fairlead.documents.diagnosis import Diagnosis, FailureMode, actionable, alarms
from fairlead.training.diagnosis.coverage import not_judged
from fairlead.training.diagnosis.rules import RULES, diagnose, diagnosis, sentence
from tests.support.projects import REPO

FACTS = {
    "step": 0,
    "run/steps": 40,
    "run/beta": 0.1,
    "run/learning_rate": 1e-4,
    "run/pairs": 400,
    "run/validation_pairs": 100,
    "run/chosen_tokens": 20.0,
    "run/chosen_longer": 0.5,
    "run/unequal_lengths": 300,
    "run/reference_nats": 0.8,
    "run/prompt_gain": 0.9,
}
REFERENCE = {
    "step": 10,
    "watch/reference_length": 20.0,
    "watch/reference_length_error": 0.5,
    "watch/reference_loops": 0.0,
    "watch/reference_cut": 0.0,
    "watch/reference_distinct_2": 0.5,
}


def training(
    *,
    facts: dict[str, Any] | None = None,
    loss: tuple[float, ...] = (0.69, 0.66, 0.6, 0.55),
    gap: tuple[float, ...] = (0.0, 0.1, 0.4, 0.6),
    validation: tuple[dict[str, float], ...] = (),
    samples: dict[str, float] | None = None,
) -> list[dict[str, Any]]:
    """The log of a healthy training of 40 steps, with what is said otherwise."""
    rows: list[dict[str, Any]] = [FACTS | (facts or {}), REFERENCE]
    for n in range(4):
        step = 10 * (n + 1)
        rows.append({"step": step, "loss": loss[n], "grad_norm": 1.0, "rewards/margins": gap[n]})
        passed = {
            "eval_loss": 0.69 - 0.04 * (n + 1),
            "eval_rewards/margins": 0.12 * (n + 1),
            "eval_rewards/accuracies": 0.8,
            "eval_rewards/chosen": -0.05 * (n + 1),
            "eval_rewards/rejected": -0.17 * (n + 1),
            "eval_rewards/confidently_wrong": 0.05,
        }
        rows.append({"step": step, "epoch": (n + 1) / 2, **passed, **(validation[n] if validation else {})})
        seen = {
            "watch/kl": 0.8 * (n + 1),
            "watch/kl_error": 0.2,
            "watch/kl_token": 0.04 * (n + 1),
            "watch/length": 20.5,
            "watch/length_error": 0.5,
            "watch/loops": 0.0,
            "watch/cut": 0.0,
            "watch/distinct_2": 0.45,
        }
        rows.append({"step": step, **seen, **(samples or {})})
    return rows


def passes(**figures: tuple[float, ...]) -> tuple[dict[str, float], ...]:
    """Figures of the four validation passes."""
    return tuple({f"eval_{key.replace('__', '/')}": values[n] for key, values in figures.items()} for n in range(4))


FLAT = (0.6931, 0.693, 0.6925, 0.692)
FAILURE_MODES: dict[str, list[dict[str, Any]]] = {
    "not_a_number": [*training(), {"step": 41, "loss": None, "grad_norm": None}],
    "formatting": training(facts={"run/reference_nats": 4.0}),
    "kl_spike": training(samples={"watch/kl_token": 6.0}),
    "degenerate_samples": training(samples={"watch/loops": 0.3}),
    "label_noise": training(
        loss=FLAT,
        validation=passes(rewards__accuracies=(0.5, 0.55, 0.54, 0.53), rewards__confidently_wrong=(0.4, 0.4, 0.4, 0.4)),
    ),
    "length_exploitation": training(facts={"run/chosen_longer": 0.95}, samples={"watch/length": 31.0}),
    "overfitting": training(loss=(0.69, 0.5, 0.2, 0.05), validation=passes(loss=(0.6, 0.55, 0.6, 0.8))),
    "log_probabilities_fall": training(
        validation=passes(rewards__chosen=(-0.2, -0.5, -1, -2), rewards__rejected=(-0.3, -0.7, -1.4, -3))
    ),
    "forgetting": [
        *training(samples={"watch/general_loss": 2.5}),
        {"step": 10, "watch/general_loss_start": 2.0},
    ],
    "loss_not_falling": training(loss=FLAT, gap=(0, 0, 0.001, 0.001), samples={"watch/kl": 0.01}),
    "too_conservative": training(
        facts={"run/beta": 1.0},
        validation=passes(rewards__margins=(0.3, 0.6, 0.7, 0.7)),
        samples={"watch/kl": 0.1, "watch/kl_error": 0.02},
    ),
    "too_aggressive": training(
        facts={"run/beta": 0.001},
        loss=(0.693, 0.693, 0.692, 0.691),
        gap=(0.0, 0.001, 0.003, 0.005),
        validation=passes(rewards__margins=(0.001, 0.002, 0.003, 0.004), rewards__chosen=(0.0, 0.0, 0.001, 0.001)),
    ),
}


OTHER_EVIDENCE: dict[str, list[dict[str, Any]]] = {
    "overfitting": training(
        gap=(0.1, 0.5, 1.5, 3.0),
        validation=passes(rewards__margins=(0.3, 0.5, 0.45, 0.3), loss=(0.6, 0.58, 0.57, 0.57)),
    ),
    "kl_spike": training(loss=(0.69, 3.0, 0.6, 0.55)),
    "overfitting by heart": training(
        gap=(0.1, 0.4, 0.6, 0.8), validation=passes(rewards__margins=(0.3, 0.4, 0.41, 0.42))
    ),
    "overfitting of a policy that runs away": training(
        loss=(0.69, 0.6, 0.5, 0.4), validation=passes(loss=(0.64, 0.6, 0.59, 0.6))
    ),
    "too_conservative": training(
        facts={"run/beta": 1.0},
        loss=(0.69, 0.4, 0.2, 0.1),
        gap=(0.1, 1.5, 2.4, 3.0),
        validation=passes(rewards__margins=(0.9, 1.6, 2.1, 2.6)),
        samples={"watch/kl": 1.2},
    ),
    "formatting": training(facts={"run/prompt_gain": 0.001}),
    "formatting within the noise": training(facts={"run/prompt_gain": 0.2, "run/prompt_gain_error": 0.15}),
    "degenerate_samples": training(samples={"watch/distinct_2": 0.1}),
}


@pytest.mark.parametrize("rule", OTHER_EVIDENCE)
def test_a_failure_mode_is_named_by_its_other_evidence_too(rule: str) -> None:
    assert [finding.rule for finding in actionable(diagnose(OTHER_EVIDENCE[rule]))] == [rule.split()[0]]


def test_without_a_demand_on_the_prompt_its_worth_is_not_judged() -> None:
    below = training(facts={"run/prompt_gain": -0.001})
    assert actionable(diagnose(below))
    assert actionable(diagnose(below, Thresholds(prompt_gain=0.0))) == []


def test_every_rule_has_its_failure_mode_here() -> None:
    assert set(FAILURE_MODES) == set(get_args(FailureMode))


@pytest.mark.parametrize("rule", FAILURE_MODES)
def test_a_failure_mode_is_named_with_evidence_meaning_and_remedy(rule: str) -> None:
    findings = {finding.rule: finding for finding in actionable(diagnose(FAILURE_MODES[rule]))}
    assert list(findings) == [rule]
    finding = findings[rule]  # type: ignore[index]
    assert any(character.isdigit() for character in finding.evidence)
    assert finding.meaning
    assert finding.remedy
    assert finding.keys


@pytest.mark.parametrize("rule", FAILURE_MODES)
def test_the_keys_of_a_remedy_are_keys_of_the_config(rule: str) -> None:
    """`dpo.label_noise` and `watch.keep` are checked against the settings that the sections are made of."""
    from fairlead.config.monitoring import WatchSettings
    from fairlead.config.project import Config
    from fairlead.config.training import DpoSection, SftSection

    trained: dict[str, Any] = {"dpo": DpoSection, "sft": SftSection}
    for finding in diagnose(FAILURE_MODES[rule]):
        for key in finding.keys:
            section, _, name = key.partition(".")
            if section == "watch":
                assert name in WatchSettings.model_fields
            elif key not in ("dpo.label_noise", "judge.both_orders"):
                model = trained.get(section) or Config.model_fields[section].annotation
                assert name in model.model_fields, key


def test_a_healthy_training_draws_no_alarm_and_is_told_that_both_may_fall() -> None:
    findings = diagnose(training())
    assert actionable(findings) == []
    assert [finding.rule for finding in findings] == ["log_probabilities_fall"]
    assert findings[0].severity == "note"
    assert "normal" in findings[0].meaning
    assert sentence(training(), findings).startswith("no alarm: validation gap 0.48, KL 3.2")


@pytest.mark.parametrize(("pairs", "named"), [(200, True), (24, False)])
def test_label_noise_is_named_where_the_number_of_pairs_excludes_that_there_is_none(pairs: int, named: bool) -> None:
    """58 % of 24 pairs as labelled may be 0.39 to 0.75, and so what a policy reaches on right labels; of 200 not."""
    passed = passes(rewards__accuracies=(0.5, 0.58, 0.58, 0.58), rewards__confidently_wrong=(0.4, 0.4, 0.4, 0.4))
    rows = training(facts={"run/validation_pairs": pairs}, loss=FLAT, validation=passed)
    assert ("label_noise" in {finding.rule for finding in diagnose(rows)}) == named


def test_label_noise_is_not_judged_on_a_handful_of_pairs() -> None:
    rows = training(facts={"run/validation_pairs": 16})
    assert not_judged(rows)["label_noise"] == "16 validation pairs where 20 are needed"


def test_an_empty_log_says_nothing() -> None:
    assert diagnose([]) == []
    assert sentence([], []) == "no alarm"


def test_what_was_not_measured_is_not_judged() -> None:
    """A log of TRL without samples and without facts: no rule may fall over, or guess."""
    rows = [{key: v for key, v in row.items() if "/" not in key or "eval" in key} for row in training(loss=FLAT)]
    assert actionable(diagnose([row for row in rows if len(row) > 1])) == []


@pytest.mark.parametrize("length", range(1, 14))
def test_a_log_that_is_still_being_written_can_be_diagnosed(length: int) -> None:
    for rows in FAILURE_MODES.values():
        diagnose(rows[:length])


def test_early_rows_raise_no_alarm_about_trends() -> None:
    rows = [row for row in training(loss=FLAT, samples={"watch/kl": 0.01}) if row["step"] <= 10]
    assert actionable(diagnose(rows)) == []


@pytest.mark.parametrize("name", Thresholds.model_fields)
def test_every_threshold_is_read(name: str) -> None:
    """Moved to either end, a threshold changes what is found in one of the logs."""
    field = Thresholds()
    value = getattr(field, name)
    changed = False
    for new in (1e-9, 0.0, value / 50, value * 0.98, value * 1.9, value * 50, 1.0, 0.49):
        try:
            limits = Thresholds(**{name: new})
        except ValueError:
            continue
        for rows in [*FAILURE_MODES.values(), *OTHER_EVIDENCE.values(), training(facts={"run/chosen_longer": 0.95})]:
            for end in (len(rows), 10, 7, 4):
                changed |= diagnose(rows[:end], limits) != diagnose(rows[:end])
    assert changed, name


def test_a_small_gap_with_an_unsaturated_gradient_asks_for_steps_and_not_for_another_beta() -> None:
    slow = training(
        loss=(0.693, 0.685, 0.675, 0.67),
        validation=passes(rewards__margins=(0.01, 0.02, 0.03, 0.05)),
        samples={"watch/kl": 0.1},
    )
    (finding,) = actionable(diagnose(slow))
    assert finding.rule == "too_conservative"
    assert "dpo.learning_rate" in finding.keys
    (only_finding,) = actionable(diagnose(FAILURE_MODES["too_conservative"]))
    assert only_finding.keys == {"dpo.beta": 0.1}


def test_the_doc_explains_every_rule_and_every_threshold() -> None:
    text = (REPO / "docs" / "diagnosis.md").read_text(encoding="utf-8")
    for name in [*get_args(FailureMode), *Thresholds.model_fields]:
        assert f"`{name}`" in text, name


def test_advice_is_no_alarm_and_stands_beside_the_figures() -> None:
    rows = FAILURE_MODES["too_conservative"]
    findings = diagnose(rows)
    assert alarms(findings) == []
    assert sentence(rows, findings).startswith(
        "no alarm: validation gap 0.7, KL 0.1 nats per answer; too conservative: "
    )


def test_a_line_of_a_finding_names_the_keys(tmp_path: Path) -> None:
    (finding,) = alarms(diagnose(FAILURE_MODES["kl_spike"]))
    assert finding.line.startswith("kl spike: KL reached 6.00 nats per token")
    assert "dpo.learning_rate: 1e-05" in finding.line


SFT_LOG = [
    {"step": 5, "loss": 2.0, "grad_norm": 1.0, "learning_rate": 1e-4},
    {"step": 5, "eval_loss": 1.9, "eval_runtime": 0.1},
    *({"step": n, "loss": 1.0, "eval_loss": 1.5} for n in (10, 15, 20)),
]


def test_a_log_of_sft_is_diagnosed_by_what_it_has() -> None:
    assert actionable(diagnose(SFT_LOG)) == []
    assert sentence(SFT_LOG, diagnose(SFT_LOG)) == "no alarm"


@pytest.mark.parametrize("value", [None, float("nan"), "text", [1.0], "absent"])
@pytest.mark.parametrize("rule", [*FAILURE_MODES, "overfitting by heart"])
def test_a_figure_that_is_null_absent_or_of_another_type_is_skipped(rule: str, value: Any) -> None:
    rows = FAILURE_MODES.get(rule) or OTHER_EVIDENCE[rule]
    for key in dict.fromkeys(key for row in rows for key in row):
        changed = [{k: value if k == key else v for k, v in row.items()} for row in rows]
        if value == "absent":
            changed = [{k: v for k, v in row.items() if k != key} for row in rows]
        sentence(changed, diagnose(changed))


def test_nothing_is_learnt_by_heart_in_the_first_epoch() -> None:
    """There the gap of training is one of pairs that it has not seen yet, and two that differ are two draws."""
    twice = OTHER_EVIDENCE["overfitting by heart"]
    once = [row | {"epoch": row["epoch"] / 2} if "epoch" in row else row for row in twice]
    assert [finding.rule for finding in actionable(diagnose(twice))] == ["overfitting"]
    assert actionable(diagnose(once)) == []


def test_only_one_side_that_is_strange_is_allowed() -> None:
    facts = {"run/reference_nats": 4.0, "run/reference_nats_rejected": 0.9}
    assert actionable(diagnose(training(facts=facts))) == []
    both = facts | {"run/reference_nats_rejected": 3.0}
    assert [finding.rule for finding in actionable(diagnose(training(facts=both)))] == ["formatting"]


@pytest.mark.parametrize(
    ("rule", "facts", "gone", "left"),
    [
        ("overfitting", {"run/keep": "best"}, "watch.keep", "lora.dropout"),
        ("overfitting", {"run/method": "full"}, "lora.dropout", "watch.keep"),
        ("overfitting", {"run/method": "lora", "run/dropout": 0.2}, "lora.dropout", "watch.keep"),
        ("forgetting", {"run/method": "lora"}, "dpo.method", "dpo.beta"),
        ("kl_spike", {"run/max_grad_norm": 0.1}, "dpo.max_grad_norm", "dpo.beta"),
        ("log_probabilities_fall", {"run/loss_type": "sigmoid,sft"}, "dpo.loss_type", "dpo.beta"),
        ("label_noise", {"run/label_noise": "measured"}, "dpo.label_noise", "judge.both_orders"),
        ("loss_not_falling", {"run/rank": 64}, "lora.r", "dpo.learning_rate"),
        ("not_a_number", {"run/dtype": "float32"}, "model.dtype", "dpo.learning_rate"),
    ],
)
def test_a_remedy_that_is_in_use_is_not_suggested(rule: str, facts: dict[str, Any], gone: str, left: str) -> None:
    (before,) = actionable(diagnose(FAILURE_MODES[rule]))
    (after,) = actionable(diagnose([{"step": 0, **facts}, *FAILURE_MODES[rule], {"step": 0, **facts}]))
    assert gone in before.keys
    assert gone not in after.keys
    assert left in after.keys
    assert len(after.remedy) < len(before.remedy)


def test_a_pass_over_other_pairs_is_no_part_of_a_trend() -> None:
    """The last pass sees all pairs, those before it fewer: what falls between them is the draw of the pairs."""
    falling = passes(rewards__margins=(0.3, 0.4, 0.5, 0.3))
    rows = training(gap=(0.1, 0.5, 1.5, 3.0), validation=falling)
    sizes = iter([16, 16, 16, 100])
    mixed = [row | {"eval_pairs": next(sizes)} if "eval_loss" in row else row for row in rows]
    assert [finding.rule for finding in actionable(diagnose(rows))] == ["overfitting"]
    assert actionable(diagnose(mixed)) == []


def test_what_is_written_is_read_again_as_the_same_document(tmp_path: Path) -> None:
    for rows in FAILURE_MODES.values():
        written = diagnosis(rows)
        written.write(tmp_path / "diagnosis.json")
        assert Diagnosis.read(tmp_path / "diagnosis.json") == written


def test_every_rule_names_a_failure_mode_of_the_config() -> None:
    assert {rule.__name__ for rule in RULES} == set(get_args(FailureMode))
