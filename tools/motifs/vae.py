"""Train a small variational autoencoder on drawings, which are made during training, to try `param.Generator`.

`PYTHONPATH=tools python -m motifs.vae vae.safetensors` takes minutes on one core. Only the decoder is saved:

    fv.render(net, "logit:star", param=param.Generator(MotifDecoder, LATENT, "vae.safetensors"))

Source: Kingma and Welling 2013, https://arxiv.org/abs/1312.6114; latents with positions, as in Rombach et al. 2021,
https://arxiv.org/abs/2112.10752, section 3.1.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
import torch.nn.functional as F
from jaxtyping import Float
from safetensors.torch import save_file
from torch import Tensor, nn

from featviz.network.bundled import MOTIFS
from featviz.network.bundled.motifnet import SIZE
from motifs.draw import draw

LATENT = (8, SIZE // 8, SIZE // 8)
"""Shape of the latent of one drawing: channels, height and width."""
WIDTH = 24
"""Number of channels at half of the drawing's size; a quarter of it has twice as many."""
DIVERGENCE_WEIGHT = 1e-3
"""Weight of the Kullback-Leibler divergence of a latent number from the standard normal distribution, beside the
squared error of a pixel in [-1, 1]."""
MAX_LEARNING_RATE = 3e-3
BATCH, BATCHES_PER_DRAW = 32, 25
"""Drawings in a batch, and batches that are drawn together, since drawing many at once is faster."""


class MotifEncoder(nn.Module):
    """Map drawings to the mean and the logarithm of the variance of their latents."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(3, WIDTH, 4, 2, 1), nn.SiLU(),
            nn.Conv2d(WIDTH, 2 * WIDTH, 4, 2, 1), nn.SiLU(),
            nn.Conv2d(2 * WIDTH, 4 * WIDTH, 4, 2, 1), nn.SiLU(),
            nn.Conv2d(4 * WIDTH, 2 * LATENT[0], 3, 1, 1),
        )  # fmt: skip

    def forward(self, images: Float[Tensor, "n 3 h w"]) -> tuple[Tensor, Tensor]:
        """Return means and logarithms of variances."""
        mean, log_variance = self.layers(2 * images - 1).chunk(2, 1)
        return mean, log_variance.clamp(-8, 4)


class MotifDecoder(nn.Module):
    """Map latents to drawings in [0, 1]."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(LATENT[0], 4 * WIDTH, 3, 1, 1), nn.SiLU(),
            nn.Conv2d(4 * WIDTH, 4 * WIDTH, 3, 1, 1), nn.SiLU(),
            nn.ConvTranspose2d(4 * WIDTH, 2 * WIDTH, 4, 2, 1), nn.SiLU(),
            nn.ConvTranspose2d(2 * WIDTH, WIDTH, 4, 2, 1), nn.SiLU(),
            nn.ConvTranspose2d(WIDTH, WIDTH // 2, 4, 2, 1), nn.SiLU(),
            nn.Conv2d(WIDTH // 2, 3, 3, 1, 1),
        )  # fmt: skip

    def forward(self, latents: Float[Tensor, "n c h w"]) -> Float[Tensor, "n 3 h8 w8"]:
        """Return drawings of eight times the height and width of the latents."""
        return (self.layers(latents).tanh() + 1) / 2


def train(steps: int, seed: int = 0, *, report: bool = False) -> MotifDecoder:
    """Train an autoencoder, and return its decoder.

    Args:
        steps: Number of batches.
        seed: Seed of the drawings, the first weights and the noise.
        report: Print the squared error and the divergence every 100 steps.

    Returns:
        The decoder in eval mode.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        encoder, decoder = MotifEncoder(), MotifDecoder()
        generator = torch.Generator().manual_seed(seed)
        parameters = [*encoder.parameters(), *decoder.parameters()]
        optimizer = torch.optim.Adam(parameters, lr=MAX_LEARNING_RATE)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, MAX_LEARNING_RATE, steps)
        for step in range(steps):
            if step % BATCHES_PER_DRAW == 0:
                labels = torch.randint(len(MOTIFS), (BATCH * BATCHES_PER_DRAW,), generator=generator)
                drawn = draw(labels, (SIZE, SIZE), generator)
            images = drawn[step % BATCHES_PER_DRAW :: BATCHES_PER_DRAW]
            mean, log_variance = encoder(images)
            latents = mean + (log_variance / 2).exp() * torch.randn_like(mean)
            error = 4 * F.mse_loss(decoder(latents), images)
            divergence = (mean.square() + log_variance.exp() - log_variance - 1).mean() / 2
            optimizer.zero_grad()
            (error + DIVERGENCE_WEIGHT * divergence).backward()
            optimizer.step()
            schedule.step()
            if report and step % 100 == 99:
                print(f"step {step + 1}: squared error {error:.4f}, divergence {divergence:.3f}", flush=True)
    return decoder.eval()


def main() -> None:
    """Train, and save the decoder."""
    parser = argparse.ArgumentParser(description="Train a small variational autoencoder on drawings of motifs.")
    parser.add_argument("output", type=Path, help="safetensors file of the decoder")
    parser.add_argument("--steps", type=int, default=800, help="number of batches (default: %(default)s)")
    options = parser.parse_args()
    save_file(train(options.steps, report=True).state_dict(), options.output)


if __name__ == "__main__":
    main()
