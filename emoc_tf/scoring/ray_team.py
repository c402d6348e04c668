"""What a process sends to actors for its scorers: models, weights, images and work."""

import atexit
import collections
import hashlib
import uuid
import weakref
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import keras
import numpy as np

from emoc_tf.cluster.connection import Connection, connect, ray
from emoc_tf.cluster.crew import Crew
from emoc_tf.cluster.tasks import Task
from emoc_tf.models.forward import batch_of
from emoc_tf.scoring.images import Images, check_images
from emoc_tf.scoring.ray_images import Sender, UnseenError
from emoc_tf.scoring.ray_models import pack, sent_graph
from emoc_tf.scoring.ray_worker import Job, SentModel, Worker

_AT_ONCE = 8  # batches of forward passes in a task
_KEPT = 4  # weights that are held for actors

# By the arguments of `shared`. Those that are on one cluster have the same actors, since two crews
# would reserve the same CPUs.
_teams: dict[tuple[str | None, int], "Team"] = {}


class Work:
    """A job on its way: sent once, and again only with images that an actor did not see.

    Args:
        job: See below.
        given: Its images, by name, as they were before they were sent.

    Attributes:
        job: What the tasks have in common.
    """

    def __init__(self, job: Job, given: Mapping[str, Images]) -> None:
        self.job, self._given = job, given
        self._sent: tuple[str, list] | None = None

    def along(self, directions: list) -> "Work":
        """Returns the same work by sketched gradients, see `Job`."""
        return Work(self.job._replace(directions=directions), self._given)

    def sent(self) -> tuple[str, list]:
        """Returns its key and a list with a reference, the first arguments of its tasks."""
        if self._sent is None:
            self._sent = uuid.uuid4().hex, [ray().put(self.job)]
        return self._sent

    def send_again(self, sender: Sender) -> None:
        """Takes the images as they are sent by now; anew where others took their place since."""
        sent = {name: sender.send(images) for name, images in self._given.items()}
        self.job = self.job._replace(**sent)
        self._sent = None


