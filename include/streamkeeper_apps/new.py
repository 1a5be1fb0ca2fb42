"""The command `streamkeeper new`: a commented declaration to begin with."""

from __future__ import annotations

import argparse
from typing import Any

from streamkeeper.spec.schema import SCHEMA_LINE

_TEMPLATE = """\
{schema}
# A stream is this one file; `streamkeeper check {name}` tells mistakes, `check --explain {name}`
# what it creates. All keys stand in docs/declaration.md, all functions in docs/expressions.md.
description: Readings of sensors.  # for people

source:
  kafka: {{topic: "{topic}", partitions: 3}}  # created if missing
  format: json  # one JSON object a message; or csv

# What is read of a message. What a check finds wrong is quarantined with its original bytes.
fields:
  sensor_id: {{type: string, required: true}}
  temperature: {{type: double, range: [-60, 60], unit: °C}}  # with sent_unit: °F it is converted
  humidity: {{type: double, range: [0, 100], unit: "%"}}
  # A value within other objects: {{type: double, path: sensor.values.co2}}
  timestamp: {{type: timestamp, required: true}}  # ISO 8601 with a zone; or format: epoch_ms

event_time: {{field: timestamp, max_ahead: 1h}}

# Further columns, and conditions that each row must meet.
derived:
  is_hot: temperature > 40
checks:
  - {{name: dry_when_hot, expect: humidity < 90 or temperature < 30, on_fail: warn}}

lake: {{path: /streams/{name}, every: 30s}}  # a folder of its own on HDFS

# What fills the topic while there is nothing real; leave it out when something else does.
producer:
  simulator:
    entities: 10
    every: 1s
    key: sensor_id
    fields:
      sensor_id: {{entity: "sensor_{{:02d}}"}}
      temperature: {{uniform: [15, 45]}}
      humidity: {{uniform: [20, 90]}}
      timestamp: {{event_time: true}}

# Hourly tables, computed when an hour is closed.
kpis:
  - name: by_sensor
    by: [sensor_id]
    measures:
      readings: count(*)
      mean: avg(temperature)
      hot_share: count_if(is_hot) / count(*)
    order_by: mean
  - {{name: hottest, top: 5, order_by: temperature}}

alerts:
  - {{name: hot, field: temperature, above: 40}}

# Live windows and a table for them; see docs/declaration.md.
# windows:
#   - name: minute
#     size: 1min
#     watermark: 1min
#     by: [sensor_id]
#     measures: {{mean: avg(temperature)}}
# sinks:
#   - {{kind: cassandra, of: minute, keyspace: streams, table: {name:.40}_minute}}
#   - {{kind: console, of: raw}}

# A mail for each closed hour.
# report: {{title: Readings, to: [operations@localhost], chart: by_sensor.mean}}
"""


def add_new_command(commands: Any) -> None:
    """Add `new` to the command line.

    Parameters: commands, argparse's subparsers.
    """
    new = commands.add_parser(
        "new",
        help="write a declaration to begin with",
        description="Writes a commented declaration that can be used as it is; an existing file "
        "is left alone.",
    )
    new.add_argument("name", metavar="NAME", help="the new stream")
    new.set_defaults(run=_new)


def _new(options: argparse.Namespace) -> int:
    from streamkeeper.errors import StreamkeeperError
    from streamkeeper.spec.loader import STREAM_NAME
    from streamkeeper_apps.where import find_settings

    name = options.name
    if not STREAM_NAME.match(name):
        raise StreamkeeperError(
            f"{name!r} is no name of a stream: small letters, digits and _, beginning with a "
            "letter, at most 48 characters"
        )
    path = find_settings().streams / f"{name}.yaml"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("x", encoding="utf-8") as file:
            file.write(declaration(name))
    except FileExistsError:
        raise StreamkeeperError(f"{path} exists; choose another name, or edit it") from None
    except OSError as error:
        raise StreamkeeperError(f"{path} cannot be written: {error.strerror}") from None
    print(f"{path} is written; look at it with: streamkeeper check --explain {name}")
    return 0


def declaration(name: str) -> str:
    """Return the text of a new stream's declaration."""
    return _TEMPLATE.format(name=name, topic=name.replace("_", "-"), schema=SCHEMA_LINE)
