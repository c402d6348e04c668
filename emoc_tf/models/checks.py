"""What is taken for a model; everything else gets a sentence with a way on."""

from collections.abc import Iterator, Sequence

import keras
import numpy as np

from emoc_tf.models import forks
from emoc_tf.models.graphs import (
    calls_of_head,
    flat_layers,
    has_own_call,
    is_graph,
    is_linear,
    last_operation,
    unwrapped,
)

PRECISIONS = ("float32", "float64")
IN_FLOAT32 = "emoc_tf.models.in_float32(model) returns it in float32, with its weights"


def check_model(model: keras.Model, grows: bool = False) -> keras.layers.Dense:
    """Checks that a model can be scored, and returns its head.

    Args:
        model: What was given.
        grows: Whether the head has to be one that `grow_head` can grow.

    Raises:
        ValueError: The model is not a built functional or Sequential one with one input of numbers
            and one output, does not end in a linear Dense layer, is frozen, mixes precisions, has
            a regulariser of activities (ω is a function of the weights alone), or keeps a state
            from one batch to the next.
    """
    forks.check()
    _check_kind(model)
    head = _check_head(model)
    if not model.trainable_variables:
        raise ValueError(
            "model: expected trainable weights, got a model that is frozen as a whole; set "
            "model.trainable = True, after model.trainable = False if it is True already (Keras "
            "passes on only what is new), then layer.trainable = False where a layer stays frozen"
        )
    for layer in flat_layers(model):
        if getattr(layer, "activity_regularizer", None) is not None:
            raise ValueError(
                f"model: expected regularisers of weights only, got layer {layer.name!r} with an "
                f"activity_regularizer; set it to None"
            )
    for layer in model._flatten_layers():
        if isinstance(layer, keras.layers.RNN) and layer.stateful:
            raise ValueError(
                f"model: expected outputs that follow from a batch alone, got layer {layer.name!r} "
                f"with stateful=True, which begins where the last batch ended; make it with "
                f"stateful=False"
            )
    _check_one_precision(model, head)
    if grows:
        _check_growth(model, head)
    return head


def _check_kind(model: keras.Model) -> None:
    """Checks that the graph of a model can be seen, from one input to one output."""
    wanted = "functional or Sequential, with one input, ending in keras.layers.Dense(C)"
    if not isinstance(model, keras.Model) or not getattr(model, "inputs", None):
        raise ValueError(
            f"model: expected a built keras.Model ({wanted}), got {model!r}{_way_to_a_graph(model)}"
        )
    if has_own_call(model):
        raise ValueError(
            f"model: expected one that computes what its graph says, got {model.name!r} of type "
            f"{type(model).__name__} with a call of its own{_WAY_TO_A_GRAPH}"
        )
    if len(model.inputs) != 1 or len(model.outputs) != 1:
        raise ValueError(
            f"model: expected one input and one output, got {len(model.inputs)} and "
            f"{len(model.outputs)}; choose with keras.Model(model.inputs[0], model.outputs[0]), or "
            f"put several inputs into one that the first layers take apart"
        )
    dtype = model.inputs[0].dtype
    if not any(kind in dtype for kind in ("float", "int", "bool")):
        raise ValueError(
            f"model: expected an input of numbers, got dtype {dtype}; turn texts into numbers "
            f"before, and begin the model behind TextVectorization, with "
            f"keras.Input((length,), dtype='int32')"
        )


_WAY_TO_A_GRAPH = (
    "; a model of a class of its own becomes a functional one by "
    "x = keras.Input(shape); keras.Model(x, model.call(x))"
)


def _way_to_a_graph(model: object) -> str:
    if isinstance(model, keras.Sequential):
        return "; begin it with keras.Input(shape), or call it on a batch"
    if isinstance(model, keras.Model):
        return _WAY_TO_A_GRAPH
    if type(model).__module__.split(".")[0] == "tf_keras" or any(
        base.__module__.startswith(("tf_keras.", "tensorflow.python.keras"))
        for base in type(model).__mro__
    ):
        return (
            ", which is one of Keras 2; save it by model.save('model.h5') and load it by "
            "keras.models.load_model('model.h5')"
        )
    return ""


