"""Records tiny random encoders of images and spectrograms with their answers: ViT and AST as transformers writes them, ViT as timm writes it."""
import json

import numpy as np
import timm
import torch
from PIL import Image
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from timm.layers import resample_abs_pos_embed
from timm.models.vision_transformer import VisionTransformer
from transformers import (ASTConfig, ASTFeatureExtractor, ASTForAudioClassification, ASTModel, ViTConfig,
                          ViTForImageClassification, ViTImageProcessorPil, ViTModel)

from common import GOLDEN, exact, fresh, generator, normal, write_json

FOLDER = GOLDEN / "encoders"
SHAPE = dict(hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=48, layer_norm_eps=1e-6)
SMALL_IMAGE = dict(image_size=16, patch_size=4)
LABELS = {i: f"class {i}" for i in range(5)}


def randomise(model, seed):
    """Every parameter away from its neutral value: norms around 1, biases around 0, matrices of deviation 0.3."""
    gen = generator(seed)
    for name, parameter in sorted(model.named_parameters()):
        noise = normal(parameter.shape, gen)
        if "norm" in name and name.endswith("weight"):
            value = 1 + 0.2 * noise
        elif name.endswith("bias"):
            value = 0.3 * noise
        else:
            value = (0.5 if "token" in name or "pos" in name else 0.3) * noise
        parameter.data.copy_(value)


def tensor_row(values):
    return {"shape": list(values.shape), "values": exact(values.flatten())}


@torch.no_grad()
def record_vit(name, config, sizes, bare=False):
    folder = fresh(FOLDER / name)
    model = (ViTModel if bare else ViTForImageClassification)(config)
    randomise(model, seed=sum(map(ord, name)))
    model.eval().save_pretrained(folder)
    cases = []
    for index, (height, width) in enumerate(sizes):
        pixels = normal((2, config.num_channels, height, width), generator(50 + index))
        out = model(pixels, interpolate_pos_encoding=True)
        case = {"input": tensor_row(pixels)}
        if bare:
            case["cls"] = exact(out.last_hidden_state[:, 0].flatten())
            case["mean"] = exact(out.last_hidden_state.mean(1).flatten())
        else:
            case["logits"] = exact(out.logits.flatten())
        cases.append(case)
    write_json(folder / "reference.json", {"task": "embedding" if bare else "classification", "cases": cases})


def published_name(name):
    """The name in the published weights of what transformers 5 calls otherwise."""
    for newer, old in (("vit.layers.", "vit.encoder.layer."), ("attention.q_proj", "attention.attention.query"),
                       ("attention.v_proj", "attention.attention.value"), ("mlp.fc1", "intermediate.dense"), ("mlp.fc2", "output.dense")):
        name = name.replace(newer, old)
    return name


@torch.no_grad()
def record_vit_lora():
    """An adapter as PEFT writes it over transformers 5, and by the names it has over version 4."""
    base = ViTForImageClassification.from_pretrained(FOLDER / "vit")
    model = get_peft_model(base, LoraConfig(r=3, lora_alpha=6, target_modules=["q_proj", "v_proj", "fc2"], modules_to_save=["classifier"],
                                            rank_pattern={"layers.1.attention.q_proj": 2}))
    gen = generator(7)
    for name, parameter in sorted(model.named_parameters()):
        if parameter.requires_grad:
            parameter.data.add_(0.15 * normal(parameter.shape, gen))
    model.peft_config["default"].base_model_name_or_path = "vit"
    folder = fresh(FOLDER / "vit-lora")
    model.eval().save_pretrained(folder)
    (folder / "README.md").unlink(missing_ok=True)
    older = fresh(FOLDER / "vit-lora-older")
    tensors = load_file(folder / "adapter_model.safetensors")
    save_file({published_name(name): value for name, value in tensors.items()}, older / "adapter_model.safetensors", {"format": "pt"})
    config = json.loads((folder / "adapter_config.json").read_text())
    config["target_modules"] = r".*\.(query|value|\d+\.output\.dense)"
    config["rank_pattern"] = {"layer.1.attention.attention.query": 2}
    (older / "adapter_config.json").write_text(json.dumps(config, indent=2) + "\n")
    pixels = normal((2, 3, 16, 16), generator(60))
    for path in (folder, older):
        write_json(path / "reference.json", {"cases": [{"input": tensor_row(pixels), "logits": exact(model(pixels).logits.flatten())}]})


