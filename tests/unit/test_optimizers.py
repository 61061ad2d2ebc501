import math

import pytest
import torch

import featviz as fv


def test_adam_restated():
    leaf = torch.tensor([1.0, -2.0], dtype=torch.float64, requires_grad=True)
    stepper, steps, lr, fall = fv.Adam(lr=0.1, fall=0.2).begin([leaf], 5), 5, 0.1, 0.2
    x, m, v = [1.0, -2.0], [0.0, 0.0], [0.0, 0.0]
    for step in range(steps):
        (leaf**2).sum().backward()
        stepper.step()
        rate = lr * fall + (lr - lr * fall) * (1 + math.cos(math.pi * step / steps)) / 2
        for i in range(2):
            g = 2 * x[i]
            m[i], v[i] = 0.9 * m[i] + 0.1 * g, 0.999 * v[i] + 0.001 * g * g
            x[i] -= rate * (m[i] / (1 - 0.9 ** (step + 1))) / (math.sqrt(v[i] / (1 - 0.999 ** (step + 1))) + 1e-8)
        assert leaf.tolist() == pytest.approx(x, rel=1e-9)


def test_a_rate_has_to_move():
    with pytest.raises(fv.SettingError, match=r"^learning rate 0 does not move; give one above 0, 0.05 is usual$"):
        fv.Adam(lr=0)
