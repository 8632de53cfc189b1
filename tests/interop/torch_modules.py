"""Small networks of PyTorch, of each kind that people align, with their groups."""

import torch
from torch import nn
from torch.nn import functional as F


class MLP(nn.Sequential):
    """With BatchNorm."""

    def __init__(self):
        super().__init__(
            nn.Flatten(),
            nn.Linear(192, 24),
            nn.ReLU(inplace=True),
            nn.Dropout(),
            nn.Linear(24, 20),
            nn.BatchNorm1d(20),
            nn.GELU(),
            nn.Linear(20, 5),
        )


class Block(nn.Module):
    """As torchvision's BasicBlock."""

    def __init__(self, before, width, stride=1):
        super().__init__()
        self.conv1 = nn.Conv2d(before, width, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.downsample = None
        if stride > 1:
            conv = nn.Conv2d(before, width, 1, stride, bias=False)
            self.downsample = nn.Sequential(conv, nn.BatchNorm2d(width))

    def forward(self, x):
        y = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        return F.relu(y + (x if self.downsample is None else self.downsample(x)))


class ResNet(nn.Module):
    """As torchvision's ResNet18, with two stages of two blocks."""

    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 16, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        self.layer1 = nn.Sequential(Block(16, 16), Block(16, 16))
        self.layer2 = nn.Sequential(Block(16, 20, 2), Block(20, 20))
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(20, 5)

    def forward(self, x):
        x = self.maxpool(F.relu(self.bn1(self.conv1(x))))
        return self.fc(torch.flatten(self.avgpool(self.layer2(self.layer1(x))), 1))


class ViT(nn.Module):
    """Patches, a class token, positions, pre-norm blocks."""

    def __init__(self, width=16):
        super().__init__()
        self.patches = nn.Conv2d(3, width, 4, 4)
        self.token = nn.Parameter(torch.randn(1, 1, width))
        self.positions = nn.Parameter(torch.randn(1, 5, width))
        layer = nn.TransformerEncoderLayer(
            width, 2, 24, 0.1, F.gelu, batch_first=True, norm_first=True
        )
        self.blocks = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, 5)

    def forward(self, x):
        x = self.patches(x).flatten(2).mT
        x = torch.cat([self.token.expand(x.shape[0], -1, -1), x], 1) + self.positions
        return self.head(self.norm(self.blocks(x))[:, 0])


class UNet(nn.Module):
    """One step down and up, with a skip and an upsampling of each kind."""

    def __init__(self):
        super().__init__()
        self.down1 = self.block(3, 8)
        self.down2 = self.block(8, 12)
        self.middle = self.block(12, 16)
        self.up2 = nn.ConvTranspose2d(16, 10, 2, 2)
        self.join2 = self.block(22, 14)
        self.join1 = self.block(22, 9)
        self.head = nn.Conv2d(9, 4, 1)

    @staticmethod
    def block(before, after):
        return nn.Sequential(
            nn.Conv2d(before, after, 3, padding=1), nn.GroupNorm(1, after), nn.SiLU()
        )

    def forward(self, x):
        a = self.down1(x)
        b = self.down2(F.max_pool2d(a, 2))
        y = torch.cat([self.up2(self.middle(F.avg_pool2d(b, 2))), b], 1)
        y = F.interpolate(self.join2(y), scale_factor=2, mode="bilinear")
        return self.head(self.join1(torch.cat([y, a], 1)))


class LSTM(nn.Module):
    """A classifier of sentences."""

    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(30, 12)
        self.lstm = nn.LSTM(12, 16, 2, batch_first=True, bidirectional=True)
        self.head = nn.Linear(32, 5)

    def forward(self, tokens):
        return self.head(self.lstm(self.embed(tokens))[0][:, -1])


class GPT(nn.Module):
    """Causal attention with grouped queries; the head is the embedding."""

    def __init__(self, width=16):
        super().__init__()
        self.embed = nn.Embedding(30, width)
        self.norm = nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 4 * 4 + 2 * 4 + 2 * 4, bias=False)
        self.out = nn.Linear(width, width, bias=False)
        self.up = nn.Linear(width, 48)
        self.down = nn.Linear(24, width)
        self.head = nn.Linear(width, 30, bias=False)
        self.head.weight = self.embed.weight
        self.register_buffer("positions", torch.arange(7))
        self.register_buffer("rate", torch.tensor(0.5), persistent=False)

    def forward(self, tokens, *, scale=None):
        x = self.embed(tokens)
        q, k, v = self.qkv(self.norm(x)).split([16, 8, 8], -1)
        q, k, v = (one.unflatten(-1, (-1, 4)).transpose(1, 2) for one in (q, k, v))
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True, scale=scale, enable_gqa=True)
        x = x + self.out(y.transpose(1, 2).flatten(2)) * self.rate
        x = x + self.down(F.glu(self.up(x)))
        logits = self.head(x)
        return {"logits": logits, "last": (logits.index_select(1, self.positions[-1:]), None)}


class MoE(nn.Module):
    """Two of four experts for each token."""

    def __init__(self):
        super().__init__()
        self.embed = nn.Linear(7, 16)
        self.router = nn.Linear(16, 4)
        self.up = nn.Parameter(torch.randn(4, 16, 24) / 4)
        self.down = nn.Parameter(torch.randn(4, 24, 16) / 5)
        self.head = nn.Linear(16, 3)

    def forward(self, x):
        x = self.embed(x)
        gate = self.router(x).softmax(-1)
        values, chosen = gate.topk(2, -1)
        gate = torch.zeros_like(gate).scatter(-1, chosen, values)
        y = torch.einsum("btd,edh->bteh", x, self.up).relu()
        y = torch.einsum("bteh,ehd->bted", y, self.down)
        return self.head(x + (y * gate[..., None]).sum(2)).mean(1)


def images(size=16):
    return (torch.randn(2, 3, size, size),)


def tokens():
    return (torch.randint(0, 30, (2, 7)),)


# Class, example, and the sizes of the groups, counted by hand; where heads vary, theirs first.
NETWORKS = {
    "MLP": (MLP, lambda: images(8), [24, 20]),
    "ResNet": (ResNet, images, [16, 16, 16, 20, 20, 20]),
    "ViT": (ViT, lambda: images(8), [16] + 2 * [2, 8, 8, 24]),
    "U-Net": (UNet, images, [8, 9, 10, 12, 14, 16]),
    "LSTM": (LSTM, tokens, [12, 16, 16, 16, 16]),
    "GPT": (GPT, tokens, [16, 2, 2, 4, 4, 24]),
    "MoE": (MoE, lambda: (torch.randn(2, 5, 7),), [16, 4, 24]),
}
