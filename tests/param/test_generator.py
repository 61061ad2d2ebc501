"""`param.Generator`: formulas restated, latent priors, recipes by file and hash, and messages."""

import re
from pathlib import Path

import pytest
import torch
import toys
from safetensors.torch import save_file
from torch import nn

import featviz as fv
from featviz import param
from featviz import transforms as T
from featviz.random import Generators

SHAPE = (4, 3, 3)


class TinyDecoder(nn.Module):
    """Latents (n, 4, 3, 3) to images of 12 x 12 px in [-1, 1]; behaves differently in train mode."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.layers = nn.Sequential(nn.ConvTranspose2d(4, 8, 4, 4), nn.Tanh(), nn.Dropout(0.5), nn.Conv2d(8, 3, 1))

    def forward(self, latents):
        return {"sample": self.layers(latents).tanh()}


def decoder():
    with torch.random.fork_rng():
        return TinyDecoder()


def made(**more):
    return param.Generator(decoder(), SHAPE, output_range=(-1, 1), **more)


def test_images_restated():
    generator = made(std=0.5)
    leaves = generator.start(Generators([3, 4]), 3, (12, 12))
    drawn = torch.stack([torch.randn(SHAPE, generator=torch.Generator().manual_seed(seed)) for seed in (3, 4)])
    torch.testing.assert_close(leaves[0], 0.5 * drawn)
    output = decoder().eval()(0.5 * drawn)["sample"]
    torch.testing.assert_close(generator.images(leaves, (12, 12)), (output + 1) / 2)
    assert generator.images(leaves, (20, 14)).shape == (2, 3, 20, 14)


def test_values_outside_of_the_output_range_are_clipped():
    images = param.Generator(nn.Identity(), (3, 2, 2)).images([torch.linspace(-1, 2, 12).view(1, 3, 2, 2)], (2, 2))
    torch.testing.assert_close(images.flatten(), torch.linspace(-1, 2, 12).clamp(0, 1))


def test_truncation_bounds_latents_smoothly_and_keeps_small_ones():
    generator = param.Generator(nn.Identity(), (3, 1, 1), truncation=2.0, output_range=(-4, 4))
    leaves = [torch.tensor([-50.0, 0.01, 1.0]).view(1, 3, 1, 1)]
    latents = generator.images(leaves, (1, 1)).flatten() * 8 - 4
    torch.testing.assert_close(latents, torch.tensor([-2.0, 0.01, 2 * torch.tensor(0.5).tanh()]), atol=1e-4, rtol=0)
    generator = param.Generator(nn.Identity(), (3, 1, 1), truncation=2.0, output_range=(-4, 4), std=1.0)
    start = generator.images(generator.start(Generators([0]), 3, (1, 1)), (1, 1)).flatten() * 8 - 4
    drawn = torch.randn(3, 1, 1, generator=torch.Generator().manual_seed(0)).flatten()
    torch.testing.assert_close(start, drawn.clamp(-2, 2), atol=0.01, rtol=0)  # the initial latents are those drawn


def test_the_penalty_is_that_of_half_the_squared_length():
    leaf = torch.randn(2, *SHAPE, requires_grad=True)
    made(penalty=0.3).images([leaf], (12, 12)).square().sum().backward()
    restated = leaf.detach().clone().requires_grad_()
    (made().images([restated], (12, 12)).square().sum() + 0.3 * restated.square().sum() / 2).backward()
    torch.testing.assert_close(leaf.grad, restated.grad)


def test_a_penalty_keeps_latents_short():
    lengths = []
    for penalty in (0.0, 1.0):
        used = made(penalty=penalty, size=12)
        rendering = fv.render(toys.plain(), "conv2:1", param=used, transforms=(), steps=30, lr=0.2)
        lengths.append(float((rendering.images - made().images([torch.zeros(1, *SHAPE)], (12, 12))).norm()))
    assert lengths[1] < 0.5 * lengths[0]


def test_nothing_changes_on_the_module():
    module = decoder().train()
    before = {key: value.clone() for key, value in module.state_dict().items()}
    generator = param.Generator(module, SHAPE)
    fv.render(toys.plain(), "conv2:1", param=generator, steps=2)
    assert module.training
    assert all(weight.requires_grad for weight in module.parameters())
    assert all(torch.equal(value, before[key]) for key, value in module.state_dict().items())
    assert all(weight.grad is None for weight in module.parameters())


@pytest.mark.parametrize("penalty", [0.0, 1.0])
def test_a_start_image_is_fitted(penalty):
    generator = made(penalty=penalty)
    target = generator.images([torch.randn(1, *SHAPE, generator=torch.Generator().manual_seed(5))], (12, 12))
    fitted = generator.images(generator.fit(target), (12, 12))
    assert (fitted - target).abs().max() < 0.02


def test_size_and_batch_of_a_render_apply():
    rendering = fv.render(toys.plain(), "conv2:1", param=made(), size=20, batch=2, steps=2)
    assert rendering.images.shape == (2, 3, 20, 20)
    assert not torch.equal(rendering.images[0], rendering.images[1])


# ---------------------------------------------------------------------------------------------- recipes


def test_a_recipe_names_the_module_and_the_hash_of_its_weights(tmp_path):
    rendering = fv.render(toys.plain(), "conv2:1", param=made(truncation=2.0), steps=3)
    rendering.save(tmp_path / "a.png")
    recipe = fv.Recipe.of(tmp_path / "a.png")
    print_of = made().fingerprint
    assert recipe.param == (
        f"Generator(TinyDecoder, (4, 3, 3), output_range=(-1.0, 1.0), truncation=2.0, fingerprint='{print_of}')"
    )
    again = fv.replay(tmp_path / "a.png", network=toys.plain(), own={"TinyDecoder": decoder()})
    assert torch.equal(again.images, rendering.images)
    by_its_name = fv.replay(tmp_path / "a.png", network=toys.plain(), own={"my_decoder": decoder()})
    assert torch.equal(by_its_name.images, rendering.images)
    other = decoder()
    nn.init.zeros_(other.layers[0].bias)
    changed = param.Generator(other, SHAPE).fingerprint
    message = f"the weights of TinyDecoder must have the hash {print_of}, got {changed}; load them first"
    with pytest.raises(fv.SettingError, match=f"^{re.escape(message)}$"):
        fv.replay(tmp_path / "a.png", network=toys.plain(), own={"TinyDecoder": other})
    with pytest.raises(fv.RecipeError, match="'TinyDecoder' is no name of featviz"):
        fv.replay(tmp_path / "a.png", network=toys.plain())


def test_a_recipe_names_the_weights_file_and_checks_its_content(tmp_path):
    state = {key: value + 0.1 for key, value in decoder().state_dict().items()}
    save_file(state, tmp_path / "vae.safetensors")
    generator = param.Generator(TinyDecoder, SHAPE, tmp_path / "vae.safetensors", output_range=(-1, 1))
    assert torch.equal(generator.module.layers[0].weight, state["layers.0.weight"])
    rendering = fv.render(toys.plain(), "conv2:1", param=generator, steps=2)
    file = str(tmp_path / "vae.safetensors")
    assert rendering.recipe.param == f"Generator(TinyDecoder, (4, 3, 3), {file!r}, output_range=(-1.0, 1.0))"
    assert set(rendering.recipe.files) == {file}
    again = fv.replay(rendering.recipe, network=toys.plain(), own={"TinyDecoder": TinyDecoder})
    assert torch.equal(again.images, rendering.images)
    save_file(decoder().state_dict(), tmp_path / "vae.safetensors")
    with pytest.raises(fv.RecipeError, match="which is missing or has changed; restore the file"):
        fv.replay(rendering.recipe, network=toys.plain(), own={"TinyDecoder": TinyDecoder})


def test_equality_is_that_of_text_and_weights():
    assert made() == made()
    assert hash(made()) == hash(made())
    assert made() != made(penalty=1.0)
    other = decoder()
    nn.init.zeros_(other.layers[0].bias)
    assert made() != param.Generator(other, SHAPE, output_range=(-1, 1))


# ---------------------------------------------------------------------------------------------- errors


class NeedsArguments(nn.Module):
    def __init__(self, width):
        super().__init__()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: param.Generator(3, SHAPE), "Generator needs an nn.Module, or a function that makes one, got 3"),
        (
            lambda: param.Generator(NeedsArguments, SHAPE),
            "NeedsArguments needs arguments; give Generator a module, or a function without arguments",
        ),
        (lambda: made(std=-1), "std of Generator must be >= 0, got -1 (default 0.1)"),
        (lambda: made(penalty=-1), "penalty of Generator must be >= 0, got -1 (default 0.0)"),
        (lambda: made(truncation=0), "truncation of Generator must be > 0, got 0 (usual: 2; None for no bound)"),
        (lambda: made(batch=0), "batch must be a whole number in [1, 65536], got 0"),
        (
            lambda: param.Generator(decoder(), ()),
            "shape of Generator must be a tuple of whole numbers, got ()",
        ),
        (
            lambda: param.Generator(decoder(), (10**4, 10**4)),
            "shape of Generator must have at most 10000000 values, got 10000, 10000",
        ),
        (
            lambda: param.Generator(decoder(), SHAPE, output_range=(1, 1)),
            "output_range of Generator must be (black, white) with black < white, got (1, 1)",
        ),
        (
            lambda: param.Generator(decoder(), SHAPE, output_range=1),
            "output_range of Generator must be two numbers, such as (-1, 1), got 1",
        ),
        (lambda: param.Generator(decoder(), SHAPE, 3), "weights of Generator must be the path of a file, got 3"),
        (
            lambda: fv.render(toys.plain(), "conv2:1", param=param.Generator(nn.Flatten(), SHAPE), steps=1),
            "the module of Generator must output images (n, 3, h, w), Flatten returned (1, 36) for one latent",
        ),
    ],
)
def test_mistakes_are_named(make, message):
    with pytest.raises(fv.SettingError) as caught:
        make()
    assert str(caught.value) == message


def test_a_latent_that_the_module_does_not_accept_is_named():
    with pytest.raises(
        fv.SettingError, match=r"^TinyDecoder does not accept float32 latents of shape \(n, 5, 3, 3\): "
    ):
        fv.render(toys.plain(), "conv2:1", param=param.Generator(decoder(), (5, 3, 3)), steps=1)


@pytest.mark.slow
def test_the_decoder_of_a_diffusion_model():
    """With random weights: its images are those of the decoder, and a render raises the score."""
    diffusers = pytest.importorskip("diffusers")
    torch.manual_seed(0)
    blocks = {"down_block_types": ("DownEncoderBlock2D",) * 2, "up_block_types": ("UpDecoderBlock2D",) * 2}
    vae = diffusers.AutoencoderKL(**blocks, block_out_channels=(8, 16), norm_num_groups=4, latent_channels=4).eval()

    class Decoder(nn.Module):
        def __init__(self):
            super().__init__()
            self.vae = vae

        def forward(self, latents):
            return self.vae.decode(latents)

    used = param.Generator(Decoder(), (4, 16, 16), output_range=(-1, 1))
    latents = torch.randn(2, 4, 16, 16)
    with torch.no_grad():
        expected = (vae.decode(latents).sample + 1) / 2
    assert torch.equal(used.images([latents], (32, 32)), expected.clamp(0, 1))
    found = fv.render(toys.plain(), "conv2:1", param=used, steps=16, lr=0.1, robustness_views=0)
    assert found.images.shape == (1, 3, 32, 32) and found.history[-4:].mean() > found.history[:4].mean()


@pytest.mark.slow
def test_class_images_of_a_trained_decoder_are_recognised():
    """By the other bundled network, in few steps. With the wider zoom of the default, it does not recognise weave."""
    from motifs.vae import LATENT, MotifDecoder

    maker, judge = fv.load("motifnet", device="cpu"), fv.load("motifvit", device="cpu")
    names = ["bricks", "zigzag", "giraffe", "spiral", "weave", "sunburst"]
    narrow_zoom = (T.Shift(0.2), T.Rotate(15), T.Scale(T.LogUniform(0.8, 1.25)), T.ColorShift(0.3))
    file = Path(__file__).parents[2] / "docs" / "catalogue" / "vae.safetensors"
    used = param.Generator(MotifDecoder, LATENT, file)
    goals = [fv.objectives.Logit(name) for name in names]
    images = fv.render(maker, goals, param=used, transforms=narrow_zoom, steps=96, lr=0.1, robustness_views=0).images
    chances = judge.capture(images, [""]).probabilities("")
    assert [judge.classes[i] for i in chances.argmax(1)] == names


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_a_module_that_outputs_half_precision(dtype):
    class Half(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = nn.Linear(6, 3 * 64)

        def forward(self, latent):
            return self.linear(latent).view(-1, 3, 8, 8).sigmoid().to(dtype)

    rendering = fv.render(toys.plain(), "conv2:1", param=param.Generator(Half(), 6), steps=3)
    assert rendering.images.isfinite().all() and rendering.images.dtype == torch.float32
