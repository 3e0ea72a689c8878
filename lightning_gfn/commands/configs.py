"""List, show and copy the YAML files that come with the package."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterator
from difflib import get_close_matches
from pathlib import Path

from lightning_gfn.installation.experiments import FOLDER, carried_experiments

HIDDEN = "_base"
SENTENCE_END = re.compile(r"(?<!\bal)(?<!\bDr)\. (?=[A-Z-])")


def build_parser() -> argparse.ArgumentParser:
    """The command line of ``lightning-gfn configs``."""
    parser = argparse.ArgumentParser(prog="lightning-gfn configs", description=__doc__)
    actions = parser.add_subparsers(dest="action", metavar="list | show | copy")
    listing = actions.add_parser("list", help="the runs and studies, with what each does (the default)")
    listing.add_argument("folder", nargs="?", default="", metavar="FOLDER", help="only those of a folder, say math")
    listing.add_argument("--all", action="store_true", help="the shared groups and overlays as well")
    show = actions.add_parser("show", help="print a file")
    show.add_argument("name", metavar="NAME", help="for example math/vargrad.yaml")
    copy = actions.add_parser(
        "copy",
        help="copy a file and the shared groups, to change them",
        epilog="Without a copy, --config experiments/NAME works as well: the file that the package carries is used.",
    )
    copy.add_argument("name", nargs="?", default="", metavar="NAME", help="a file or folder (default: all of them)")
    copy.add_argument("target", nargs="?", type=Path, default=Path("."), metavar="TO", help="(default: here)")
    copy.add_argument("--force", action="store_true", help="replace files that are there already")
    return parser


def summary(path: Path) -> str:
    """The first sentence of the comment that a YAML file begins with."""
    lines = []
    for line in path.read_text(encoding="utf-8").splitlines():
        if not line.startswith("#"):
            break
        lines.append(line.removeprefix("#").strip())
    return SENTENCE_END.split(" ".join(lines), maxsplit=1)[0].removesuffix(".")


def chosen(folder: Path, name: str) -> list[Path]:
    """The YAML files that a name stands for: a file, or a folder and all below it; sorted.

    Raises:
        FileNotFoundError: there is neither; the message names the nearest.
    """
    name = name.removeprefix(f"{FOLDER}/")
    found = folder / name
    if ".." not in Path(name).parts:
        if found.is_dir():
            return sorted(found.rglob("*.yaml"))
        for path in (found, folder / f"{name}.yaml"):
            if path.is_file():
                return [path]
    known = [str(path.relative_to(folder)) for path in folder.rglob("*.yaml")]
    close = get_close_matches(name, known, n=1, cutoff=0.4)
    hint = f"did you mean {close[0]}?" if close else "lightning-gfn configs lists them"
    raise FileNotFoundError(f"there is no {name!r}; {hint}")


def listed(folder: Path, paths: list[Path]) -> Iterator[str]:
    """A line a file below a line a folder."""
    width = max((len(path.name) for path in paths), default=0) + 2
    parent = None
    for path in sorted(paths, key=lambda path: (HIDDEN in path.parts, path.parent, path.name)):
        if path.parent != parent:
            parent = path.parent
            yield f"\n{FOLDER}/{parent.relative_to(folder)}/" if parent != folder else f"\n{FOLDER}/"
        text = summary(path)
        room = 118 - width
        yield f"  {path.name:<{width}}{text if len(text) <= room else text[: room - 1] + '…'}"


def copied(folder: Path, paths: list[Path], target: Path, *, force: bool) -> list[Path]:
    """Copy files to ``target/experiments``, with the shared groups, and return their new places.

    Raises:
        FileExistsError: another file of that name is there, and ``force`` is not set.
    """
    shared = sorted((folder / HIDDEN).rglob("*.yaml"))
    sources = list(dict.fromkeys([*paths, *shared]))
    targets = [target / FOLDER / path.relative_to(folder) for path in sources]
    pairs = list(zip(sources, targets, strict=True))
    differ = [new for old, new in pairs if new.exists() and new.read_bytes() != old.read_bytes()]
    if differ and not force:
        raise FileExistsError(f"{differ[0]} is there and differs ({len(differ)} such): --force replaces it")
    for old, new in pairs:
        new.parent.mkdir(parents=True, exist_ok=True)
        new.write_bytes(old.read_bytes())
    return targets[: len(paths)]


def main(args: list[str]) -> int:
    """Run the command; 2 if there is no such file, or a copy would replace one."""
    options = build_parser().parse_args(args)
    folder = carried_experiments()
    try:
        if options.action == "show":
            print("".join(path.read_text(encoding="utf-8") for path in chosen(folder, options.name)), end="")
        elif options.action == "copy":
            new = copied(folder, chosen(folder, options.name), options.target, force=options.force)
            print(f"copied, with the shared groups in {options.target / FOLDER / HIDDEN}:")
            print("\n".join(f"  {path}" for path in new))
        else:
            name = getattr(options, "folder", "")
            everything = getattr(options, "all", False) or HIDDEN in name
            paths = [path for path in chosen(folder, name) if everything or HIDDEN not in path.parts]
            print("\n".join(listed(folder, paths)).lstrip("\n"))
            print("\nUse one: lightning-gfn run --config experiments/…; change one: lightning-gfn configs copy NAME")
    except (FileNotFoundError, FileExistsError) as error:
        print(f"lightning-gfn configs: {error}", file=sys.stderr)
        return 2
    return 0
