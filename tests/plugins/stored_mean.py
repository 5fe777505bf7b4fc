"""An encoder that starts from a file of weights, for tests."""

from __future__ import annotations

from torch import Tensor, nn

from mmlbench import Encoder, EncoderParams, File, file_field, load_weights, register


@register
class StoredMean(Encoder):
    """Channel means through one linear layer, drawn or from a file, and ReLU."""

    class Params(EncoderParams):
        weights: File | None = file_field(doc="state dict of the layer to start from")

    ranks = (2, 3)

    def __init__(self, shape: tuple[int, ...], params: StoredMean.Params) -> None:
        super().__init__(shape, params)
        self.dim = 6
        self.layer = nn.Linear(shape[0], self.dim)
        if params.weights is not None:
            load_weights(self.layer, params.weights)

    def views(self, inputs: Tensor) -> Tensor:
        """Return features (B, 6) of one view."""
        return self.layer(inputs.flatten(2).mean(2)).relu()
