"""Networks that read token ids: they run on embedding sequences, and everything else is as for images."""

import copy
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from text_toys import MODULES, SPEC, TEXT, WORDS, Recurrent, module, network, state
from torch import nn

import featviz as fv
from featviz.network import Execution
from featviz.network.hooks import watch_outputs

IDS = SPEC.read(TEXT)


@pytest.mark.parametrize("kind", MODULES)
def test_the_logits_are_those_of_the_module(kind):
    net = network(kind)
    bound = net.bind(IDS)
    logits = bound.capture(net.embed(IDS), [""]).logits()
    # With gradients, since PyTorch's transformers run a fused function without.
    expected = module(kind)(torch.tensor([IDS]))
    assert torch.allclose(logits, expected, rtol=0, atol=1e-6)
    several = bound.capture(net.embed(IDS).expand(7, -1, -1, -1), [""]).logits()
    assert torch.allclose(several, expected.expand(7, -1), rtol=0, atol=1e-6)


@pytest.mark.parametrize("kind", MODULES)
def test_as_many_texts_as_tokens_are_not_mixed_up(kind):
    net, n = network(kind), len(IDS)
    scale = torch.linspace(0.1, 1, n)[:, None, None, None]
    together = net.bind(IDS).capture(net.embed(IDS) * scale, [""]).logits()
    alone = [net.bind(IDS).capture(net.embed(IDS) * one, [""]).logits() for one in scale]
    assert torch.allclose(together, torch.cat(alone), atol=1e-6)


