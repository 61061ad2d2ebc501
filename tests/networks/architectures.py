"""Networks of images, signals and video that people use, with random weights and as small as constructors allow."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from networks.axis_modules import SignalRecurrent, SignalResNet, SignalTokens, SignalUNet, VolumeNet
from networks.own_modules import (
    ChannelsLast,
    Functional,
    Headed,
    Tokens,
    Unusual,
    Windows,
    autoencoder,
    discriminator,
    lenet,
    shared_convolution,
)
from torch import nn

Size = int | tuple[int, ...]
Row = tuple[str, Size, str, Mapping[str, Any]]
"""A family, the size of its images, names, and options that their constructors share."""


@dataclass(frozen=True)
class Architecture:
    """A kind of network, and the images that it takes.

    Args:
        name: Where it comes from and what it is called there, as `timm/resnet10t`.
        family: `CNN`, `mobile CNN`, `transformer`, `hierarchical transformer`, `MLP`, `hybrid`, `segmentation`,
            `detection`, `CLIP`, `generative`, `own` or `odd`; `signal`, `volume` or `video`.
        build: Makes the module, with random weights; imports the package.
        size: Height and width of its images; the length of each axis of its signals, volumes or clips.
        package: What has to be installed.
        channels: Of its images.
        axes: Names of the axes where they are not the usual ones, as `tyx`.
    """

    name: str
    family: str
    build: Callable[[], nn.Module]
    size: Size
    package: str = "torchvision"
    channels: int = 3
    axes: str = ""


def _revive(make: Callable[..., nn.Module], *args: Any, **options: Any) -> nn.Module:
    """Make a network, and replace weights that start as zeros, as those of heads often do."""
    module = make(*args, **options)
    for layer in module.modules():
        weight = getattr(layer, "weight", None)
        if isinstance(weight, nn.Parameter) and not weight.any():
            nn.init.xavier_uniform_(weight) if weight.ndim > 1 else nn.init.ones_(weight)
    return module


def _expand(
    prefix: str, package: str, make: Callable[..., nn.Module], *rows: Row, channels: int = 3, axes: str = ""
) -> Iterator[Architecture]:
    """Turn rows of a table into architectures that `make` builds from a name and options."""
    for family, size, names, options in rows:
        for name in names.split():
            build = partial(_revive, make, name, **options)
            yield Architecture(f"{prefix}/{name}", family, build, size, package, channels, axes)


def _call(module: str, name: str, /, **options: Any) -> Any:
    """Import a module, and call one of its classes or functions."""
    return getattr(importlib.import_module(module), name)(**options)


# torchvision


def _backbone(name: str) -> nn.Module:
    """Make the part of a detector that takes a batch of images."""
    return _call("torchvision.models.detection", name, weights=None, weights_backbone=None).backbone


def _narrow(name: str) -> nn.Module:
    """Make an AlexNet or a VGG with 32 units in place of 4096, whose weights would take 500 MB."""
    with torch.device("meta"):
        module = _call("torchvision.models", name, weights=None)
        head = module.classifier
        places = [place for place, layer in enumerate(head) if isinstance(layer, nn.Linear)]
        for place, n_in, n_out in zip(places, (head[places[0]].in_features, 32, 32), (32, 32, 10), strict=True):
            head[place] = nn.Linear(n_in, n_out)
    module.to_empty(device="cpu")
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear | nn.BatchNorm2d):
            layer.reset_parameters()
    return module


_FUNCTIONS: tuple[Row, ...] = (
    ("CNN", 64, "resnet18 resnet50 resnext50_32x4d densenet121 regnet_x_400mf regnet_y_400mf convnext_tiny", {}),
    ("mobile CNN", 64, "squeezenet1_1 mobilenet_v2 mobilenet_v3_small mnasnet0_5 shufflenet_v2_x0_5", {}),
    ("mobile CNN", 64, "efficientnet_b0 efficientnet_v2_s", {}),
    ("hierarchical transformer", 64, "swin_v2_t", {}),
    ("CNN", 64, "googlenet", {"aux_logits": False, "init_weights": True}),
    ("CNN", 96, "inception_v3", {"aux_logits": False, "init_weights": True}),
)
_MAPS: Row = ("segmentation", 64, "fcn_resnet50 deeplabv3_mobilenet_v3_large lraspp_mobilenet_v3_large", {})
_DETECTOR: Row = ("detection", 64, "ssdlite320_mobilenet_v3_large", {})
_BACKBONES: Row = ("detection", 64, "fasterrcnn_mobilenet_v3_large_320_fpn retinanet_resnet50_fpn", {})
_CLASSES: tuple[Row, ...] = (
    ("transformer", 32, "VisionTransformer", {
        "image_size": 32, "patch_size": 8, "num_layers": 2, "num_heads": 2, "hidden_dim": 24, "mlp_dim": 48}),
    ("hierarchical transformer", 64, "SwinTransformer", {
        "patch_size": [4, 4], "embed_dim": 16, "depths": [2, 2], "num_heads": [1, 2], "window_size": [4, 4]}),
)  # fmt: skip

# timm

ONE, FOUR = (1, 1, 1, 1), (16, 32, 48, 64)


def _mvit(_: str) -> nn.Module:
    """Make a small multi-scale transformer, whose sizes are in a configuration."""
    from timm.models.mvitv2 import MultiScaleVit, MultiScaleVitCfg

    configuration = MultiScaleVitCfg(depths=ONE, embed_dim=(16, 32, 32, 64), num_heads=(1, 2, 2, 4))
    return MultiScaleVit(configuration, img_size=(64, 64), num_classes=10)


FIXED = {"img_size": 64}
TOKENS = {"embed_dim": 24, "depth": 2, "num_heads": 2, "img_size": 64}
STAGES = {"depths": (2, 1, 1, 1), "embed_dims": (16, 32, 32, 64), "num_heads": (1, 2, 2, 4)}
SWIN = {"embed_dim": 16, "depths": (2, 2, 1, 1), "num_heads": (1, 2, 2, 4), "img_size": 64}
MAXVIT = {"depths": ONE, "embed_dim": (32, 32, 32, 64), "stem_width": (8, 16), "img_size": 64}
_TIMM: tuple[Row, ...] = (
    # as they are
    ("CNN", 64, "resnet10t legacy_seresnet18 resnext26ts resnest14d regnetx_002 regnety_002 regnetz_005 dla46_c", {}),
    ("CNN", 64, "hrnet_w18_small selecsls42 cspresnet50 darknet17 cs3darknet_focus_s cs3sedarknet_l cspnext_tiny", {}),
    ("CNN", 64, "nf_resnet26 test_nfnet test_byobnet gernet_s repvgg_a0 gcresnext26ts vovnet39a resnetv2_50x1_bit", {}),
    ("CNN", 64, "inception_next_atto xception41 legacy_xception ese_vovnet19b_slim_dw hgnet_tiny hgnetv2_b0", {}),
    ("CNN", 64, "convmixer_768_32 focalnet_tiny_srf densenet121 dpn48b nf_regnet_b0", {}),
    ("CNN", 48, "pnasnet5large", {}),
    ("CNN", 96, "inception_v3 inception_v4 inception_resnet_v2", {}),
    ("mobile CNN", 64, "efficientnet_b0 efficientnet_lite0 efficientnet_es efficientnetv2_rw_t mixnet_s", {}),
    ("mobile CNN", 64, "efficientnet_cc_b0_4e tf_efficientnetv2_b0 spnasnet_100 mnasnet_small semnasnet_075", {}),
    ("mobile CNN", 64, "mobilenetv1_100 mobilenetv2_035 mobilenetv3_small_050 mobilenetv3_rw", {}),
    ("mobile CNN", 64, "mobilenetv4_conv_small_035 mobilenet_edgetpu_v2_xs ghostnet_050 ghostnetv2_100", {}),
    ("mobile CNN", 64, "ghostnetv3_050 fbnetc_100 fbnetv3_b tinynet_e lcnet_035 lcnetv2_small hardcorenas_a", {}),
    ("mobile CNN", 64, "rexnet_100 mobileone_s0 repghostnet_050 starnet_s050 fastvit_t8 repvit_m0_9", {}),
    ("hybrid", 64, "mobilenetv4_hybrid_medium_075 mobilevit_xxs mobilevitv2_050 lambda_resnet26t caformer_s18", {}),
    ("hybrid", 64, "efficientvit_b0 efficientvim_m1 shvit_s1 iformer_t lowformer_b0 cpubone_nano nextvit_small", {}),
    ("hybrid", 64, "edgenext_xx_small swiftformer_xs csatv2", {}),
    ("hybrid", 224, "haloregnetz_b", {}),
    ("hybrid", 256, "bat_resnext26ts", {}),
    ("hierarchical transformer", 64, "hieradet_small pvt_v2_b0", {}),
    ("MLP", 64, "poolformer_s12 poolformerv2_s12 convformer_s18", {}),
    ("CLIP", 64, "resnet50_clip", {}),
    # fewer and narrower layers
    ("CNN", 64, "resnet18d resnet50_gn resnetblur18 resnetrs50 seresnet18 ecaresnet26t", {"layers": ONE}),
    ("CNN", 64, "seresnext26t_32x4d res2net50_14w_8s skresnet18 resnetv2_18 resnetv2_50d_evos", {"layers": ONE}),
    ("CNN", 64, "resnet50 wide_resnet50_2", {"layers": ONE, "channels": (16, 32, 64, 64)}),
    ("CNN", 64, "vgg11_bn", {"mlp_ratio": 0.02}),
    ("CNN", 64, "tresnet_m", {"layers": ONE, "width_factor": 0.5}),
    ("CNN", 64, "convnext_atto convnextv2_atto convnext_zepto_rms_ols mambaout_femto", {"depths": ONE, "dims": FOUR}),
    ("CNN", 64, "rdnet_tiny", {"growth_rates": (8,) * 7, "num_blocks_list": (1,) * 7, "num_init_features": 16}),
    ("CNN", 64, "nfnet_l0", {"depths": ONE}),
    ("CNN", 96, "nasnetalarge", {"stem_size": 32, "num_features": 1056}),
    ("hybrid", 224, "efficientformer_l1", {"depths": ONE, "embed_dims": FOUR}),
    ("hierarchical transformer", 64, "davit_tiny tiny_vit_5m_224", STAGES),
    ("transformer", 64, "vit_tiny_patch16_224 vit_base_patch16_reg4_gap_256 vit_small_patch16_18x2_224", TOKENS),
    ("transformer", 64, "vit_base_patch16_xp_224 vit_relpos_small_patch16_224 flexivit_small", TOKENS),
    ("transformer", 64, "vit_srelpos_small_patch16_224 vit_small_patch16_rope_mixed_224", TOKENS),
    ("transformer", 64, "vit_small_patch16_dinov3 naflexvit_base_patch16_map qwen3_vit_88m", TOKENS),
    ("transformer", 64, "deit_tiny_patch16_224 deit_tiny_distilled_patch16_224 deit3_small_patch16_224", TOKENS),
    ("transformer", 64, "beit_base_patch16_224 beitv2_base_patch16_224 beit3_base_patch16_224", TOKENS),
    ("transformer", 64, "cait_xxs24_224 xcit_nano_12_p16_224 convit_tiny", TOKENS),
    ("transformer", 64, "vit_base_patch14_reg4_dinov2 aimv2_large_patch14_224", TOKENS | {"patch_size": 16}),
    ("transformer", 64, "eva_giant_patch14_224 eva02_tiny_patch14_224", TOKENS | {"patch_size": 16}),
    ("transformer", 64, "samvit_base_patch16_224", TOKENS | {"neck_chans": 16, "window_size": 2}),
    ("transformer", 64, "vit_pe_core_tiny_patch16_384", TOKENS | {"attn_pool_num_heads": 2}),
    ("transformer", 64, "tnt_s_patch16_224", FIXED | {
        "embed_dim": 48, "inner_dim": 12, "depth": 2, "num_heads_inner": 2, "num_heads_outer": 2}),
    ("transformer", (32, 64), "vit_tiny_patch16_384", TOKENS | {"img_size": (32, 64), "patch_size": (16, 8)}),
    ("transformer", 96, "crossvit_tiny_240", {
        "img_size": 96, "img_scale": (1.0, 1.0), "patch_size": (8, 16), "embed_dim": (24, 48), "num_heads": (2, 2),
        "depth": ((1, 1, 0),)}),
    ("CLIP", 64, "vit_base_patch16_clip_224 vit_base_patch16_siglip_224 vit_base_patch16_siglip_gap_224", TOKENS),
    ("hierarchical transformer", 64, "swin_tiny_patch4_window7_224 swinv2_tiny_window8_256 swinv2_cr_tiny_224", SWIN),
    ("hierarchical transformer", 64, "twins_svt_small twins_pcpvt_small", FIXED | STAGES),
    ("hierarchical transformer", 64, "hiera_tiny_224", FIXED | {"embed_dim": 16, "stages": ONE}),
    ("hierarchical transformer", 64, "nest_tiny gcvit_xxtiny", FIXED),
    ("hierarchical transformer", 64, "pit_ti_224 pit_ti_distilled_224", FIXED | {
        "base_dims": (16, 16, 16), "depth": (1, 1, 1), "heads": (1, 2, 4)}),
    ("hybrid", 64, "botnet26t_256 lambda_resnet26rpt_256 efficientvit_m0 volo_d1_224 visformer_tiny coat_tiny", FIXED),
    ("hybrid", 64, "levit_128s levit_conv_128s efficientformerv2_s0 coat_lite_tiny vit_tiny_r_s16_p8_224", FIXED),
    ("hybrid", 64, "coatnet_pico_rw_224 coatnext_nano_rw_224 maxxvit_rmlp_nano_rw_256", MAXVIT),
    ("hybrid", 64, "maxvit_tiny_tf_224", MAXVIT | {"stem_width": 16}),
    ("MLP", 64, "mixer_s32_224 gmixer_12_224 resmlp_12_224 gmlp_ti16_224", FIXED),
    ("MLP", 64, "sequencer2d_s", FIXED | {
        "layers": ONE, "embed_dims": (24, 48, 48, 48), "hidden_sizes": (6, 12, 12, 12)}),
)  # fmt: skip

# Hugging Face


def _hugging_face(name: str, **options: Any) -> nn.Module:
    """Make a network of transformers from its configuration."""
    kind = getattr(importlib.import_module("transformers"), name)
    return kind(kind.config_class(**options))


LAYERS = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2}
VIT = LAYERS | {"intermediate_size": 48, "image_size": 32, "patch_size": 8}
VIT4 = VIT | {"num_hidden_layers": 4}
WINDOWS = {"image_size": 32, "patch_size": 2, "embed_dim": 16, "depths": [1, 1], "num_heads": [1, 2], "window_size": 4}
CONVNEXT = {"depths": [1, 1, 1, 1], "hidden_sizes": [8, 16, 16, 24]}
RESNET = {"embedding_size": 8, "hidden_sizes": [8, 16], "depths": [1, 1], "layer_type": "basic"}
PYRAMID = {"depths": [1, 1, 1, 1], "hidden_sizes": [8, 16, 16, 32], "num_attention_heads": [1, 1, 2, 2]}
MOBILEVIT = {
    "image_size": 64, "hidden_sizes": [16, 24, 32], "neck_hidden_sizes": [8, 8, 16, 16, 24, 24, 32],
    "num_attention_heads": 2, "aspp_out_channels": 16, "initializer_range": 0.2,
}  # fmt: skip
DETR = {
    "use_timm_backbone": False, "use_pretrained_backbone": False, "backbone": None,
    "backbone_config": {"model_type": "resnet", "out_features": ["stage2"], **RESNET}, "d_model": 16, "num_queries": 4,
    "encoder_layers": 1, "encoder_attention_heads": 2, "encoder_ffn_dim": 32,
    "decoder_layers": 1, "decoder_attention_heads": 2, "decoder_ffn_dim": 32,
}  # fmt: skip
NECK = {"neck_hidden_sizes": [8, 8, 16, 16], "fusion_hidden_size": 8}
NAMES = ["stage1", "stage2", "stage3", "stage4"]
_HUGGING_FACE: tuple[Row, ...] = (
    ("transformer", 32, "ViTModel ViTForImageClassification ViTMSNModel DeiTModel IJepaModel PixioModel", VIT),
    ("transformer", 32, "DeiTForImageClassificationWithTeacher BeitModel Data2VecVisionModel Dinov2Model", VIT),
    ("transformer", 32, "Dinov2WithRegistersModel DINOv3ViTModel", VIT | {"num_register_tokens": 2}),
    ("transformer", 32, "VitDetModel", LAYERS | {"image_size": 32, "patch_size": 8, "pretrain_image_size": 32}),
    ("transformer", 32, "InternVLVisionModel", VIT | {"image_size": [32, 32], "patch_size": [8, 8]}),
    ("hierarchical transformer", 32, "SwinModel SwinForImageClassification Swinv2Model", WINDOWS),
    ("hierarchical transformer", 64, "PvtModel PvtV2Model", PYRAMID | {"image_size": 64}),
    ("hierarchical transformer", 64, "SegformerForImageClassification", PYRAMID),
    ("hierarchical transformer", 64, "HieraModel", {
        "image_size": [64, 64], "embed_dim": 16, "depths": [1, 1, 1, 1], "num_heads": [1, 2, 4, 4]}),
    ("CNN", 32, "ResNetModel", RESNET),
    ("CNN", 32, "ResNetForImageClassification", RESNET | {"layer_type": "bottleneck"}),
    ("CNN", 32, "RegNetModel", RESNET | {"groups_width": 4, "layer_type": "y"}),
    ("CNN", 32, "BitModel", {"embedding_size": 16, "hidden_sizes": [16, 32], "depths": [1, 1], "num_groups": 4}),
    ("CNN", 32, "ConvNextModel ConvNextV2ForImageClassification DINOv3ConvNextModel", CONVNEXT),
    ("CNN", 32, "FocalNetModel", {
        "image_size": 32, "embed_dim": 16, "depths": [1, 1], "focal_levels": [2, 2], "focal_windows": [3, 3]}),
    ("mobile CNN", 64, "MobileNetV1Model", {"depth_multiplier": 0.25, "initializer_range": 0.2}),
    ("mobile CNN", 64, "MobileNetV2Model", {"depth_multiplier": 0.35, "initializer_range": 0.2}),
    ("mobile CNN", 64, "EfficientNetModel", {
        "width_coefficient": 0.25, "depth_coefficient": 0.5, "hidden_dim": 320, "initializer_range": 0.2}),
    ("mobile CNN", 64, "PPLCNetForImageClassification", {"initializer_range": 0.2}),
    ("MLP", 64, "PoolFormerModel", CONVNEXT),
    ("hybrid", 64, "MobileViTModel", MOBILEVIT),
    ("hybrid", 64, "MobileViTV2Model", {"width_multiplier": 0.5, "initializer_range": 0.2}),
    ("hybrid", 64, "CvtModel CvtForImageClassification", {
        "embed_dim": [8, 16, 24], "depth": [1, 2, 3], "num_heads": [1, 2, 2]}),
    ("hybrid", 64, "SwiftFormerModel", {"depths": [1, 1, 1, 1], "embed_dims": [16, 16, 32, 32]}),
    ("hybrid", 64, "LevitForImageClassification", {
        "image_size": 64, "hidden_sizes": [16, 32, 48], "num_attention_heads": [1, 2, 3], "depths": [1, 1, 1],
        "key_dim": [8, 8, 8]}),
    ("CLIP", 32, "CLIPVisionModel CLIPVisionModelWithProjection SiglipVisionModel ChineseCLIPVisionModel", VIT),
    ("CLIP", 32, "MLCDVisionModel BlipVisionModel OwlViTVisionModel FlavaImageModel Aimv2VisionModel", VIT),
    ("segmentation", 64, "SegformerForSemanticSegmentation GLPNForDepthEstimation", PYRAMID | {
        "decoder_hidden_size": 16}),
    ("segmentation", 64, "MobileViTForSemanticSegmentation", MOBILEVIT),
    ("segmentation", 32, "BeitForSemanticSegmentation", VIT4 | {"out_indices": [1, 2, 3, 4], "pool_scales": [1, 2]}),
    ("segmentation", 64, "DPTForDepthEstimation", VIT4 | NECK | {
        "image_size": 64, "patch_size": 16, "backbone_out_indices": [0, 1, 2, 3]}),
    ("segmentation", 32, "DepthAnythingForDepthEstimation", NECK | {
        "backbone_config": VIT4 | {"model_type": "dinov2", "out_features": NAMES, "reshape_hidden_states": False},
        "patch_size": 8, "reassemble_hidden_size": 24, "head_hidden_size": 8}),
    ("segmentation", 64, "SamVisionModel", LAYERS | {
        "image_size": 64, "patch_size": 16, "output_channels": 8, "window_size": 2, "mlp_dim": 48,
        "global_attn_indexes": [1]}),
    ("detection", 32, "YolosModel YolosForObjectDetection", VIT | {
        "image_size": [32, 32], "num_detection_tokens": 4}),
    ("detection", 64, "DetrModel DetrForObjectDetection", DETR),
    ("generative", 32, "ViTForMaskedImageModeling", VIT),
    ("odd", 32, "ViTMAEModel", VIT),  # leaves out other patches at each run
    ("generative", 32, "Swin2SRForImageSuperResolution", WINDOWS | {"patch_size": 1}),
)  # fmt: skip

# other packages


def _open_clip(_: str, **vision: Any) -> nn.Module:
    """Make the part of a CLIP network that sees."""
    text = {"context_length": 8, "vocab_size": 50, "width": 16, "heads": 2, "layers": 1}
    return _call("open_clip", "CLIP", embed_dim=16, vision_cfg=vision, text_cfg=text).visual


def _yolo(name: str) -> nn.Module:
    """Make a network from one of the descriptions that come with ultralytics."""
    return _call("ultralytics", "YOLO", model=f"{name}.yaml", verbose=False).model


TOWER = {"image_size": 32, "patch_size": 8, "layers": 2, "width": 24, "head_width": 12}
PLANE = {"spatial_dims": 2, "in_channels": 1}
TO_MAPS = PLANE | {"out_channels": 2}
_OPEN_CLIP: tuple[Row, ...] = (
    ("CLIP", 32, "ViT", TOWER),
    ("CLIP", 32, "ViT-avg", TOWER | {"pool_type": "avg", "final_ln_after_pool": True, "no_ln_pre": True}),
    ("CLIP", 32, "ViT-attentional-pool", TOWER | {
        "attentional_pool": True, "attn_pooler_heads": 2, "attn_pooler_queries": 4}),
    ("CLIP", 32, "ViT-tokens", TOWER | {"output_tokens": True}),
    ("CLIP", 64, "ModifiedResNet", {"image_size": 64, "layers": (1, 1, 1, 1), "width": 8}),
)  # fmt: skip
_SMP: tuple[Row, ...] = (
    ("segmentation", 64, "Unet Linknet DeepLabV3Plus", {"encoder_name": "mobilenet_v2"}),
    ("segmentation", 64, "UnetPlusPlus FPN", {"encoder_name": "efficientnet-b0"}),
    ("segmentation", 64, "PSPNet MAnet", {"encoder_name": "resnet18"}),
    ("segmentation", 128, "PAN", {"encoder_name": "resnet18"}),
    ("segmentation", 64, "UPerNet Segformer", {"encoder_name": "mit_b0"}),
    ("segmentation", 64, "DeepLabV3", {"encoder_name": "tu-mobilenetv3_small_050"}),
)
_MONAI: tuple[Row, ...] = (
    ("segmentation", 64, "UNet AttentionUnet", TO_MAPS | {"channels": (4, 8, 16), "strides": (2, 2)}),
    ("segmentation", 64, "BasicUNet BasicUNetPlusPlus", TO_MAPS | {"features": (8,) * 6}),
    ("segmentation", 64, "SegResNet", TO_MAPS | {"init_filters": 8, "blocks_down": (1, 1, 1), "blocks_up": (1, 1)}),
    ("CNN", 64, "DenseNet", TO_MAPS | {"init_features": 8, "growth_rate": 4, "block_config": (2, 2, 2)}),
    ("CNN", 32, "Discriminator", {"in_shape": (1, 32, 32), "channels": (4, 8), "strides": (2, 2)}),
    ("generative", 32, "AutoEncoder", PLANE | {"out_channels": 1, "channels": (4, 8), "strides": (2, 2)}),
)  # fmt: skip
_ULTRALYTICS: tuple[Row, ...] = (
    ("CNN", 64, "yolov8n-cls yolo11n-cls", {}),
    ("hybrid", 64, "yolo12n-cls", {}),
    ("detection", 64, "yolov3-tiny yolov5n yolov8n yolov9t yolov10n yolo11n yolo12n yolo26n yolov8n-pose", {}),
    ("segmentation", 64, "yolov8n-seg", {}),
)
_OWN = (
    Architecture("own/LeNet", "own", lenet, 28, channels=1),
    Architecture("own/four channels", "own", partial(Headed, "logits", 4), 32, channels=4),
    Architecture("own/channels last", "own", ChannelsLast, 32),
    Architecture("own/functional", "own", Functional, 32),
    Architecture("own/shared convolution", "own", shared_convolution, 32),
    Architecture("own/autoencoder", "generative", autoencoder, 32),
    Architecture("own/discriminator", "generative", discriminator, 32),
    *(Architecture(f"own/{form}", "own", partial(Headed, form), 32)
      for form in ("tuple", "dict", "embedding", "squeezed", "labels")),
    *(Architecture(f"odd/{step}", "odd", partial(Unusual, step), 32)
      for step in ("recurrent", "fourier", "warped", "routed", "checkpointed")),
    *(Architecture(f"odd/class token {pool}", "odd", partial(Tokens, pool), 32) for pool in ("first", "last")),
    *(Architecture(f"odd/tokens in {order}", "odd", partial(Tokens, "mean", order, (4, 4)), 32)
      for order in ("serpentine", "blocks", "hilbert")),
    Architecture("odd/pooling query", "odd", partial(Tokens, "query"), 32),
    Architecture("odd/patches of 16 by 8", "odd", partial(Tokens, "first", "rows", (16, 8)), 32),
    Architecture("odd/patches by reshaping", "odd", partial(Tokens, "mean", linear=True), 32),
    Architecture("odd/windows folded", "odd", partial(Windows, folded=True), 32),
    Architecture("odd/windows apart", "odd", partial(Windows, folded=False), 32),
)  # fmt: skip

_AXES_OWN = (
    Architecture("signal/ResNet", "signal", SignalResNet, (256,), channels=2),
    Architecture("signal/ResNet with group normalisation", "signal",
                 partial(SignalResNet, norm=partial(nn.GroupNorm, 4)), (256,), channels=2),
    Architecture("signal/transformer", "signal", SignalTokens, (256,), channels=1),
    Architecture("signal/LSTM", "signal", SignalRecurrent, (256,), channels=1),
    Architecture("signal/U-Net", "signal", SignalUNet, (256,), channels=1),
    Architecture("volume/CNN", "volume", VolumeNet, (24, 24, 24), channels=1),
)  # fmt: skip
_VIDEO: tuple[Row, ...] = (
    ("video", (8, 32, 32), "r3d_18 mc3_18 r2plus1d_18", {}),
    ("video", (8, 64, 64), "swin3d_t", {}),
)
_VOLUMES: tuple[Row, ...] = (
    ("volume", (32, 32, 32), "DenseNet121", {"spatial_dims": 3, "in_channels": 1, "out_channels": 10}),
    ("volume", (32, 32, 32), "UNet", {
        "spatial_dims": 3, "in_channels": 1, "out_channels": 3, "channels": (8, 16, 32), "strides": (2, 2),
        "num_res_units": 1}),
    ("volume", (32, 32, 32), "SegResNet", {
        "spatial_dims": 3, "in_channels": 1, "out_channels": 3, "init_filters": 8, "blocks_down": (1, 1, 1),
        "blocks_up": (1, 1)}),
    ("volume", (32, 32, 32), "resnet10", {"spatial_dims": 3, "n_input_channels": 1, "num_classes": 10}),
)  # fmt: skip

_TV, _SMP_NAME = "torchvision.models", "segmentation_models_pytorch"
_UNTRAINED = {"weights": None, "weights_backbone": None}
ARCHITECTURES: tuple[Architecture, ...] = (
    *_OWN,
    *_expand("torchvision", "torchvision", _narrow, ("CNN", 64, "alexnet vgg11 vgg16_bn", {})),
    *_expand("torchvision", "torchvision", partial(_call, _TV, weights=None, num_classes=10), *_FUNCTIONS),
    *_expand("torchvision", "torchvision", partial(_call, _TV, num_classes=10), *_CLASSES),
    *_expand("torchvision", "torchvision", partial(_call, f"{_TV}.segmentation", **_UNTRAINED), _MAPS),
    *_expand("torchvision", "torchvision", partial(_call, f"{_TV}.detection", **_UNTRAINED), _DETECTOR),
    *_expand("torchvision.backbone", "torchvision", _backbone, _BACKBONES),
    *_expand("timm", "timm", partial(_call, "timm.models", num_classes=10), *_TIMM),
    *_expand("timm", "timm", _mvit, ("hierarchical transformer", 64, "mvitv2_tiny", {})),
    *_expand("hf", "transformers", _hugging_face, *_HUGGING_FACE),
    *_expand("open_clip", "open_clip", _open_clip, *_OPEN_CLIP),
    *_expand("smp", _SMP_NAME, partial(_call, _SMP_NAME, encoder_weights=None), *_SMP),
    *_expand("monai", "monai", partial(_call, "monai.networks.nets"), *_MONAI, channels=1),
    *_expand("ultralytics", "ultralytics", _yolo, *_ULTRALYTICS),
    *_AXES_OWN,
    *_expand(
        "torchvision.video",
        "torchvision",
        partial(_call, f"{_TV}.video", weights=None, num_classes=10),
        *_VIDEO,
        axes="tyx",
    ),
    *_expand("monai.volume", "monai", partial(_call, "monai.networks.nets"), *_VOLUMES, channels=1),
)
"""One of each kind."""
