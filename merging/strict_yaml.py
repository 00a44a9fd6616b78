"""YAML read as plain mappings, lists and scalars. What would surprise the person who wrote it is refused."""

from typing import Any

import yaml
from yaml.reader import ReaderError

from merging.errors import MergeError

MAX_CHARACTERS = 1_000_000
TEXT = ("str", "timestamp", "merge", "value")  # the last three: 2024-01-01, << and =, which mean nothing special here


class Composer(yaml.SafeLoader):
    """Makes a tree of nodes; values are not constructed by it, so no tag can do anything."""

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            line = self.peek_event().start_mark.line + 1  # type: ignore[no-untyped-call]
            raise MergeError(f"Line {line} uses a YAML alias (*). Aliases are not read here: write the value out.")
        return super().compose_node(parent, index)


def load_yaml(text: str, what: str) -> Any:
    """The value of a YAML document; `what` names it in messages."""
    if len(text) > MAX_CHARACTERS:
        raise MergeError(f"{what} has {len(text):,} characters; at most {MAX_CHARACTERS:,} are read.")
    try:
        node = Composer(text).get_single_node()
        return None if node is None else value_of(node, what)
    except yaml.YAMLError as e:
        raise MergeError(f"{what} is not valid YAML: {in_words(e, text)}.") from None
    except RecursionError:
        raise MergeError(f"{what} is nested too deeply to be read.") from None


def in_words(error: yaml.YAMLError, text: str) -> str:
    """`line 1, column 16: mapping values are not allowed here`"""
    if isinstance(error, yaml.MarkedYAMLError) and (mark := error.problem_mark or error.context_mark):
        if isinstance(error, yaml.composer.ComposerError) and "another document" in str(error.problem):
            return f"line {mark.line + 1}: a second document begins here, and one is read at a time"
        said = " ".join((error.problem or error.context or "it cannot be read").split())
        return f"line {mark.line + 1}, column {mark.column + 1}: {said}"
    if isinstance(error, ReaderError):
        before = text[: error.position]
        column = len(before) - (before.rfind("\n") + 1) + 1
        return f"line {before.count(chr(10)) + 1}, column {column}: this character is not allowed"
    return "it cannot be read"


def value_of(node: yaml.Node, what: str) -> Any:
    if isinstance(node, yaml.MappingNode):
        return mapping_of(node, what)
    if isinstance(node, yaml.SequenceNode):
        return [value_of(item, what) for item in node.value]
    assert isinstance(node, yaml.ScalarNode), "there are three kinds of nodes"
    return scalar_of(node, f"{what}, line {node.start_mark.line + 1}")


def scalar_of(node: yaml.ScalarNode, place: str) -> Any:
    kind = node.tag.removeprefix("tag:yaml.org,2002:")
    try:
        match kind:
            case "null":
                return None
            case "bool":
                return yaml.SafeLoader.bool_values[node.value.lower()]
            case "int":
                return yaml.SafeLoader("").construct_yaml_int(node)
            case "float":
                return yaml.SafeLoader("").construct_yaml_float(node)
    except (ValueError, LookupError):
        raise MergeError(f"{place}: {node.value[:40]!r} is not a number.") from None
    if kind not in TEXT:
        raise MergeError(f"{place}: the tag {kind[:40]!r} is not read. Remove it.")
    return node.value


def mapping_of(node: yaml.MappingNode, what: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key_node, value_node in node.value:
        line = key_node.start_mark.line + 1
        if not isinstance(key_node, yaml.ScalarNode):
            raise MergeError(f"{what}, line {line}: a key must be a word, not a list or a mapping.")
        if key_node.value in found:
            raise MergeError(f"{what}, line {line}: {key_node.value!r} stands twice. Remove one of them.")
        found[key_node.value] = value_of(value_node, what)
    return found
