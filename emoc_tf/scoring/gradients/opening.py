"""Layers that are made of other layers, such as attention, opened: their layers seen in the graph.

What a layer does is written down by calling its `call` on the graph's own tensors.
"""

import keras

from emoc_tf.models.graphs import calls_in, inner_layers, is_graph, trained_variables, walk

layers = keras.layers


def opened(model: keras.Model) -> tuple[keras.Model, set[int]]:
    """Returns a model whose layers made of layers are opened, and the ids of these.

    The layers with weights are the model's. A layer stays as it is where it has weights beside
    those of its layers, gets a mask, or does what no graph tells.

    Args:
        model: A functional model.
    """
    composed = {id(each.operation) for each in calls_in(model) if _is_composed(each.operation)}
    if not composed:
        return model, composed
    shut: set[int] = set()
    inner: dict[int, keras.Model] = {}

    def call(layer, *args, **kwargs):
        if is_graph(layer):
            if has_mask((args, kwargs)):  # which layers in it get without being told
                return layer(*args, **kwargs)
            if id(layer) not in inner:
                inner[id(layer)], _ = opened(layer)
            return inner[id(layer)](*args, **kwargs)
        if id(layer) in composed - shut:
            found = _through(layer, args, kwargs)
            if found is not None:
                return found
            shut.add(id(layer))
        return layer(*args, **kwargs)

    found = walk(model, call)
    if shut and shut != composed:  # all calls of a layer are opened, or none
        composed -= shut
        found = walk(model, call)
    still = {id(each.operation) for each in calls_in(found)}
    return found, composed - shut - still


def has_mask(tensors: object) -> bool:
    """Whether one of some tensors comes with a mask, which layers get without being told."""
    return any(
        getattr(tensor, "_keras_mask", None) is not None for tensor in keras.tree.flatten(tensors)
    )


def leaves_of(layer: keras.Layer) -> list[keras.Layer]:
    """Returns the layers with weights of their own that a layer is made of."""
    found: dict[int, keras.Layer] = {}
    for each in layer._layers:
        leaf = isinstance(each, layers.RNN) or bool(each._trainable_variables)
        found.update({id(each): each} if leaf else {})
        if not isinstance(each, layers.RNN):  # of which the cell is a part
            found.update({id(inner): inner for inner in leaves_of(each)})
    return list(found.values())


def _is_composed(layer: keras.Operation) -> bool:
    """Whether all trainable weights of a layer are those of its layers."""
    if not isinstance(layer, keras.Layer) or is_graph(layer) or not trained_variables(layer):
        return False
    own = {id(v) for each in leaves_of(layer) for v in _own_variables(each)}
    whole = own.issuperset(id(variable) for variable in trained_variables(layer))
    return whole and not isinstance(layer, layers.RNN)


def _own_variables(leaf: keras.Layer) -> list[keras.Variable]:
    return leaf.variables if isinstance(leaf, layers.RNN) else leaf._trainable_variables


def _through(layer: keras.Layer, args: tuple, kwargs: dict) -> object | None:
    """Returns what a layer's call gives for the graph's tensors; None where it is no graph."""
    given = {key: each for key, each in kwargs.items() if key != "training" and each is not None}
    if type(layer) is layers.Bidirectional:
        return _both_ways(layer, *args, **given)
    flat = keras.tree.flatten((args, given))
    tensors = [each for each in flat if isinstance(each, keras.KerasTensor)]
    if has_mask(tensors) or any(each.dtype != layer.compute_dtype for each in tensors):
        return None
    if isinstance(layer, layers.TimeDistributed) and type(layer.layer) is layers.Dense:
        return layer.layer(*args, **given)  # which it calls at each time
    # A model of its own: names of layers may come again in another one.
    distinct = list({id(each): each for each in tensors}.values())
    inputs = {id(t): keras.Input(batch_shape=t.shape, dtype=t.dtype) for t in distinct}
    inside = [inputs.get(id(each), each) for each in flat]
    inner_args, inner_kwargs = keras.tree.pack_sequence_as((args, given), inside)
    try:
        found = layer.call(*inner_args, **inner_kwargs)
        found = _shaped(found, layer.compute_output_spec(*args, **given))
        inner, _ = opened(keras.Model(list(inputs.values()), found))
    except Exception:
        return None  # it may do whatever cannot be written down
    seen = {id(each) for each in inner_layers(inner)}
    if not seen.issuperset(id(each) for each in leaves_of(layer)):
        return None
    return inner(distinct)


def _both_ways(
    layer: keras.layers.Bidirectional,
    inputs: keras.KerasTensor,
    initial_state: object = None,
    mask: object = None,
    **others: object,
) -> keras.KerasTensor | None:
    """Returns what two recurrent layers give together; None where more than a tensor is to come."""
    masked = mask is not None and layer.return_sequences  # another one is to go on
    if (
        others
        or initial_state is not None
        or masked
        or layer.return_state
        or layer.merge_mode is None
    ):
        return None
    one, other = (each(inputs, mask=mask) for each in (layer.forward_layer, layer.backward_layer))
    other = keras.ops.flip(other, axis=1) if layer.return_sequences else other
    if layer.merge_mode == "concat":
        return keras.ops.concatenate([one, other], axis=-1)
    if layer.merge_mode == "mul":
        return one * other
    return (one + other) / (2 if layer.merge_mode == "ave" else 1)


def _shaped(found: object, expected: object) -> object:
    """Returns tensors with the sizes that are expected of them; raises `ValueError` for others."""
    have, want = keras.tree.flatten(found), keras.tree.flatten(expected)
    fits = len(have) == len(want) and all(
        one.dtype == other.dtype
        and len(one.shape) == len(other.shape)
        and all(a in (None, b) for a, b in zip(one.shape, other.shape, strict=True))
        for one, other in zip(have, want, strict=True)
    )
    if not fits:
        raise ValueError(f"expected {expected}, got {found}")
    # What is not told, such as the times of an Einstein sum, is to be known behind.
    return keras.tree.pack_sequence_as(
        found,
        [
            one
            if one.shape == other.shape or None in other.shape[1:]
            else keras.ops.reshape(one, (-1, *other.shape[1:]))
            for one, other in zip(have, want, strict=True)
        ],
    )
