"""Objects as HTML, for notebooks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

#: Number of names that are listed; the others can be unfolded.
_LISTED = 8


def describe(title: str, facts: Mapping[str, object]) -> str:
    """Describe an object as a table of facts. All text is escaped.

    Parameters
    ----------
    title
        What the object is.
    facts
        Name -> value: text, a number, or a list of names. Empty values are left out.

    Examples
    --------
    >>> describe("Encoder", {"genes": 8559, "studies": ["a<b"]}).count("<tr>")
    2
    >>> "a&lt;b" in describe("Encoder", {"studies": ["a<b"]})
    True
    """
    rows = "".join(
        f'<tr><th style="text-align:left;vertical-align:top">{escape(name)}</th>'
        f'<td style="text-align:left">{_value(value)}</td></tr>'
        for name, value in facts.items()
        if value not in (None, "", [], ())
    )
    return f"<div><strong>{escape(title)}</strong><table>{rows}</table></div>"


def _value(value: object) -> str:
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    if not isinstance(value, Sequence) or isinstance(value, str):
        return escape(str(value))
    names = [escape(str(name)) for name in value]
    if len(names) <= _LISTED:
        return "; ".join(names)  # names of terms hold commas
    first, others = "; ".join(names[:_LISTED]), "; ".join(names[_LISTED:])
    return f"{first}<details><summary>and {len(names) - _LISTED:,} more</summary>{others}</details>"
