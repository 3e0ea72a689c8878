"""A process that carries out one command of ``lightning-gfn`` after another, so that imports are paid for once.

Reads one JSON list of arguments a line from standard input; prints ``@@done`` and the exit status after each command.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
import traceback

from lightning_gfn.cli import main as run_command
from lightning_gfn.stop_requests import is_interruption
from lightning_gfn.studies.worker import DONE


def end_with(parent: int) -> None:
    """End this process once its parent is gone: what comes after would write into the same run folders."""
    while os.getppid() == parent:
        time.sleep(1.0)
    os._exit(1)


def main() -> int:
    """Serve until standard input ends."""
    threading.Thread(target=end_with, args=(os.getppid(),), daemon=True).start()
    for line in sys.stdin:
        try:
            status = run_command(json.loads(line))
        except SystemExit as stop:
            status = stop.code if isinstance(stop.code, int) else 1
        except Exception:
            traceback.print_exc()
            status = 1
        sys.stderr.flush()
        print(f"\n{DONE} {status}", flush=True)
        if is_interruption(status):
            return status
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
