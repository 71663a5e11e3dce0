"""Looking at many records on all cores."""

import functools
import os
import pickle
import signal
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing import get_context

import cv2

from jaxseg.data.checking.look import Look, look_at
from jaxseg.data.sources import Source
from jaxseg.data.transforms import Transform
from jaxseg.errors import DataError

_CHUNK = 32  # records that a process takes at a time
_FEW = 256  # fewer records are read sooner than processes start


@dataclass(frozen=True)
class Task:
    """Records of one part to look at.

    Attributes:
        source: where they are.
        steps: those that load.
        indices: of the records.
        numbers: those of them whose stored numbers are to be noted.
    """

    source: Source
    steps: tuple[Transform, ...]
    indices: tuple[int, ...]
    numbers: frozenset[int] = frozenset()


_tasks: tuple[Task, ...] = ()  # of a worker process


def read_all(
    tasks: Sequence[Task],
    workers: int | None = None,
    advance: Callable[[], None] = lambda: None,
    threads: int = 1,
) -> list[list[Look]]:
    """Looks at all records of all tasks, in their order.

    Args:
        tasks: a part each.
        workers: processes; None: one a core, 0: threads of this process. Processes are started afresh, not forked,
            so this is safe in a process that has threads, such as JAX's.
        advance: called after each record.
        threads: of this process, where it reads itself.

    Raises:
        DataError: a process was killed.
    """
    places = [(number, index) for number, task in enumerate(tasks) for index in task.indices]
    workers = cores() if workers is None else workers
    processes = workers > 0 and len(places) > _FEW and _can_travel(tasks)
    found: list[list[Look]] = [[] for _ in tasks]
    if processes:
        pool: Executor = ProcessPoolExecutor(
            workers, mp_context=get_context("spawn"), initializer=_start_process, initargs=(tuple(tasks),)
        )
    else:
        pool = ThreadPoolExecutor(max(workers, threads), thread_name_prefix="check")
    try:
        if processes:
            looks = pool.map(_look_in_process, places, chunksize=_CHUNK)
        else:
            looks = pool.map(functools.partial(_look, tasks), places)
        for (number, _), look in zip(places, looks, strict=True):
            found[number].append(look)
            advance()
    except BrokenProcessPool as error:
        raise DataError(
            "A process that read the files was killed: either memory ran out, which fewer --workers help against, or a "
            "file brings the decoder down; --workers=0 reads in one process, and its last words may name it."
        ) from error
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
    return found


def cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _can_travel(tasks: Sequence[Task]) -> bool:
    """Whether processes can be sent the sources; of a user's own kind they may not."""
    try:
        pickle.dumps(tuple(tasks))
    except (pickle.PicklingError, AttributeError, TypeError):
        return False
    return True


def _start_process(tasks: tuple[Task, ...]) -> None:
    global _tasks
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the process that started this one ends it
    cv2.setNumThreads(1)
    _tasks = tasks


def _look_in_process(place: tuple[int, int]) -> Look:
    return _look(_tasks, place)


def _look(tasks: Sequence[Task], place: tuple[int, int]) -> Look:
    number, index = place
    task = tasks[number]
    return look_at(task.source, index, task.steps, index in task.numbers)
