"""IEMOCAP: emotions in dialogues of two actors; text, audio and visual features that circulate, six classes."""

from __future__ import annotations

from mmlbench import register

from ._iemocap_features import LABELS, IemocapFeatures, IemocapParams, modalities, splits_of

#: Utterances of each session by their official labels; the pickle has some 50 more, relabelled as happy.
SESSION_COUNTS = (1365, 1348, 1533, 1512, 1622)


@register
class Iemocap(IemocapFeatures):
    """IEMOCAP: utterances of ten actors in five sessions of two, six emotions; vectors of text, audio and visual.

    Read is the pickle that the codes of conversational emotion recognition share (`datasets/_iemocap_features.py` has
    its layout). `official` divides as the file does, `session.1` to `session.5` test one session each, so that no
    speaker trains and tests. Published loaders hold a random tenth of train out; `official_val` holds session 4 out.
    Models there read whole dialogues; here each utterance stands for itself.

    Counts are not asserted: they are a public table's. What is NaN or infinite becomes 0, and is counted.
    Source: Busso et al., Language Resources and Evaluation 42, 2008.
    """

    modalities = modalities(IemocapParams())  # type: ignore[call-arg]
    class_names = LABELS
    splits = splits_of(SESSION_COUNTS)
    classes = {k: k for k in range(len(LABELS))}
