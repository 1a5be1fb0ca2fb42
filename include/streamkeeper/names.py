"""Every name and path that is made from a declaration, in one place."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from streamkeeper.periods import Period
    from streamkeeper.spec.models import Spec

MANIFEST_FILE = "_manifest.json"
GENERATION_FILE = "generation.json"
TEMPORARY = "_tmp"
CURATED, CLOSED_FILE, CLOSED_CSV = "curated", "part-0.parquet", "part-0.csv"
_BATCH = re.compile(r"^batch=([0-9a-f-]{36})-(\d+)$")
_HOUR_FORMAT = "%Y-%m-%dT%H"

# Columns that Streamkeeper adds to a landed row; declared fields never begin with an underscore.
TOPIC_ID, PARTITION, OFFSET, TIMESTAMP = "_topic_id", "_partition", "_offset", "_timestamp"
GENERATION, BATCH = "_generation", "_batch"
EVENT_TIME, HOUR, KEY = "_event_time", "_hour", "_key"
ERRORS, VALUE, WARNINGS, CORRECTED = "_errors", "_value", "_warnings", "_corrected"
COORDINATES = (TOPIC_ID, PARTITION, OFFSET)
# What a PostgreSQL sink adds: which write a row is of, and whether its window is closed.
WRITE_NUMBER, CLOSED = "_write_number", "_closed"


class BatchName(NamedTuple):
    """A micro-batch: the generation of its checkpoint and the batch id within it."""

    generation: str
    batch: int

    @property
    def folder(self) -> str:
        """The folder's name under a zone."""
        return f"batch={self.generation}-{self.batch}"


def parse_batch_folder(name: str) -> BatchName | None:
    """Return the batch that a folder's name tells, or None for any other folder."""
    match = _BATCH.match(name)
    return BatchName(match[1], int(match[2])) if match else None


def format_hour(hour: datetime) -> str:
    """Write an hour as `2026-11-24T14` (UTC)."""
    return hour.astimezone(UTC).strftime(_HOUR_FORMAT)


def parse_hour(text: str) -> datetime:
    """Read an hour written as `2026-11-24T14` (UTC).

    Raises ValueError with the expected form.
    """
    try:
        return datetime.strptime(text, _HOUR_FORMAT).replace(tzinfo=UTC)
    except ValueError:
        raise ValueError(f"{text!r} is not an hour; write it as 2026-11-24T14 (UTC)") from None


def hour_of(instant: datetime) -> datetime:
    """Return the start of the UTC hour that holds an instant."""
    return instant.astimezone(UTC).replace(minute=0, second=0, microsecond=0)


# DAGs
def keep_dag_id(app: str) -> str:
    """The DAG that keeps an app's driver alive."""
    return f"keep__{app}"


def produce_dag_id(stream: str) -> str:
    """The DAG that keeps a stream's producer alive."""
    return f"produce__{stream}"


def hours_dag_id(stream: str) -> str:
    """The DAG that closes a stream's hours."""
    return f"hours__{stream}"


def report_dag_id(stream: str) -> str:
    """The DAG that mails a stream's reports."""
    return f"report__{stream}"


def analyse_dag_id(stream: str) -> str:
    """The DAG that analyses a stream's Cassandra table."""
    return f"analyse__{stream}"


def periods_dag_id(stream: str) -> str:
    """The DAG that computes a stream's KPIs of days and of everything."""
    return f"periods__{stream}"


def broken_dag_id(stream: str) -> str:
    """The paused DAG that shows the mistakes of a declaration."""
    return f"broken__{stream}"


def hours_asset_uri(stream: str) -> str:
    """The Airflow asset that is updated when hours of a stream were closed."""
    return f"streamkeeper://hours/{stream}"


# Watched folders
def files_topic(topic: str) -> str:
    """The compacted topic that keeps the ledger of the files behind a topic."""
    return f"{topic}.files"


def transactional_id(stream: str) -> str:
    """The name under which Kafka fences an older producer of a stream's folder."""
    return f"streamkeeper-folder-{stream}"


# The lake: paths on HDFS, without scheme and host
def raw_path(spec: Spec) -> str:
    """Published batches of landed rows, valid and quarantined."""
    return f"{spec.lake.path}/raw"


def window_path(spec: Spec, window: str) -> str:
    """Published batches of live window rows."""
    return f"{spec.lake.path}/windows/{window}"


def checkpoint_path(spec: Spec, query: str) -> str:
    """The folder of a query's generations; `<generation>/e<epoch>` lies below it."""
    return f"{spec.lake.path}/_chk/{query}"


