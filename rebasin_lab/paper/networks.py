"""One network, by everything that determines it."""

import dataclasses
from typing import Any

from rebasin_lab import checks, datasets, models, training


@dataclasses.dataclass(frozen=True)
class Experiment:
    """What a network is trained on, how, and from which seed: small enough to send anywhere.

    Attributes:
        dataset: a name `load_dataset` knows.
        seed: of the initial parameters and of the order of the images.
        train: how.
        architecture: a name `build_model` knows.
        options: its sizes.
        view: the part of the data set it sees.
        snapshot_epochs: after these its parameters are kept, too; no influence on the network.
    """

    dataset: str
    seed: checks.Seed
    train: training.TrainConfig
    architecture: str = "mlp"
    options: tuple[tuple[str, int | float], ...] = (("num_hidden_layers", 3), ("width", 512))
    view: datasets.View = datasets.View()
    snapshot_epochs: tuple[checks.Count, ...] = ()

    def __post_init__(self):
        checks.fields(self)
        models.check_options(self.architecture, dict(self.options))

    def seeded(self, seed: checks.Seed) -> "Experiment":
        """The same with another seed."""
        return dataclasses.replace(self, seed=seed)

    def sized(self, **sizes: int | float) -> "Experiment":
        """The same with other sizes of the architecture."""
        return dataclasses.replace(self, options=tuple((dict(self.options) | sizes).items()))

    def seeing(self, **fields: Any) -> "Experiment":
        """The same with other fields of its view: another part of the data, say."""
        checks.options(fields, vars(self.view), "fields of a View")
        return dataclasses.replace(self, view=dataclasses.replace(self.view, **fields))

    def without_snapshots(self) -> "Experiment":
        """The same, of which only the end is kept."""
        return dataclasses.replace(self, snapshot_epochs=())

    def trained_with(self, **fields: Any) -> "Experiment":
        """The same with other fields of its training; snapshots after its end are left out."""
        checks.options(fields, vars(self.train), "fields of a TrainConfig")
        train = dataclasses.replace(self.train, **fields)
        kept = tuple(epoch for epoch in self.snapshot_epochs if epoch < train.num_epochs)
        return dataclasses.replace(self, train=train, snapshot_epochs=kept)

    @property
    def title(self) -> str:
        """Its network in a phrase."""
        sizes = ", ".join(f"{name.replace('_', ' ')} {size}" for name, size in self.options)
        return f"{self.dataset} {self.architecture} ({sizes}), seed {self.seed}"

    @property
    def networks(self) -> str:
        """What is trained, in a phrase for captions: all but the data and the seed."""
        sizes = ", ".join(f"{name.replace('_', ' ')} {size}" for name, size in self.options)
        train, augmented = self.train, ", augmented" if self.train.augment else ""
        return (
            f"{self.architecture} ({sizes}), {train.num_epochs} epochs of {train.optimizer} at "
            f"{train.learning_rate:g}, batch {train.batch_size}{augmented}"
        )

    def load_dataset(self) -> datasets.Dataset:
        """Its images."""
        return datasets.load_view(self.dataset, self.view)

    def build_model(self, data: datasets.Dataset) -> models.Model:
        """The architecture, for the images and classes of its data set."""
        return models.build_model(self.architecture, dataset=data, **dict(self.options))
