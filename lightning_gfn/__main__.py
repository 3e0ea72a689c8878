"""``python -m lightning_gfn``: the command line."""

from lightning_gfn.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