def curated_path(spec: Spec) -> str:
    """Closed hours, one row a coordinate: `dt=/hour=` below it."""
    return f"{spec.lake.path}/{CURATED}"


def kpi_path(spec: Spec, kpi: str) -> str:
    """The hourly rows of one KPI: `dt=/hour=` below it."""
    return f"{spec.lake.path}/{kpi_zone(kpi)}"


def report_path(spec: Spec) -> str:
    """The hourly reports in Markdown: `dt=/hour=` below it."""
    return f"{spec.lake.path}/reports"


def metrics_path(spec: Spec) -> str:
    """The counts of published batches, a file each."""
    return f"{spec.lake.path}/metrics"


def metrics_file(spec: Spec, generation: str, batch: int) -> str:
    """The file of one batch's counts."""
    return f"{metrics_path(spec)}/{BatchName(generation, batch).folder}.json"


def kpi_zone(kpi: str) -> str:
    """The zone of one KPI's hourly rows."""
    return f"analytics/{kpi}"


def csv_zone(kpi: str) -> str:
    """The zone of the same rows as CSV, where the KPI has them so."""
    return f"{kpi_zone(kpi)}_csv"


def period_zone(kpi: str, kind: str) -> str:
    """The zone of one KPI's rows of days (`day`) or of everything (`all`)."""
    return kpi_zone(f"{kpi}_{kind}")


def period_file(spec: Spec, kpi: str, period: Period) -> str:
    """The one Parquet file of a KPI's rows of a period."""
    zone = period_zone(kpi, period.kind)
    return f"{spec.lake.path}/{zone}/{period.folder}{CLOSED_FILE}"


def period_csv(spec: Spec, kpi: str, period: Period) -> str:
    """The file of the same rows as CSV."""
    zone = csv_zone(f"{kpi}_{period.kind}")
    return f"{spec.lake.path}/{zone}/{period.folder}{CLOSED_CSV}"


def periods_staging(spec: Spec) -> str:
    """The folder below which the files of periods are written aside."""
    return f"{spec.lake.path}/{kpi_zone(TEMPORARY)}"


def closed_name(spec: Spec, zone: str) -> str:
    """The name of a closed hour's one file in a zone."""
    as_csv = zone in (csv_zone(kpi.name) for kpi in spec.kpis if kpi.csv)
    return CLOSED_CSV if as_csv else CLOSED_FILE


def alert_zone(alert: str) -> str:
    """The zone of the readings that broke an alert's condition, where it has one of its own."""
    return f"alerts/{alert}"


def closed_file(spec: Spec, zone: str, hour: datetime) -> str:
    """The one file of a closed hour in a zone: `curated`, or that of a KPI or alert."""
    return f"{spec.lake.path}/{zone}/{hour_folder(hour)}/{CLOSED_FILE}"


def hour_folder(hour: datetime) -> str:
    """The folder of one hour below a zone: `dt=2026-11-24/hour=14`."""
    return hour.astimezone(UTC).strftime("dt=%Y-%m-%d/hour=%H")


def analysis_file(spec: Spec, hours: Sequence[datetime], key: Mapping[str, str]) -> str:
    """The page of an analysis, below the folder of this host's state."""
    of_key = "".join(f"-{name}={value}" for name, value in key.items())
    more = f"+{len(hours) - 1}" if len(hours) > 1 else ""
    safe = re.sub(r"[^A-Za-z0-9_.=,+-]", "_", f"{format_hour(hours[0])}{more}{of_key}")
    return f"analysis/{spec.name}/{safe[:200]}.md"


# Delta tables
def delta_app_id(stream: str, generation: str) -> str:
    """The transaction identifier of a generation's batches in a Delta table."""
    return f"streamkeeper/{stream}/{generation}"


def delta_hour_app_id(stream: str, of: str, hour: datetime) -> str:
    """The transaction identifier of an hour of a KPI or of anomalies in a Delta table."""
    return f"streamkeeper/{stream}/{of}/{format_hour(hour)}"


# Queries of a driver
LAND = "land"


def window_query(window: str) -> str:
    """The name of the stateful query that computes a window."""
    return f"window_{window}"


def zone_of_query(query: str) -> str:
    """The zone in which a query publishes: `raw` or `windows/<window>`."""
    return "raw" if query == LAND else f"windows/{query.removeprefix('window_')}"


def query_of_zone(zone: str) -> str:
    """The query that publishes in a zone, `raw` or `windows/<window>`."""
    return LAND if zone == "raw" else window_query(zone.removeprefix("windows/"))


def console_query(of: str) -> str:
    """The name of the query that prints rows."""
    return f"console_{of}"
