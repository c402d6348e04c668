"""What an exploration saves between two steps, as arrays, and how it is taken up again."""

import dataclasses
from collections.abc import Mapping

import numpy as np

from emoc_tf.data.images import read_only
from emoc_tf.exploration.episode import Episode
from emoc_tf.exploration.oracle import Query
from emoc_tf.exploration.state import ExplorationState


def to_arrays(
    root: int, episode: Episode, state: ExplorationState, query: Query | None
) -> dict[str, np.ndarray]:
    """Returns all that is saved beside the network: the end of the last step, and the query.

    Args:
        root: Of the episode, a function of which it is drawn.
        episode: Whose images are recognised by their hash.
        state: At the end of the last step.
        query: One that was begun, or None.
    """
    arrays = {
        "root": np.array(root),
        "step": np.array(state.step),
        "images": np.array(episode.digest),
        "known_classes": np.array(state.known_classes),
        "labels": state.pool.labels,
    }
    if query is not None:
        arrays["query"] = np.array(query.choice)
        arrays["queried_images"] = state.candidates[query.choice]
        if query.classes is not None:
            arrays["answer"] = query.classes
    return arrays


def known_classes(arrays: Mapping[str, np.ndarray], episode: Episode) -> list[int]:
    """Returns the class ids known when `to_arrays` was called.

    Raises:
        ValueError: The arrays belong to an episode of other images or classes.
    """
    if str(arrays["images"]) != episode.digest:
        raise ValueError("checkpoint: expected one of the same images, got others")
    first = list(episode.classes[: episode.num_known])
    known = arrays["known_classes"].tolist()
    if known[: len(first)] != first or not set(known) <= set(episode.classes):
        raise ValueError(
            f"checkpoint: expected classes of the episode, {episode.classes}, got {known}"
        )
    return known


def take_up_query(
    arrays: Mapping[str, np.ndarray], state: ExplorationState
) -> tuple[Query | None, ExplorationState]:
    """Returns the saved query, if there is one, and the state with its set in its place.

    On another machine the network's features, and with them the sets of the cluster sampler, may
    differ; an answer belongs to the images that were shown.
    """
    if "query" not in arrays:
        return None, state
    query = Query(int(arrays["query"]), arrays.get("answer"))
    sets, mask = state.candidates.copy(), state.candidate_mask.copy()
    sets[query.choice], mask[query.choice] = arrays["queried_images"], True
    state = dataclasses.replace(state, candidates=read_only(sets), candidate_mask=read_only(mask))
    return query, state
