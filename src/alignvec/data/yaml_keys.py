"""YAML in which no key is there twice: YAML forbids it, and PyYAML keeps the last one without a word."""

from typing import Any

import yaml


class RepeatedKeyError(yaml.YAMLError):
    """A mapping has a key twice; the message names it and its line."""


def load_yaml(text: str) -> Any:
    """Content of a YAML text.

    Raises:
        RepeatedKeyError: if a mapping has a key twice.
        yaml.YAMLError: if it is no YAML.
    """
    return yaml.load(text, _Loader)


class _Loader(yaml.SafeLoader):
    # as the text is read: once `<<` is resolved, a key that overrides another is there twice by right
    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        node: yaml.MappingNode = super().compose_mapping_node(anchor)
        seen: set[str] = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode):
                if key.value in seen:
                    line = key.start_mark.line + 1
                    raise RepeatedKeyError(f"the key {key.value!r} is there twice, again on line {line}")
                seen.add(key.value)
        return node
