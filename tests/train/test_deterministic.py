"""An operation without a deterministic algorithm is named before training, on whatever device it would come up.

No GPU was at hand: torch's message of one comes from a stand-in. On several CPU threads the operation is a real one.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import nn

from mmlbench.errors import ConfigError
from mmlbench.prepare.cache import Cache
from mmlbench.registry.index import load_index, use_plugins
from mmlbench.testing import PLUGINS, tiny_spec
from mmlbench.train.build import build_method
from mmlbench.train.data import PartData
from mmlbench.train.deterministic import _refusal, check_deterministic

CPU = torch.device("cpu")
#: As torch 2.13 says it, of an operation that VGG and AlexNet have.
REST = (
    "but you set 'torch.use_deterministic_algorithms(True)'. You can turn off determinism just for this operation, "
    "or you can use the 'warn_only=True' option, if that's acceptable for your application."
)
MESSAGE = f"adaptive_avg_pool2d_backward_cuda does not have a deterministic implementation, {REST}"
#: An encoder with an operation that has no deterministic algorithm on a CPU either.
UNPOOLING = '''
import torch
from torch import nn
from mmlbench import Encoder, register

@register
class Unpooling(Encoder):
    """Pools and unpools."""

    ranks = (3,)

    def __init__(self, shape, params):
        super().__init__(shape, params)
        self.dim, self.layer = 4, nn.Conv2d(shape[0], 4, 3, padding=1)

    def views(self, inputs):
        pooled, places = nn.functional.max_pool2d(self.layer(inputs), 2, return_indices=True)
        return nn.functional.max_unpool2d(pooled, places, 2).mean((2, 3))
'''


class Refuses(torch.autograd.Function):
    """Passes values on, and refuses to go back, by torch's own words."""

    @staticmethod
    def forward(ctx, values):
        return values.clone()

    @staticmethod
    def backward(ctx, gradient):
        raise RuntimeError(MESSAGE)


@pytest.fixture
def strict() -> Iterator[None]:
    """Tell torch to be deterministic, as on a GPU; afterwards, as on one thread."""
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)
    torch.set_num_threads(1)


def built(tiny, dataset: str = "tiny"):
    """Return an untrained method and its train part."""
    spec = tiny_spec("joint", dataset)
    cache = Cache.open(tiny.cache / spec.cache)
    return build_method(spec.config, cache, load_index(), 40), PartData(cache, "speaker", "train", CPU, ("tiny", 0))


def stand_in(encoder: nn.Module, how: str) -> None:
    """Let an encoder raise torch's message on its way forward or back, or something else."""
    views = encoder.views

    def altered(inputs, *mask):
        if how == "forward":
            raise RuntimeError(MESSAGE)
        if how == "other":
            raise RuntimeError("out of memory")
        return Refuses.apply(views(inputs, *mask))

    encoder.views = altered


@pytest.mark.parametrize("how", ["forward", "backward"])
def test_an_operation_that_is_not_deterministic_is_named_with_its_encoder_and_the_fix(how, tiny, strict):
    method, data = built(tiny)
    stand_in(method.encoders["visual"], how)
    with pytest.raises(ConfigError) as caught:
        check_deterministic(method, data)
    message = str(caught.value)
    assert "the encoder 'small_cnn' of 'visual' uses adaptive_avg_pool2d_backward_cuda" in message
    assert "take the mean over positions" in message and "\n" not in message and caught.value.exit_code == 2


def test_on_a_gpu_the_message_says_so(tiny):
    method, _ = built(tiny)
    what, fix = _refusal(method.encoder_of("audio"), "audio", "cumsum_cuda_kernel", torch.device("cuda"))
    assert "uses cumsum_cuda_kernel, which is not deterministic on a GPU" in what and "--device cpu" in fix
    _, fix = _refusal(method.encoder_of("audio"), "audio", "put_", CPU)
    assert "threads: 1" in fix and "(" not in fix


def test_other_errors_stay_what_they_are(tiny, strict):
    method, data = built(tiny)
    stand_in(method.encoders["audio"], "other")
    with pytest.raises(RuntimeError, match="out of memory"):
        check_deterministic(method, data)


def test_on_one_cpu_thread_nothing_is_tried(tiny):
    method, data = built(tiny)
    stand_in(method.encoders["audio"], "forward")
    check_deterministic(method, data)


@pytest.mark.parametrize("dataset", ["tiny", "tiny_lab"])
def test_to_try_it_leaves_no_trace(dataset, tiny, strict):
    method, data = built(tiny, dataset)
    encoders = [method.encoder_of(m) for m in method.modalities]
    encoders[0].hold(["all"])
    next(encoders[1].children()).eval()
    before = {name: value.clone() for name, value in method.state_dict().items()}
    modes, drawn = [module.training for module in method.modules()], torch.random.get_rng_state()
    check_deterministic(method, data)
    assert all(torch.equal(value, before[name]) for name, value in method.state_dict().items())
    assert [module.training for module in method.modules()] == modes
    assert all(parameter.grad is None for parameter in method.parameters())
    assert torch.equal(torch.random.get_rng_state(), drawn)


@pytest.mark.slow
def test_a_run_on_several_threads_ends_before_it_begins(plugin_folder: Path, tiny, tmp_path, strict):
    """The operation is a real one, and so is torch's message; on one thread the same encoder trains."""
    (plugin_folder / "unpooling.py").write_text(UNPOOLING, encoding="utf-8")
    use_plugins([PLUGINS, plugin_folder])
    encoder = {"audio": "small_cnn", "visual": "unpooling"}
    with pytest.raises(ConfigError, match=r"the encoder 'unpooling' of 'visual' uses max_unpooling2d_forward_out"):
        tiny.run("joint", tmp_path, recipe={"encoder": encoder, "threads": 2}, plugins=[plugin_folder])
    assert not list(tmp_path.rglob("checkpoint*")) and not list(tmp_path.rglob("run.json"))
    torch.use_deterministic_algorithms(False)
    assert tiny.run("joint", tmp_path, recipe={"encoder": encoder}, plugins=[plugin_folder]).record.epochs == 2
