from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import lightning_gfn
from lightning_gfn.rollouts.distributed import gather_all
from lightning_gfn.types import Step, Trajectory

WORKER = """
import json, sys
from torch import distributed
from lightning_gfn.rollouts.distributed import gather_all
from lightning_gfn.types import Step, Trajectory
rank, folder = int(sys.argv[1]), sys.argv[2]
distributed.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=2)
count = 3 * rank + 1
own = [Trajectory(f"p{rank}", (Step((1,), (i, rank)),), f"text {i}", {"a": (0.5,)}, -float(i)) for i in range(count)]
gathered = gather_all(own)
none_here = gather_all(own[:rank])
with open(f"{folder}/{rank}.json", "w") as file:
    world_size = distributed.get_world_size()
    json.dump({"world_size": world_size, "gathered": [repr(t) for t in gathered], "second": len(none_here)}, file)
distributed.destroy_process_group()
"""


def test_alone_it_is_the_identity() -> None:
    own = [Trajectory("p", (Step((1,), (2,)),), "x", {}, 0.0)]
    assert gather_all(own) is own


@pytest.mark.ddp
def test_two_ranks_hold_the_same_list_in_order_of_rank(tmp_path: Path) -> None:
    root = str(Path(lightning_gfn.__file__).parents[1])
    environment = {**os.environ, "PYTHONPATH": root, "OMP_NUM_THREADS": "1"}
    workers = [
        subprocess.Popen([sys.executable, "-c", WORKER, str(rank), str(tmp_path)], env=environment) for rank in range(2)
    ]
    assert [worker.wait(timeout=120) for worker in workers] == [0, 0]
    zero, one = (json.loads((tmp_path / f"{rank}.json").read_text()) for rank in range(2))
    assert zero["world_size"] == one["world_size"] == 2
    assert zero["gathered"] == one["gathered"] and len(zero["gathered"]) == 5
    assert [("'p0'" in text) for text in zero["gathered"]] == [True, False, False, False, False]
    assert zero["second"] == one["second"] == 1
