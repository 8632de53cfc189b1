"""He et al.'s ResNets for CIFAR-10 in PyTorch, with shortcuts without parameters (option A)."""

from torch import nn
from torch.nn import functional as F


class Block(nn.Module):
    def __init__(self, before, width):
        super().__init__()
        stride = 1 if before == width else 2
        self.added = width - before
        self.conv1 = nn.Conv2d(before, width, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)

    def forward(self, x):
        y = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        if self.added:
            x = F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, self.added // 2, self.added // 2))
        return F.relu(y + x)


class ResNet20(nn.Module):
    def __init__(self, num_blocks=3):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 16, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        self.layer1 = self.stage(16, 16, num_blocks)
        self.layer2 = self.stage(16, 32, num_blocks)
        self.layer3 = self.stage(32, 64, num_blocks)
        self.linear = nn.Linear(64, 10)

    @staticmethod
    def stage(before, width, num_blocks):
        widths = [before, *[width] * num_blocks]
        return nn.Sequential(*(Block(*pair) for pair in zip(widths, widths[1:], strict=False)))

    def forward(self, x):
        x = F.relu(self.bn1(self.conv1(x)))
        x = self.layer3(self.layer2(self.layer1(x)))
        return self.linear(x.mean((2, 3)))


def resnet56():
    return ResNet20(9)
