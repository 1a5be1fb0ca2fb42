"""The wheel that images and executors install has every file of the packages."""

from __future__ import annotations

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

CHECKOUT = Path(__file__).parents[2]
FLOORS = ("include", "spark_apps", "plugins")
OURS = ("pyproject.toml", "README.md", "LICENSE", "requirements.txt")
BUILD = "import setuptools.build_meta as backend; backend.build_wheel('dist')"


def test_the_wheel_has_every_file_of_the_packages(tmp_path: Path) -> None:
    """Templates, settings, locks and the migrations' own files among them."""
    for name in OURS:
        shutil.copy(CHECKOUT / name, tmp_path)
    # What an installation left beside the packages would be read as their list of files.
    ignore = shutil.ignore_patterns("__pycache__", "*.egg-info")
    for name in FLOORS:
        shutil.copytree(CHECKOUT / name, tmp_path / name, ignore=ignore)
    subprocess.run([sys.executable, "-c", BUILD], cwd=tmp_path, check=True, capture_output=True)
    (wheel,) = (tmp_path / "dist").glob("*.whl")
    expected = {
        path.relative_to(tmp_path / floor).as_posix()
        for floor in FLOORS
        for package in (tmp_path / floor).glob("streamkeeper*/")
        for path in package.rglob("*")
        if path.is_file()
    }
    with zipfile.ZipFile(wheel) as opened:
        found = {name for name in opened.namelist() if ".dist-info/" not in name}
    assert "streamkeeper_io/store/migrations/script.py.mako" in expected
    assert found == expected
