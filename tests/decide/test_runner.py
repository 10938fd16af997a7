"""The files of finished candidates, which a rerun reads in place of asking again."""

from __future__ import annotations

from pathlib import Path

import pytest

from fairlead.decide.answerers import Reply
from fairlead.decide.candidates import Recipe
from fairlead.decide.runner import CandidateResult, StoredCandidate
from fairlead.errors import ArtifactError
from fairlead.files import read_json, write_json

RECIPE = Recipe()
RESULT = CandidateResult(
    RECIPE,
    "base",
    (Reply("full", False, 3, 1, 0.25, None), Reply(None, False, None, None, 0.0, None, "no reply")),
    (0, 1),
    (2, 0),
    (0.5, None),
)


def test_a_finished_candidate_is_read_as_it_was_written(tmp_path: Path) -> None:
    path = tmp_path / "candidate.json"
    StoredCandidate.of(RESULT).write(path)
    assert StoredCandidate.at(path).result(RECIPE, "base") == RESULT


def test_a_candidate_of_another_form_is_one_line_that_names_the_file(tmp_path: Path) -> None:
    path = tmp_path / "candidate.json"
    StoredCandidate.of(RESULT).write(path)
    content = read_json(path)
    del content["shots"]
    write_json(path, content)
    with pytest.raises(ArtifactError, match=r"candidate\.json: shots does not fit.*delete the file"):
        StoredCandidate.at(path)
    path.write_text("{", encoding="utf-8")
    with pytest.raises(ArtifactError, match=r"candidate\.json: .*delete the file"):
        StoredCandidate.at(path)
