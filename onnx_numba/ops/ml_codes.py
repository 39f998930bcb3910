"""The numbers that sets of a forest name, as bits of words: whether a number is in a set is one test of bits.

Of a feature, the members of all its sets have a bit each, in order, as many to a word as fit. A row's number is *coded* once, as the
bit of the member that it equals, and a set is a mask for each word that has members of it:

    sets {1, 5}, {5, 9}        bits: 1 is 0b001, 5 is 0b010, 9 is 0b100
    masks 0b011, 0b110         codes: 5 is 0b010, and 7 is 0
"""

from __future__ import annotations

from typing import Any

import numpy as np

from onnx_numba.ops.ml_forest import Forest
from onnx_numba.record import record

Array = np.ndarray[Any, Any]


@record
class Codes:
    """Words of codes, and masks of sets.

    Attributes
    ----------
    bits : int
        Of a word.
    features : array
        Per word its feature.
    first : array
        Per word the place of its first member, and the end.
    members : array
    node, word, mask : array
        A mask of a set by its node and its word; those of a set side by side, words in order.
    """

    bits: int
    features: Array
    first: Array
    members: Array
    node: Array
    word: Array
    mask: Array

    @classmethod
    def of(cls, forest: Forest, sets: Array, bits: int) -> Codes:
        """Codes for the sets of some nodes."""
        sizes = [len(forest.sets[k]) for k in sets.tolist()]
        node = np.repeat(sets, sizes)
        value = np.concatenate([forest.threshold[:0], *(forest.sets[k] for k in sets.tolist())])
        order = np.lexsort((value, forest.feature[node]))
        node, value = node[order], value[order]
        feature = forest.feature[node]
        opens = np.diff(feature, prepend=-1) != 0  # the first of its feature
        new = opens.copy()
        new[1:] |= (value[1:] != value[:-1]) & ~(np.isnan(value[1:]) & np.isnan(value[:-1]))
        member = np.cumsum(new) - 1
        rank = member - member[opens][np.cumsum(opens) - 1]
        begins = new & (rank % bits == 0)  # a word
        word = np.cumsum(begins) - 1
        run = np.lexsort((word, node))
        starts = (np.diff(node[run], prepend=-1) != 0) | (np.diff(word[run], prepend=-1) != 0)
        flags = np.uint64(1) << (rank[run] % bits).astype(np.uint64)
        mask = np.bitwise_or.reduceat(flags, np.flatnonzero(starts)) if len(run) else flags
        return cls(
            bits, feature[begins], np.append(member[begins], new.sum()), value[new], node[run][starts], word[run][starts], mask
        )  # fmt: skip

    def brief(self, forest: Forest) -> Array:
        """Nodes whose sets take fewer steps by their words than by a search among their members.

        Of a feature, coding a number must not take longer than the searches that it saves: a member of all takes a step at most.
        """
        node, words = np.unique(self.node, return_counts=True)
        steps = np.array([(2 * len(forest.sets[k])).bit_length() for k in node.tolist()], np.int64)
        node, steps = node[words <= steps], steps[words <= steps]
        size = int(self.features.max(initial=0)) + 1
        saved = np.bincount(forest.feature[node], steps, size)
        coded = np.bincount(self.features, np.diff(self.first), size)
        feature = forest.feature[node]
        return node[coded[feature] <= saved[feature]]
