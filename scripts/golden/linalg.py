"""Records torch's decompositions of small matrices, and PEFT's incremental PCA after each of four batches."""
import torch
from peft.utils.incremental_pca import IncrementalPCA
from safetensors.torch import save_file

from common import GOLDEN, decaying, generator, normal


def lowrank(tensors):
    x = decaying(48, 32, 0.7, 1)
    mean = normal((1, 32), generator(2), 0.1)
    tensors["lowrank.x"], tensors["lowrank.m"] = x, mean
    for name, matrix, m in (("tall", x, None), ("wide", x.mT, None), ("mean", x, mean)):
        torch.manual_seed(0)
        u, s, v = torch.svd_lowrank(matrix, q=12, niter=4, M=m)
        tensors[f"lowrank.{name}.s"] = s
        tensors[f"lowrank.{name}.product"] = (u[:, :6] * s[:6]) @ v[:, :6].mT


def dense(tensors):
    gen = generator(3)
    root = normal((2, 9, 12), gen)
    spd = root @ root.mT
    b = normal((2, 9, 4), gen)
    tensors["dense.spd"], tensors["dense.b"] = spd, b
    tensors["dense.values"], vectors = torch.linalg.eigh(spd)
    tensors["dense.projector"] = vectors[..., -3:] @ vectors[..., -3:].mT
    lower = torch.linalg.cholesky(spd)
    tensors["dense.cholesky"] = lower
    tensors["dense.solution"] = torch.linalg.solve(spd, b)
    tensors["dense.lower"] = torch.linalg.solve_triangular(lower, b, upper=False)
    tensors["dense.upper"] = torch.linalg.solve_triangular(lower.mT, b, upper=True)


def incremental(tensors):
    """Batches of different sizes with a mean that is not zero; the spectrum falls off, so that truncation and sketch agree with each other."""
    gen = generator(4)
    basis = decaying(24, 24, 0.6, 5)
    batches = [normal((rows, 24), gen) @ basis + 0.3 for rows in (20, 13, 30, 9)]
    for i, batch in enumerate(batches):
        tensors[f"incremental.batch.{i}"] = batch.contiguous()
    for name, options in (("full", {}), ("lowrank", dict(lowrank=True, lowrank_seed=42))):
        pca = IncrementalPCA(n_components=6, **options)
        for i, batch in enumerate(batches):
            pca.partial_fit(batch)
            prefix = f"incremental.{name}.{i}"
            tensors[f"{prefix}.components"] = pca.components_.double().contiguous()
            tensors[f"{prefix}.singularValues"] = pca.singular_values_.double().contiguous()
            tensors[f"{prefix}.explainedVariance"] = pca.explained_variance_.double().contiguous()
            tensors[f"{prefix}.explainedVarianceRatio"] = pca.explained_variance_ratio_.double().contiguous()
            tensors[f"{prefix}.mean"] = pca.mean_.double().contiguous()
            tensors[f"{prefix}.variance"] = pca.var_.double().contiguous()


tensors = {}
lowrank(tensors)
dense(tensors)
incremental(tensors)
save_file({name: value.contiguous() for name, value in tensors.items()}, GOLDEN / "linalg.safetensors")
