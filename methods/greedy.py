"""Re-balancing of modalities that meet in the middle of their encoders."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import cast

import torch
from torch import Tensor, nn

from mmlbench import (
    ALL_TASKS,
    Batch,
    ConfigError,
    Encoder,
    Logits,
    Mechanism,
    Method,
    MethodParams,
    Step,
    bounded,
    choice,
    moment,
    own_heads,
    register,
)

#: Least sum of speeds: what takes the place of 0 under the logarithm.
LEAST = 1e-300


# ---- formulas --------------------------------------------------------------------------------------------
def learning_speed(parameters: Iterable[nn.Parameter]) -> Tensor:
    """Return the summed squared gradients of some weights over their summed squares, a float64 scalar.

    Weights without a gradient count in neither; one at least has to have one.
    """
    moving = [(p.detach(), p.grad) for p in parameters if p.grad is not None]
    weights, gradients = ([t.double().square().sum() for t in tensors] for tensors in zip(*moving, strict=True))
    return torch.stack(gradients).sum() / torch.stack(weights).sum()


def bypass_ratios(bypass: Tensor, main: Tensor) -> Tensor:
    """Return BDR_m = log10(bypass_m / main_m), (M,).

    Args:
        bypass, main: learning speeds of what serves the exchange and of a modality's own network, (M,), summed.
    """
    return (bypass.clamp_min(LEAST) / main.clamp_min(LEAST)).log10()


def most_reliant(ratios: Tensor, tolerance: float) -> Tensor:
    """Return the place of the greatest ratio, an int64 scalar; -1 where none is more than `tolerance` above another.

    Args:
        ratios: BDR (M,).
    """
    apart = ratios.amax() - ratios.amin() > tolerance
    return torch.where(apart, ratios.argmax(), -1)


# ---- method ----------------------------------------------------------------------------------------------
class Exchange(nn.Module):
    """A multimodal transfer module: gates of each modality's channels, by what all modalities hold.

    gate_m = sigmoid(U_m relu(S [s_1; ...; s_M])), s_m the mean of m's channels over positions. It keeps the means of
    its gates over all samples of all batches that it was trained on.

    Args:
        widths: modality -> channels. ratio: twice the channels of all together to the size of the joint vector.
    """

    def __init__(self, widths: Mapping[str, int], ratio: int) -> None:
        super().__init__()
        total = sum(widths.values())
        self.squeeze = nn.Linear(total, max(1, 2 * total // ratio))
        self.gates = nn.ModuleDict({m: nn.Linear(self.squeeze.out_features, width) for m, width in widths.items()})
        for m, width in widths.items():
            self.register_buffer(f"usual_{m}", torch.zeros(width))
        self.register_buffer("seen", torch.zeros((), dtype=torch.int64))
        self.seen: Tensor

    def forward(self, squeezed: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return modality -> gates (B, channels); squeezed: modality -> (B, channels)."""
        joint = self.squeeze(torch.cat([squeezed[m] for m in self.gates], 1)).relu()
        return {m: gate(joint).sigmoid() for m, gate in self.gates.items()}

    def usual(self, modality: str) -> Tensor:
        """Return the mean gate of a modality so far, (channels,)."""
        return self.get_buffer(f"usual_{modality}")

    @torch.no_grad()
    def remember(self, sources: Mapping[str, Tensor]) -> None:
        """Take gates into the means: modality -> gates (B, channels)."""
        for m, gates in sources.items():
            usual = self.usual(m)
            usual.copy_((gates.mean(0).to(usual.dtype) + usual * self.seen) / (self.seen + 1))
        self.seen.add_(1)

    def serving(self, modality: str) -> list[nn.Parameter]:
        """Return the weights that make a modality's gates; those of the joint vector serve all."""
        return [*self.squeeze.parameters(), *self.gates[modality].parameters()]