@pytest.mark.parametrize("kind", MODULES)
def test_gradients_are_those_of_a_loop_over_the_embedding(kind):
    net, inner = network(kind), module(kind)
    sequence = net.embed(IDS).requires_grad_()
    net.bind(IDS).capture(sequence, [""]).logits()[0, 1].backward()
    vectors = []
    handle = inner.embedding.register_forward_hook(
        lambda _, given, out: vectors.append(out.detach().requires_grad_()) or vectors[0]
    )
    inner(torch.tensor([IDS]))[0, 1].backward()
    handle.remove()
    expected = vectors[0].grad
    found = torch.stack([sequence.grad[:, :, 0, i] for i in range(len(IDS))], 1)
    assert expected.abs().max() > 0
    assert torch.allclose(found, expected, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("kind", MODULES)
def test_nothing_changes_on_the_module(kind):
    inner = module(kind).train()
    before, random = state(inner), torch.get_rng_state()
    values = copy.deepcopy(inner.state_dict())
    net = fv.Network(inner, tokens=SPEC)
    assert state(inner) == before
    net.layers()
    bound = net.bind(IDS)
    sequence = net.embed(IDS).requires_grad_()
    with bound.session(["", "embedding"]) as forward:
        forward(sequence)[""].sum().backward()
    assert state(inner) == before
    assert all(torch.equal(inner.state_dict()[key], value) for key, value in values.items())
    assert torch.equal(random, torch.get_rng_state())
    inner.eval()
    assert inner(torch.tensor([IDS])).shape == (1, 3 if kind == "end of text" else 2)  # it still reads ids


def test_weights_are_shared_so_training_goes_on():
    inner = module()
    net = fv.Network(inner, tokens=SPEC)
    bound, before = net.bind(IDS), net.fingerprint
    assert bound.fingerprint == before
    with torch.no_grad():
        inner.embedding.weight.mul_(2)
        inner.head.bias.add_(1)
    assert net.fingerprint != before
    assert torch.equal(net.embed(IDS)[0, :, 0].T, inner.embedding(torch.tensor(IDS)))
    assert torch.allclose(bound.capture(net.embed(IDS), [""]).logits(), inner(torch.tensor([IDS])), atol=1e-6)


def test_the_fingerprint_is_that_of_the_weights():
    images = fv.Network(module(), size=8, mean=(0.5,), std=(0.5,))
    assert network().fingerprint == images.fingerprint


def test_a_layer_may_be_given_as_a_module():
    inner = module()
    net = fv.Network(inner, tokens=SPEC)
    assert net.name_of(inner.lstm) == "lstm"
    assert net.embedding is inner.embedding


# ----------------------------------------------------------------------------------------------------------- the layers


def kinds(net):
    return {name: (row.layout.kind, row.shape, row.channels, row.map_size) for name, row in net.table.items()}


def test_layers_of_a_recurrent_network():
    assert kinds(network()) == {
        "embedding": ("tokens", (16, 6), 6, (16,)),
        "lstm": ("tokens", (16, 10), 10, (16,)),
        "head": ("vector", (2,), 2, ()),
        "": ("vector", (2,), 2, ()),
    }


def test_layers_of_a_transformer_whatever_dimension_the_batch_is():
    first, second = network("transformer"), network("tokens first")
    assert kinds(first) == kinds(second)
    assert first.table["encoder.layers.1"].layout.batch == 0
    assert second.table["encoder.layers.1"].layout.batch == 1
    assert "place" not in first.table  # one for all texts


def test_convolutions_over_a_sequence_are_feature_maps():
    found = kinds(network("convolutions"))
    assert found["same"] == ("map", (4, 16), 4, (1, 16))
    assert found["valid"] == ("map", (5, 14), 5, (1, 14))
    assert found["rows"] == ("map", (3, 15, 1), 3, (1, 15))


@pytest.mark.parametrize("kind", MODULES)
def test_positions_are_those_of_the_tokens(kind):
    net = network(kind)
    acts = net.bind(IDS).capture(net.embed(IDS), net.table)
    for layer in acts:
        if net.table[layer].layout.patch:
            whole = acts.channels_first(layer)
            for i in range(len(IDS)):
                assert torch.equal(acts.at(layer, (0, i)), whole[:, :, i])
            with pytest.raises(fv.AddressError, match="rows 0 to 0 and columns 0 to 6"):
                acts.at(layer, (0, len(IDS)))
    assert torch.equal(acts.at("embedding", (0, 3)), net.embed(IDS)[:, :, 0, 3])


def test_the_token_that_the_output_reads_is_the_class_token():
    special = {kind: network(kind).table["embedding"].layout.special for kind in MODULES}
    assert special["lstm"] == (("cls", -1),)
    assert special["transformer"] == special["tokens first"] == (("cls", 0),)
    assert special["convolutions"] == ()


def test_the_table_does_not_depend_on_the_text():
    net = network("transformer")
    short = net.bind(IDS[:3])
    assert short.table is net.table
    fresh = network("transformer").bind(IDS)
    assert kinds(fresh) == kinds(net)


def test_texts_of_any_length_run():
    net, inner = network("transformer"), module("transformer")
    for length in (1, 2, 15, 16, 17, 24):
        ids = [2 + i % 8 for i in range(length)]
        found = net.bind(ids).capture(net.embed(ids), [""]).logits()
        assert torch.allclose(found, inner(torch.tensor([ids])), atol=1e-6)


@pytest.mark.parametrize("length", [1, 2, 3, 4, 5, 7, 16, 17])
def test_short_sequences(length):
    spec = fv.TokenSpec(WORDS, length, pad=0)
    net = fv.Network(module(), tokens=spec)
    assert net.table["lstm"].layout.kind == "tokens"
    ids = (2, 3, 4, 5, 6, 7, 8)[:length]
    assert torch.allclose(
        net.bind(ids).capture(net.embed(ids), [""]).logits(), module()(torch.tensor([ids])), atol=1e-6
    )


class OneLength(nn.Module):
    """Takes sequences of 9 tokens only."""

    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(len(WORDS), 4)
        self.mix = nn.Linear(4, 4)
        self.head = nn.Linear(36, 2)

    def forward(self, ids):
        return self.head(self.mix(self.embedding(ids)).flatten(1))


def test_a_network_of_one_length():
    net = fv.Network(OneLength(), tokens=fv.TokenSpec(WORDS, 9))
    assert net.fixed_size
    assert net.size == (1, 9)
    assert net.table["mix"].layout.patch == (1, 1)
    ids = tuple(range(2, 11))
    assert net.bind(ids).capture(net.embed(ids), ["mix"]).at("mix", (0, 8)).shape == (1, 4)


# ---------------------------------------------------------------------------------------------------- what modules do


def test_real_ids_reach_the_module():
    net, inner = network("end of text"), module("end of text")
    for ids in ((1, 2, 3, 11), (1, 11, 2, 3)):
        found = net.bind(ids).capture(net.embed(ids), [""]).logits()
        assert torch.allclose(found, inner(torch.tensor([ids])), atol=1e-6)
    assert not torch.allclose(
        net.bind((1, 2, 3, 11)).capture(net.embed((1, 2, 11, 3)), [""]).logits(),
        net.bind((1, 2, 11, 3)).capture(net.embed((1, 2, 11, 3)), [""]).logits(),
    )


class InPlace(Recurrent):
    def forward(self, ids):
        x = self.embedding(ids)
        x *= 3
        ids += 0
        return self.head(self.lstm(x)[0][:, -1])


class Scaled(nn.Embedding):
    def forward(self, ids):
        return super().forward(ids) * 5


class Flat(Recurrent):
    def forward(self, ids):
        x = self.embedding(ids.flatten()).view(*ids.shape, -1)
        return self.head(self.lstm(x)[0][:, -1])


class Transposed(Recurrent):
    def forward(self, ids):
        x = self.embedding(ids.T.contiguous())
        return self.head(self.lstm(x.transpose(0, 1))[0][:, -1])


class Shifted(Recurrent):
    """Looks other ids up, too, as a decoder does."""

    def forward(self, ids):
        return self.head(self.lstm(self.embedding(ids) + self.embedding(ids.roll(1, 1)))[0][:, -1])


@pytest.mark.parametrize("kind", [InPlace, Flat, Transposed, Shifted])
def test_modules_look_up_in_several_ways(kind):
    inner = kind().eval()
    net = fv.Network(inner, tokens=SPEC)
    with torch.no_grad():
        expected = inner(torch.tensor([IDS]))
    sequence = net.embed(IDS).requires_grad_()
    found = net.bind(IDS).capture(sequence, [""]).logits()
    assert torch.allclose(found, expected, atol=1e-6)
    found.sum().backward()
    assert (sequence.grad.abs().amax((0, 1, 2)) > 0).all()


def test_the_scale_of_an_embedding_is_part_of_its_sequence():
    inner = module()
    inner.embedding = Scaled(len(WORDS), 6)
    net = fv.Network(inner, tokens=SPEC)
    assert torch.equal(net.embed(IDS)[0, :, 0].T, inner.embedding.weight[list(IDS)] * 5)
    found = net.bind(IDS).capture(net.embed(IDS), [""]).logits()
    assert torch.allclose(found, inner(torch.tensor([IDS])), atol=1e-6)


def test_a_forward_of_the_instance_is_run():
    inner = module()
    inner.forward = lambda ids: type(inner).forward(inner, ids) + 7
    net = fv.Network(inner, tokens=SPEC)
    found = net.bind(IDS).capture(net.embed(IDS), [""]).logits()
    assert torch.allclose(found, inner(torch.tensor([IDS])), atol=1e-6)
    again = fv.Network(net.module, tokens=SPEC)  # of a module that reads embedding sequences already
    assert torch.allclose(again.bind(IDS).capture(again.embed(IDS), [""]).logits(), found)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_other_precisions(dtype):
    inner = module().to(dtype)
    net = fv.Network(inner, tokens=SPEC)
    found = net.bind(IDS).capture(net.embed(IDS), [""])[""]
    assert found.dtype == dtype
    assert torch.equal(found, inner(torch.tensor([IDS])))


def test_compiled_modules_run():
    inner = module()
    net = fv.Network(torch.compile(inner), tokens=SPEC)
    assert torch.allclose(net.bind(IDS).capture(net.embed(IDS), [""]).logits(), inner(torch.tensor([IDS])), atol=1e-6)


def test_threads_do_not_disturb_each_other():
    net = network("transformer")
    texts = [IDS[: 2 + i % 5] for i in range(12)]

    def logits(ids):
        return net.bind(ids).capture(net.embed(ids), [""]).logits()

    expected = [logits(ids) for ids in texts]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(logits, texts))
    assert all(torch.equal(one, other) for one, other in zip(found, expected, strict=True))


