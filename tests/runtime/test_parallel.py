"""Guidance under diffusers' context parallelism: two processes that share the tokens of a clip."""

from types import SimpleNamespace

import pytest
import torch
import torch.multiprocessing as multiprocessing

import vsf
from families.harness import STRONG, difference
from families.models import tiny_wan
from support import tiny_pipelines as tiny


def guided_wan(model, frames=4):
    """Return what a denoiser makes of a clip, unguided and guided, by every method that acts on attention."""
    case = tiny_wan.CASES[0]
    inputs = case.inputs(case.text())
    inputs["hidden_states"] = torch.randn(1, 16, frames, 4, 8, generator=torch.Generator().manual_seed(1))
    negative = vsf.Negative((case.text(7, seed=100)[0],))
    outputs = [model(**inputs).sample]
    for method in (STRONG, "nag", "nasa", "ong"):
        with vsf.guide(model, negative=negative, method=method):
            outputs.append(model(**inputs).sample)
    return torch.stack(outputs)


def parallel_process(rank, folder):
    from diffusers import ContextParallelConfig

    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
    # diffusers numbers the devices, of which a machine without an accelerator has none.
    torch.accelerator.device_count = lambda: 1
    try:
        model = tiny_wan.transformer()
        model.set_attention_backend("native")
        model.enable_parallelism(config=ContextParallelConfig(ulysses_degree=2))
        with torch.no_grad():
            outputs = guided_wan(model)
        if rank == 0:
            torch.save(outputs, f"{folder}/outputs.pt")
    finally:
        torch.distributed.destroy_process_group()


@pytest.mark.slow
def test_two_processes_that_share_a_clip_guide_it_as_one_does(tmp_path):
    multiprocessing.spawn(parallel_process, (str(tmp_path),), nprocs=2)
    together = torch.load(tmp_path / "outputs.pt")
    with torch.no_grad():
        alone = guided_wan(tiny_wan.transformer())
    for one, other in zip(together, alone, strict=True):
        assert difference(one[None], other[None]) <= 1e-5
    assert all(difference(guided[None], alone[:1]) > 1e-4 for guided in alone[1:])


def parallel(model, **degrees):
    """Mark a model as `enable_parallelism` does, without the processes that this would need."""
    config = SimpleNamespace(ring_degree=1, ulysses_degree=1, **{})
    vars(config).update(degrees)
    model._parallel_config = SimpleNamespace(context_parallel_config=config)
    return model


def call_guided(model, **options):
    case = tiny_wan.CASES[0]
    with torch.no_grad(), vsf.guide(model, negative=vsf.Negative((case.text(7)[0],)), **options):
        case.run(model, case.text())


@pytest.mark.parametrize(
    "options",
    [{"mask": (0, 0, 0.5, 1)}, {"frames": (0, 1)}, {"observe": True}, {"method": vsf.ValueSignFlip(scale="auto")}],
    ids=["mask", "frames", "heat map", "auto"],
)
def test_what_needs_to_know_where_image_tokens_lie_is_refused_by_name(options):
    model = parallel(tiny_wan.transformer(), ulysses_degree=2)
    with pytest.raises(vsf.UnsupportedAttentionError, match="share of the image tokens of WanTransformer3DModel"):
        call_guided(model, **options)


def test_ring_attention_is_refused_by_name():
    model = parallel(tiny_wan.transformer(), ring_degree=2)
    with pytest.raises(vsf.UnsupportedAttentionError, match="WanTransformer3DModel runs with ring attention"):
        call_guided(model)


def test_models_whose_text_is_spread_over_processes_are_refused_by_name():
    from families.models import tiny_masked  # not above: the processes import this file, too

    for build in (tiny.sd3_transformer, tiny_masked.ltx):
        model = parallel(build(), ulysses_degree=2)
        negative = vsf.Negative((torch.zeros(3, 32),))
        refused = pytest.raises(vsf.UnsupportedAttentionError, match=f"the text tokens of {type(model).__name__}")
        with refused, vsf.guide(model, negative=negative):
            model(encoder_hidden_states=torch.zeros(1, 3, 32))
