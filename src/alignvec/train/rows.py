"""The rows a recipe trains on, with the preference order of each: one order for all, or by a goal one a domain."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from alignvec.data.load import levels_of, load_files, shipped_file
from alignvec.data.pairs import PreferenceOrder, parse_order, require_levels
from alignvec.data.schema import PreferenceRow
from alignvec.errors import DataError
from alignvec.train.config import TrainConfig


@dataclass(frozen=True)
class OrderedRows:
    """Rows that share a preference order."""

    order: PreferenceOrder
    rows: tuple[PreferenceRow, ...]

    def replies(self, loss: str) -> tuple[tuple[str, ...], list[tuple[int, int]]]:
        """Levels whose replies are trained on, and (chosen, rejected) places among them.

        Without a preference (`sft`) only the levels at the top, each paired with itself, so that no other reply is
        computed.
        """
        if loss == "sft":
            top = self.order.ranks[0]
            return top, [(i, i) for i in range(len(top))]
        place = {level: i for i, level in enumerate(self.order.levels)}
        return self.order.levels, [(place[c], place[r]) for c, r in self.order.level_pairs()]


def data_files(config: TrainConfig) -> list[Path]:
    """Files of a recipe's rows.

    Raises:
        DataError: if the recipe names none and no data of its domain is shipped.
    """
    if config.data is None:
        return [shipped_file(domain) for domain in config.goal or [config.domain or config.name]]
    return [config.data] if isinstance(config.data, Path) else list(config.data)


def ordered_rows(config: TrainConfig, side: str) -> list[OrderedRows]:
    """Rows of a side (`positive` or `negative`), by preference order.

    Raises:
        DataError: if the data cannot be used, or a row lacks a level of its order; with a goal, if a row's domain is
            not in it, or a domain or level of it is not in the rows.
    """
    rows = load_files(data_files(config), split=config.split, limit=config.limit)
    if config.goal:
        found = _by_domain(rows, config.goal)
    else:
        found = [OrderedRows(parse_order(config.orders()[side]), tuple(rows))]
    for group in found:
        for row in group.rows:
            require_levels(row, group.order)
    return found


def _by_domain(rows: Sequence[PreferenceRow], goal: Mapping[str, str]) -> list[OrderedRows]:
    for row in rows:
        if row.domain not in goal:
            raise DataError(f"row {row.id} is of domain {row.domain!r}, of which the goal says nothing; add it there")
    found = []
    for domain, wanted in goal.items():
        own = tuple(row for row in rows if row.domain == domain)
        if not own:
            raise DataError(f"no rows of domain {domain!r}, which the goal names; add a file of them, or leave it out")
        levels = levels_of(own)
        if wanted not in levels:
            raise DataError(f"the goal wants {domain}={wanted}, but its rows have {', '.join(levels)}; choose of these")
        others = tuple(level for level in reversed(levels) if level != wanted)
        found.append(OrderedRows(PreferenceOrder(((wanted,), others)), own))
    return found