def _check_head(model: keras.Model) -> keras.layers.Dense:
    head = last_operation(unwrapped(model))
    if not isinstance(head, keras.layers.Dense) or len(model.outputs[0].shape) != 2:
        raise ValueError(
            f"model: expected one that ends in a linear Dense layer with output (batch, C), got "
            f"last layer {head.name!r} of type {type(head).__name__}{_way_past(head)}"
        )
    if not is_linear(head.activation):
        raise ValueError(
            f"model: expected one that ends in a linear Dense layer, got layer {head.name!r} with "
            f"activation {keras.activations.serialize(head.activation)!r}; give it "
            f"activation=None, since scores and loss take logits, and in a model that is trained "
            f"already set {_path_of(model)}.activation = keras.activations.linear"
        )
    return head


def _way_past(layer: keras.Operation) -> str:
    """Returns how a softmax is dropped, or what else ends a model in a linear layer."""
    is_softmax = isinstance(layer, keras.layers.Softmax) or (
        isinstance(layer, keras.layers.Activation) and layer.activation is keras.activations.softmax
    )
    if not is_softmax and "softmax" not in layer.name:
        return "; end it with keras.layers.Dense(C), and score it without what follows that layer"
    drop = " (drop the softmax: scores and loss take logits"
    if not isinstance(layer, keras.layers.Layer):
        return f"{drop}, as keras.Model(model.inputs, model.layers[-1].output) returns them)"
    return f"{drop}, as keras.Model(model.inputs, model.layers[-1].input) returns them)"


def _path_of(model: keras.Model) -> str:
    """Returns where the head of a model is, as Python reaches it."""
    path, last = "model.layers[-1]", last_operation(model)
    while is_graph(last):
        path, last = f"{path}.layers[-1]", last_operation(last)
    return path


def check_precision(model: keras.Model, allowed: Sequence[str] = PRECISIONS) -> None:
    """Raises `ValueError` if a layer computes, or keeps weights, in another precision."""
    for layer in _own_layers(model):
        policy, computed = layer.dtype_policy.name, layer.compute_dtype
        if computed in ("float16", "bfloat16") or (layer.variables and policy not in allowed):
            raise ValueError(
                f"model: expected layers in {' or '.join(allowed)}, got {policy} in layer "
                f"{layer.name!r}; {IN_FLOAT32}"
            )


def _own_layers(model: keras.Model) -> Iterator[keras.Layer]:
    """Yields the layers that compute, those within other layers too."""
    for layer in model._flatten_layers():
        if not isinstance(layer, keras.Model | keras.layers.InputLayer):
            yield layer


def _check_one_precision(model: keras.Model, head: keras.layers.Dense) -> None:
    check_not_quantised(model)
    check_precision(model)
    for layer in _own_layers(model):
        policy = layer.dtype_policy.name
        if layer.variables and policy != head.dtype_policy.name:
            raise ValueError(
                f"model: expected one precision, got layer {layer.name!r} in {policy} and "
                f"{head.name!r} in {head.dtype_policy.name}; {IN_FLOAT32}"
            )
        # Keras makes the weights of an adapter in float32 whatever the layer is in.
        for variable in layer.trainable_variables:
            if variable.dtype != head.variable_dtype:
                raise ValueError(
                    f"model: expected one precision, got variable {variable.path!r} in "
                    f"{variable.dtype} and {head.name!r} in {head.variable_dtype}; {IN_FLOAT32}"
                )


def check_not_quantised(model: keras.Model) -> None:
    """Raises `ValueError` if a layer is quantised, whose weights nothing is differentiated by."""
    for layer in model._flatten_layers():
        if mode := getattr(layer, "quantization_mode", None):
            raise ValueError(
                f"model: expected layers that are not quantised, got {layer.name!r} in {mode}; "
                f"take the model as it was before quantize()"
            )


