"""Batches: an endless, resumable stream for training, and one pass in a fixed order for evaluation."""

import functools
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import cv2
import numpy as np

from jaxseg.data.sources import Source
from jaxseg.data.transforms.base import Record, Size
from jaxseg.data.transforms.png import expect_threads
from jaxseg.data.transforms.windowed import read_windows
from jaxseg.errors import ConfigError, DataError

Batch = dict[str, Any]
"""`{"image": uint8 [b h w c], "label": uint8|int32 [b h w], ...}`."""
_ENDLESS = 2**50  # records; Grain's own endless repeat overflows an index when batches hold one record
RecordTransform = Callable[[Record, np.random.Generator], Record]


def _local_size(batch_size: int, process_index: int, process_count: int) -> int:
    if batch_size < 1 or process_count < 1 or batch_size % process_count:
        raise ConfigError(
            f"batch_size is {batch_size} for {process_count} processes; it counts the images of all "
            f"processes, so it must be a positive multiple of {max(process_count, 1)}."
        )
    if not 0 <= process_index < process_count:
        raise ConfigError(f"process_index is {process_index}; it must be in 0..{process_count - 1}.")
    return batch_size // process_count


def _file(record: Record) -> str:
    meta = record.get("meta", {})
    return str(meta.get("image_path") or meta.get("name", "?"))


def stack_records(records: Sequence[Record]) -> Batch:
    """Stacks the images, and the labels and edges if there are any, of records of one size.

    Raises:
        DataError: they differ in size; names two of them.
    """
    batch = {}
    for key in ("image", "label", "edge"):
        arrays = [record.get(key) for record in records]
        if arrays[0] is None:
            continue
        _check_alike(records, arrays, key)
        other = next((i for i, a in enumerate(arrays) if a is None or a.shape != arrays[0].shape), None)
        if other is not None:
            first, second = (f"{_file(records[i])} is {_shape(arrays[i])}" for i in (0, other))
            raise DataError(
                f"A batch needs {key}s of one size, but after the transforms {first} and {second}. Add "
                "{'type': 'Pad', 'size': (h, w)} at the end of the transforms, or a RandomCrop, or a "
                "Resize without keep_ratio."
            )
        batch[key] = np.stack(arrays)
    return batch


def _shape(array: np.ndarray | None) -> str:
    return "missing" if array is None else "x".join(str(n) for n in array.shape[:2]) + " (h x w)"


def _check_alike(records: Sequence[Record], arrays: Sequence[np.ndarray | None], key: str) -> None:
    """Refuses images of unequal channels or types, which stacking would change without a word."""
    kinds = [(a.shape[2:], a.dtype if key == "image" else None) for a in arrays if a is not None]
    other = next((i for i, kind in enumerate(kinds) if kind != kinds[0]), None)
    if other is not None and len(kinds) == len(arrays):
        first, second = (
            f"{_file(records[i])} has {arrays[i].shape[2] if arrays[i].ndim == 3 else 1} of {arrays[i].dtype}"
            for i in (0, other)
        )
        raise DataError(f"A batch needs {key}s with equally many channels and of one type, but {first} and {second}.")


class TrainBatches(Iterator[Batch]):
    """The iterator of `train_batches`; close it, or use it in a `with`, to end its threads and processes."""

    def __init__(self, iterator: Any) -> None:
        self._iterator = iterator

    def __next__(self) -> Batch:
        if self._iterator is None:
            raise StopIteration
        return next(self._iterator)

    def close(self) -> None:
        """Ends the threads and processes; more batches cannot be had after that."""
        iterator, self._iterator = self._iterator, None
        if iterator is not None and hasattr(iterator, "close"):
            iterator.close()

    def __enter__(self) -> "TrainBatches":
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


