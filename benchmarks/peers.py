"""The peers of `scoring.py`: exact EMOC scores written with other libraries.

Each is a function of a `Problem` that returns two others. The first takes candidates and their
labels and returns what the second needs of them, their gradients g. The second takes reference
images and the first one's answer and returns Σ_x ‖J(x) g(x',y')‖₁, (n,), the scores times N.

All but neural-tangents do the same: rows of J for a chunk of reference images, one matrix
product with all g, absolute values, sum. The gradient of the regulariser, 5e-4·θ, is added to
every g. Each library is imported where it is used: a process runs one contestant.
"""

import functools
import os
from collections.abc import Callable
from typing import Any

import numpy as np
from peer_networks import jax_cifar10_quick, torch_cifar10_quick, torch_resnet
from problem import WEIGHT_DECAY, Problem

Gradients = Any
Contestant = tuple[
    Callable[[np.ndarray, np.ndarray], Gradients], Callable[[np.ndarray, Gradients], np.ndarray]
]
# Candidates differentiated at a time, and rows of J. With 10 classes 32 images were the fastest of
# 8, 16, 32 and 64 (fewer make the product too flat), with 100 classes 4 of 4, 16 and 32.
CHUNK, ROWS = 32, 320
# Images on both sides of a block of the kernel, the fastest of 8, 16, 32, 64 and 128.
TANGENTS_CHUNK = 64

_TORCH_NETWORKS = {
    "cifar10_quick": torch_cifar10_quick,
    "resnet": torch_resnet,
    "resnet_wide": torch_resnet,
}


def torch_func(problem: Problem) -> Contestant:
    """PyTorch: `vmap(jacrev)` for J, `vmap(grad)` for g."""
    theta, constants = torch_weights(problem)
    return torch_rows(problem, theta, constants, WEIGHT_DECAY * flat(theta), lambda rows: rows)


def torch_weights(problem: Problem) -> tuple[dict[str, Any], dict[str, Any]]:
    """Returns what is trained and what is not, in PyTorch's layout."""
    constants = {name: _torch_weight(value) for name, value in problem.weights.items()}
    theta = {name: constants.pop(name) for name in problem.trainable()}
    return theta, constants


def flat(parts: dict[str, Any], leading: int = 0) -> Any:
    """Returns tensors side by side, flat behind their leading axes."""
    import torch

    return torch.cat([part.flatten(leading) for part in parts.values()], dim=-1)


