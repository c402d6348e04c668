"""The peers of `scoring.py` that project gradients at random, as their authors do, in PyTorch.

They answer as those of `peers.py` do, approximately: rows of J and gradients g are projected, and
their products taken. TRAK (Park et al., 2023) projects whole gradients by a matrix of random signs,
2,048 numbers unless told otherwise in its package. LoGra (Choe et al., 2024) puts a small matrix B
between random projections of each layer's inputs and of its outputs' gradients, so that the
gradient with respect to B, at B = 0, is the projected one; layers without a kernel are left out.
"""

from peers import Contestant, flat, torch_rows, torch_weights
from problem import WEIGHT_DECAY, Problem

PROJECTED = 2048
LARGEST = 8 << 30  # bytes of a matrix of signs; TRAK's package makes it anew, in parts, on a GPU
RANK = 64  # of the inputs of a layer and of its outputs, where it has as many


def trak(problem: Problem) -> Contestant:
    """Whole gradients, times a matrix of random signs."""
    import torch

    theta, constants = torch_weights(problem)
    weights = flat(theta)
    size = len(weights) * PROJECTED * 4
    if size > LARGEST:
        raise MemoryError(f"its matrix of signs takes {size / (1 << 30):.0f} GiB")
    generator = torch.Generator().manual_seed(0)
    signs = torch.empty(len(weights), PROJECTED)
    for part in signs.split(1 << 14):
        part.copy_(torch.randint(0, 2, part.shape, generator=generator, dtype=torch.int8))
    signs.mul_(2).sub_(1).mul_(PROJECTED**-0.5)
    penalty = WEIGHT_DECAY * weights @ signs
    return torch_rows(problem, theta, constants, penalty, lambda rows: rows @ signs)


def logra(problem: Problem) -> Contestant:
    """Gradients with respect to a small matrix between random projections, a layer."""
    import torch

    trained, constants = torch_weights(problem)
    generator = torch.Generator().manual_seed(0)
    theta, penalty = {}, []
    for name in [name for name in trained if name.endswith("/kernel")]:
        kernel, layer = trained[name], name.removesuffix("/kernel")
        outputs, inputs = kernel.shape[0], kernel[0].numel()
        rank_in, rank_out = min(RANK, inputs), min(RANK, outputs)
        into = _directions(inputs, rank_in, generator).T.reshape(rank_in, *kernel.shape[1:])
        out = _directions(outputs, rank_out, generator)
        between = torch.zeros(rank_out, rank_in)
        penalty.append(WEIGHT_DECAY * (out.T @ kernel.flatten(1) @ into.flatten(1).T).flatten())
        if kernel.ndim == 4:
            between, out = between[:, :, None, None], out[:, :, None, None]
        theta[f"{layer}/between"] = between
        constants |= {f"{layer}/into": into, f"{layer}/out": out}
    constants |= trained
    return torch_rows(problem, theta, constants, torch.cat(penalty), lambda rows: rows)


def _directions(size: int, rank: int, generator):
    """Returns random directions, (size, rank), such that ‖x‖² is kept in expectation.

    They are orthonormal but for their length, which loses less than independent numbers do.
    """
    import torch

    basis, _ = torch.linalg.qr(torch.randn(size, rank, generator=generator))
    return basis * (size / rank) ** 0.5
