"""Records an adapter of two networks of a tiny diffusion pipeline, UNet and text encoder, in the formats of diffusers and kohya, with what it changes.

The networks have the module names of Stable Diffusion 1.5. `deltas.safetensors` holds scale * B A of every layer. Needs the package diffusers.
"""
import torch
from diffusers import StableDiffusionPipeline, UNet2DConditionModel
from diffusers.loaders.lora_base import _pack_dict_with_prefix
from diffusers.utils import convert_state_dict_to_kohya
from diffusers.utils.state_dict_utils import convert_state_dict_to_diffusers
from peft import LoraConfig, get_peft_model_state_dict, inject_adapter_in_model
from safetensors.torch import save_file
from transformers import CLIPTextConfig, CLIPTextModel

from common import GOLDEN, fresh, generator, normal

# Layers of every kind that such adapters have, with two ranks and two alphas.
OPTIONS = {
    "unet": dict(r=2, lora_alpha=3, rank_pattern={"conv": 1}, alpha_pattern={"conv": 4},
                 target_modules=["to_q", "to_out.0", "proj_in", "net.2", "conv", "time_emb_proj"]),
    "text_encoder": dict(r=2, lora_alpha=1, target_modules=["q_proj", "out_proj", "fc1"]),
}


def networks():
    torch.manual_seed(0)
    unet = UNet2DConditionModel(sample_size=8, in_channels=4, out_channels=4, layers_per_block=1, block_out_channels=(8, 8), norm_num_groups=4,
                                down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"), up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
                                cross_attention_dim=8, attention_head_dim=4)
    text = CLIPTextModel(CLIPTextConfig(hidden_size=8, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2, vocab_size=20, max_position_embeddings=8))
    return dict(unet=unet, text_encoder=text)


def layers_of(model):
    """The adapted layers by path, with their one adapter."""
    return {path: module for path, module in model.named_modules() if getattr(module, "lora_A", None)}


def deltas_of(model):
    """scale * B A of every adapted layer, convolutions with their kernel flattened."""
    found = {}
    for path, module in layers_of(model).items():
        (name,) = module.lora_A
        a, b = module.lora_A[name].weight, module.lora_B[name].weight
        found[path] = (module.scaling[name] * (b.flatten(1) @ a.flatten(1))).detach().contiguous()
    return found


def with_prefix(name):
    """Text encoders of SD 1.5 have their layers under text_model, also where transformers keeps them without."""
    return lambda path: path if name == "unet" or path.startswith("text_model.") else f"text_model.{path}"


@torch.no_grad()
def main():
    folder = fresh(GOLDEN / "dialects" / "diffusion")
    gen, layers, metadata, deltas, alphas = generator(5), {}, {}, {}, {}
    for name, model in networks().items():
        config = LoraConfig(**OPTIONS[name])
        inject_adapter_in_model(config, model, "default")
        placed = with_prefix(name)
        for module in layers_of(model).values():
            for part in (module.lora_A, module.lora_B):
                part["default"].weight.copy_(normal(part["default"].weight.shape, gen, 0.3))
        state = get_peft_model_state_dict(model, adapter_name="default")
        layers[name] = {placed(key): value.half().contiguous() for key, value in state.items()}
        metadata[name] = {key: sorted(value) if isinstance(value, set) else value for key, value in config.to_dict().items() if value is not None}
        for path, module in layers_of(model).items():
            alphas[f"{name}.{placed(path)}"] = module.scaling["default"] * module.r["default"]
            a, b = (layers[name][f"{placed(path)}.lora_{letter}.weight"].float() for letter in "AB")
            deltas[f"{name}.{placed(path)}"] = (module.scaling["default"] * (b.flatten(1) @ a.flatten(1))).contiguous()
    StableDiffusionPipeline.save_lora_weights(folder / "peft-names", layers["unet"], layers["text_encoder"],
                                              unet_lora_adapter_metadata=metadata["unet"], text_encoder_lora_adapter_metadata=metadata["text_encoder"])
    # The same with the names that diffusers' training scripts write.
    older = {name: convert_state_dict_to_diffusers(state) for name, state in layers.items()}
    StableDiffusionPipeline.save_lora_weights(folder / "older-names", older["unet"], older["text_encoder"],
                                              unet_lora_adapter_metadata=metadata["unet"], text_encoder_lora_adapter_metadata=metadata["text_encoder"])
    both = {}
    for name, state in layers.items():
        both.update(_pack_dict_with_prefix(state, name))
    kohya = {key: value.half().contiguous() for key, value in convert_state_dict_to_kohya(both).items()}
    for path, alpha in alphas.items():
        stem = path.replace("text_encoder.", "lora_te.").replace("unet.", "lora_unet.").replace(".", "_")
        kohya = {key.replace("lora_te1_", "lora_te_"): value for key, value in kohya.items()}
        assert f"{stem}.alpha" in kohya, stem
        kohya[f"{stem}.alpha"] = torch.tensor(alpha, dtype=torch.float16)
    save_file(kohya, folder / "kohya.safetensors")
    save_file(deltas, folder / "deltas.safetensors")


if __name__ == "__main__":
    main()
