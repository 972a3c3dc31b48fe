"""Codes: what an ensemble can tell apart of each feature, as small whole numbers.

Two values of a feature with the same code take the same way at every split of the ensemble. Codes are the one language
of the attribution engine, the synthetic stream and the students.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gbdt2nn.trees import MISSING_NAN, MISSING_ZERO, ZERO_THRESHOLD, TreeEnsemble, categories_of

_BELOW_ZERO = float(np.nextafter(-ZERO_THRESHOLD, -np.inf))


@dataclass(frozen=True)
class Binner:
    """An ensemble's thresholds and categories, and the codes they give.

    A numeric feature with S thresholds has codes 0, ..., S: the number of thresholds below x. Where splits treat
    missing values apart, one more code at the top holds them. A categorical feature has one code for each category that
    any split names, then one for all others, then one for missing values where the library treats them apart. A feature
    no split uses has one code.

    Attributes
    ----------
    n_codes : ndarray of shape (n_features,), int64
    missing_code : ndarray of shape (n_features,), int64
        -1 where a feature has no own code for missing values.
    thresholds : list of ndarray
        Per feature, ascending; empty where categorical or unused.
    is_categorical : ndarray of shape (n_features,), bool
    categories : list of ndarray
        Per feature, the categories any split names, ascending; empty where numeric.
    zero_is_missing : ndarray of shape (n_features,), bool
        Whether values within ``ZERO_THRESHOLD`` of zero share the missing code.
    categories_go_left, float32_input : bool
        As in :class:`~gbdt2nn.trees.TreeEnsemble`: how the library reads categories and numbers.

    Examples
    --------
    >>> import numpy as np
    >>> from lightgbm import LGBMRegressor
    >>> from gbdt2nn.teachers import lightgbm
    >>> X = np.arange(100.0)[:, None]
    >>> ensemble = lightgbm.parse(LGBMRegressor(n_estimators=2, verbosity=-1).fit(X, X[:, 0]))
    >>> binner = Binner.from_ensemble(ensemble)
    >>> codes = binner.transform(X)
    >>> bool((ensemble.raw_score(X) == ensemble.raw_score(binner.representatives(0)[codes])).all())
    True
    """

    n_codes: NDArray[np.int64]
    missing_code: NDArray[np.int64]
    thresholds: list[NDArray[np.float64]]
    is_categorical: NDArray[np.bool_]
    categories: list[NDArray[np.int32]]
    zero_is_missing: NDArray[np.bool_]
    categories_go_left: bool
    float32_input: bool

    @classmethod
    def from_ensemble(cls, ensemble: TreeEnsemble) -> "Binner":
        """Collect what the splits of an ensemble compare with.

        Parameters
        ----------
        ensemble : TreeEnsemble

        Returns
        -------
        binner : Binner
        """
        d = ensemble.n_features
        n_codes = np.ones(d, dtype=np.int64)
        missing_code = np.full(d, -1, dtype=np.int64)
        thresholds = [np.zeros(0) for _ in range(d)]
        categories = [np.zeros(0, dtype=np.int32) for _ in range(d)]
        is_categorical = np.zeros(d, dtype=bool)
        zero_is_missing = np.zeros(d, dtype=bool)
        splits = np.flatnonzero(ensemble.feature >= 0)
        splits = splits[np.argsort(ensemble.feature[splits], kind="stable")]
        bounds = np.searchsorted(ensemble.feature[splits], np.arange(d + 1))
        owner = np.repeat(ensemble.feature, np.diff(ensemble.category_start))  # feature of each named category
        for j in range(d):
            nodes = splits[bounds[j] : bounds[j + 1]]
            if not nodes.size:
                continue
            kinds = set(ensemble.missing[nodes].tolist())
            categorical = ensemble.is_categorical[nodes]
            is_categorical[j] = categorical.all()
            if categorical.any() and not is_categorical[j]:
                raise ValueError(
                    f"every split of a feature must be of one kind, got numeric and categorical splits of feature {j}; "
                    "fit the teacher anew rather than continue another that read the feature differently."
                )
            if is_categorical[j]:
                categories[j] = np.unique(ensemble.category_values[owner == j])
                n_codes[j] = len(categories[j]) + 1
            else:
                thresholds[j] = np.unique(ensemble.threshold[nodes])
                zero_is_missing[j] = kinds == {MISSING_ZERO}
                if MISSING_ZERO in kinds and not zero_is_missing[j]:
                    # Splits that differ on what zero is (a continued training): zero gets a code of its own.
                    thresholds[j] = np.union1d(thresholds[j], [_BELOW_ZERO, ZERO_THRESHOLD])
                n_codes[j] = len(thresholds[j]) + 1
            if kinds & {MISSING_ZERO, MISSING_NAN}:
                missing_code[j] = n_codes[j]
                n_codes[j] += 1
        return cls(
            n_codes=n_codes,
            missing_code=missing_code,
            thresholds=thresholds,
            is_categorical=is_categorical,
            categories=categories,
            zero_is_missing=zero_is_missing,
            categories_go_left=ensemble.categories_go_left,
            float32_input=ensemble.float32_input,
        )

    @property
    def n_features(self) -> int:
        """Number of features."""
        return len(self.n_codes)

    @property
    def dtype(self) -> np.dtype:
        """Type of the codes: the smallest of uint8 and uint16 that holds them all (uint32 beyond 65 536 codes)."""
        return np.min_scalar_type(int(self.n_codes.max(initial=1)) - 1)

    def transform(self, x: ArrayLike) -> NDArray[np.unsignedinteger]:
        """Give each value its code.

        Parameters
        ----------
        x : array-like of shape (n_samples, n_features)

        Returns
        -------
        codes : ndarray of shape (n_samples, n_features), uint8 or uint16
        """
        rows = np.asarray(x, dtype=np.float64)
        if rows.ndim != 2 or rows.shape[1] != self.n_features:
            raise ValueError(f"x must have shape (n_samples, {self.n_features}), got {rows.shape}.")
        codes = np.zeros(rows.shape, dtype=self.dtype)
        for j in np.flatnonzero(self.n_codes > 1).tolist():
            codes[:, j] = self._code(rows[:, j], j)
        return codes

    def representatives(self, j: int) -> NDArray[np.float64]:
        """Give one value of a feature for each of its codes.

        Parameters
        ----------
        j : int
            Feature.

        Returns
        -------
        x : ndarray of shape (n_codes[j],)
            ``transform`` gives value c the code c. NaN stands for the missing code, finite values for all others
            (except above a threshold at the end of the number range).
        """
        if self.is_categorical[j]:
            named = self.categories[j]
            free = np.setdiff1d(np.arange(len(named) + 1), named)[0]  # the smallest category no split names
            known = np.append(named, free).astype(np.float64)
        elif self.thresholds[j].size:
            # A threshold is the largest value of its own code.
            number = np.float32 if self.float32_input else np.float64
            last = number(self.thresholds[j][-1])
            above = float(np.nextafter(last, number(np.inf)))
            known = np.append(self.thresholds[j], above)
        else:
            known = np.ones(int(self.n_codes[j]) - (self.missing_code[j] >= 0))
        return np.append(known, np.nan) if self.missing_code[j] >= 0 else known

    def _code(self, x: NDArray[np.float64], j: int) -> NDArray[np.int64]:
        if self.float32_input:
            with np.errstate(over="ignore"):
                x = x.astype(np.float32).astype(np.float64)
        is_missing = np.isnan(x)
        if self.is_categorical[j]:
            category = categories_of(x, self.categories_go_left)
            named = self.categories[j]
            place = np.minimum(np.searchsorted(named, category), len(named) - 1)
            code = np.where(named[place] == category, place, len(named))
        else:
            # Without a code of its own, NaN is read as 0.0.
            code = np.searchsorted(self.thresholds[j], np.where(is_missing, 0.0, x), side="left")
            if self.zero_is_missing[j]:
                is_missing |= np.abs(x) <= ZERO_THRESHOLD
        return np.where(is_missing & (self.missing_code[j] >= 0), self.missing_code[j], code)
