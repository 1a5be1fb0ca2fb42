"""The DAGs that declarations become."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from airflow.dag_processing.dagbag import DagBag
from airflow.sdk import DAG, Asset
from airflow.serialization.serialized_objects import DagSerialization

from streamkeeper.launches import Launch
from streamkeeper.settings import Settings
from streamkeeper.spec.loader import load_spec
from streamkeeper_airflow.dag_factory import build_dags

ROOT = Path(__file__).parents[2]
DECLARATION = ROOT / "include" / "streams" / "temperature.yaml"


@pytest.fixture(scope="module")
def streams(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two streams in one app, one in another, and a broken one."""
    folder = tmp_path_factory.mktemp("streams")
    text = DECLARATION.read_text()
    shutil.copy(DECLARATION, folder / "temperature.yaml")
    (folder / "one.yaml").write_text("app: pair\n" + text)
    (folder / "two.yaml").write_text("app: pair\n" + text.replace("tags: [iot", "tags: [second"))
    (folder / "bad.yaml").write_text(text.replace("type: double", "type: duoble"))
    return folder


@pytest.fixture(scope="module")
def dags(streams: Path) -> dict[str, DAG]:
    return {dag.dag_id: dag for dag in build_dags(streams)}


def test_the_dag_file_gives_the_declared_streams() -> None:
    bag = DagBag(str(ROOT / "dags"))
    assert bag.import_errors == {}
    assert set(bag.dags) >= {
        "keep__temperature",
        "produce__temperature",
        "hours__temperature",
        "report__temperature",
        "analyse__iot",
        *(f"{what}__logs" for what in ("keep", "produce", "hours", "report")),
        *(f"{what}__building_files" for what in ("keep", "produce", "hours")),
    }


def test_streams_of_one_app_share_a_keeper(dags: dict[str, DAG]) -> None:
    assert set(dags) == {
        "keep__temperature",
        "keep__pair",
        "keep__bad",
        "broken__bad",
        *(f"{what}__{s}" for what in ("produce", "hours", "report") for s in ("one", "two")),
        *(f"{what}__temperature" for what in ("produce", "hours", "report")),
    }
    assert {spec.name for spec in dags["keep__pair"].get_task("keep").specs} == {"one", "two"}
    assert "second" in dags["keep__pair"].tags


def test_every_dag_is_described_and_serializable(dags: dict[str, DAG]) -> None:
    for dag in dags.values():
        assert dag.doc_md
        assert dag.doc_md.startswith("# ")
        assert "streamkeeper" in dag.tags
        assert not dag.catchup
        written = json.loads(json.dumps(DagSerialization.to_dict(dag)))
        read = DagSerialization.from_dict(written)
        assert read.task_ids == dag.task_ids


@pytest.mark.parametrize("dag_id", ["keep__temperature", "produce__temperature"])
def test_keepers_run_for_ever_and_give_up_on_a_person(dags: dict[str, DAG], dag_id: str) -> None:
    dag = dags[dag_id]
    assert type(dag.timetable).__name__ == "ContinuousTimetable"
    assert dag.max_active_runs == 1
    assert dag.max_consecutive_failed_dag_runs == 3
    [task] = dag.tasks
    assert task.retries == 3


def test_hours_are_closed_after_they_are_waited_for(dags: dict[str, DAG]) -> None:
    dag = dags["hours__temperature"]
    assert dag.max_active_runs == 4
    assert [t.task_id for t in dag.topological_sort()] == ["wait", "close"]
    close = dag.get_task("close")
    assert [a.uri for a in close.outlets] == ["streamkeeper://hours/temperature"]
    assert close.retries == 3
    assert close.application_args[:2] == ["--stream", "temperature"]


def test_reports_follow_the_hours(dags: dict[str, DAG]) -> None:
    dag = dags["report__temperature"]
    [asset] = dag.timetable.asset_condition.objects
    assert asset == Asset("streamkeeper://hours/temperature")
    assert dag.get_task("mail").retries == 5


