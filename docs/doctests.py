"""Griffe extension: shows the doctests of a docstring as code."""

import re
from typing import Any

import griffe

# a paragraph that starts with a prompt; indented ones belong to a section that griffe knows
DOCTEST = re.compile(r"^>>> .*(?:\n.+)*", flags=re.M)


class Doctests(griffe.Extension):
    """Puts each doctest into a fenced block."""

    def on_object(self, *, obj: griffe.Object, **kwargs: Any) -> None:
        """Rewrites the docstring of an object."""
        if obj.docstring is not None:
            obj.docstring.value = DOCTEST.sub(r"```pycon\n\g<0>\n```", obj.docstring.value)
