"""bfloat16 where the processor has it."""

from __future__ import annotations

import pytest

from lightning_gfn.commands.doctor_parts import precision
from lightning_gfn.commands.doctor_parts.precision import suited_precision
from lightning_gfn.policies.numerics import processor


@pytest.mark.parametrize("has", [True, False])
@pytest.mark.parametrize("accelerator", ["cpu", "auto", "gpu"])
@pytest.mark.parametrize("asked", ["bf16-mixed", "bf16", "bf16-true", "32-true", "16-mixed", None, 32])
def test_autocast_to_bfloat16_is_left_where_it_is_emulated(
    asked: object, accelerator: str, has: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processor, "cpu_has_bfloat16", lambda: has)
    monkeypatch.setattr(precision, "runs_on_processor", lambda given: given != "gpu")
    found, said = suited_precision(asked, accelerator)
    changes = asked in ("bf16-mixed", "bf16") and accelerator != "gpu" and not has
    assert found == ("32-true" if changes else asked)
    assert (said is not None and f"trainer.precision {asked} is run as 32-true" in said) == changes
