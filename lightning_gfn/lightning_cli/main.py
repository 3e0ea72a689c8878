"""Entry point of ``fit``, ``validate``, ``test``, ``predict`` and ``run``."""

from __future__ import annotations

import logging
import os
import sys
import warnings

from lightning_gfn.installation.our_datamodules import DatamodulesError, check_datamodules, prefer_our_datamodules
from lightning_gfn.lightning_cli.config_files import check_yaml
from lightning_gfn.lightning_cli.dry_run import DryRunCLI, asks_dry_run
from lightning_gfn.lightning_cli.parser import Parser
from lightning_gfn.lightning_cli.refusals import UsageError
from lightning_gfn.lightning_cli.returned_memory import return_freed_memory
from lightning_gfn.lightning_cli.run_cli import RunCLI
from lightning_gfn.lightning_cli.trainer import TRAINER_DEFAULTS, RunTrainer
from lightning_gfn.tracking.run_folder import RunFolderError
from lightning_gfn.whole_files import CheckpointError


def quiet_lightning() -> None:
    """Leave out Lightning's advertisements, and its warnings about what it and we do on purpose."""
    warnings.filterwarnings("ignore", message=".*LeafSpec")
    warnings.filterwarnings("ignore", message="You have overridden `transfer_batch_to_device`")
    warnings.filterwarnings("ignore", message="FSDP2-wrapped module .* returned a view")  # nobody writes into it
    warnings.filterwarnings("ignore", message=".*in eval mode at the start of training")  # the frozen reference
    logging.getLogger("lightning.pytorch.utilities.rank_zero").addFilter(lambda record: "💡" not in record.getMessage())


def main(args: list[str]) -> int:
    """Run one trainer command; returns the exit status."""
    quiet_lightning()
    return_freed_memory()
    Parser.command, Parser.arguments = args[0], args
    if (here := os.getcwd()) not in sys.path:
        sys.path.append(here)  # a console script does not look there for the user's own classes
    if (note := prefer_our_datamodules()) is not None:
        print(f"[lightning-gfn] {note}", file=sys.stderr, flush=True)
    try:
        if not {"-h", "--help"} & set(args):
            check_datamodules()
        check_yaml(args)
        make = DryRunCLI if asks_dry_run(args) else RunCLI
        make(
            trainer_class=RunTrainer,
            trainer_defaults=TRAINER_DEFAULTS,
            seed_everything_default=0,
            save_config_callback=None,
            parser_class=Parser,
            subclass_mode_model=True,
            subclass_mode_data=True,
            auto_configure_optimizers=False,
            load_from_checkpoint_support=False,
            args=args,
        )
    except (UsageError, RunFolderError, DatamodulesError, CheckpointError) as error:
        print(f"lightning-gfn {args[0]}: {error}", file=sys.stderr)
        return getattr(error, "status", 2)
    return 0
