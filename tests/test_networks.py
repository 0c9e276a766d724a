"""The networks of studies C, D and E: attention, heads, freezing and Grad-CAM."""

from math import exp

import pytest
import torch
import torchvision
from torch import nn
from torch.nn import functional

from lesions import attention, classifiers, freezing, gradcam, heads, unet
from lesions.errors import InputError

B0_ARL = [
    "features.2.1", "features.3.1", "features.4.1", "features.4.2", "features.5.1", "features.5.2",
    "features.6.1", "features.6.2", "features.6.3",
]  # fmt: skip
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
    ],
    ids=["resnet50", "b0", "b0 as in table 2.2", "b0 without SE"],
)
@torch.inference_mode()
def test_with_alpha_0_a_network_is_its_base_bit_for_bit(plain, variant, blocks):
    torch.manual_seed(0)
    base, ours = lively(plain()), variant().eval()
    missing, surplus = ours.load_state_dict(base.state_dict(), strict=False)
    assert (missing, surplus) == ([f"{block}.alpha" for block in blocks], [])
    assert parameters(ours) == parameters(base) + len(blocks)
    assert attention.alphas(ours) == dict.fromkeys(blocks, 0.0)
    images = torch.randn(2, 3, 64, 64)
    expected = base(images)
    assert expected.isfinite().all() and expected.std() > 0
    assert torch.equal(ours(images), expected)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(ours(images), base(images))
    set_alphas(ours, 1.0)
    assert attention.alphas(ours) == dict.fromkeys(blocks, 1.0)
    assert torch.equal(ours(images), expected) == (blocks == [])


def test_a_network_without_arl_has_no_alphas():
    assert attention.alphas(torchvision.models.resnet18()) == {}


def test_the_attention_keeps_the_dtype_and_the_memory_format():
    for dtype in (torch.bfloat16, torch.float32):
        maps = torch.randn(2, 4, 3, 5).to(dtype).to(memory_format=torch.channels_last)
        found = attention.attended(maps, maps, attention.start())
        assert found.dtype == dtype and found.is_contiguous(memory_format=torch.channels_last)


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
    classifiers.build(variant, 3, path)
    for wrong in (lacking, surplus, different):
        torch.save(wrong, path)
        with pytest.raises(InputError, match="weights: not the weights of efficientnet_b0"):
            classifiers.build(variant, 3, path)


def test_weights_from_before_batch_counters_are_taken(tmp_path):
    source = torchvision.models.resnet18().state_dict()
    torch.save({k: v for k, v in source.items() if not k.endswith("num_batches_tracked")}, tmp_path / "weights")
    found = classifiers.build("resnet18", 3, tmp_path / "weights").state_dict()
    assert all(torch.equal(found[k], v) for k, v in source.items() if not k.startswith("fc."))


def test_concat_pooling_is_the_mean_beside_the_maximum():
    x = torch.tensor([[[[1.0, 2.0], [3.0, 6.0]], [[-4.0, -3.0], [-2.0, -1.0]]]])
    assert heads.ConcatPool()(x).tolist() == [[3.0, -2.5, 6.0, -1.0]]


def test_study_ds_network_is_resnet50_with_its_head():
    model = classifiers.build("resnet50_concat", 7)
    body = parameters(torchvision.models.resnet50()) - 1000 * 2049
    assert parameters(model) - body == 2 * 4096 + 512 * 4097 + 2 * 512 + 7 * 513
    kinds = [type(layer).__name__ for layer in freezing.head_of(model)]
    assert kinds == ["BatchNorm1d", "Dropout", "Linear", "ReLU", "BatchNorm1d", "Dropout", "Linear"]


def test_dropout_stands_before_the_last_layer_and_changes_training_alone():
    torch.manual_seed(0)
    model = classifiers.build("resnet18", 5)
    torch.manual_seed(0)
    dropped = classifiers.build("resnet18", 5, dropout=0.3)
    images = torch.randn(2, 3, 32, 32)
    assert torch.equal(model.eval()(images), dropped.eval()(images))
    seen = []
    heads.last_linear(dropped)[1].register_forward_hook(lambda module, inputs, output: seen.append(inputs[0]))
    dropped.avgpool.register_forward_hook(lambda module, inputs, output: torch.ones_like(output))
    dropped.train()(images)
    assert seen[0].unique().tolist() == pytest.approx([0, 1 / 0.7])
    assert (seen[0] == 0).float().mean().item() == pytest.approx(0.3, abs=0.05)  # of 1,024: five standard deviations


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


@pytest.mark.parametrize("name", ["resnet18", "resnet50_concat", "efficientnet_b0_no_se_arl", "unet"])
def test_freezing_says_what_a_step_changes(name):
    torch.manual_seed(0)
    model = unet.build("resnet18") if name == "unet" else classifiers.build(name, 5, dropout=0.1)
    everything = set(model.state_dict())
    head = names(model, [freezing.head_of(model)])
    norms = names(model, freezing.body_norms(model))
    start = {k: v.clone() for k, v in model.state_dict().items()}
    assert head and norms and not head & norms
    for train, expected in (("head", head), ("all_but_norm", everything - norms), ("all", everything)):
        model.load_state_dict(start)
        assert step(model, train) == expected


def test_the_body_has_all_batch_normalisation_but_the_heads():
    assert len(freezing.body_norms(classifiers.build("resnet18", 5))) == 20
    assert len(freezing.body_norms(classifiers.build("resnet50_concat", 5))) == 53


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


@pytest.mark.parametrize("name", ["residual", "resnet18", "resnet50_arl", "efficientnet_b0_no_se_arl"])
def test_every_family_has_a_layer_to_look_at(name):
    torch.manual_seed(0)
    model, images = lively(classifiers.build(name, 3)), torch.randn(2, 3, 96, 64)
    maps = gradcam.grad_cam(model, gradcam.target_layer(model), images, torch.tensor([0, 2]))
    assert maps.shape == (2, 96, 64) and maps.min() >= 0 and maps.max() == 1
