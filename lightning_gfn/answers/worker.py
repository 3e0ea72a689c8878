"""The child process that runs math-verify: JSON lines in, JSON lines out, until its input closes.

It is started by ``checker.MathVerifyChecker`` as a program of its own and imports nothing of this package. Every check
arms an alarm whose default action ends the process, so that it cannot outlive a parent that was killed meanwhile.
"""

from __future__ import annotations

import json
import logging
import signal
import sys
from collections.abc import Callable
from typing import Any

ALARM_MARGIN_SECONDS = 1.0
FLOAT_TOLERANCE, EXACT_TOLERANCE = 2e-6, 1e-12
"""Largest relative difference of equal numbers, where a decimal is among them and where none is."""
MIN_SIZE = 1e-100
"""Smaller results are what evaluation leaves of an exact zero."""


def build_verifier() -> Callable[[str, str], bool]:
    """Import math-verify and return ``verify(predicted, reference)``; its own alarms are off, the parent keeps time."""
    from math_verify import LatexExtractionConfig, grader, parse, verify

    equal_numbers = grader.sympy_numeric_eq

    def equal_relatively(first: Any, second: Any, *precision: int) -> bool:
        return equal_numbers(first, second, *precision) and not differ_relatively(first, second)

    grader.sympy_numeric_eq = equal_relatively
    logging.disable(logging.CRITICAL)
    config = [LatexExtractionConfig(boxed_match_priority=0)]

    def read(answer: str) -> list[Any]:
        options: dict[str, Any] = {"fallback_mode": "no_fallback", "extraction_mode": "first_match"}
        return parse(f"\\boxed{{{answer}}}", extraction_config=config, parsing_timeout=None, **options)

    def verify_pair(predicted: str, reference: str) -> bool:
        gold, target = read(reference), read(predicted)
        options: dict[str, Any] = {"allow_set_relation_comp": True, "timeout_seconds": None}
        return bool(gold and target and verify(gold, target, **options))

    # The first use of each part of SymPy takes long; it is no time of an answer's.
    for pair in (("x+1", "1+x"), ("(x+1)^2", "x^2+2x+1"), ("\\sqrt{2}", "0.5"), ("y=2x", "x-1>0")):
        verify_pair(*pair)
    return verify_pair


def differ_relatively(first: Any, second: Any) -> bool:
    """Whether two numbers differ beyond rounding of their own size: math-verify compares absolutely, six decimals.

    Args:
        first: a SymPy object.
        second: another one; nothing is said unless both are numbers.
    """
    from sympy import Expr, Float, Rational

    if not isinstance(first, Expr) or not isinstance(second, Expr) or first.free_symbols or second.free_symbols:
        return False
    if isinstance(first, Rational) and isinstance(second, Rational):
        return False if first == second else "%" not in str(first) + str(second)
    size = max(abs(first.evalf(30)), abs(second.evalf(30)))
    if not size.is_comparable or size < MIN_SIZE:
        return False
    allowed = FLOAT_TOLERANCE if first.has(Float) or second.has(Float) else EXACT_TOLERANCE
    return bool(abs((first - second).evalf(30)) > allowed * size)


def limit_memory(num_bytes: int) -> None:
    """Cap the address space of this process where the platform can."""
    try:
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (num_bytes, num_bytes))
    except (ImportError, ValueError, OSError):
        return


def set_alarm(seconds: float) -> None:
    """End this process after so many seconds; 0 disarms."""
    if hasattr(signal, "setitimer"):
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.setitimer(signal.ITIMER_REAL, seconds)


def answer(verifier: Callable[[str, str], bool], request: dict[str, Any]) -> dict[str, Any]:
    """One verdict; whatever math-verify raises is a wrong answer."""
    try:
        return {"equal": verifier(request["predicted"], request["reference"])}
    except Exception as error:
        return {"equal": False, "error": type(error).__name__}


def main(time_limit: float, memory_limit: int) -> None:
    """Serve requests until end of file."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    replies = sys.stdout
    sys.stdout = sys.stderr
    limit_memory(memory_limit)
    try:
        verifier = build_verifier()
    except Exception as error:
        print(json.dumps({"ready": False, "error": f"{type(error).__name__}: {error}"}), file=replies, flush=True)
        return
    print(json.dumps({"ready": True}), file=replies, flush=True)
    for line in sys.stdin:
        set_alarm(time_limit + ALARM_MARGIN_SECONDS)
        reply = answer(verifier, json.loads(line))
        set_alarm(0)
        print(json.dumps(reply), file=replies, flush=True)


if __name__ == "__main__":
    main(float(sys.argv[1]), int(sys.argv[2]))
