"""Training of P3M-Net: `train(read_config(Path("p3m10k_resnet34"), dataset=...), out)`."""

from p3mnet.training.config import TrainConfig, make_config, read_config
from p3mnet.training.fitting import BatchTooLarge
from p3mnet.training.logs import ConsoleWatch, Watch
from p3mnet.training.loop import TrainResult, train
from p3mnet.training.step import Diverged

__all__ = [
    "BatchTooLarge",
    "ConsoleWatch",
    "Diverged",
    "TrainConfig",
    "TrainResult",
    "Watch",
    "make_config",
    "read_config",
    "train",
]
