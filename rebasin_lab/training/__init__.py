"""Training of one network: the loop, augmentation, and checkpoints.

`training_loop` trains, `augmentation` changes images, `checkpoints` writes and reads networks.
"""

from rebasin_lab.training.training_loop import (
    TrainConfig,
    TrainingResult,
    TrainState,
    initial_params,
    initial_state,
    make_optimizer,
    make_step,
    state_shapes,
    train,
)

__all__ = [
    "TrainConfig",
    "TrainState",
    "TrainingResult",
    "initial_params",
    "initial_state",
    "make_optimizer",
    "make_step",
    "state_shapes",
    "train",
]