def train_batches(
    source: Source,
    transform: RecordTransform,
    *,
    batch_size: int,
    seed: int,
    start_step: int = 0,
    process_index: int = 0,
    process_count: int = 1,
    num_workers: int = 0,
    read_threads: int = 2,
    prefetch: int = 2,
) -> TrainBatches:
    """Endless batches `{"image": uint8 [b h w c], "label": [b h w]}`, shuffled anew in every pass.

    What batch k holds depends on `seed` and k only: a run that resumes with `start_step=k` sees exactly what
    it would have seen, with any number of workers, threads and processes. Process p gets its consecutive part
    of every global batch.

    Args:
        source: records by number.
        transform: `(record, rng) -> record`; the generator depends on seed and position.
        batch_size: images a step of all processes together; may exceed the source's length.
        seed: of order and augmentation, at least 0.
        start_step: how many batches to leave out, without reading them.
        process_index: this process' number.
        process_count: how many processes there are.
        num_workers: processes that decode and transform; 0 does it in threads of this one, which is faster on
            few cores. The workers import the main module, which must not do work on import.
        read_threads: threads that decode and transform, in each worker if there are any.
        prefetch: batches made ahead.

    Raises:
        ConfigError: a batch size that does not divide among the processes.
        DataError: from `next`: a file that cannot be used, or images of unequal sizes.
    """
    local = _local_size(batch_size, process_index, process_count)
    if len(source) == 0:
        raise DataError(f"{source.name} is empty: there is nothing to train on.")
    import grain  # takes a second to import, which only those who train should pay

    threads = max(read_threads, 1)
    _share_cores(threads)
    dataset = (
        grain.MapDataset.source(source)
        .seed(int(seed))
        .shuffle()
        .repeat(max(_ENDLESS // len(source), 1))
        .random_map(read_windows(transform))
        .batch(local, batch_fn=stack_records)
    )
    dataset = dataset[process_index::process_count][start_step:]
    options = grain.ReadOptions(num_threads=threads, prefetch_buffer_size=max(prefetch, threads))
    stream = dataset.to_iter_dataset(options)
    if num_workers > 0:
        _parse_flags()
        workers = grain.MultiprocessingOptions(
            num_workers=num_workers, per_worker_buffer_size=max(-(-prefetch // num_workers), 1)
        )
        stream = stream.mp_prefetch(workers, worker_init_fn=functools.partial(_start_worker, threads))
    return TrainBatches(iter(stream))


def _share_cores(threads: int) -> None:
    """Pictures are worked on in parallel already; OpenCV's own threads would only get in each other's way."""
    cv2.setNumThreads(1)
    expect_threads(threads)


def _start_worker(threads: int, worker_index: int, worker_count: int) -> None:
    _share_cores(threads)


def _parse_flags() -> None:
    """Grain's worker processes read absl flags, which nobody has parsed in a notebook or a test."""
    from absl import flags

    if not flags.FLAGS.is_parsed():
        flags.FLAGS.mark_as_parsed()


def eval_batches(
    source: Source,
    transform: RecordTransform,
    *,
    batch_size: int,
    process_index: int = 0,
    process_count: int = 1,
    read_threads: int = 2,
) -> Iterator[Batch]:
    """One pass over the source in a fixed order, in batches of images that have one size.

    Images are grouped by the size they have on disk, read from the headers beforehand, so labels of the
    original size fit in a batch too. A group's last batch is filled up with black rows whose label is
    ignored. All processes yield equally many batches of equal shapes; process p has the p-th part of the rows
    of each.

    Args:
        source: records by number.
        transform: `(record, rng) -> record`, the same for images of the same size.
        batch_size: images of all processes together.
        process_index: this process' number.
        process_count: how many processes there are.
        read_threads: threads that decode and transform.

    Yields:
        `{"image": uint8 [b h w c], "label": [b H W], "index": int32 [b], "meta": list of b dicts}`; `index`
        is the number in the source, -1 in a row that fills up, whose meta is empty. Without labels there is
        no "label".

    Raises:
        ConfigError: a batch size that does not divide among the processes.
        DataError: a file that cannot be used.
    """
    local = _local_size(batch_size, process_index, process_count)
    if len(source) == 0:
        raise DataError(f"{source.name} is empty: there is nothing to evaluate.")
    return _eval_stream(source, transform, batch_size, process_index * local, local, max(read_threads, 1))


def _plan(source: Source, batch_size: int, sizes: Sequence[Size]) -> list[list[int]]:
    """The numbers of the images of each batch: full ones as they fill, then what is left of each size."""
    plan: list[list[int]] = []
    groups: dict[Size, list[int]] = {}
    for index, size in enumerate(sizes):
        group = groups.setdefault(size, [])
        group.append(index)
        if len(group) == batch_size:
            plan.append(group)
            groups[size] = []
    return plan + [group for group in groups.values() if group]


def _eval_stream(
    source: Source, transform: RecordTransform, batch_size: int, first: int, local: int, threads: int
) -> Iterator[Batch]:
    _share_cores(threads)

    def load(index: int) -> Record:
        return transform(source[index], np.random.default_rng(index))

    with ThreadPoolExecutor(threads, thread_name_prefix="eval_batches") as pool:
        plan = _plan(source, batch_size, list(pool.map(source.size, range(len(source)))))
        rows = [indices[first : first + local] for indices in plan]
        # A process whose rows all fill up still needs the shapes: it reads the batch's first image for them.
        wanted = deque((mine, mine or indices[:1]) for mine, indices in zip(rows, plan, strict=True))
        ahead: deque[tuple[list[int], list[Future[Record]]]] = deque()
        try:
            while wanted or ahead:
                while wanted and len(ahead) < 2:
                    mine, read = wanted.popleft()
                    ahead.append((mine, [pool.submit(load, index) for index in read]))
                mine, futures = ahead.popleft()
                yield _eval_batch(mine, [future.result() for future in futures], local, source.ignore_index)
        finally:
            for _, futures in ahead:
                for future in futures:
                    future.cancel()


def _eval_batch(mine: list[int], records: list[Record], local: int, ignore_index: int) -> Batch:
    stacked = stack_records(records)
    batch: Batch = {}
    for key, fill in (("image", 0), ("label", ignore_index)):
        if key in stacked:
            full = np.full((local, *stacked[key].shape[1:]), fill, stacked[key].dtype)
            full[: len(mine)] = stacked[key][: len(mine)]
            batch[key] = full
    empty = local - len(mine)
    batch["index"] = np.array([*mine, *[-1] * empty], np.int32)
    batch["meta"] = [record["meta"] for record in records[: len(mine)]] + [{} for _ in range(empty)]
    return batch
