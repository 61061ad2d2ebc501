"""One bar for one way to the end, another for the next."""

import pytest

import featviz as fv


@pytest.fixture
def bars(monkeypatch):
    """Every bar that is drawn."""
    from tqdm import auto

    drawn, whole = [], auto.tqdm
    monkeypatch.setattr(auto, "tqdm", lambda **options: drawn.append(whole(**options)) or drawn[-1])
    return drawn


def test_what_begins_anew_gets_another_bar(bars, capsys):
    show = fv.progress_bar("photographs", "photo")
    for done in (16, 32, 40, 40, 16, 40):
        show(done, 40)
    assert [(bar.n, bar.total) for bar in bars] == [(40, 40)] * 2
    assert "photographs: 100%" in capsys.readouterr().err


def test_more_than_was_thought_stays_on_one_bar(bars):
    show = fv.progress_bar()
    for done in (1, 2, 3):
        show(done, max(2, done))
    assert len(bars) == 1
