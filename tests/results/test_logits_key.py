"""Names of logits: parsed and written as the .npz files have them."""

from __future__ import annotations

import pytest

from mmlbench.results.logits_key import INITIAL, LogitsKey, LogitsKind, parse_logits, parse_prediction, parse_probe

PREDICTIONS = {
    "last/test/fused": ("test", LogitsKey("last")),
    "val/val/own_head/audio": ("val", LogitsKey("val", LogitsKind.OWN_HEAD, "audio")),
    "last/test/sliced/rgb_1": ("test", LogitsKey("last", LogitsKind.SLICED, "rgb_1")),
    "last/test/fused@mean:audio+visual": ("test", LogitsKey("last", fill="mean", present=("audio", "visual"))),
    "last/test/fused@zero:none": ("test", LogitsKey("last", fill="zero")),
}
PROBES = {
    "last/audio/test": ("test", LogitsKey("last", LogitsKind.PROBE, "audio")),
    "initial/visual/val": ("val", LogitsKey(INITIAL, LogitsKind.PROBE, "visual")),
}


def test_a_name_comes_back_as_it_was() -> None:
    for parse, names in ((parse_prediction, PREDICTIONS), (parse_probe, PROBES)):
        for name, (part, key) in names.items():
            assert parse(name) == (part, key) and key.array(part) == name
    assert {key.of for _, key in PREDICTIONS.values()} == {"fused", "audio", "rgb_1"}
    assert str(LogitsKey("last", fill="zero")) == "last/fused@zero:none"


@pytest.mark.parametrize(
    "name", ["test/label", "last/train/fused", "best/test/fused", "last/test/other/a", "last/test/fused@mean:", ""]
)
def test_another_name_holds_no_logits(name: str) -> None:
    assert parse_prediction(name) is None and parse_probe(name) is None
    with pytest.raises(ValueError, match="names no logits"):
        parse_logits(name)
