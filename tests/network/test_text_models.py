"""Text classifiers of Hugging Face."""

import pytest
import torch
from text_toys import state

import featviz as fv

SMALL = {"vocab_size": 40, "num_labels": 3}
BERT = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 20}
FAMILIES = {
    "Bert": {**BERT, "max_position_embeddings": 32},
    "Roberta": {**BERT, "max_position_embeddings": 34, "pad_token_id": 1},
    "Electra": {**BERT, "max_position_embeddings": 32, "embedding_size": 8},
    "Albert": {**BERT, "max_position_embeddings": 32, "embedding_size": 8},
    "DistilBert": {"dim": 16, "n_layers": 2, "n_heads": 2, "hidden_dim": 20, "max_position_embeddings": 32},
    "GPT2": {
        "n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": 32, "pad_token_id": 0, "bos_token_id": 1,
        "eos_token_id": 1,
    },
    "Llama": {**BERT, "max_position_embeddings": 32, "pad_token_id": 0},
}  # fmt: skip
READ = {"Bert": 0, "Roberta": 0, "Electra": 0, "Albert": 0, "DistilBert": 0, "GPT2": -1, "Llama": -1}


@pytest.mark.parametrize("family", FAMILIES)
def test_classifiers_of_hugging_face(family):
    transformers = pytest.importorskip("transformers")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        config = getattr(transformers, f"{family}Config")(**SMALL, **FAMILIES[family])
        inner = getattr(transformers, f"{family}ForSequenceClassification")(config).eval()
    before = state(inner)
    net = fv.Network(inner, tokens=fv.TokenSpec(40, 32), classes=["a", "b", "c"])
    ids = (5, 6, 7, 8, 9, 10, 2)
    sequence = net.embed(ids).requires_grad_()
    logits = net.bind(ids).capture(sequence, [""]).logits()
    assert torch.allclose(logits, inner(torch.tensor([ids])).logits, rtol=0, atol=1e-6)
    given = inner.get_input_embeddings()(torch.tensor([ids])).detach().requires_grad_()
    logits[0, 1].backward()
    inner(inputs_embeds=given).logits[0, 1].backward()
    if family not in ("GPT2", "Llama"):  # which warn, and read the last token, where they get no ids
        assert torch.allclose(sequence.grad[:, :, 0].transpose(1, 2), given.grad, rtol=1e-4, atol=1e-7)
    for weight in inner.parameters():
        weight.grad = None
    assert state(inner) == before
    assert net.logits_layer.channels == 3
    specials = {row.layout.special for row in net.table.values()} - {()}
    assert specials == {(("cls", READ[family]),)}


def test_a_model_and_a_tokenizer_of_hugging_face_are_enough(tmp_path):
    transformers = pytest.importorskip("transformers")
    (tmp_path / "vocab.txt").write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "the", "film", "go", "##od"]))
    special = {"unk_token": "[UNK]", "sep_token": "[SEP]", "pad_token": "[PAD]", "cls_token": "[CLS]"}
    tokenizer = transformers.BertTokenizer(str(tmp_path / "vocab.txt"), model_max_length=12, mask_token=None, **special)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        config = transformers.BertConfig(vocab_size=8, **BERT, max_position_embeddings=12, num_labels=2)
        inner = transformers.BertForSequenceClassification(config).eval()
    net = fv.Network(inner, tokens=tokenizer, classes=inner.config.id2label)
    for method in (
        "integratedgradients",
        "IntegratedGradients('pad')",
        "gradcam",
        "attention",
        "rollout",
        "smoothgrad",
    ):
        found = fv.explain(net, "the film good", "logit:LABEL_1", method)
        assert found.tokens == ("[CLS]", "the", "film", "go", "##od", "[SEP]")
        assert found.relevance.isfinite().all()
        assert found.score.item() == pytest.approx(
            inner(**tokenizer("the film good", return_tensors="pt")).logits[0, 1].item(), abs=1e-6
        )
