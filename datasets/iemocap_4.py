"""IEMOCAP with four classes: happy, sad, neutral, angry."""

from __future__ import annotations

from mmlbench import choice, register

from ._iemocap_features import LABELS, IemocapFeatures, IemocapParams, modalities, splits_of

#: Utterances by their official labels with excited as happy: of session 5, and a fourth of the others each.
SESSION_COUNTS = (1073, 1073, 1072, 1072, 1241)
WITH_EXCITED, ALONE = "with_excited", "alone"


class Iemocap4Params(IemocapParams):
    """How wide the features are, and what counts as happy."""

    happy: str = choice(WITH_EXCITED, (WITH_EXCITED, ALONE), doc="whether excited counts as happy, or is left out")


@register
class Iemocap4(IemocapFeatures):
    """IEMOCAP with four emotions: happy, sad, neutral, angry; frustrated is left out. Else as `iemocap`.

    Excited counts as happy, or is left out too: papers do either and rarely say which.

    Counts are not asserted: with excited 5,531 utterances and 1,241 of session 5 by a public table of the official
    labels; how the others fall to sessions 1 to 4 is not known here. What is NaN or infinite becomes 0, and is
    counted.
    Source: Busso et al., Language Resources and Evaluation 42, 2008.
    """

    Params = Iemocap4Params  # type: ignore[assignment]
    params: Iemocap4Params
    modalities = modalities(Iemocap4Params())  # type: ignore[call-arg]
    class_names = LABELS[:4]
    splits = splits_of(SESSION_COUNTS)

    def __init__(self, params: Iemocap4Params | None = None) -> None:
        super().__init__(params)
        excited = {LABELS.index("excited"): 0} if self.params.happy == WITH_EXCITED else {}
        self.classes = {k: k for k in range(4)} | excited
