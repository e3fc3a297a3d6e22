"""Gradient-boosted trees as plain arrays: learned by scikit-learn, kept and applied without it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from longtail import storage
from longtail.errors import StoreError


@dataclass(frozen=True, eq=False)
class Trees:
    """Trees that give log-odds; a row goes left where its feature is at most the threshold.

    Attributes:
        feature: of each node, int32 (nodes,).
        threshold: of each node, float64 (nodes,).
        left: node to go on with, int32 (nodes,); a leaf's is the leaf itself.
        right: likewise.
        value: what a leaf adds to the log-odds, float64 (nodes,).
        roots: first node of each tree, int32 (trees,).
        base: log-odds before any tree.
    """

    feature: NDArray[np.int32]
    threshold: NDArray[np.float64]
    left: NDArray[np.int32]
    right: NDArray[np.int32]
    value: NDArray[np.float64]
    roots: NDArray[np.int32]
    base: float

    @classmethod
    def fit(
        cls,
        features: NDArray[np.float32],
        targets: NDArray[np.bool_],
        monotone: Sequence[int],
        *,
        trees: int = 150,
        seed: int = 0,
    ) -> Trees:
        """Learn trees of at most 16 leaves, log loss, on one thread: the same on every machine.

        Args:
            features: float32 (n, F), finite.
            targets: bool (n,), both kinds among them.
            monotone: per feature 1 where more of it must not lower the log-odds, -1 where it must
                not raise them, 0 where it may do either.
            trees: number of trees.
            seed: of the features that each split may choose from.
        """
        from sklearn.ensemble import HistGradientBoostingClassifier

        learner: Any = HistGradientBoostingClassifier(
            max_iter=trees, learning_rate=0.06, max_leaf_nodes=16, min_samples_leaf=40,
            l2_regularization=1.0, max_features=0.7, early_stopping=False,
            monotonic_cst=list(monotone), random_state=seed,
        )  # fmt: skip
        with threadpool_limits(1):
            learner.fit(features, targets)
        return cls._of(learner)

    @classmethod
    def _of(cls, learner: Any) -> Trees:
        """The nodes, which scikit-learn keeps private; a test compares with its predictions."""
        nodes = [predictors[0].nodes for predictors in learner._predictors]  # noqa: SLF001
        sizes = [len(tree) for tree in nodes]
        roots = np.concatenate([[0], np.cumsum(sizes)[:-1]]).astype(np.int32)
        every = np.concatenate(nodes)
        start = np.repeat(roots, sizes)
        leaf = every["is_leaf"].astype(bool)
        itself = np.arange(len(every))
        left, right = (
            np.where(leaf, itself, every[side].astype(np.int64) + start).astype(np.int32)
            for side in ("left", "right")
        )
        return cls(
            feature=np.where(leaf, 0, every["feature_idx"]).astype(np.int32),
            threshold=np.where(leaf, 0.0, every["num_threshold"]).astype(np.float64),
            left=left,
            right=right,
            value=np.where(leaf, every["value"], 0.0).astype(np.float64),
            roots=roots,
            base=float(np.ravel(learner._baseline_prediction)[0]),  # noqa: SLF001
        )

    def log_odds(self, features: NDArray[np.float32]) -> NDArray[np.float64]:
        """Log-odds of rows, (n,).

        Args:
            features: float32 (n, F), columns as in :meth:`fit`.
        """
        result = np.full(len(features), self.base)
        columns = np.ascontiguousarray(features.T)
        for root in self.roots:
            # Rows are divided at each node: several times faster than following each row down.
            waiting = [(int(root), np.arange(len(features)))]
            while waiting:
                node, rows = waiting.pop()
                if self.left[node] == node:
                    result[rows] += self.value[node]
                elif len(rows):
                    below = columns[self.feature[node]][rows] <= self.threshold[node]
                    waiting.append((int(self.left[node]), rows[below]))
                    waiting.append((int(self.right[node]), rows[~below]))
        return result

    def save(self, path: Path) -> None:
        """Write the trees as Parquet."""
        columns = {name: getattr(self, name) for name in _COLUMNS}
        about = {"roots": " ".join(map(str, self.roots.tolist())), "base": repr(self.base)}
        storage.write_parquet(path, pa.table(columns).replace_schema_metadata(about))

    @classmethod
    def load(cls, path: Path, features: int) -> Trees:
        """Read what :meth:`save` wrote.

        Args:
            path: the file.
            features: number of features that the trees may ask for.

        Raises:
            StoreError: damaged, or something else.
        """
        if not path.is_file():
            raise StoreError(f"{path}: missing, so there are no trees")
        table = storage.read_parquet(path)
        try:
            about = table.schema.metadata
            columns: dict[str, Any] = {
                name: table[name].to_numpy().astype(kind, casting="same_kind")
                for name, kind in _COLUMNS.items()
            }
            roots = np.array(about[b"roots"].split(), dtype=np.int32)
            found = cls(roots=roots, base=float(about[b"base"]), **columns)
        except (KeyError, TypeError, ValueError) as error:
            raise StoreError(f"{path}: these are not trees ({error})") from error
        found._check(path, features)
        return found

    def _check(self, path: Path, features: int) -> None:
        """Every way through a tree must lead to a leaf within it, and ask for known features."""
        size, itself = len(self.feature), np.arange(len(self.feature))
        leaf = (self.left == itself) & (self.right == itself)
        onward = (self.left > itself) & (self.right > itself)
        ends = np.append(self.roots[1:], size)
        tree = np.searchsorted(self.roots, itself, side="right") - 1
        sound = (
            len(self.roots) > 0
            and int(self.roots[0]) == 0
            and bool((np.diff(self.roots) > 0).all())
            and int(self.roots[-1]) < size
            and bool((leaf | onward).all())
            and bool((np.maximum(self.left, self.right) < ends[tree]).all())
            and bool(((self.feature >= 0) & (self.feature < features)).all())
            and not bool(np.isnan(self.threshold).any())
            and bool(np.isfinite(self.value).all() and np.isfinite(self.base))
        )
        if not sound:
            raise StoreError(f"{path}: these are not whole trees")


_COLUMNS = {
    "feature": np.int32, "threshold": np.float64, "left": np.int32, "right": np.int32,
    "value": np.float64,
}  # fmt: skip
