"""Path patterns: ECMAScript's everyday syntax, compiled for Python.

Jobs written for the original Kelpie carry JavaScript patterns. What both
languages spell alike is left alone; named groups, ASCII classes and `$` are
given ECMAScript's meaning. The server compiles a pattern to refuse a bad one
at submission, the worker compiles it to use it.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator

from kelpie.errors import InvalidRequest

# One token: an escape (with a group name after \k), a whole character class,
# the opening of a named group (not of a lookbehind), or one character.
_TOKEN = re.compile(
    r"\\k<(?P<reference>\w+)>"
    r"|\\."
    r"|\[\^?(?:\\.|[^\]\\])*\]"
    r"|\(\?<(?P<group>[^=!>][^>]*)>"
    r"|.",
    re.DOTALL,
)


def compile_pattern(text: str) -> re.Pattern[str]:
    """Compile a job's pattern, to be searched (not matched) in a path; raise InvalidRequest if it is none."""
    try:
        with warnings.catch_warnings():
            # Python warns that "[[" may mean something else one day.
            warnings.simplefilter("ignore", FutureWarning)
            return re.compile("".join(_translated(text)), re.ASCII)
    except (re.error, OverflowError, RecursionError) as error:
        raise InvalidRequest(f"pattern {text!r} is not a valid regular expression: {error}") from error


def _translated(text: str) -> Iterator[str]:
    for token in _TOKEN.finditer(text):
        if token["reference"]:
            yield f"(?P={token['reference']})"
        elif token["group"]:
            yield f"(?P<{token['group']}>"
        elif token[0] == "$":
            # Python's "$" also matches before a final newline, ECMAScript's does not.
            yield r"\Z"
        else:
            yield token[0]
