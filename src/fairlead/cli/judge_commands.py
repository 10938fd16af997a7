"""The command line's work with a judge outside of a run: measure it, qualify it, say what it would cost."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from fairlead.config.judges import JudgeCheckSettings, JudgeSettings
from fairlead.config.project import Config, load_config
from fairlead.cost.judge_cost import Estimate, estimate
from fairlead.errors import ConfigError
from fairlead.judges.base import Judge
from fairlead.judges.build import open_judge
from fairlead.judges.qualification import probes
from fairlead.judges.qualification.agreement import Agreement, agreement, ask, both_ways
from fairlead.judges.qualification.human_labels import Labelled, read_labelled
from fairlead.judges.qualification.model_families import kinship
from fairlead.judges.qualification.qualify import Qualification, families_of, one_order, planned, qualify


@dataclass(frozen=True)
class Workbench:
    """A project's judge of the pairs, or of the comparison.

    Attributes:
        settings: of that judge.
        kinship: what it has in common with the other one, as a sentence; None where nothing is known.
    """

    folder: Path
    settings: JudgeSettings
    check_settings: JudgeCheckSettings | None
    kinship: str | None

    def agreement(self, file: Path, most: int | None) -> Agreement:
        """The judge beside people, asked in both orders."""
        rows = _rows(file, most)
        with self._judge() as judge:
            return agreement(rows, ask(judge, rows))

    def estimate_agreement(self, file: Path, most: int | None) -> list[Estimate]:
        return self._estimate(_rows(file, most))

    def check(self, file: Path | None) -> Qualification:
        demands = self._demands(file)
        rows = read_labelled(self._labelled(demands))
        with self._judge() as judge:
            return qualify(judge, rows, demands, families_of(self.settings))

    def estimate_check(self, file: Path | None) -> list[Estimate]:
        demands = self._demands(file)
        plan = planned(read_labelled(self._labelled(demands)), demands, families_of(self.settings))
        return self._estimate([row for part in plan.values() for row in part])

    def _estimate(self, rows: Sequence[Labelled]) -> list[Estimate]:
        with self._judge() as judge:
            return estimate(judge, both_ways(rows))

    @contextmanager
    def _judge(self) -> Iterator[Judge]:
        with open_judge(one_order(self.settings), self.folder) as judge:
            yield judge

    def _demands(self, file: Path | None) -> JudgeCheckSettings:
        """The project's demands, on the file that is named here where one is."""
        if file is not None:
            given = self.check_settings.model_dump() if self.check_settings is not None else {}
            return JudgeCheckSettings.model_validate({**given, "labelled": str(file.resolve())})
        if self.check_settings is None:
            raise ConfigError(
                "no labelled comparisons are named",
                where="judge_check",
                remedy="fairlead judge check FILE, or judge_check: {labelled: FILE} in fairlead.yaml",
            )
        return self.check_settings

    def _labelled(self, demands: JudgeCheckSettings) -> Path:
        return self.folder / demands.labelled


def open_project(folder: Path, *, evaluation: bool) -> Workbench:
    """The judge of the pairs, or that of the comparison.

    Raises:
        ConfigError: if the project has none.
    """
    config = load_config(folder)
    settings = config.eval_judge if evaluation else config.judge or config.eval_judge
    if settings is None:
        raise ConfigError("there is no judge", where=str(folder), remedy="write a judge section into fairlead.yaml")
    return Workbench(folder, settings, config.judge_check, kinship_of(config))


def kinship_of(config: Config) -> str | None:
    """What the judge of the pairs and that of the comparison have in common, as a sentence; None if nothing."""
    found = kinship(config.judge, config.eval_judge)
    return None if found is None else found.sentence


def _rows(file: Path, most: int | None) -> list[Labelled]:
    rows = read_labelled(file)
    return rows if most is None else probes.spread(rows, most)
