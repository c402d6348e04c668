"""The networks of `problem.py` for the peers: functions of (weights, images) in their libraries.

Weights go by the names of the Keras variables and have the library's own layout.
"""


def torch_cifar10_quick(weights, images):
    """The paper's network; images (B, 3, 32, 32)."""
    from torch.nn import functional

    def convolution(x, name: str):
        return functional.conv2d(x, weights[f"{name}/kernel"], weights[f"{name}/bias"], padding=2)

    # On even sizes TensorFlow's SAME pooling 3/2 pads at the end alone, as `ceil_mode` does.
    x = functional.relu(functional.max_pool2d(convolution(images, "conv1"), 3, 2, ceil_mode=True))
    x = functional.avg_pool2d(functional.relu(convolution(x, "conv2")), 3, 2, ceil_mode=True)
    x = functional.avg_pool2d(functional.relu(convolution(x, "conv3")), 3, 2, ceil_mode=True)
    x = x.permute(0, 2, 3, 1).flatten(1)  # Keras flattens (height, width, channels)
    for name in ("features", "head"):
        x = functional.linear(x, weights[f"{name}/kernel"], weights[f"{name}/bias"])
    return x


def torch_resnet(weights, images):
    """A residual network; images (B, 3, 32, 32). Batch normalization in inference mode.

    Where the weights have `layer/between`, what `peers_projected.logra` adds is added.
    """
    from torch.nn import functional

    def convolution(x, name: str, stride: int = 1):
        kernel = weights[f"{name}/kernel"]
        if kernel.shape[-1] == 3:
            # On even sizes TensorFlow's SAME padding of stride 2 is at the end alone.
            x = functional.pad(x, (0, 1, 0, 1) if stride == 2 else (1, 1, 1, 1))
        y = functional.conv2d(x, kernel, stride=stride)
        if f"{name}/between" in weights:
            x = functional.conv2d(x, weights[f"{name}/into"], stride=stride)
            x = functional.conv2d(x, weights[f"{name}/between"])
            y = y + functional.conv2d(x, weights[f"{name}/out"])
        return y

    def normalized(x, name: str):
        names = ("moving_mean", "moving_variance", "gamma", "beta")
        return functional.batch_norm(x, *(weights[f"{name}/{n}"] for n in names), eps=1e-3)

    x = functional.relu(normalized(convolution(images, "stem"), "stem_norm"))
    for stage in range(3):
        for block in range(3):
            name, stride = f"block{stage}{block}", 2 if stage and not block else 1
            y = functional.relu(
                normalized(convolution(x, f"{name}_conv1", stride), f"{name}_norm1")
            )
            y = normalized(convolution(y, f"{name}_conv2"), f"{name}_norm2")
            if stride == 2:
                x = convolution(x, f"{name}_shortcut", 2)
            x = functional.relu(x + y)
    x = x.mean((2, 3))
    y = functional.linear(x, weights["head/kernel"], weights["head/bias"])
    if "head/between" in weights:
        x = x @ weights["head/into"].T @ weights["head/between"].T
        y = y + x @ weights["head/out"].T
    return y


def jax_cifar10_quick(weights, images):
    """The paper's network; images (B, 32, 32, 3)."""
    from jax import lax
    from jax import numpy as jnp
    from jax.nn import relu

    def convolution(x, name: str):
        kernel, layout = weights[f"{name}/kernel"], ("NHWC", "HWIO", "NHWC")
        y = lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=layout)
        return y + weights[f"{name}/bias"]

    def pool(x, start: float, function):
        return lax.reduce_window(x, start, function, (1, 3, 3, 1), (1, 2, 2, 1), "SAME")

    def average(x):
        return pool(x, 0.0, lax.add) / pool(jnp.ones_like(x), 0.0, lax.add)

    x = relu(pool(convolution(images, "conv1"), -jnp.inf, lax.max))
    x = average(relu(convolution(x, "conv2")))
    x = average(relu(convolution(x, "conv3")))
    x = x.reshape(len(x), -1)
    for name in ("features", "head"):
        x = x @ weights[f"{name}/kernel"] + weights[f"{name}/bias"]
    return x
