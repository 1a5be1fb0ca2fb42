"""A folder's producer that freezes in the middle of a transaction; a test goes on from there.

`python producer_that_freezes.py PATH NUMBER produce folder ...`: it freezes when the record of that
number of that file, and all before it, lie in the topic, uncommitted.
"""

from __future__ import annotations

import os
import signal
import sys

from streamkeeper_apps.cli import main
from streamkeeper_apps.producer.folder.log import TransactionalLog


def freeze_at(path: str, number: int) -> None:
    """Make the log stop its process, threads and all, behind a record."""
    send = TransactionalLog.send

    def send_and_freeze(
        log: TransactionalLog, of: str, sha256: str, record_number: int, record: bytes
    ) -> None:
        send(log, of, sha256, record_number, record)
        if (of, record_number) == (path, number):
            left = log._producer.flush(60)
            assert not left, f"{left} messages do not arrive"
            os.kill(os.getpid(), signal.SIGSTOP)

    TransactionalLog.send = send_and_freeze  # type: ignore[method-assign]


if __name__ == "__main__":
    freeze_at(sys.argv[1], int(sys.argv[2]))
    sys.exit(main(sys.argv[3:]))
