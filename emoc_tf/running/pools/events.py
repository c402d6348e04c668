"""What happens to an item beside what its own task tells, by the errors of Ray."""

from typing import Any

from emoc_tf.cluster import processes
from emoc_tf.running.pools import ray_task

# Its process died, alone or with its machine; it failed; it has to be begun on another machine.
DIED, GONE, FAILED, AGAIN = "died", "gone", ray_task.FAILED, "again"


def told(ray: Any, task: Any) -> ray_task.Event:
    """Returns the next event of a task.

    Args:
        ray: The module.
        task: An iterator over references; what is told last, or raised, ends it.
    """
    errors = ray.exceptions
    try:
        return ray.get(next(task))
    except errors.RayTaskError as error:
        if isinstance(error.cause, (OSError, *full(ray))):
            return FAILED, no_room(error.cause)
        told = error.cause if isinstance(error.cause, Exception) else None
        return ray_task.ERROR, told or RuntimeError(f"ray: {processes.last_line(error)}")
    except full(ray) as error:
        ray.cancel(task, force=True)  # what it told is lost, it may live
        return FAILED, no_room(error)
    except errors.NodeDiedError:
        return GONE, "with its machine"
    except errors.OutOfMemoryError:
        return DIED, "for lack of memory"
    except errors.WorkerCrashedError:
        return DIED, "killed or crashed"
    except (errors.RayError, StopIteration) as error:
        ray.cancel(task, force=True)  # what it sent is lost, it may live
        return DIED, type(error).__name__


def full(ray: Any) -> tuple[type[Exception], ...]:
    """Returns what Ray raises when the memory that it shares and its disk are full."""
    return ray.exceptions.OutOfDiskError, ray.exceptions.ObjectStoreFullError


def no_room(error: object, what: str = "the files of a run") -> OSError:
    """Returns that there was no room for what is sent, in a sentence."""
    reason = [*str(error).strip().splitlines(), type(error).__name__][0]
    return OSError(f"ray: no room for {what}: {reason}")