def test_the_module_trains_meanwhile():
    inner = module("transformer").train()
    net = fv.Network(inner, tokens=SPEC)
    with net.bind(IDS).session([""]) as forward:
        forward(net.embed(IDS))
        inner(torch.tensor([IDS])).sum().backward()
    assert inner.embedding.weight.grad.abs().max() > 0


def test_executions_agree():
    net = network("convolutions")
    results = []
    for execution in (Execution("float32"), Execution("float32", channels_last=False, fold=False)):
        with net.bind(IDS).session([""], execution) as forward:
            results.append(forward(net.embed(IDS)).logits())
    assert torch.allclose(*results, atol=1e-6)


def test_hooks_of_the_user_run():
    inner, seen = module(), []
    inner.lstm.register_forward_hook(lambda *_: seen.append(1))
    net = fv.Network(inner, tokens=SPEC)
    seen.clear()
    net.bind(IDS).capture(net.embed(IDS), [""])
    assert seen


def test_other_sequences_of_the_same_network():
    net = network()
    assert net.with_input(size=(1, 20)).table["lstm"].shape == (20, 10)
    with pytest.raises(fv.SettingError) as error:
        net.with_input(mean=(0.5,))
    assert str(error.value) == "Recurrent reads text, whose input has a size only, got mean"


