"""Time `net.layers()`: the first call, with an empty cache, and the second one: `make layersbench`."""

from __future__ import annotations

import os
import tempfile
import time

import torch
import torchvision

import featviz as fv

NETWORKS = ("resnet18", "mobilenet_v2", "wide_resnet50_2", "convnext_tiny", "swin_t", "vit_b_16")
IMAGENET = {"size": 224, "mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}


def main() -> None:
    """Print a table of seconds."""
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads")
    print("network          first call s  second call ms  new network, same weights s")
    for name in NETWORKS:
        module = torchvision.models.get_model(name, weights=None)
        with tempfile.TemporaryDirectory() as cache:
            os.environ["XDG_CACHE_HOME"] = cache
            networks = fv.Network(module, **IMAGENET), fv.Network(module, **IMAGENET)
            times = []
            for network in (networks[0], networks[0], networks[1]):
                start = time.perf_counter()
                network.layers()
                times.append(time.perf_counter() - start)
        print(f"{name:16} {times[0]:12.2f} {1e3 * times[1]:15.2f} {times[2]:28.2f}")


if __name__ == "__main__":
    main()
