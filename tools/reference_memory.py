r"""Measures the peak memory of the reference's train step, to hold ours against.

    REFERENCE_VENV/bin/python tools/reference_memory.py CONFIG.py --batch 2 --size 512 512

Runs in the environment that `make_reference_fixtures.py` describes. What is counted is every tensor that PyTorch's CPU
allocator hands out, by its profiler: parameters and the optimizer's state, which are there before and after the step,
and everything that lives within the step, gradients too; not the scratch memory of oneDNN, nor the interpreter's. A
step is measured after another, when the optimizer's state is there. As a check, the process's own peak (resident pages,
over those before the model was built) is given, too, which has all of that, and what the allocator has not given back.
"""

import argparse
import json
import os
import threading

import torch
from reference_steps import build, init_default_scope

MB = 2**20


def resident() -> int:
    """Bytes of this process that are in memory."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


class Peak:
    """The most resident bytes while it is entered, looked at every few milliseconds."""

    def __enter__(self):
        self.bytes, self._stop = resident(), threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()
        return self

    def _watch(self):
        while not self._stop.wait(0.005):
            self.bytes = max(self.bytes, resident())

    def __exit__(self, *_):
        self._stop.set()
        self._thread.join()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("config")
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--size", type=int, nargs=2, default=(512, 512), metavar=("HEIGHT", "WIDTH"))
    args = parser.parse_args()
    init_default_scope("mmseg")
    start = resident()
    parameters, run = build(args.config, args.batch, tuple(args.size))
    run["train"]()
    with Peak() as peak:
        run["train"]()
    activities = [torch.profiler.ProfilerActivity.CPU]
    with torch.profiler.profile(activities=activities, profile_memory=True) as profile:
        run["train"]()
    events = [event for event in profile.profiler.kineto_results.events() if event.name() == "[memory]"]
    # Gradients are not there between steps; parameters and two moments are, in float32.
    held, most = 0, 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        held += event.nbytes()
        most = max(most, held)
    standing = 3 * parameters * 4
    print(
        json.dumps(
            {
                "parameters": parameters,
                "standing_mb": standing / MB,
                "over_standing_mb": most / MB,
                "peak_mb": (standing + most) / MB,
                "resident_peak_mb": (peak.bytes - start) / MB,
                "events": len(events),
            }
        )
    )


if __name__ == "__main__":
    main()