class Team:
    """Actors on a cluster and what they have got; begun when there is work.

    Args:
        address: As `connect` takes it.
        cpus: CPUs that an actor reserves, and threads that it uses.

    Attributes:
        alike: See `Crew`; once somebody needs it all others have it.
    """

    def __init__(self, address: str | None, cpus: int) -> None:
        self._address, self._cpus, self.alike = address, cpus, False
        self._crew: Crew | None = None
        self._cluster: tuple[str, ...] | None = None
        self._forget()

    def _forget(self) -> None:
        self._sender, self._contents = Sender(), {}
        self._weights: collections.OrderedDict[str, Any] = collections.OrderedDict()

    def begin(self) -> Crew:
        """Returns the actors, begun anew if they were ended or their connection was closed.

        Raises:
            ValueError: There is no cluster, no machine of it lends so many CPUs, or actors of this
                process with another number of CPUs are on it.
        """
        if self._crew is not None and (self._crew.closed or _cluster() != self._cluster):
            self._crew = None
            self._forget()
        if self._crew is None:
            connection = connect(self._address)
            try:
                self._join(connection)
            except ValueError:
                connection.close()
                raise
            atexit.register(self.close)  # after Ray's own, so that it runs before it
        self._crew.alike |= self.alike
        return self._crew

    def _join(self, connection: Connection) -> None:
        """Takes the actors of another team on the same cluster, or makes them."""
        crew, self._cluster = Crew(connection, Worker, self._cpus), _cluster()
        for other in _teams.values():
            if other._crew is None or other._crew.closed or other._cluster != self._cluster:
                continue
            if other._cpus != self._cpus:
                raise ValueError(
                    f"cpus: expected {other._cpus}, as the actors have that this process has on "
                    f"the cluster already, got {self._cpus}; `close()` of their scorer ends them, "
                    f"TF_NUM_INTRAOP_THREADS tells how many a process uses"
                )
            self._sender, self._contents = other._sender, other._contents
            self._weights, crew = other._weights, other._crew
            break
        self._crew = crew

    def close(self) -> None:
        """Ends the actors, and the connection if it was made for them."""
        if self._crew is not None and not self._crew.closed and _cluster() == self._cluster:
            self._crew.close()
        self._crew = None
        self._forget()
        atexit.unregister(self.close)

    def model(self, key: str, model: keras.Model) -> SentModel:
        """Returns a model as it is sent; it goes once, its weights whenever they are others.

        Args:
            key: Another one for each state of its structure.
            model: The model.
        """
        self.begin()
        if key not in self._contents:
            graph = sent_graph(model)
            self._contents[key] = ray().put(pack(graph)), graph.weights
        content, weights = self._contents[key]
        values = [variable.value.numpy() for variable in weights]
        digest = hashlib.blake2b(digest_size=20)
        for value in values:
            digest.update(repr((value.dtype.str, value.shape)).encode())
            digest.update(np.ascontiguousarray(value).data)
        name = digest.hexdigest()
        if name not in self._weights:
            self._weights[name] = ray().put(values)
            while len(self._weights) > _KEPT:
                self._weights.popitem(last=False)
        self._weights.move_to_end(name)
        return SentModel(key, content, name, self._weights[name])

    def forget_model(self, key: str) -> None:
        """Lets go of a model that nobody uses any more."""
        self._contents.pop(key, None)

    def work(
        self, model: SentModel, what: str, settings: dict, images: Images, **more: Any
    ) -> Work:
        """Returns work, with arguments as of `Job`; `reference` are images like the others."""
        given = {"images": images}
        if (reference := more.pop("reference", None)) is not None:
            given["reference"] = reference
        sent = {name: self._sender.send(images) for name, images in given.items()}
        return Work(Job(model, what, settings, **sent, **more), given)

    def run(self, work: Work, tasks: Sequence[Task]) -> Iterator[tuple[int, Any]]:
        """Does tasks, as `Crew.run`; images that an actor does not see are sent.

        Args:
            work: What they have in common, which becomes their first arguments.
            tasks: With the other ones.
        """
        crew, left = self.begin(), dict(enumerate(tasks))
        while left:
            key, sent = work.sent()
            order = list(left)
            now = [
                task._replace(arguments=(key, sent, *task.arguments), group=(key, task.group))
                for task in left.values()
            ]
            try:
                for place, result in crew.run(now):
                    del left[order[place]]
                    yield order[place], result
            except UnseenError as unseen:
                self._sender.send_whole(unseen)
                work.send_again(self._sender)

    def outputs(
        self, model: SentModel, what: str, settings: dict, images: Images
    ) -> Iterator[tuple[int, tuple[np.ndarray, ...]]]:
        """Yields outputs of forward passes for some images, in any order, and the first of these.

        Args:
            model: As of `Job`, as for the following.
            what: See there.
            settings: See there.
            images: See there.
        """
        size = batch_of(images.shape)
        count = -(-len(images) // size)
        tasks = [
            Task("forward", (range(start, min(start + _AT_ONCE, count)),))
            for start in range(0, count, _AT_ONCE)
        ]
        work = self.work(model, what, settings, images)
        for place, result in self.run(work, tasks):
            parts = result if isinstance(result, tuple) else (result,)
            yield place * _AT_ONCE * size, parts

    def forward(
        self, model: SentModel, what: str, settings: dict, images: Images
    ) -> list[np.ndarray]:
        """Returns the outputs of forward passes for all images, with arguments as of `outputs`."""
        found: list[np.ndarray] = []
        for start, parts in self.outputs(model, what, settings, images):
            if not found:
                found = [np.empty((len(images), *each.shape[1:]), each.dtype) for each in parts]
            for whole, part in zip(found, parts, strict=True):
                whole[start : start + len(part)] = part
        return found

    def __len__(self) -> int:
        return len(self.begin())


class Predictor:
    """Features and logits of many images, by models as they are at each call.

    Args:
        team: Who computes.
    """

    def __init__(self, team: Team) -> None:
        self._team = team
        self._keys: weakref.WeakKeyDictionary = weakref.WeakKeyDictionary()

    def predict(self, model: keras.Model, images: Any) -> tuple[np.ndarray, np.ndarray]:
        """Returns features (n, d), the inputs of the model's head, and logits (n, C).

        Args:
            model: One that `check_model` accepts; its layers stay as they are between two calls.
            images: (n, ...), n > 0, as it takes them: an array or array-like, see `data.views`.

        Raises:
            ValueError: Images of another shape, or a model that cannot be sent.
        """
        sent, images = self._sent(model), check_images(images, "images", model)
        features, logits = self._team.forward(sent, "features", {}, images)
        return features, logits

    def outputs(self, model: keras.Model, images: Any) -> Iterator[tuple[int, np.ndarray]]:
        """Yields what any model with one output gives of some images, and the first of these.

        Args:
            model: The model, in inference mode.
            images: As in `predict`.
        """
        sent, images = self._sent(model), check_images(images, "images", model)
        for start, (outputs,) in self._team.outputs(sent, "outputs", {}, images):
            yield start, outputs

    def _sent(self, model: keras.Model) -> SentModel:
        if model not in self._keys:
            self._keys[model] = key = uuid.uuid4().hex
            weakref.finalize(model, self._team.forget_model, key)
        return self._team.model(self._keys[model], model)


def shared(address: str | None, cpus: int) -> Team:
    """Returns the team of this process for an address and a number of CPUs."""
    return _teams.setdefault((address, cpus), Team(address, cpus))


def _cluster() -> tuple[str, ...] | None:
    """Returns which connection this process has, told from those before; None without one."""
    if not ray().is_initialized():
        return None
    # A cluster that has just begun counts its jobs from 1, and may have the address of the last.
    here = ray().get_runtime_context()
    return here.gcs_address, here.get_node_id(), here.get_job_id()