def test_the_repr_tells_what_it_reads():
    assert repr(network()) == "<Network Recurrent: reads 12 tokens, sequences of at most 24, 2 class names, on cpu>"


def test_the_measurements_are_remembered(monkeypatch):
    first = network("transformer")
    _ = first.table
    monkeypatch.setattr("featviz.network.network.probe_network", None)  # would fail if it were called
    assert kinds(network("transformer")) == kinds(first)


def test_a_working_copy_looks_up_as_the_module_does():
    from featviz.network.working_copy import working_copy

    net = network()
    found = []
    watch_outputs(working_copy(net.module), net.embed(IDS), lambda name, *_: found.append(name))
    assert found == ["embedding", "lstm", "head", ""]


def test_as_many_texts_as_neutral_tokens_are_not_mixed_up_where_the_batch_is_second():
    net = fv.Network(Transposed().eval(), tokens=SPEC)
    n = 5  # the ids of as many tokens without special ones equal their transpose
    sequences = torch.rand(n, net.channels, 1, n, generator=torch.Generator().manual_seed(0))
    together = net.capture(sequences, [""]).logits()
    alone = torch.cat([net.capture(each[None], [""]).logits() for each in sequences])
    assert torch.allclose(together, alone, atol=1e-6) and (alone[0] - alone[1]).abs().max() > 1e-4


def test_two_tokens_and_two_texts_are_told_apart():
    net = fv.Network(Transposed().eval(), tokens=fv.TokenSpec(WORDS, 2, pad=0))
    sequences = torch.rand(2, net.channels, 1, 2, generator=torch.Generator().manual_seed(0))
    alone = torch.cat([net.capture(each[None], [""]).logits() for each in sequences])
    assert torch.allclose(net.capture(sequences, [""]).logits(), alone, atol=1e-6)
