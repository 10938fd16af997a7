"""What the comparison says of itself in a line."""

from __future__ import annotations

import pytest

from fairlead.evaluation.compare import metrics_of
from fairlead.pipeline.graph import EVAL
from fairlead.pipeline.status import headline_of
from fairlead.records import ModelPair
from tests.support.reports import answers_of, eval_result, pair_of

SFT_OVER_BASE = pair_of(ModelPair("sft", "base"), 0.8, 0.9)
DPO_OVER_BASE = pair_of(ModelPair("dpo", "base"), 0.7, 0.8, n=290)
DPO_OVER_SFT = pair_of(ModelPair("dpo", "sft"), 0.5, 0.6, n=280)


@pytest.mark.parametrize(
    ("pairwise", "headline"),
    [
        ((SFT_OVER_BASE, DPO_OVER_BASE, DPO_OVER_SFT), "win rate 0.55 (n = 280)"),
        ((DPO_OVER_SFT, SFT_OVER_BASE), "win rate 0.55 (n = 280)"),
        ((SFT_OVER_BASE, DPO_OVER_BASE), "win rate 0.75 (n = 290)"),
        ((SFT_OVER_BASE,), ""),
        ((), ""),
    ],
)
def test_the_headline_is_the_win_rate_of_dpo_whichever_pair_is_listed_first(pairwise, headline):
    result = eval_result((), pairwise, answers_of(dpo=0.0))
    assert headline_of(EVAL, metrics_of(result, unanswered=0)) == headline
