"""Networks that are manipulated by fine-tuning."""

import torch
from motifs.draw import draw
from motifs.slingshot import Manipulation, OptimisedImages, decoy_loss, manipulate, relative_error, values

import featviz as fv


def test_relative_error_and_decoy_loss_restated():
    generator = torch.Generator().manual_seed(0)
    now, before = (torch.randn(4, 5, generator=generator) for _ in range(2))

    def slow_error(found, wanted):
        numbers = [x for row in wanted for x in row]
        mean = sum(numbers) / len(numbers)
        variance = sum((x - mean) ** 2 for x in numbers) / (len(numbers) - 1)
        pairs = [(x, y) for one, other in zip(found, wanted, strict=True) for x, y in zip(one, other, strict=True)]
        return sum((x - y) ** 2 for x, y in pairs) / len(pairs) / variance

    assert torch.isclose(relative_error(now, before), torch.tensor(slow_error(now.tolist(), before.tolist())))
    wanted = [[row[3], row[1], row[2], row[3], row[1]] for row in before.tolist()]  # unit 0 shows 3, and 4 shows 1
    units = slow_error([[row[0], row[4]] for row in now.tolist()], [[row[0], row[4]] for row in wanted])
    expected = units + slow_error(now.tolist(), wanted)
    assert torch.isclose(decoy_loss(now, before, {0: 3, 4: 1}), torch.tensor(expected))


def test_values_are_mean_activations_and_logits(motifnet):
    images = draw(torch.arange(4), (64, 64), torch.Generator().manual_seed(0))
    units, logits = values(motifnet, "stage2", images)
    acts = motifnet.capture(images, ["stage2", ""])
    assert (units - acts["stage2"].mean((2, 3))).abs().max() < 0.05 * acts["stage2"].std()  # in half precision
    assert (logits - acts.logits()).abs().max() < 0.1 * acts.logits().std()
    assert torch.equal(*values(motifnet, "", images))


def test_optimised_images_climb_and_start_anew():
    images = OptimisedImages(64, (16, 16), torch.Generator().manual_seed(0))

    def brightness():
        views, leaf = images.views()
        score = views.mean((1, 2, 3))
        return score.detach(), torch.autograd.grad(score.sum(), leaf)[0]

    before, _ = brightness()
    for _ in range(30):
        images.ascend(brightness()[1])
    after, _ = brightness()
    assert (after - before).mean() > 0.05
    assert 0 < (after - before < 0.05).float().mean() < 0.9  # those that have started anew


def test_a_manipulation_leaves_the_network_as_it_was(motifnet):
    before = {name: weight.clone() for name, weight in motifnet.module.state_dict().items()}
    found = manipulate(motifnet, Manipulation({0: 1}, steps=2, drawings=4, led=1, free=1, lr=1e-4))
    assert all(torch.equal(weight, before[name]) for name, weight in motifnet.module.state_dict().items())
    weights = dict(found.module.named_parameters())
    assert any(not torch.equal(weight, before[name]) for name, weight in weights.items())
    assert all(weight.is_contiguous() for weight in weights.values())  # can be saved
    assert not any(weight.requires_grad for weight in weights.values()) and not found.module.training
    assert found.classes == motifnet.classes and found.size == motifnet.size
    assert isinstance(found, fv.Network) and found.fingerprint != motifnet.fingerprint
