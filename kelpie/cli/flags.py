"""Values of flags that are more than a word: pairs, and places in a bucket."""

from __future__ import annotations

import rich_click as click

from kelpie.config import variable

PAIR = "KEY=VALUE"
PLACE = "BUCKET/PREFIX:LOCAL"


def pair(text: str) -> tuple[str, str]:
    """Split `KEY=VALUE` at the first `=`; a value that contains more of them is kept whole."""
    key, equals, value = text.partition("=")
    if not key or not equals:
        raise click.BadParameter(f"{text!r}: expected {PAIR}.")
    return key, value


def variable_pair(text: str) -> tuple[str, str]:
    """`KEY=VALUE`, or `KEY` alone, which takes the value from the caller's environment."""
    # A secret on a command line is seen by everybody on the machine; its name is not.
    inherited = variable(text) if text and "=" not in text else None
    if inherited is not None:
        return text, inherited
    if text and "=" not in text:
        raise click.BadParameter(f"{text!r}: expected {PAIR}, or the KEY of a variable that is set.")
    return pair(text)


def place(text: str) -> dict[str, str]:
    """Split `BUCKET/PREFIX:LOCAL`, also with `s3://` before it: a sync rule but for its direction."""
    # The last colon: keys in a bucket contain colons more often than local paths do.
    remote, _, local = text.removeprefix("s3://").rpartition(":")
    bucket, _, prefix = remote.partition("/")
    if not bucket or not local:
        raise click.BadParameter(f"{text!r}: expected {PLACE}, as in my-bucket/run-1:/checkpoint.")
    return {"bucket": bucket, "prefix": prefix, "local_path": local}
