"""Context-aware query refinement, the method of arXiv 2509.08292: remove from the query what is probably not there."""

from __future__ import annotations

import torch
from torch import Tensor


def refine(query: Tensor, probability: Tensor, threshold: float | Tensor) -> Tensor:
    """Remove from the query the classes that are probably not in the mixture.

    Args:
        query: multi-hot, ``[batch, classes]``.
        probability: clip-level class probabilities, ``[batch, classes]``, in [0, 1].
        threshold: a class stays where ``probability >= threshold`` (delta); a number in [0, 1], or a tensor of one for
            a graph that takes it as an input.

    Returns:
        The refined query, ``[batch, classes]``; it never holds a class that was not asked for.

    >>> refine(torch.tensor([[1.0, 1.0, 0.0]]), torch.tensor([[0.9, 0.1, 0.8]]), threshold=0.5)
    tensor([[1., 0., 0.]])
    """
    return query * (probability >= threshold)


def gate(query: Tensor, probability: Tensor, threshold: float) -> Tensor:
    """Keep the whole query where any queried class is probably there, and nothing otherwise.

    What earlier work does about inactive queries: it silences the output of a query that matches nothing, and cannot
    help one that matches in part.

    Args:
        query: multi-hot, ``[batch, classes]``.
        probability: clip-level class probabilities, ``[batch, classes]``, in [0, 1].
        threshold: of the decision, in [0, 1].

    Returns:
        The query or zeros, ``[batch, classes]``.

    >>> gate(torch.tensor([[1.0, 1.0], [0.0, 1.0]]), torch.tensor([[0.9, 0.1]]), threshold=0.5)
    tensor([[1., 1.],
            [0., 0.]])
    """
    passes = torch.any(refine(query, probability, threshold) > 0, dim=-1, keepdim=True)
    return query * passes
