"""The networks of `problem.py` for the peers: functions of (weights, images) in their libraries.

Weights go by the names of the Keras variables and have the library's own layout.
"""


def torch_cifar10_quick(weights, images):
    """The paper's network; images (B, 3, 32, 32)."""
    from torch.nn import functional

    def convolution(x, name: str):
        return _convolution(weights, name, x, padding=2) + weights[f"{name}/bias"][:, None, None]

    # On even sizes TensorFlow's SAME pooling 3/2 pads at the end alone, as `ceil_mode` does.
    x = functional.relu(functional.max_pool2d(convolution(images, "conv1"), 3, 2, ceil_mode=True))
    x = functional.avg_pool2d(functional.relu(convolution(x, "conv2")), 3, 2, ceil_mode=True)
    x = functional.avg_pool2d(functional.relu(convolution(x, "conv3")), 3, 2, ceil_mode=True)
    x = x.permute(0, 2, 3, 1).flatten(1)  # Keras flattens (height, width, channels)
    for name in ("features", "head"):
        x = _dense(weights, name, x)
    return x


def torch_resnet(weights, images):
    """A residual network; images (B, 3, 32, 32). Batch normalization in inference mode."""
    from torch.nn import functional

    def convolution(x, name: str, stride: int = 1):
        if weights[f"{name}/kernel"].shape[-1] == 3:
            # On even sizes TensorFlow's SAME padding of stride 2 is at the end alone.
            x = functional.pad(x, (0, 1, 0, 1) if stride == 2 else (1, 1, 1, 1))
        return _convolution(weights, name, x, stride=stride)

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
    return _dense(weights, "head", x.mean((2, 3)))


def _convolution(weights, name: str, x, **options):
    """A convolution without its bias; plus LoGra's B between two projections, where it is."""
    from torch.nn import functional

    y = functional.conv2d(x, weights[f"{name}/kernel"], **options)
    if f"{name}/between" in weights:
        x = functional.conv2d(x, weights[f"{name}/into"], **options)
        x = functional.conv2d(x, weights[f"{name}/between"])
        y = y + functional.conv2d(x, weights[f"{name}/out"])
    return y


def _dense(weights, name: str, x):
    """A dense layer; plus LoGra's B between two projections, where it is."""
    y = x @ weights[f"{name}/kernel"].T + weights[f"{name}/bias"]
    if f"{name}/between" in weights:
        x = x @ weights[f"{name}/into"].T @ weights[f"{name}/between"].T
        y = y + x @ weights[f"{name}/out"].T
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
