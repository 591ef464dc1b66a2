"""Looks for chat templates that do more than format messages. Pure: a template is parsed, never rendered.

Runtimes render templates in Jinja's sandbox. This check is the second fence: what reaches for Python's
internals, for other files, or for endless work has no business in a chat template.
"""

from __future__ import annotations

from collections.abc import Iterator

from jinja2 import TemplateSyntaxError, nodes
from jinja2.ext import Extension
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

LONGEST_TEMPLATE = 200_000
"""Characters; the longest in use have some 20,000."""
LONGEST_LOOP = 10_000
"""Rounds that a constant range() may ask for."""
SUSPICIOUS_FILTERS = frozenset({"attr", "pprint"})
FORBIDDEN_STATEMENTS = (nodes.Include, nodes.Import, nodes.FromImport, nodes.Extends)


class _Generation(Extension):
    """Parses `{% generation %}`, with which templates mark what the model itself wrote."""

    tags = {"generation"}

    def parse(self, parser: Parser) -> list[nodes.Node]:
        next(parser.stream)
        return list(parser.parse_statements(("name:endgeneration",), drop_needle=True))


_ENVIRONMENT = ImmutableSandboxedEnvironment(extensions=[_Generation, "jinja2.ext.loopcontrols"])


def find_suspicions(template: str) -> list[str]:
    """What speaks against a template, one sentence part each; empty = nothing."""
    if len(template) > LONGEST_TEMPLATE:
        return [f"the chat template has {len(template)} characters, more than {LONGEST_TEMPLATE}"]
    try:
        tree = _ENVIRONMENT.parse(template)
    except (TemplateSyntaxError, RecursionError) as error:
        return [f"the chat template is not valid Jinja: {error}"]
    return sorted(set(_suspicions_of(tree)))


def _suspicions_of(tree: nodes.Template) -> Iterator[str]:
    for statement in tree.find_all(FORBIDDEN_STATEMENTS):
        kind = type(statement).__name__.lower()
        yield f"the chat template has a statement of kind {kind} (line {statement.lineno})"
    for attribute in tree.find_all(nodes.Getattr):
        if attribute.attr.startswith("_"):
            yield f"the chat template reads the attribute {attribute.attr!r} (line {attribute.lineno})"
    for constant in tree.find_all(nodes.Const):
        if isinstance(constant.value, str) and "__" in constant.value and _is_dunder(constant.value):
            yield f"the chat template names {constant.value!r} (line {constant.lineno})"
    for used in tree.find_all(nodes.Filter):
        if used.name in SUSPICIOUS_FILTERS:
            yield f"the chat template uses the filter {used.name!r} (line {used.lineno})"
    for call in tree.find_all(nodes.Call):
        is_range = isinstance(call.node, nodes.Name) and call.node.name == "range"
        if is_range and any(_is_large(argument) for argument in call.args):
            yield f"the chat template loops more than {LONGEST_LOOP} times (line {call.lineno})"


def _is_large(argument: nodes.Expr) -> bool:
    """Whether an argument is a constant beyond the longest loop. A power is not worked out, just refused."""
    if isinstance(argument, nodes.Pow):
        return True
    return (
        isinstance(argument, nodes.Const)
        and isinstance(argument.value, int)
        and argument.value > LONGEST_LOOP
    )


def _is_dunder(text: str) -> bool:
    return any(
        word.startswith("__")
        and word.endswith("__")
        and len(word) > 4
        and word[2:-2].replace("_", "").isalpha()
        for word in text.replace(".", " ").split()
    )
