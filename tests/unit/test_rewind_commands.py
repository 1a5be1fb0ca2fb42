"""What `stream rewind` and `reset` say to arguments that make no sense."""

from __future__ import annotations

from pathlib import Path

import pytest

from streamkeeper_apps.cli import main


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["rewind", "s", "--offset", "0"], "'0' is not PARTITION=OFFSET, such as 0=1200"),
        (["rewind", "s", "--offset", "a=1"], "'a=1' is not PARTITION=OFFSET"),
        (["rewind", "s", "--timestamp", "noon"], "'noon' is not a time, such as 2026-11-24T14:00"),
        (
            ["rewind", "s"],
            "one of the arguments --begin --timestamp --offset --abandon is required",
        ),
        (["rewind", "s", "--begin", "--abandon"], "not allowed with argument --begin"),
        (["reset", "s", "--from", "start"], "choose from 'landed', 'begin', 'end', 'offsets'"),
    ],
)
def test_arguments_are_refused_with_what_is_valid(
    arguments: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        main(["stream", *arguments])
    assert told in capsys.readouterr().err.replace("choose from landed", "choose from 'landed'")


@pytest.mark.parametrize(
    "arguments",
    [["--from", "offsets"], ["--from", "begin", "--offset", "0=1"], ["--offset", "0=1"]],
)
def test_offsets_belong_to_a_reset_from_offsets(
    arguments: list[str],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    # Nothing is reached before the arguments are understood.
    monkeypatch.setenv("STREAMKEEPER_STORE", "postgresql+psycopg://nobody@127.0.0.1:1/none")
    monkeypatch.setenv("STREAMKEEPER_STREAMS", str(tmp_path))
    assert main(["stream", "reset", "s", *arguments]) == 1
    assert "reset: --offset P=O and --from offsets go together" in capsys.readouterr().err
