"""Modules of other libraries as transforms: random numbers, weights and memory."""

from threading import Thread

import torch
import toys
from torch import nn

import featviz as fv
from featviz import transforms as T
from featviz.engine.chunk_size import _image_bytes


class Drawing(nn.Module):
    """Adds random numbers of PyTorch's global generator, several times."""

    def forward(self, images):
        for _ in range(5):
            images = images + torch.rand(images.shape)
        return images


class Heavy:
    """A transform that needs much memory for its gradient."""

    def draw(self, rng, shape):
        return None

    def apply(self, images, draw):
        return torch.stack([images] * 200).square().mean(0).sqrt()


def test_threads_draw_their_own_numbers():
    transform, images = T.ModuleTransform(Drawing()), torch.zeros(2, 1, 4, 4)
    seeds = [torch.tensor([1, 2]), torch.tensor([3, 4])]
    expected = [transform.apply(images, each) for each in seeds]
    state, equal = torch.get_rng_state(), {0: [], 1: []}

    def run(i):
        equal[i] += [torch.equal(transform.apply(images, seeds[i]), expected[i]) for _ in range(200)]

    threads = [Thread(target=run, args=(i,)) for i in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(equal[0]) and all(equal[1]) and len(equal[0]) == len(equal[1]) == 200
    assert torch.equal(torch.get_rng_state(), state)


def test_weights_that_need_gradients_need_them_again_afterwards():
    module = nn.Conv2d(3, 3, 1)
    module.bias.requires_grad_(False)
    views = T.ModuleTransform(module).apply(torch.rand(1, 3, 4, 4), torch.tensor([0]))
    assert not views.requires_grad
    assert module.weight.requires_grad and not module.bias.requires_grad


def test_memory_is_estimated_for_each_stack_of_transforms():
    net = toys.plain()
    for transforms in ((), (Heavy(),)):
        fv.render(net, ["conv2:1", "conv2:2"], steps=1, transforms=transforms)
    few, many = _image_bytes[net].values()
    assert many > 2 * few
