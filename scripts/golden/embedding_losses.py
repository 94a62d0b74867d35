"""Records the losses of sentence-transformers (6.2.0) on one fixed batch of embeddings, with their gradients."""
import torch
from sentence_transformers.sentence_transformer.losses import (CoSENTLoss, CosineSimilarityLoss, MultipleNegativesRankingLoss,
                                                              MultipleNegativesSymmetricRankingLoss, TripletLoss)
from sentence_transformers.sentence_transformer.losses.matryoshka import shrink
from sentence_transformers.sentence_transformer.losses.triplet import TripletDistanceMetric

from common import GOLDEN, exact, generator, normal, write_json

ROWS, WIDTH = 5, 8
DIMENSIONS, WEIGHTS = (8, 4, 2), (1.0, 0.5, 0.25)
# Two pairs of equal scores: neither of them is to be above the other.
SCORES = (0.9, 0.1, 0.5, 0.5, 0.1)


def symmetric(embeddings):
    loss = MultipleNegativesSymmetricRankingLoss(None)
    return loss.compute_loss_from_embeddings(list(embeddings), None)


def matryoshka(loss):
    def summed(embeddings):
        cut = ([shrink(x, size) for x in embeddings] for size in DIMENSIONS)
        return sum(weight * loss(parts) for weight, parts in zip(WEIGHTS, cut))
    return summed


def of(loss, labels=None):
    return lambda embeddings: loss.compute_loss_from_embeddings(list(embeddings), labels)


def main():
    gen = generator(1)
    anchors, positives, negatives = (normal((ROWS, WIDTH), gen) for _ in range(3))
    # Positives are near their anchors, so that losses are neither 0 nor at chance.
    positives = 0.7 * anchors + positives
    scores = torch.tensor(SCORES)
    pairs, triplets = (anchors, positives), (anchors, positives, negatives)
    ranking = of(MultipleNegativesRankingLoss(None))
    cases = {
        "pairs": (ranking, pairs),
        "triplets": (ranking, triplets),
        "scale5": (of(MultipleNegativesRankingLoss(None, scale=5.0)), triplets),
        "symmetric": (symmetric, pairs),
        "symmetricTriplets": (symmetric, triplets),
        "cosine": (of(CosineSimilarityLoss(None), scores), pairs),
        "cosent": (of(CoSENTLoss(None), scores), pairs),
        "cosent5": (of(CoSENTLoss(None, scale=5.0), scores), pairs),
        "euclidean": (of(TripletLoss(None)), triplets),
        "cosineTriplet": (of(TripletLoss(None, TripletDistanceMetric.COSINE, 0.5)), triplets),
        "matryoshka": (matryoshka(ranking), triplets),
        "matryoshkaCosent": (matryoshka(of(CoSENTLoss(None), scores)), pairs),
    }
    recorded = {"width": WIDTH, "anchors": exact(anchors), "positives": exact(positives), "negatives": exact(negatives),
                "scores": list(SCORES), "dimensions": list(DIMENSIONS), "weights": list(WEIGHTS)}
    for name, (loss, embeddings) in cases.items():
        leaves = [x.clone().requires_grad_() for x in embeddings]
        value = loss(leaves)
        value.backward()
        recorded[name] = {"loss": value.item(), "gradients": [exact(leaf.grad) for leaf in leaves]}
    write_json(GOLDEN / "embedding-losses.json", recorded)


if __name__ == "__main__":
    main()