@torch.no_grad()
def record_timm(name, sizes, pool, **options):
    folder = fresh(FOLDER / name)
    arguments = dict(img_size=16, patch_size=4, embed_dim=32, depth=2, num_heads=4, mlp_ratio=2, num_classes=5, global_pool=pool, **options)
    model = VisionTransformer(**arguments).eval()
    randomise(model, seed=sum(map(ord, name)))
    save_file({key: value.contiguous() for key, value in model.state_dict().items()}, folder / "model.safetensors", {"format": "pt"})
    config = {"architecture": "vit_small_patch16_224", "num_classes": 5, "global_pool": pool, "model_args": arguments}
    (folder / "config.json").write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")
    cases = []
    positions = model.pos_embed.data
    for index, (height, width) in enumerate(sizes):
        pixels = normal((2, 3, height, width), generator(70 + index))
        model.pos_embed.data = resample_abs_pos_embed(positions, new_size=[height // 4, width // 4])
        model.patch_embed.img_size = (height, width)
        cases.append({"input": tensor_row(pixels), "logits": exact(model(pixels).flatten())})
    write_json(folder / "reference.json", {"task": "classification", "cases": cases})


@torch.no_grad()
def record_ast(name, config, bare=False):
    folder = fresh(FOLDER / name)
    model = (ASTModel if bare else ASTForAudioClassification)(config)
    randomise(model, seed=sum(map(ord, name)))
    model.eval().save_pretrained(folder)
    base = model if bare else model.audio_spectrogram_transformer
    positions = base.embeddings.position_embeddings
    rows, columns = base.embeddings.get_shape(config)
    published, cases = positions.data, []
    for index, (length, kind) in enumerate([(config.max_length, "resized"), (config.max_length, "zero"), (70, "resized"), (28, "resized"), (28, "zero")]):
        features = normal((2, length, config.num_mel_bins), generator(90 + index))
        count = (length - config.patch_size) // config.time_stride + 1
        positions.data = ast_positions(published, rows, columns, count, kind)
        out = model(features)
        case = {"positions": kind, "input": tensor_row(features)}
        if bare:
            case["mean"] = exact(out.last_hidden_state.mean(1).flatten())
            case["published"] = exact(out.pooler_output.flatten())
        else:
            case["logits"] = exact(out.logits.flatten())
        cases.append(case)
        if bare:
            break
    write_json(folder / "reference.json", {"task": "embedding" if bare else "classification", "cases": cases})


def ast_positions(published, rows, columns, count, kind):
    """Position embeddings for another number of columns, as the authors of AST make them, or zeros as loading with ignored mismatches leaves them."""
    if count == columns:
        return published
    if kind == "zero":
        return torch.zeros(1, 2 + rows * count, published.shape[2])
    grid = published[:, 2:].transpose(1, 2).reshape(1, -1, rows, columns)
    if count < columns:
        start = columns // 2 - count // 2
        grid = grid[:, :, :, start:start + count]
    else:
        grid = torch.nn.functional.interpolate(grid, size=(rows, count), mode="bilinear")
    return torch.cat([published[:, :2], grid.flatten(2).transpose(1, 2)], 1)


def waves():
    """Sounds of 16 kHz whose samples the tests make again: a sine, an impulse, and noise of a linear congruence."""
    time = np.arange(8000)
    sine = (0.4 * np.sin(2 * np.pi * 1000 * time / 16000)).astype(np.float32)
    impulse = np.zeros(4000, np.float32)
    impulse[700] = 0.9
    state, noise = 1, []
    for _ in range(6000):
        state = (state * 48271) % 2147483647
        noise.append(state / 2147483647 - 0.5)
    return {"sine": sine, "impulse": impulse, "noise": np.array(noise, np.float32)}


def record_filter_bank():
    plain = ASTFeatureExtractor(do_normalize=False, max_length=64)
    normalised = ASTFeatureExtractor(max_length=40)
    cases = {}
    for name, wave in waves().items():
        rows = plain(wave, sampling_rate=16000)["input_values"][0]
        frames = 1 + (len(wave) - 400) // 160
        cases[name] = {"frames": frames, "rows": {str(i): exact(np.float32(rows[i])) for i in (0, 1, frames // 2, frames - 1)}}
    rows = normalised(waves()["noise"], sampling_rate=16000)["input_values"][0]
    write_json(FOLDER / "filter-bank.json", {**cases, "normalised": {"0": exact(np.float32(rows[0])), "39": exact(np.float32(rows[39]))}})


def record_images():
    """A picture of smooth colours, and what two image processors make of it (Pillow resizes)."""
    folder = fresh(FOLDER / "images")
    y, x = np.mgrid[0:42, 0:60] / 60
    waves = [np.sin(9 * x + 4 * y), np.cos(7 * y * x + 1), np.sin(12 * (x - 0.4) * (y - 0.3))]
    picture = Image.fromarray(np.uint8(np.stack([127 + 120 * wave for wave in waves], -1)))
    picture.save(folder / "picture.png")
    cases = []
    for settings in ({"size": {"height": 16, "width": 24}, "resample": 2, "image_mean": [0.5, 0.4, 0.3], "image_std": [0.5, 0.6, 0.7]},
                     {"size": {"height": 64, "width": 64}, "resample": 3},
                     {"size": {"height": 20, "width": 20}, "resample": 1, "do_normalize": False}):
        values = ViTImageProcessorPil(**settings)(picture)["pixel_values"][0]
        cases.append({"settings": settings, "values": exact(np.float32(values).flatten())})
    write_json(folder / "reference.json", {"cases": cases})


if __name__ == "__main__":
    record_vit("vit", ViTConfig(**SHAPE, **SMALL_IMAGE, id2label=LABELS), [(16, 16), (24, 16), (8, 12)])
    record_vit_lora()
    record_vit("vit-bare", ViTConfig(**SHAPE, image_size=16, patch_size=4, num_channels=1, qkv_bias=False, hidden_act="gelu_new"), [(16, 16)], bare=True)
    record_timm("timm-vit", [(16, 16), (24, 16), (8, 12)], "token")
    record_timm("timm-vit-average", [(16, 16)], "avg", qkv_bias=False)
    record_ast("ast", ASTConfig(**SHAPE, num_mel_bins=32, max_length=48, patch_size=8, frequency_stride=5, time_stride=6, id2label=LABELS))
    record_ast("ast-bare", ASTConfig(**SHAPE, num_mel_bins=32, max_length=48, patch_size=8, frequency_stride=5, time_stride=6), bare=True)
    record_filter_bank()
    record_images()
    print("recorded", sorted(path.name for path in FOLDER.iterdir()), "with timm", timm.__version__)
