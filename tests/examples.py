"""An example of every objective, param and transform, for `toys.Plain` and images of 18 x 25 px."""

import torch
from kornia import augmentation, filters
from torchvision.transforms import v2

from featviz import objectives as obj
from featviz import param
from featviz import transforms as T

GENERATOR = torch.Generator().manual_seed(0)
REFERENCE = torch.rand(3, 18, 25, generator=GENERATOR)
MASK = torch.zeros(18, 25)
MASK[4:14, 6:20] = 1
VECTOR = torch.randn(8, generator=GENERATOR)

OBJECTIVES = {
    "ActivationWeights": obj.ActivationWeights("conv2", VECTOR, at=(2, 3), patch=(2, 4)),
    "Alignment": obj.Alignment("conv2"),
    "Blur": -obj.Blur(2.0),
    "BoundaryComplexity": -obj.BoundaryComplexity(4),
    "Caricature": obj.Caricature("conv2", REFERENCE),
    "Channel": obj.Channel("conv2", 1),
    "Cosine": obj.Cosine("conv2", VECTOR),
    "Direction": obj.Direction("conv2", VECTOR, 2),
    "DirectionNeuron": obj.DirectionNeuron("conv2", VECTOR, (3, 5), 1),
    "Diversity": obj.Diversity("conv2"),
    "Guide": obj.Guide("conv2", REFERENCE),
    "InputDifference": -obj.InputDifference(REFERENCE),
    "Interpolate": obj.Interpolate(obj.Channel("conv2", 1), obj.Logit("cat")),
    "L1": -obj.L1(0.2),
    "L2": -obj.L2(0.2),
    "Layer": obj.Layer("conv2"),
    "Logit": obj.Logit("cat"),
    "Match": obj.Match("conv2", REFERENCE),
    "MatchDistribution": obj.MatchDistribution("conv2", (REFERENCE, 1 - REFERENCE), ("conv1",)),
    "MatchSpectrum": obj.MatchSpectrum((REFERENCE, 1 - REFERENCE)),
    "MatchStatistics": obj.MatchStatistics("bn1"),
    "Neuron": obj.Neuron("conv2", 1, (3, 5)),
    "Opacity": -obj.Opacity(),
    "Probability": obj.Probability(1),
    "Ramp": obj.Ramp(1, 2) * obj.Channel("conv2", 1),
    "Style": obj.Style("conv2", REFERENCE, 0.5),
    "TensorDirection": obj.TensorDirection("conv2", torch.randn(8, 4, 5, generator=GENERATOR), 1),
    "TotalVariation": -obj.TotalVariation(),
    "Within": obj.Within(obj.Channel("conv2", 1), MASK),
}

PARAMS = {
    "Alpha": param.Alpha(),
    "CPPN": param.Image(spatial=param.CPPN()),
    "Fourier": param.Image(spatial=param.Fourier()),
    "Generator": param.Generator(torch.nn.Sigmoid(), (3, 18, 25)),
    "Image": param.Image(),
    "Masked": param.Masked(torch.ones(18, 25)),
    "Phase": param.Image(spatial=param.Phase()),
    "Pixel": param.Image(spatial=param.Pixel()),
    "Pyramid": param.Image(spatial=param.Pyramid()),
    "Shared": param.Image(spatial=param.Shared()),
    "Stack": param.Stack((REFERENCE,)),
}

TRANSFORMS = {
    "GaussianBlur": T.GaussianBlur(T.Uniform(0.2, 1.5)),
    "CompositeAlpha": T.CompositeAlpha(),
    "Contrast": T.Contrast(0.3),
    "Crop": T.Crop(2),
    "CropOrPadTo": T.CropOrPadTo((19, 40)),
    "Flip": T.Flip(),
    "MeshView": T.MeshView("box", 24, 3),
    "ModuleTransform": T.ModuleTransform(v2.RandomRotation(20)),
    "Jitter": T.Jitter(3),
    "Noise": T.Noise(0.1),
    "Pad": T.Pad(3),
    "Resize": T.Resize((30, 20)),
    "ResizedView": T.ResizedView(T.LogUniform(1, 3), size=(20, 32), whole=0.5),
    "Roll": T.Roll(5),
    "Rotate": T.Rotate(15),
    "Scale": T.Scale(T.LogUniform(0.8, 1.3)),
    "Shift": T.Shift(0.2),
    "ColorShift": T.ColorShift(0.2),
    "UniformNoise": T.UniformNoise(0.1),
    "Warp": T.Warp((T.Shift(0.1), T.Rotate(3))),
}
MODULES = {
    "v2.RandomPerspective": v2.RandomPerspective(p=1.0),
    "v2.ColorJitter": v2.ColorJitter(0.2, 0.2),
    "v2.RandomResizedCrop": v2.RandomResizedCrop(24, antialias=True),
    "kornia.RandomAffine": augmentation.RandomAffine(10.0, p=1.0),
    "kornia.GaussianBlur2d": filters.GaussianBlur2d((3, 3), (1.0, 1.0)),
}
