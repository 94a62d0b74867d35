"""Records what PEFT's CorDA makes of a tiny model: covariances, A and B by layer and the weights that are left, in both modes."""
import torch
from peft import LoraConfig, get_peft_model
from peft.tuners.lora.config import CordaConfig
from peft.tuners.lora.corda import preprocess_corda
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM

from common import GOLDEN, fresh, token_ids, write_json

BASE = "models/llama-gqa-tied"
# One sample each, of different lengths: enough rows that covariances are far from singular and single precision does not show.
SAMPLES = [token_ids(40 + 3 * index, seed=300 + index) for index in range(8)]
TARGETS = ["q_proj", "v_proj", "o_proj", "up_proj", "down_proj"]
CASES = {
    "ipm": (dict(r=4, lora_alpha=8, target_modules=TARGETS, rank_pattern={"down_proj": 6}), "ipm"),
    "kpm": (dict(r=4, lora_alpha=8, target_modules=TARGETS), "kpm"),
    "kpm-rslora": (dict(r=3, lora_alpha=6, target_modules=["o_proj"], use_rslora=True), "kpm"),
}
COVARIANCES = ["self_attn.q_proj", "self_attn.o_proj", "mlp.up_proj", "mlp.down_proj"]


def record(name, options, method, tensors):
    model = AutoModelForCausalLM.from_pretrained(GOLDEN / BASE, dtype=torch.float32, attn_implementation="eager").eval()
    corda = CordaConfig(corda_method=method, prune_temporary_fields=False)
    config = LoraConfig(task_type="CAUSAL_LM", init_lora_weights="corda", corda_config=corda, **options)

    @torch.no_grad()
    def run():
        for ids in SAMPLES:
            model(input_ids=torch.tensor([ids]), use_cache=False)

    preprocess_corda(model, config, run_model=run)
    if name == "ipm":
        for path in COVARIANCES:
            tensors[f"covariance/model.layers.1.{path}"] = model.get_submodule(f"model.layers.1.{path}").covariance_matrix.clone()
    tuned = get_peft_model(model, config)
    for key, value in tuned.named_parameters():
        path = key.removeprefix("base_model.model.")
        if "lora_" in key:
            tensors[f"{name}/" + path.replace(".default.weight", "")] = value.detach().contiguous()
        elif "base_layer" in key and ".1." in key:
            tensors[f"{name}/" + path.replace(".weight", "")] = value.detach().contiguous()
    return {"options": options, "method": method}


folder = fresh(GOLDEN / "corda")
tensors = {}
cases = {name: record(name, options, method, tensors) for name, (options, method) in CASES.items()}
save_file(tensors, folder / "factors.safetensors")
write_json(folder / "cases.json", {"base": BASE, "samples": SAMPLES, **cases})
