"""Selection rules as named objects: which epoch's weights a number speaks of, and who may choose them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ..errors import ConfigError, brief


@dataclass(frozen=True)
class Rule:
    """A rule that picks an epoch.

    Attributes:
        name: as in files and tables. words: what it is, in plain words.
        part: the part whose accuracy picks the epoch; '' where none does. headline: whether a study may speak of it.
    """

    name: str
    words: str
    part: str = ""
    headline: bool = True

    def served(self, counts: Mapping[str, int]) -> bool:
        """Whether data with these numbers of samples per part can serve the rule."""
        return not self.part or bool(counts.get(self.part))

    def check(self, counts: Mapping[str, int], where: str, what: str, fix: str) -> None:
        """Refuse the rule where the data can't serve it.

        Args:
            counts: part -> samples. where: dataset and split. what: who asks, such as "headline 'val'".
            fix: what the user can do about it.

        Raises:
            ConfigError: naming who asks and the data.
        """
        if not self.served(counts):
            raise ConfigError(f"{what} asks for a validation part, and {where} has none", fix)


LAST = Rule("last", "the last epoch; nothing chooses")
VAL = Rule("val", "the best epoch on the validation part", "val")
TEST = Rule("test", "the best epoch on the test part, as most papers have it; never a result", "test", headline=False)
RULES = (LAST, VAL, TEST)
NAMES = tuple(rule.name for rule in RULES)
HEADLINES = tuple(rule.name for rule in RULES if rule.headline)


def headline_rule(name: str) -> Rule:
    """Return the rule that a study's tables speak of.

    Raises:
        ConfigError: no rule of that name, or one that may not be a headline.
    """
    for rule in RULES:
        if rule.name == name and rule.headline:
            return rule
    hint = f"It takes {' or '.join(HEADLINES)}"
    if name == TEST.name:
        hint = f"The test set chooses nothing here; it is shown as the optimism it buys. {hint}"
    hint += "; what is measured is chosen by `metric:`"
    raise ConfigError(f"headline {brief(name)} is not a selection rule", hint)
