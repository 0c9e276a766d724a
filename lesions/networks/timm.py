"""Build any network of timm by its name, with or without a tag of its published weights.

Mean, std and whether the image size is fixed come from timm's configuration of the name; without a tag, of its first.
Published weights are loaded as timm does it: old names mended, a transformer's positions fitted to the image size.
"""

import logging
from typing import Any

import timm
from timm.layers import PatchEmbed
from torch import nn

from lesions.networks.build import MEAN, STD, Network, Size
from lesions.training.checkpoints import State

logging.getLogger("timm.models._builder").setLevel(logging.ERROR)  # it warns of a head that an encoder leaves out


def names() -> list[str]:
    return [*timm.list_models(), *timm.list_pretrained()]


def fixed(name: str, size: Size) -> dict[str, Any]:
    """Return the arguments that a network of a fixed image size needs; none for another."""
    settings = timm.get_pretrained_cfg(name)
    return {"img_size": size} if settings and settings.fixed_input_size else {}


def find(name: str) -> Network:
    settings = timm.get_pretrained_cfg(name)

    def create(size: Size, **source: Any) -> nn.Module:
        model = timm.create_model(name, **fixed(name, size), **source)
        for patch in (module.patch_size for module in model.modules() if isinstance(module, PatchEmbed)):
            if size[0] % patch[0] or size[1] % patch[1]:  # the rest would be left out
                raise ValueError(f"expected a multiple of its patch, {patch[0]}×{patch[1]}")
        return model

    def load(size: Size, state: State) -> nn.Module:
        model = create(size, pretrained=True, pretrained_cfg_overlay={"state_dict": state})
        vars(model)["pretrained_cfg"]["state_dict"] = None  # or it stays in memory as long as the network
        return model

    return Network(
        create,
        load=load,
        mean=tuple(settings.mean) if settings else MEAN,
        std=tuple(settings.std) if settings else STD,
    )
