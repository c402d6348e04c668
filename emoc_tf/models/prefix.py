"""The frozen beginning of a model, and the rest of it.

What frozen layers compute of an image is always the same, as long as nothing random and nothing
that is trained lies before them: it need not be computed again and again.
"""

import warnings
import weakref
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import keras
import tensorflow as tf

from emoc_tf.models.closures import read_by
from emoc_tf.models.fixed_calls import has_mask, inner, is_fixed, makes_mask
from emoc_tf.models.graphs import functional, is_graph, outer_calls, plain, unnoted
from emoc_tf.models.known_bodies import KnownBody, known_body


class Split(NamedTuple):
    """A model in two parts, on its own layers.

    Attributes:
        prefix: Images to what the rest gets of them, in inference mode always.
        rest: That to logits, all trainable layers included.
        parts: The operations of the prefix in their order; equal for equal prefixes.
        reads: Frozen variables of other layers that functions in the prefix read.
    """

    prefix: keras.Model
    rest: keras.Model
    parts: tuple[keras.Operation, ...]
    reads: tuple[tf.Variable, ...] = ()


class _Call(NamedTuple):
    """A call in a model's graph.

    Attributes:
        operation: What is called.
        given: Its arguments, positional and by name.
        outputs: Tensors that it gives.
        trains: Whether weights in it are trained, or others that it reads.
        fixed: Whether it computes the same of equal inputs, today and tomorrow.
        reads: Variables that it reads, as far as functions of the user's are called.
    """

    operation: keras.Operation
    given: tuple[Any, dict[str, Any]]
    outputs: list[keras.KerasTensor]
    trains: bool
    fixed: bool
    reads: tuple[tf.Variable, ...]

    @property
    def inputs(self) -> list[int]:
        """Ids of the tensors that it gets."""
        return [id(tensor) for tensor in _tensors(self.given)]

    @property
    def has_weights(self) -> bool:
        """Whether there is a layer with weights that could be trained, or come from training."""
        if not isinstance(self.operation, keras.Layer):
            return False
        return any(
            each.weights and not isinstance(each, keras.layers.Normalization)
            for each in inner(self.operation)
        )


def split(model: keras.Model) -> Split | None:
    """Returns a model in two parts; None where no layer with weights is frozen at its beginning.

    The prefix ends before the first layer that is trained, that is random in training (dropout,
    augmentation) or changes a state, and where everything goes through one tensor. A layer that is
    called with `training=False`, or lies in a frozen model that is, counts as in inference mode:
    that is what the call says.

    Args:
        model: One that `check_model` accepts; nested models may be opened.
    """
    if not model.non_trainable_variables:
        return None
    # Known again as long as the model is there: layers hold each graph that is built on them.
    key = known_body(functional(model)), [each.trainable for each in inner(model)]
    found = _splits.get(model)
    if found is None or found[0] != key:
        found = _splits[model] = key, _split(model)
    return found[1]


_splits = weakref.WeakKeyDictionary[keras.Model, tuple[tuple[KnownBody, list], Split | None]]()


def _split(model: keras.Model) -> Split | None:
    image, output, calls = _graph(model)
    cut = _last_cut(image, output, calls, _reached(image, calls, lambda call: call.fixed))
    if cut is None:
        return None
    tensor, before = cut
    return Split(
        keras.Model(image, tensor),
        _rest(tensor, output, calls),
        tuple(call.operation for call in before),
        tuple({id(each): each for call in before for each in call.reads}.values()),
    )


def hindrance(model: keras.Model) -> str | None:
    """Returns what keeps frozen layers out of the prefix, in a sentence; None if nothing does.

    Args:
        model: As for `split`.
    """
    if not model.non_trainable_variables:
        return None
    with unnoted(model):
        image, output, calls = _graph(model)
    now = _last_cut(image, output, calls, _reached(image, calls, lambda call: call.fixed))
    without = _last_cut(image, output, calls, _reached(image, calls, lambda c: not c.trains))
    have = [] if now is None else [call for call in now[1] if call.has_weights]
    could_have = [] if without is None else [call for call in without[1] if call.has_weights]
    if len(could_have) <= len(have):
        return None
    layer = next(call.operation for call in without[1] if not call.fixed)
    return (
        f"model: what frozen layers compute is computed anew in each iteration, since "
        f"{layer.name!r} ({type(layer).__name__}) before them may be random or change in training; "
        f"leave it out, or call it, or the model that it is in, with training=False, and it is "
        f"computed once an image"
    )


def warn_of_repeated_work(model: keras.Model) -> None:
    """Warns where frozen layers lie behind something random, see `hindrance`."""
    told = hindrance(model)
    if told is not None:
        warnings.warn(told, stacklevel=3)


