"""`dagbag_100`: how long Airflow takes to parse the DAGs of 100 declared streams."""

from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from bench.rows import Row

GOAL_S = 3.0
_ROOT = Path(__file__).parents[1]
_DECLARATION = _ROOT / "include" / "streams" / "temperature.yaml"
# In a process of its own, as Airflow's DAG processor parses; Airflow is imported first.
_CHILD = """
import json, sys, time
began = time.perf_counter()
from airflow.dag_processing.dagbag import DagBag
imported = time.perf_counter()
bag = DagBag(sys.argv[1])
parsed = time.perf_counter()
print(json.dumps({
    "import": imported - began, "parse": parsed - imported, "dags": len(bag.dags),
    "errors": bag.import_errors,
}))
"""


def measure(short: bool) -> list[Row]:
    """Parse 100 declarations (10 when short) in fresh processes; the median of three."""
    count = 10 if short else 100
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        shutil.copytree(_ROOT / "dags", root / "dags", ignore=shutil.ignore_patterns("__pycache__"))
        (root / "streams").mkdir()
        text = _DECLARATION.read_text()
        for i in range(count):
            (root / "streams" / f"stream_{i:03d}.yaml").write_text(text)
        runs = [_parse(root, 4 * count) for _ in range(1 if short else 3)]
    parse = statistics.median(run["parse"] for run in runs)
    return [
        Row(
            f"dagbag_{count}",
            parse,
            "s",
            baseline=statistics.median(run["import"] for run in runs),
            bound="at most",
            goal=GOAL_S,
            of="value",
            note=f"{4 * count} DAGs parsed; baseline: importing Airflow's DagBag alone",
        )
    ]


def _parse(root: Path, expected: int) -> dict[str, float]:
    env = os.environ | {
        "AIRFLOW_HOME": str(root / "airflow"),
        "AIRFLOW__CORE__DAGS_FOLDER": str(root / "dags"),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "STREAMKEEPER_STREAMS": str(root / "streams"),
    }
    done = subprocess.run(
        [sys.executable, "-c", _CHILD, str(root / "dags")],
        env=env,
        capture_output=True,
        text=True,
        check=True,
    )
    result = json.loads(done.stdout.splitlines()[-1])
    if result["errors"] or result["dags"] != expected:
        raise RuntimeError(f"{result['dags']} DAGs instead of {expected}: {result['errors']}")
    return result