def test_a_table_of_landed_rows_is_analysed_by_hand() -> None:
    (dag,) = [dag for dag in build_dags(DECLARATION.parent) if dag.dag_id == "analyse__iot"]
    assert set(dag.tags) == {"streamkeeper", "analyse", "iot", "cassandra"}
    assert "iot_keyspace.sensor_data" in (dag.doc_md or "")
    assert (dag.params["hour"], dag.params["key"]) == (None, None)
    task = dag.get_task("analyse")
    assert Path(task.application).name == "analyse_table.py"
    assert task.application_args == [
        "--stream=iot",
        "--hours={{ params.hour or '' }}",
        "--key={{ params.key or '' }}",
        "--table={{ params.table or '' }}",
    ]


def test_longer_times_are_computed_daily_or_by_hand() -> None:
    found = {dag.dag_id: dag for dag in build_dags(DECLARATION.parent)}
    dag = found["periods__logs"]
    assert "periods__temperature" not in found, "its KPIs declare no periods"
    assert dag.timetable.expression == "30 1 * * *"
    assert dag.max_active_runs == 1
    assert (dag.params["period"], dag.params["day"]) == (None, None)
    task = dag.get_task("analyse")
    assert Path(task.application).name == "analyse_periods.py"
    assert task.application_args == [
        "--stream=logs",
        "--period={{ params.period or '' }}",
        "--day={{ params.day or '' }}",
    ]


def test_the_producer_offers_its_parameters(dags: dict[str, DAG]) -> None:
    params = dags["produce__temperature"].params
    assert params["hours_back"] == 3
    assert params["limit"] is None


def test_a_folder_has_a_producer_that_watches_it() -> None:
    spec = load_spec(ROOT / "include" / "streams" / "building_files.yaml")
    (dag,) = [
        dag
        for dag in build_dags(ROOT / "include" / "streams")
        if dag.dag_id == "produce__building_files"
    ]
    assert "Watches the folder `sensor_data`" in (dag.doc_md or "")
    task: Any = dag.get_task("produce")
    launch = Launch(epoch=7, kind="producer", name=spec.name, began_at=datetime.now(UTC))
    command = task.command(Settings(), Path("launch.json"), launch)
    assert command[1:] == ["produce", "folder", "building_files", "--launch", "launch.json"]
    assert task.options({"params": {}}) == {"hours_back": None, "limit": None}


def test_a_broken_declaration_becomes_a_paused_dag_with_its_mistakes(dags: dict[str, DAG]) -> None:
    dag = dags["broken__bad"]
    assert dag.is_paused_upon_creation
    assert "duoble" in (dag.doc_md or "")
    assert "double" in (dag.doc_md or "")
    keeper = dags["keep__bad"].get_task("keep")
    assert keeper.specs == ()
    assert [path.name for path in keeper.broken] == ["bad.yaml"]


def test_a_task_builds_only_its_own_dag(streams: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("_AIRFLOW_PARSING_CONTEXT_DAG_ID", "hours__two")
    assert [dag.dag_id for dag in build_dags(streams)] == ["hours__two"]


def test_parsing_imports_no_clients_of_servers() -> None:
    # airflow itself imports parts of SQLAlchemy, so engines are told by psycopg and our store.
    heavy = (
        "pyspark confluent_kafka pyarrow hdfs_native cassandra psycopg alembic pandas"
        " streamkeeper_io.store streamkeeper_io.kafka streamkeeper_io.lake"
    )
    code = (
        "import sys, runpy; runpy.run_path(sys.argv[1]);"
        "print([m for m in sys.argv[2].split() if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(ROOT / "dags" / "streams.py"), heavy],
        env=os.environ | {"STREAMKEEPER_STREAMS": str(DECLARATION.parent)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.splitlines()[-1] == "[]"