def _graph(model: keras.Model) -> tuple[keras.KerasTensor, keras.KerasTensor, list[_Call]]:
    """Returns input, output and all calls of a model; nested ones are opened if partly fixed.

    Calls are those that the graph has, made anew only behind what is opened.
    """
    calls: list[_Call] = []
    # Told by the model: a layer in a frozen one may be trained all the same.
    trained = {id(variable) for variable in model.trainable_variables}
    values = {id(variable.value) for variable in model.trainable_variables}

    def note(operation: keras.Operation, args: Any, kwargs: Any, outputs: Any = None) -> Any:
        own = operation.variables if isinstance(operation, keras.Layer) else ()
        trains = not trained.isdisjoint(map(id, own))
        reads: tuple[tf.Variable, ...] | None = ()
        if not trains:
            reads = read_by(operation, args, kwargs)
            trains = not values.isdisjoint(map(id, reads or ()))
        fixed = not trains and reads is not None and is_fixed(operation, args, kwargs)
        fixed = fixed and not makes_mask(operation)
        partly = trains and not trained.issuperset(id(each) for each in operation.weights)
        if (
            is_graph(operation)
            and len(operation.outputs) == 1
            and (partly or not (trains or fixed))
        ):
            return _opened(operation, args[0] if args else kwargs["inputs"], again)
        found = operation(*args, **kwargs) if outputs is None else outputs
        given = list(_tensors(found))
        fixed = fixed and not any(map(has_mask, given))
        calls.append(_Call(operation, (args, kwargs), given, trains, fixed, reads or ()))
        return found

    def again(operation: keras.Operation, *args: Any, **kwargs: Any) -> Any:
        return note(operation, args, kwargs)

    graph = functional(model)
    now: dict[int, keras.KerasTensor] = {}
    for each in outer_calls(graph):
        args, kwargs = _with(now, (each.args, each.kwargs))
        known = now.keys().isdisjoint(map(id, _tensors((each.args, each.kwargs))))
        found = note(each.operation, args, kwargs, each.outputs if known else None)
        pairs = zip(each.outputs, _tensors(found), strict=True)
        now.update({id(old): new for old, new in pairs if old is not new})
    output = graph.outputs[0]
    return graph.inputs[0], now.get(id(output), output), calls


def _with(now: dict[int, keras.KerasTensor], given: Any) -> Any:
    """Returns arguments with other tensors in the place of some."""
    return keras.tree.map_structure(lambda each: now.get(id(each), each), given)


def _opened(graph: keras.Model, inputs: Any, call: Callable) -> keras.KerasTensor:
    """Calls what a nested model consists of, one by one; returns its output."""
    # As clone_model does, but without a model of it, which fails where a layer is called twice.
    found = plain(graph)._run_through_graph(list(_tensors(inputs)), call_fn=call)
    return keras.tree.flatten(found)[0]


def _rest(
    tensor: keras.KerasTensor, output: keras.KerasTensor, calls: Sequence[_Call]
) -> keras.Model:
    """Returns the model from a tensor on, on the same layers."""
    image = keras.Input(tensor.shape[1:], dtype=tensor.dtype)
    now: dict[int, Any] = {id(tensor): image}

    needed = _before(output, _made(calls), stop=id(tensor))
    for call in calls:
        if id(tensor) in map(id, call.outputs) or needed.isdisjoint(map(id, call.outputs)):
            continue
        args, kwargs = _with(now, call.given)
        found = _tensors(call.operation(*args, **kwargs))
        now.update({id(old): new for old, new in zip(call.outputs, found, strict=True)})
    return keras.Model(image, now[id(output)])


def _made(calls: Sequence[_Call]) -> dict[int, _Call]:
    return {id(tensor): call for call in calls for tensor in call.outputs}


def _tensors(structure: Any) -> Iterator[keras.KerasTensor]:
    for each in keras.tree.flatten(structure):
        if isinstance(each, keras.KerasTensor):
            yield each


def _reached(
    image: keras.KerasTensor, calls: Sequence[_Call], passes: Callable[[_Call], bool]
) -> set[int]:
    """Returns ids of the tensors that come from the image through such calls alone."""
    reached = {id(image)}
    for call in calls:
        if passes(call) and reached.issuperset(call.inputs):
            reached.update(map(id, call.outputs))
    return reached


def _last_cut(
    image: keras.KerasTensor,
    output: keras.KerasTensor,
    calls: Sequence[_Call],
    reached: set[int],
) -> tuple[keras.KerasTensor, list[_Call]] | None:
    """Returns the last tensor reached that all goes through, and the calls that lead to it.

    None if there is none behind a layer with weights.
    """
    made = _made(calls)
    for call in reversed(calls):
        for tensor in call.outputs:
            if id(tensor) not in reached or tensor is output:
                continue
            if id(image) in _before(output, made, stop=id(tensor)):
                continue
            ids = _before(tensor, made)
            before = [each for each in calls if not ids.isdisjoint(map(id, each.outputs))]
            return (tensor, before) if any(each.has_weights for each in before) else None
    return None


def _before(tensor: keras.KerasTensor, made: dict[int, _Call], stop: int | None = None) -> set[int]:
    """Returns ids of all that a tensor comes from, itself included; nothing behind `stop`."""
    found, left = set(), [id(tensor)]
    while left:
        each = left.pop()
        if each not in found:
            found.add(each)
            if each != stop and each in made:
                left += made[each].inputs
    return found