@register
class Greedy(Method):
    """Modalities exchange between blocks; the one that learns most by that has to do without for some steps.

    After each of the last blocks an `Exchange` multiplies each modality's channels by gates made of all modalities.
    Each has a linear head of its own, z_m. L = sum of CE(z_m, y), prediction: the mean of the z_m.

    After each backward pass the learning speed, sum of squared gradients over sum of squared weights, is added up
    over the whole run: `main_m` of m's encoder and head, `bypass_m` of the exchanges' weights that make m's gates.
    BDR_m = log10(bypass_m / main_m). From epoch `start` on, where the greatest BDR is more than `tolerance` above the
    least, the modality of the greatest one learns mostly through the others. For the next `window` steps its own
    gates are replaced by their mean over all batches so far, the present one included. In these steps nothing is
    measured. Then one step follows as usual, and what is to be done is decided anew. It is data that says whether a
    gate is ever replaced (`rebalanced`): what must act is that it was judged.

    - `rule: guided` (default); `random`: before each step one of no modality and all modalities is drawn, each alike;
      `none`: the same network without re-balancing, a baseline.
    - `variant: paper` (default): the mean gates of a modality are its own. `code`: those of all others are the means
      of the first modality's gates, as released by mistake; widths have to be equal then. The paper's text was not
      at hand: `paper` is what the code evidently means.

    Source: Wu et al., ICML 2022 (arXiv 2202.05306), *Characterizing and Overcoming the Greedy Nature of Learning in
    Multi-modal Deep Neural Networks*, and the authors' code at a190e03. Exchanges: Joze et al., CVPR 2020.
    Deviations: the released means see batches of the validation and of the test part too, and an epoch that ends
    amidst a window is evaluated with a replaced gate. Here means see training batches, and predictions have gates of
    their own sample. A gate that is replaced gives its weights a gradient of zeros, as in the torch of that time, so
    that momentum and decay move them. The release stops by its train accuracy. Two modalities there; the greatest
    against the least of more is ours. `places` counts from the end, so that encoders may differ in depth; of the
    authors' ResNet-18 it is layers 2, 3 and 4.
    Published: tolerance 0.01, window 5, from the second epoch on; two views of ModelNet40: SGD 0.1, no momentum and
    no decay, batch 8, at most 300 epochs, rate x 0.3 where the train loss rests for 10. BalanceBenchmark has
    tolerance 0.001 and window 5.
    Measured: 71.1 [68.3, 73.8] % on avdigits / speaker, minus joint +3.6 [2.2, 5.0]
    (5 seeds, 797 test pairs; docs/results.md).
    """

    family = "gradient modulation"
    tasks = ALL_TASKS
    min_modalities = 2
    mixes = needs_blocks = accumulates = True

    main: Tensor
    bypass: Tensor
    cared_for: Tensor
    left: Tensor

    class Params(MethodParams):
        variant: str = choice("paper", ("paper", "code"), doc="whose gates the means are of")
        rule: str = choice("guided", ("guided", "random", "none"), doc="who has to do without, and when")
        tolerance: float = bounded(0.01, low=0, doc="difference of two BDR that is let be", tune=(1e-3, 0.1, "log"))
        window: int = bounded(5, low=1, doc="steps with replaced gates", tune=(1, 20))
        start: float | int = moment(1, doc="first epoch of re-balancing, at most the last")
        places: int = bounded(3, low=1, doc="last blocks after which modalities exchange")
        ratio: int = bounded(4, low=1, doc="twice all channels to the size of an exchange's joint vector")

    # ---- the network -------------------------------------------------------------------------------------
    def build(self) -> None:
        """Add the exchanges, a head per modality, and what is measured.

        Raises:
            ConfigError: `code` on encoders of different widths.
        """
        widths = {m: self.encoder_of(m).widths() for m in self.modalities}
        depth = min(self.params.places, *map(len, widths.values()))
        places = [{m: of[k] for m, of in widths.items()} for k in range(-depth, 0)]
        if self.params.variant == "code":
            _check_equal(self.name, places)
        self.exchanges = nn.ModuleList(Exchange(place, self.params.ratio) for place in places)
        self.own = own_heads(self.dims, self.classes)
        for name in ("main", "bypass"):
            self.register_buffer(name, torch.zeros(len(self.modalities), dtype=torch.float64))
        self.register_buffer("cared_for", torch.tensor(-1))  # place of the modality whose gates are replaced, or -1
        self.register_buffer("left", torch.tensor(0))  # steps of the window that are left

    def encode(
        self, batch: Batch, only: Sequence[str] | None = None, encoders: nn.ModuleDict | None = None
    ) -> dict[str, Tensor]:
        """Return modality -> features (B, dim), the blocks run in step, counted from the last one."""
        chosen = {m: cast(Encoder, (self.encoders if encoders is None else encoders)[m]) for m in self.modalities}
        blocks = {m: chosen[m].blocks() for m in self.modalities}
        with self.autocast(batch):
            states = {m: chosen[m].start(batch.inputs[m], batch.mask(m)) for m in self.modalities}
            for k in range(-max(map(len, blocks.values())), 0):
                ready = [m for m in self.modalities if len(blocks[m]) >= -k]
                states |= {m: chosen[m].run(blocks[m][k], states[m]) for m in ready}
                if -k <= len(self.exchanges):
                    gates = self.gates_of(self.exchange(k), {m: states[m].squeezed() for m in self.modalities})
                    states = {m: states[m].scaled(gates[m]) for m in self.modalities}
            return {m: chosen[m].finish(states[m]) for m in only or self.modalities}

    def exchange(self, place: int) -> Exchange:
        """Return the exchange of a place."""
        return cast(Exchange, self.exchanges[place])

    def gates_of(self, exchange: Exchange, squeezed: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return modality -> gates (B, channels); in training those of who is cared for are the mean ones."""
        gates = exchange(squeezed)
        if not self.training or self.params.rule == "none":
            return gates
        first = self.modalities[0]
        exchange.remember({m: gates[first if self.params.variant == "code" else m] for m in self.modalities})
        return {
            m: torch.where(self.cared_for == k, exchange.usual(m).to(gates[m].dtype), gates[m])
            for k, m in enumerate(self.modalities)
        }

    def predict(self, features: dict[str, Tensor]) -> Logits:
        """Return the own heads' logits, and their mean as the fused ones."""
        own = {m: self.own[m](features[m]) for m in self.modalities}
        return Logits(fused=torch.stack(list(own.values())).mean(0), own_head=own)

    def loss(self, batch: Batch) -> tuple[Tensor, Logits]:
        """Return the sum of the own heads' losses."""
        logits = self.predict(self.encode(batch))
        return torch.stack([self.task_loss(z, batch.label) for z in logits.own_head.values()]).sum(), logits

    # ---- re-balancing ------------------------------------------------------------------------------------
    def first(self) -> int:
        """Return the first epoch of re-balancing."""
        return min(self.at(self.params.start), self.epochs - 1)

    def mechanisms(self) -> list[Mechanism]:
        """It is judged whose gates are to be replaced."""
        return [Mechanism("judged", first=self.first(), off=self.params.rule == "none")]

    @torch.no_grad()
    def after_backward(self, step: Step) -> None:
        """Measure where it is time to, and decide whose gates are replaced in the next step."""
        if self.params.rule == "none":
            return
        self.count_mechanism("rebalanced", self.cared_for >= 0)
        for k, m in enumerate(self.modalities):
            self.record(**{f"cared_for/{m}": (self.cared_for == k).float()})
        acts = step.epoch >= self.first()
        if self.params.rule == "random":
            if acts:
                self.count_mechanism("judged")
                drawn = torch.randint(len(self.modalities) + 1, (), generator=step.rng, device=step.rng.device)
                self.cared_for.copy_(drawn - 1)
            return
        usual = self.left == 0
        self.measure(usual)
        if acts:
            self.count_mechanism("judged", usual)
        found = most_reliant(bypass_ratios(self.bypass, self.main), self.params.tolerance)
        found = found if acts else torch.full_like(found, -1)
        goes_on = torch.where(self.left > 1, self.cared_for, -1)
        self.cared_for.copy_(torch.where(usual, found, goes_on))
        self.left.copy_(torch.where(usual, self.params.window * (found >= 0), self.left - 1))

    def measure(self, usual: Tensor) -> None:
        """Add the learning speeds of this step where it was one without replaced gates, `usual`, a bool scalar."""
        for k, m in enumerate(self.modalities):
            own = [*self.encoders[m].parameters(), *self.own[m].parameters()]
            bypass = [weight for place in range(len(self.exchanges)) for weight in self.exchange(place).serving(m)]
            for total, weights in ((self.main, own), (self.bypass, bypass)):
                total[k] += torch.where(usual, learning_speed(weights), 0.0)
        for m, ratio in zip(self.modalities, bypass_ratios(self.bypass, self.main), strict=True):
            self.record(**{f"bypass_ratio/{m}": ratio})


def _check_equal(name: str, places: Sequence[Mapping[str, int]]) -> None:
    """Refuse modalities of different widths at a place.

    Raises:
        ConfigError: naming the widths.
    """
    for widths in places:
        if len(set(widths.values())) > 1:
            sizes = ", ".join(f"{m} {width}" for m, width in widths.items())
            what = (
                f"{name}: `variant: code` takes gates of one modality for another's; their channels differ: {sizes}"
            )
            raise ConfigError(what, "Use `variant: paper`, or encoders of one width")