def torch_rows(
    problem: Problem,
    theta: dict[str, Any],
    constants: dict[str, Any],
    penalty: Any,
    project: Callable[[Any], Any],
) -> Contestant:
    """Returns PyTorch's two functions.

    Args:
        problem: What is scored.
        theta: Tensors to differentiate for, by the names that the network knows.
        constants: Its other tensors.
        penalty: (k,) the regulariser's gradient, projected.
        project: Of rows of J and of g, (B, P), what takes their place, (B, k).
    """
    import torch
    from torch.func import grad, jacrev, vmap

    torch.set_num_threads(len(os.sched_getaffinity(0)))
    network = _TORCH_NETWORKS[problem.case.network]

    def logits(theta: dict[str, torch.Tensor], image: torch.Tensor) -> torch.Tensor:
        return network({**constants, **theta}, image[None])[0]

    def loss(
        theta: dict[str, torch.Tensor], image: torch.Tensor, label: torch.Tensor
    ) -> torch.Tensor:
        return torch.nn.functional.cross_entropy(logits(theta, image), label)

    def tensor(images: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(images).permute(0, 3, 1, 2)

    jacobians = vmap(jacrev(logits), in_dims=(None, 0))
    loss_gradients = vmap(grad(loss), in_dims=(None, 0, 0))

    def gradients(candidates: np.ndarray, labels: np.ndarray) -> torch.Tensor:
        found = torch.empty(len(candidates), len(penalty))
        for chunk in _chunks(len(candidates), CHUNK):
            parts = loss_gradients(
                theta, tensor(candidates[chunk]), torch.from_numpy(labels[chunk])
            )
            found[chunk] = project(flat(parts, 1)) + penalty
        return found

    def changes(reference: np.ndarray, gradients: torch.Tensor) -> np.ndarray:
        total = torch.zeros(len(gradients))
        for chunk in _chunks(len(reference), _images_of_rows(problem)):
            jacobian = flat(jacobians(theta, tensor(reference[chunk])), 2).flatten(0, 1)
            total += (project(jacobian) @ gradients.T).abs().sum(0)
        return total.numpy()

    return gradients, changes


def _chunks(count: int, size: int) -> list[slice]:
    return [slice(start, start + size) for start in range(0, count, size)]


def _images_of_rows(problem: Problem) -> int:
    return max(1, ROWS // problem.case.classes)


def _torch_weight(value: np.ndarray):
    """Returns a weight in PyTorch's layout: kernels as (out, in) or (out, in, height, width)."""
    import torch

    axes = {1: (0,), 2: (1, 0), 4: (3, 2, 0, 1)}[value.ndim]
    return torch.from_numpy(value).permute(axes).contiguous()


def jax_func(problem: Problem) -> Contestant:
    """JAX: jitted `vmap(jacrev)` for J, jitted `vmap(grad)` for g, one product in full float32."""
    import jax
    from jax import numpy as jnp

    theta = {name: jnp.asarray(value) for name, value in problem.trainable().items()}
    count = len(problem.candidates)

    def logits(theta, image):
        return jax_cifar10_quick(theta, image[None])[0]

    def loss(theta, image, label):
        return -jax.nn.log_softmax(logits(theta, image))[label]

    def rows(parts, leading: int):
        parts = [part.reshape(*part.shape[:leading], -1) for part in parts.values()]
        return jnp.concatenate(parts, axis=-1)

    penalty = WEIGHT_DECAY * rows(theta, 0)

    @functools.partial(jax.jit, donate_argnums=0)
    def put(found, start, images, labels):
        parts = jax.vmap(jax.grad(loss), (None, 0, 0))(theta, images, labels)
        return jax.lax.dynamic_update_slice(found, rows(parts, 1) + penalty, (start, 0))

    @jax.jit
    def add(total, images, is_image, gradients):
        parts = jax.vmap(jax.jacrev(logits), (None, 0))(theta, images)
        jacobian = rows(parts, 2).reshape(-1, gradients.shape[1])
        product = jnp.matmul(jacobian, gradients.T, precision=jax.lax.Precision.HIGHEST)
        summed = jnp.abs(product).reshape(len(images), -1, len(gradients)).sum(1)
        return total + is_image @ summed

    def gradients(candidates, labels):
        # Always room for all candidates: the product is compiled for this one shape.
        found = jnp.zeros((_padded(count, CHUNK), len(penalty)))
        for chunk in _chunks(len(candidates), CHUNK):
            images, _ = _pad(candidates[chunk], CHUNK)
            found = put(found, chunk.start, images, _pad(labels[chunk], CHUNK)[0])
        return found.block_until_ready()

    def changes(reference, gradients):
        total = jnp.zeros(len(gradients))
        size = _images_of_rows(problem)
        for chunk in _chunks(len(reference), size):
            total = add(total, *_pad(reference[chunk], size), gradients)
        return np.asarray(total)[:count]

    return gradients, changes


def _padded(count: int, size: int) -> int:
    return -(-count // size) * size


def _pad(rows: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Fills up to `count` rows, so that one shape is compiled; also returns 1 for each real one."""
    padded = np.zeros((count, *rows.shape[1:]), rows.dtype)
    padded[: len(rows)] = rows
    return padded, (np.arange(count) < len(rows)).astype(np.float32)


def neural_tangents(problem: Problem) -> Contestant:
    """neural-tangents: the (C, C) empirical tangent kernel of each pair, times p − e_y.

    J(x) g = J(x) J(x')ᵀ (p − e_y) + J(x) ∇ω; the second part by a forward derivative.
    """
    import jax
    from jax import numpy as jnp

    try:
        import neural_tangents as nt
    except ImportError as error:
        raise ImportError(f"with JAX {jax.__version__}: {error}") from error

    jax.config.update("jax_default_matmul_precision", "highest")
    theta = {name: jnp.asarray(value) for name, value in problem.trainable().items()}
    decay = {name: WEIGHT_DECAY * value for name, value in theta.items()}
    count = len(problem.candidates)
    kernel = nt.empirical_ntk_fn(
        jax_cifar10_quick,
        trace_axes=(),
        vmap_axes=0,
        implementation=nt.NtkImplementation.STRUCTURED_DERIVATIVES,
    )

    @jax.jit
    def residuals(candidates, labels):
        logits = jax_cifar10_quick(theta, candidates)
        return jax.nn.softmax(logits) - jax.nn.one_hot(labels, logits.shape[1])

    @jax.jit
    def penalties(reference):
        outputs = functools.partial(jax_cifar10_quick, images=reference)
        return jax.jvp(outputs, (theta,), (decay,))[1]

    @jax.jit
    def change(reference, is_image, penalty, candidates, residual):
        pairs = kernel(reference, candidates, theta)  # [B, B', C, C]
        product = jnp.einsum("xycd,yd->xyc", pairs, residual) + penalty[:, None]
        return is_image @ jnp.abs(product).sum(2)

    def gradients(candidates, labels):
        return [
            (images, residuals(images, _pad(labels[chunk], TANGENTS_CHUNK)[0]))
            for chunk in _chunks(len(candidates), TANGENTS_CHUNK)
            for images in [_pad(candidates[chunk], TANGENTS_CHUNK)[0]]
        ]

    def changes(reference, gradients):
        total = np.zeros((len(gradients), TANGENTS_CHUNK))
        for chunk in _chunks(len(reference), TANGENTS_CHUNK):
            images, is_image = _pad(reference[chunk], TANGENTS_CHUNK)
            penalty = penalties(images)
            for row, (candidates, residual) in enumerate(gradients):
                total[row] += np.asarray(change(images, is_image, penalty, candidates, residual))
        return total.ravel()[:count]

    return gradients, changes


def tf_vectorized_map(problem: Problem) -> Contestant:
    """Plain TensorFlow: `tf.vectorized_map` of `tape.jacobian` and of `tape.gradient`."""
    import tensorflow as tf

    model = problem.model()
    variables = [variable.value for variable in model.trainable_variables]
    penalty = WEIGHT_DECAY * tf.concat([tf.reshape(variable, [-1]) for variable in variables], 0)
    images_spec = tf.TensorSpec([None, *model.input_shape[1:]])

    @tf.function(input_signature=[images_spec])
    def jacobians(images):
        def of_one(image):
            with tf.GradientTape() as tape:
                logits = model(image[None], training=False)[0]
            parts = tape.jacobian(logits, variables)
            return tf.concat([tf.reshape(part, [len(logits), -1]) for part in parts], 1)

        return tf.vectorized_map(of_one, images)

    @tf.function(input_signature=[images_spec, tf.TensorSpec([None], tf.int64)])
    def loss_gradients(images, labels):
        def of_one(example):
            image, label = example
            with tf.GradientTape() as tape:
                logits = model(image[None], training=False)[0]
                loss = tf.nn.sparse_softmax_cross_entropy_with_logits(label, logits)
            parts = tape.gradient(loss, variables)
            return tf.concat([tf.reshape(part, [-1]) for part in parts], 0)

        return tf.vectorized_map(of_one, (images, labels)) + penalty

    def gradients(candidates, labels):
        parts = [
            loss_gradients(candidates[chunk], labels[chunk])
            for chunk in _chunks(len(candidates), CHUNK)
        ]
        return tf.concat(parts, 0)

    def changes(reference, gradients):
        total = tf.zeros(len(gradients))
        for chunk in _chunks(len(reference), _images_of_rows(problem)):
            jacobian = tf.reshape(jacobians(reference[chunk]), [-1, len(penalty)])
            product = tf.matmul(jacobian, gradients, transpose_b=True)
            total += tf.reduce_sum(tf.abs(product), 0)
        return total.numpy()

    return gradients, changes
