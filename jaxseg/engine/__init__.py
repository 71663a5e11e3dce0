"""Everything jitted and everything that a run keeps: state, steps, optimizers, checkpoints, logs."""
