"""The decisions of short runs, line by line; `tests.golden.transcripts` rewrites the files."""

import pytest

from tests.golden.transcripts import (
    FOLDER,
    SCENARIOS,
    TranscriptScenario,
    transcript,
    transcript_file,
)


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name)
def test_a_scenario_runs_as_its_transcript_records(scenario: TranscriptScenario) -> None:
    recorded = transcript_file(scenario).read_text().splitlines()

    assert transcript(scenario).splitlines() == recorded


def test_every_transcript_belongs_to_a_scenario() -> None:
    assert {file.stem for file in FOLDER.iterdir()} == {scenario.name for scenario in SCENARIOS}
