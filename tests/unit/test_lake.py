"""The lake's folders, where a real one would have to change between two questions."""

from __future__ import annotations

from pathlib import Path

import pyarrow.fs as pafs
import pytest

from streamkeeper.errors import LakeUnavailable
from streamkeeper_io import lake


class MadeMeanwhile:
    """A file system in which a folder is made while pyarrow looks at it, as often as told."""

    def __init__(self, times: int) -> None:
        self.times = times

    def get_file_info(self, selector: pafs.FileSelector) -> list[pafs.FileInfo]:
        if self.times:
            self.times -= 1
            raise NotADirectoryError(selector.base_dir)
        return pafs.LocalFileSystem().get_file_info(selector)


def test_a_folder_that_is_made_meanwhile_is_looked_at_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "b").touch()
    (tmp_path / "a").touch()
    monkeypatch.setattr(lake, "arrow_filesystem", lambda _: MadeMeanwhile(1))
    assert lake.folder_names("hdfs://lake:1", str(tmp_path)) == ["a", "b"]


def test_a_file_where_a_folder_should_be_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lake, "arrow_filesystem", lambda _: MadeMeanwhile(2))
    with pytest.raises(LakeUnavailable, match="the lake at hdfs://lake:1"):
        lake.folder_names("hdfs://lake:1", "/raw")
