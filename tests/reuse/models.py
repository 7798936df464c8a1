"""Small random configurations of the real transformers classes, one per supported family."""

import torch
import transformers as hf
from torch import nn

SIDE_PX = 48
COMMON = {
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "image_size": SIDE_PX,
    "patch_size": 8,
}
MAKERS = {
    "vit": lambda: hf.ViTModel(hf.ViTConfig(**COMMON)),
    "deit": lambda: hf.DeiTModel(hf.DeiTConfig(**COMMON)),
    "clip": lambda: hf.CLIPVisionModel(hf.CLIPVisionConfig(**COMMON)),
    "siglip": lambda: hf.SiglipVisionModel(hf.SiglipVisionConfig(**COMMON)),
    "dinov2": lambda: hf.Dinov2Model(hf.Dinov2Config(**COMMON)),
    "dinov2-swiglu": lambda: hf.Dinov2Model(hf.Dinov2Config(**COMMON, use_swiglu_ffn=True)),
    "dinov2-registers": lambda: hf.Dinov2WithRegistersModel(hf.Dinov2WithRegistersConfig(**COMMON)),
    "dinov3": lambda: hf.DINOv3ViTModel(hf.DINOv3ViTConfig(**COMMON, num_register_tokens=4)),
    "beit": lambda: hf.BeitModel(hf.BeitConfig(**COMMON, use_relative_position_bias=True)),
    "beit-shared": lambda: hf.BeitModel(hf.BeitConfig(**COMMON, use_shared_relative_position_bias=True)),
}


def make_model(family: str, seed: int = 0) -> nn.Module:
    """A random model whose every parameter matters (zero-initialised ones are drawn too)."""
    torch.manual_seed(seed)
    model = MAKERS[family]()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.05)
    return model.eval()
