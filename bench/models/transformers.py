"""Transformers as exporters write them: any number of sequences of any length, and a decoder with its caches."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import numpy as np
import onnx
from onnx import TensorProto

from bench import build
from bench.case import Built, Case, Feed, Model

_WORDS, _PLACES = 1000, 1024


def cases() -> Iterator[Case]:
    """An encoder of sentences, and a decoder that reads a prompt and then goes on word by word."""
    encoder = Model("encoder_4x384", partial(_encoder, 4, 384, 12))
    for sequences, length in ((1, 16), (1, 128), (8, 128), (1, 512)):
        yield Case(f"encoder_4x384@{sequences}x{length}", encoder, partial(_sentences, sequences, length), starts=length == 16)
    decoder = Model("decoder_2x768", partial(_decoder, 2, 768, 12))
    for length, past in ((1, 64), (1, 1000), (128, 0)):
        yield Case(f"decoder_2x768@{past}+{length}", decoder, partial(_words, 2, 768, 12, length, past), starts=False)


def _sentences(sequences: int, length: int) -> Feed:
    mask = np.ones((sequences, length), np.int64)
    mask[1::2, length // 2 :] = 0
    return {"ids": np.random.default_rng(0).integers(0, _WORDS, mask.shape), "mask": mask, "places": np.arange(length)}


def _words(layers: int, width: int, heads: int, length: int, past: int) -> Feed:
    places = np.arange(past, past + length)
    mask = np.where(np.arange(past + length) <= places[:, None], 0, -1e4).astype(np.float32)
    feed = {"ids": np.random.default_rng(0).integers(0, _WORDS, (1, length)), "places": places, "mask": mask}
    caches = (f"{kind}{k}" for k in range(layers) for kind in ("keys", "values"))
    return feed | {name: 0.1 * build.normal(1, heads, past, width // heads) for name in caches}


class _Network:
    """Nodes and weights, as they are added."""

    def __init__(self, width: int, heads: int) -> None:
        self.width, self.heads = width, heads
        self.nodes: list[onnx.NodeProto] = []
        size = width // heads
        self.constants: dict[str, np.ndarray] = {
            "apart": np.array([0, 0, heads, size]), "together": np.array([0, 0, width]), "scale": np.array(size**-0.5, np.float32),
        }  # fmt: skip

    def add(self, op: str, inputs: str, output: str, **attributes: object) -> str:
        """A node's output."""
        self.nodes.append(build.node(op, inputs, output, **attributes))
        return output

    def weight(self, name: str, *shape: int) -> str:
        """A weight's name."""
        self.constants[name] = build.weight(name, *shape)
        return name

    def linear(self, value: str, name: str, rows: int, columns: int) -> str:
        """A product with a weight, and a bias."""
        product = self.add("MatMul", f"{value} {self.weight(f'w_{name}', rows, columns)}", f"{name}_product")
        return self.add("Add", f"{product} {self.weight(f'b_{name}', columns)}", name)

    def norm(self, value: str, name: str) -> str:
        """A normalisation of the last axis."""
        scale, shift = (self.weight(f"{kind}_{name}", self.width) for kind in "so")
        return self.add("LayerNormalization", f"{value} {scale} {shift}", name)

    def embedded(self) -> str:
        """Words and places as vectors."""
        self.add("Gather", f"{self.weight('words', _WORDS, self.width)} ids", "vectors")
        self.add("Gather", f"{self.weight('positions', _PLACES, self.width)} places", "where")
        return self.add("Add", "vectors where", "x")

    def attention(self, value: str, mask: str, layer: int, caches: bool) -> str:
        """Heads that look at each other, and at what the caches have of before, projected."""
        heads = {}
        for kind in ("queries", "keys", "values"):
            made = self.linear(value, f"{kind}_of{layer}", self.width, self.width)
            apart = self.add("Reshape", f"{made} apart", f"{kind}_apart{layer}")
            heads[kind] = self.add("Transpose", apart, f"{kind}_turned{layer}", perm=[0, 2, 1, 3])
            if caches and kind != "queries":
                heads[kind] = self.add("Concat", f"{kind}{layer} {heads[kind]}", f"all_{kind}{layer}", axis=2)
        keys = self.add("Transpose", heads["keys"], f"columns{layer}", perm=[0, 1, 3, 2])
        scores = self.add("MatMul", f"{heads['queries']} {keys}", f"scores{layer}")
        scaled = self.add("Mul", f"{scores} scale", f"scaled{layer}")
        masked = self.add("Add", f"{scaled} {mask}", f"masked{layer}")
        weights = self.add("Softmax", masked, f"weights{layer}", axis=-1)
        found = self.add("MatMul", f"{weights} {heads['values']}", f"found{layer}")
        back = self.add("Transpose", found, f"back{layer}", perm=[0, 2, 1, 3])
        joined = self.add("Reshape", f"{back} together", f"joined{layer}")
        return self.linear(joined, f"projected{layer}", self.width, self.width)

    def wide(self, value: str, layer: int) -> str:
        """A layer of four times the width, and back."""
        inner = self.linear(value, f"wide{layer}", self.width, 4 * self.width)
        return self.linear(self.add("Gelu", inner, f"gelu{layer}"), f"narrow{layer}", 4 * self.width, self.width)


def _encoder(layers: int, width: int, heads: int) -> Built:
    """An encoder that normalises after each part, as BERT does."""
    net = _Network(width, heads)
    net.constants |= {"axes": np.array([1, 2]), "one": np.array(1, np.float32), "far": np.array(-1e4, np.float32)}
    net.add("Cast", "mask", "seen", to=TensorProto.FLOAT)
    net.add("Unsqueeze", "seen axes", "spread")
    net.add("Sub", "one spread", "unseen")
    net.add("Mul", "unseen far", "masking")
    value = net.norm(net.embedded(), "normed")
    for k in range(layers):
        value = net.norm(net.add("Add", f"{value} {net.attention(value, 'masking', k, caches=False)}", f"with_heads{k}"), f"inner{k}")
        value = net.norm(net.add("Add", f"{value} {net.wide(value, k)}", f"with_wide{k}"), f"outer{k}")
    takes = {"ids": (TensorProto.INT64, ["n", "s"]), "mask": (TensorProto.INT64, ["n", "s"]), "places": (TensorProto.INT64, ["s"])}
    return Built(build.model(net.nodes, takes, {value: ["n", "s", width]}, net.constants))


def _decoder(layers: int, width: int, heads: int) -> Built:
    """A decoder that normalises before each part, as GPT-2 does, with keys and values of what it has read before."""
    net = _Network(width, heads)
    value = net.embedded()
    for k in range(layers):
        value = net.add("Add", f"{value} {net.attention(net.norm(value, f'first{k}'), 'mask', k, caches=True)}", f"with_heads{k}")
        value = net.add("Add", f"{value} {net.wide(net.norm(value, f'second{k}'), k)}", f"with_wide{k}")
    net.add("MatMul", f"{net.norm(value, 'last')} {net.weight('head', width, _WORDS)}", "words_next")
    takes = {"ids": (TensorProto.INT64, ["n", "s"]), "places": (TensorProto.INT64, ["s"]), "mask": ["s", "t"]}
    before = {f"{kind}{k}": ["n", heads, "p", width // heads] for k in range(layers) for kind in ("keys", "values")}
    after = {f"all_{name}": ["n", heads, "t", width // heads] for name in before}
    return Built(build.model(net.nodes, takes | before, {"words_next": ["n", "s", _WORDS]} | after, net.constants))
