"""Mini-batch training: data, batches, the step, the loop, `Trainer`."""
