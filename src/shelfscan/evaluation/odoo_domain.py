"""Odoo's domains (conditions in prefix notation) and how it writes fields, for its stand-in."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

_OPERATORS: dict[str, Callable[[Any, Any], bool]] = {
    "=": lambda a, b: bool(a == b),
    "!=": lambda a, b: bool(a != b),
    ">": lambda a, b: a is not False and bool(a > b),
    ">=": lambda a, b: a is not False and bool(a >= b),
    "<": lambda a, b: a is not False and bool(a < b),
    "<=": lambda a, b: a is not False and bool(a <= b),
    "in": lambda a, b: a in b,
    "not in": lambda a, b: a not in b,
    "=like": lambda a, b: isinstance(a, str) and bool(re.fullmatch(_pattern(b), a, re.DOTALL)),
}


def matches(row: Mapping[str, Any], domain: Sequence[Any]) -> bool:
    """Whether a record meets a domain. Raises `ValueError` or `KeyError` for one that Odoo would refuse."""
    stack: list[bool] = []
    for term in reversed(domain):
        if term == "!":
            stack.append(not stack.pop())
        elif term in ("|", "&"):
            a, b = stack.pop(), stack.pop()
            stack.append(a or b if term == "|" else a and b)
        else:
            name, operator, value = term
            have = row[name]
            # An empty link or text is False in a domain.
            stack.append(_OPERATORS[operator](False if have in ([], "") else have, value))
    return all(stack)


def shown(name: str, value: Any) -> Any:
    """A value as ``search_read`` writes it: links to one record as number and name."""
    if name.endswith("_id") and value:
        return [value, f"record {value}"]
    return list(value) if isinstance(value, list) else value


def _pattern(like: str) -> str:
    return "".join(".*" if c == "%" else "." if c == "_" else re.escape(c) for c in like)
