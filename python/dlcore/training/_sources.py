"""What a trainer is given to train and to validate on: rows or batches of them, checked."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from dlcore._common.agreement import raised_on_all
from dlcore._common.arrays import is_array_like
from dlcore._common.checks import check_positive_int
from dlcore.training._batches import Batches
from dlcore.training._dataset import (
    Dataset,
    Subset,
    check_rows,
    check_trains,
    hold_out,
    subset_to_validate_on,
    weigh_classes,
)
from dlcore.training._prefetch import AugmentedBatches, check_mixable
from dlcore.training._resumable import Resumable
from dlcore.training._sharding import (
    ShardedBatches,
    ShardedStream,
    check_alike,
    check_counts_of_all,
)
from dlcore.training._stream import Reader, Stream, is_pair

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from dlcore._common.typing import Array

BATCH_SIZE = 32  # by default


class Sources(Resumable):
    """A trainer that makes batches of what it is given."""

    def _sources(
        self,
        x: Any,
        y: Any,
        *,
        epochs: int,
        batch_size: int,
        validation_data: Any,
        validation_split: float,
        index: Array | None,
        validation_index: Array | None,
        steps_per_epoch: int | None = None,
        sample_weight: Any = None,
        class_weight: Mapping[Any, float] | Sequence[float] | Array | str | None = None,
        validation_steps: int | None = None,
        transform: Callable[..., Array] | None = None,
        mix: Callable[..., tuple[Array, Array]] | None = None,
    ) -> tuple[Batches | Stream | AugmentedBatches, Callable[[], Iterable[Subset]] | None]:
        """Return what a fit trains on, and what gives the rows that it validates on."""
        if validation_data is not None and validation_split:
            raise ValueError("fit takes validation_data or validation_split, not both")
        if validation_index is not None and (validation_data is not None or validation_split):
            raise ValueError("fit takes validation_data or validation_rows or a split, not two")
        model, loss, shards = self.model, self.loss, self._shards
        if shards is not None:
            check_alike(
                shards,
                batch_size=batch_size,
                epochs=epochs,
                steps_per_epoch=steps_per_epoch,
                accumulate=self.accumulate,
                **{
                    "whether y is given": y is not None,
                    "whether there is validation_data": validation_data is not None,
                    "whether there is class_weight": class_weight is not None,
                },
            )
        if y is None:
            if batch_size != BATCH_SIZE:
                raise ValueError(
                    f"batch_size is for x and y as arrays, got {batch_size}; an iterable gives "
                    f"batches of its own"
                )
            if transform is not None or mix is not None:
                raise ValueError(
                    "transform and mix need x and y as arrays; an iterable can change its batches"
                )
            with raised_on_all(shards):
                reader = self._stream(
                    x, sample_weight, class_weight, validation_split, steps_per_epoch
                )
                reader.check_repeats(epochs)
                validation = self._validation(validation_data, validation_steps, epochs)
            if shards is not None:
                return ShardedStream(loss, reader, self.accumulate, model.dtype, shards), validation
            return Stream(loss, reader, self.accumulate), validation
        if steps_per_epoch is not None:
            raise ValueError(
                "steps_per_epoch is for an iterable of batches; an epoch of x and y is all rows"
            )
        given = index
        with raised_on_all(shards):
            rows = self._check_rows(x, y, sample_weight, any_dtype=transform is not None)
            index, held = hold_out(
                model,
                loss,
                rows,
                validation_split,
                self._split_seed,
                given,
                some_count=shards is None,
            )
            if validation_index is not None:
                held = subset_to_validate_on(model, loss, rows, validation_index)
            validation = self._validation(
                validation_data if held is None else held, validation_steps, epochs
            )
        weighted = weigh_classes(model, loss, rows, index, class_weight, shards)
        source: Batches
        if shards is not None:
            check_counts_of_all(shards, loss, weighted, index, held)
            source = ShardedBatches(loss, weighted, index, batch_size, self.accumulate, shards)
        else:
            if weighted is not rows or held is not None or given is not None:
                check_trains(loss, weighted, index)
            source = Batches(loss, weighted, index, batch_size, self.accumulate)
        if transform is None and mix is None:
            return source, validation
        classes = loss.classes(model.out_features or rows.x.shape[1])
        if mix is not None:
            check_mixable(loss, rows.y)
        return AugmentedBatches(source, loss, model.dtype, classes, transform, mix), validation

    def _stream(
        self,
        source: Any,
        sample_weight: Any,
        class_weight: Mapping[Any, float] | Sequence[float] | Array | str | None,
        validation_split: float,
        steps: int | None,
    ) -> Reader:
        """Take x without y for an iterable of batches."""
        for name, given in (
            ("sample_weight", sample_weight is not None),
            ("validation_split", validation_split != 0),
        ):
            if given:
                raise ValueError(f"{name} needs x and y as arrays; x is an iterable of batches")
        if isinstance(class_weight, str):
            raise ValueError(  # noqa: TRY004 - "balanced" is right for arrays
                "for an iterable of batches class_weight must be a dict or an array"
            )
        if steps is not None:
            check_positive_int("steps_per_epoch", steps)

        def check(x: Any, y: Any, weight: Any = None, prefix: str = "") -> Dataset:
            rows = check_rows(self.model, self.loss, x, y, weight, prefix, some_count=False)
            return weigh_classes(self.model, self.loss, rows, np.arange(len(rows)), class_weight)

        may_be_empty = self._shards is not None
        return Reader(source, "x", check, steps=steps, may_be_empty=may_be_empty)

    def _validation(
        self, data: Any, steps: int | None, epochs: int
    ) -> Callable[[], Iterable[Subset]] | None:
        """Return what gives the rows to validate on, of ``validation_data`` or held out ones."""
        if data is not None and not isinstance(data, Subset) and not is_pair(data):
            if is_array_like(data):
                raise ValueError(
                    f"validation_data must be (x, y), (x, y, sample_weight) or an iterable of such "
                    f"batches, not {type(data).__name__}"
                )
            return self._counted_batches(
                data, "validation_data", steps, "validation_steps", "validation ", epochs
            )
        if steps is not None:
            raise ValueError("validation_steps is for validation_data that are batches")
        if data is None:
            return None
        if not isinstance(data, Subset):
            x, y, weight = (*data, None)[:3]
            data = self._check_rows(x, y, weight, "validation ").counted()
        return lambda: [data]

    def _counted_batches(
        self,
        source: Any,
        name: str,
        steps: int | None,
        steps_name: str,
        prefix: str = "",
        epochs: int = 1,
    ) -> Callable[[], Iterable[Subset]]:
        """Return what gives the rows that count of each batch."""
        if steps is not None:
            check_positive_int(steps_name, steps)
        check = partial(check_rows, self.model, self.loss, some_count=False)
        reader = Reader(
            source,
            name,
            check,
            steps=steps,
            steps_name=steps_name,
            prefix=prefix,
            may_be_empty=self._shards is not None,
        )
        reader.check_repeats(epochs)
        return lambda: (rows.counted() for rows in reader)

    def _check_rows(self, *data: Any, **options: Any) -> Dataset:
        """Check rows, some of which must count where other ranks have none."""
        some_count = self._shards is None
        return check_rows(self.model, self.loss, *data, some_count=some_count, **options)