def _check_growth(model: keras.Model, head: keras.layers.Dense) -> None:
    if type(head) is not keras.layers.Dense:
        raise ValueError(
            f"model: expected a head of type Dense, which can grow by a class, got {head.name!r} "
            f"of type {type(head).__name__}; only scoring, and novel_classes=0 without a task or "
            f"an oracle of yours, go without growth"
        )
    if getattr(head, "lora_enabled", False) or getattr(head, "quantization_mode", None):
        raise ValueError(
            f"model: expected a head that can grow by a class, got {head.name!r} with an adapter "
            f"or quantised; build a plain Dense({head.units}) in its place and give it the product"
        )
    _check_calls(model, head)


def _check_calls(model: keras.Model, head: keras.layers.Dense) -> None:
    if (count := calls_of_head(model)) != 1:
        raise ValueError(
            f"model: expected a head that is called once, got {head.name!r} called {count} times; "
            f"give the model a Dense layer of its own at the end"
        )


def check_shapes(model: keras.Model, image_shape: tuple[int, ...], num_classes: int) -> None:
    """Checks that a float32 model takes images of a shape and has an output a known class.

    Raises:
        ValueError: It does not.
    """
    shape = model.inputs[0].shape[1:]
    head = check_model(model)
    _check_calls(model, head)
    if head.dtype_policy.name != "float32":
        raise ValueError(
            f"model: expected layers in float32, got {head.dtype_policy.name}; {IN_FLOAT32}"
        )
    fits = len(shape) == len(image_shape) and all(
        have in (None, want) for have, want in zip(shape, image_shape, strict=True)
    )
    if not fits:
        raise ValueError(f"model: expected input shape {tuple(image_shape)}, got {shape}")
    if model.output_shape[-1] != num_classes:
        raise ValueError(
            f"model: expected {num_classes} outputs, one for each of known_classes, got "
            f"{model.output_shape[-1]}"
            + (f"; {TWO_OUTPUTS}" if model.output_shape[-1] == 1 else "")
        )


# What to do with the head of a logistic model: softmax of (0, z) is (1 − σ(z), σ(z)).
TWO_OUTPUTS = (
    "one that stands for two classes becomes two by head = keras.layers.Dense(2); "
    "new = keras.Model(model.inputs, head(model.layers[-1].input)); "
    "w, b = model.layers[-1].get_weights(); "
    "head.set_weights([np.pad(w, ((0, 0), (1, 0))), np.pad(b, (1, 0))])"
)


def check_outputs(model: keras.Model) -> None:
    """Raises `ValueError` if a model has a single output, which leaves no label to choose from.

    Its softmax is 1 whatever the image, the loss 0, and so would be every score.
    """
    if model.output_shape[-1] == 1:
        raise ValueError(
            f"model: expected an output for each of at least two classes, got one, under which "
            f"all images score alike; {TWO_OUTPUTS}"
        )


def check_integers(images: np.ndarray, name: str, model: keras.Model) -> np.ndarray:
    """Returns images in the integers that a model takes; as they are where it takes fractions.

    Args:
        images: Finite numbers.
        name: What they are, for the message.
        model: The model with one input.

    Raises:
        ValueError: A value is a fraction, or out of the range of these integers.
    """
    dtype = model.inputs[0].dtype
    if "float" in dtype:
        return images
    if images.dtype.kind == "f" and not (whole := images == np.floor(images)).all():
        raise ValueError(f"{name}: expected integers for this model, got {images[~whole][0]}")
    low, high = (0, 1) if dtype == "bool" else (np.iinfo(dtype).min, np.iinfo(dtype).max)
    if images.min() < low or images.max() > high:
        outside = images[(images < low) | (images > high)][0]
        raise ValueError(
            f"{name}: expected integers in [{low}, {high}], since the model takes {dtype}, got "
            f"{outside}"
        )
    return images.astype(dtype, copy=False)
