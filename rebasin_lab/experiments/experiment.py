"""One network, by everything that determines it."""

import dataclasses

from rebasin_lab import datasets, models, training


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
    seed: int
    train: training.TrainConfig
    architecture: str = "mlp"
    options: tuple[tuple[str, int], ...] = (("num_hidden_layers", 3), ("width", 512))
    view: datasets.View = datasets.View()
    snapshot_epochs: tuple[int, ...] = ()

    @property
    def title(self) -> str:
        """Its network in a phrase."""
        sizes = ", ".join(f"{name.replace('_', ' ')} {size}" for name, size in self.options)
        return f"{self.dataset} {self.architecture} ({sizes}), seed {self.seed}"

    def load_dataset(self) -> datasets.Dataset:
        """Its images."""
        return datasets.load_view(self.dataset, self.view)

    def build_model(self, data: datasets.Dataset) -> models.Model:
        """The architecture, for the images and classes of its data set."""
        return models.build_model(self.architecture, dataset=data, **dict(self.options))
