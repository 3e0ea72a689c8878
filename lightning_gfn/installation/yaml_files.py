"""YAML files read strictly: each key once, and no more in memory than stands in the file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from yaml import MarkedYAMLError, Node

MOST_NODES = 100_000
DEEPEST = 100


class YamlFileError(ValueError):
    """A YAML file that cannot be used; the message names file and line."""


def read_yaml(path: Path) -> Any:
    """The content of a YAML file.

    Args:
        path: of the file.

    Raises:
        YamlFileError: it cannot be read, is not YAML, names a key twice, refers to itself, or its aliases stand for
            more than a hundred thousand values.
    """
    import yaml

    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise YamlFileError(f"{path}: not UTF-8 ({error.reason} at byte {error.start})") from error
    except OSError as error:
        raise YamlFileError(f"{path} cannot be read ({error.strerror})") from error
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
        if root is not None:
            check_node(path, root)
        return yaml.safe_load(text)
    except yaml.MarkedYAMLError as error:
        raise YamlFileError(f"{path}, line {line_of(error)}: not YAML ({error.problem})") from error
    except RecursionError:
        raise YamlFileError(f"{path}: nested more than {DEEPEST} levels deep") from None
    except (yaml.YAMLError, ValueError) as error:
        if isinstance(error, YamlFileError):
            raise
        raise YamlFileError(f"{path}: not YAML ({str(error).splitlines()[0]})") from error


def line_of(error: MarkedYAMLError) -> int | str:
    """The line that an error names."""
    return error.problem_mark.line + 1 if error.problem_mark is not None else "?"


def check_node(path: Path, root: Node) -> int:
    """Count the values that a node stands for, aliases written out.

    Args:
        path: of the file, for errors.
        root: of the document.

    Raises:
        YamlFileError: there are too many, a key stands twice in a mapping, or a node is part of itself.
    """
    sizes: dict[int, int] = {}
    open_nodes: set[int] = set()

    def size(node: Node, depth: int) -> int:
        if id(node) in sizes:
            return sizes[id(node)]
        line = node.start_mark.line + 1
        if id(node) in open_nodes:
            raise YamlFileError(f"{path}, line {line}: an alias stands for what it is part of")
        if depth > DEEPEST:
            raise YamlFileError(f"{path}, line {line}: nested more than {DEEPEST} levels deep")
        open_nodes.add(id(node))
        inner = check_keys(path, node) if node.id == "mapping" else node.value if node.id == "sequence" else []
        total = 1 + sum(size(child, depth + 1) for child in inner)
        if total > MOST_NODES:
            raise YamlFileError(f"{path}, line {line}: its aliases stand for more than {MOST_NODES:,} values")
        open_nodes.discard(id(node))
        sizes[id(node)] = total
        return total

    return size(root, 0)


def check_keys(path: Path, node: Node) -> list[Node]:
    """The keys and values of a mapping.

    Raises:
        YamlFileError: a key stands twice.
    """
    lines: dict[tuple[str, Any], int] = {}
    for key, _ in node.value:
        line = key.start_mark.line + 1
        if key.id == "scalar" and (first := lines.setdefault((key.tag, key.value), line)) != line:
            raise YamlFileError(f"{path}, line {line}: key {key.value!r} stands in line {first} already")
    return [part for pair in node.value for part in pair]
