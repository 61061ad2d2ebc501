"""Progress bars: one for each count."""

import pytest

import featviz as fv


@pytest.fixture
def bars(monkeypatch):
    """Every bar that is created."""
    from tqdm import auto

    created, original = [], auto.tqdm
    monkeypatch.setattr(auto, "tqdm", lambda **options: created.append(original(**options)) or created[-1])
    return created


def test_count_that_starts_again_gets_another_bar(bars, capsys):
    show = fv.progress_bar("photographs", "photo")
    assert not bars  # nothing is drawn before the first step
    for done in (16, 32, 40, 40, 16, 40):
        show(done, 40)
    assert [(bar.n, bar.total) for bar in bars] == [(40, 40)] * 2
    assert "photographs: 100%" in capsys.readouterr().err


def test_total_can_grow_within_one_bar(bars):
    show = fv.progress_bar()
    for done in (1, 2, 3):
        show(done, max(2, done))
    assert len(bars) == 1
