"""What studies have found, read back from their folders: episodes, with the manifests that say what they are of."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from evals.arms import BASELINE, ArmRecord
from evals.folder import EPISODES, MANIFEST, Folder
from evals.manifest import POOLED
from evals.prices import Price, price_of
from evals.rows import Row, read
from memp.errors import InputError


@dataclass(frozen=True)
class Results:
    """The episodes of a study, from one folder or several."""

    manifests: tuple[Mapping[str, Any], ...]
    """One per folder; they differ in nothing but `POOLED`."""

    rows: tuple[Row, ...]

    arms: tuple[ArmRecord, ...]
    """In their order."""

    @property
    def price(self) -> Price | None:
        """What tokens cost, if the study states it."""
        return price_of(self.manifests[0])

    @property
    def missing(self) -> int | None:
        """How many episodes have not been run yet; None where the manifest does not say how many there are."""
        if not all("episodes_per_arm" in manifest for manifest in self.manifests):
            return None
        planned = sum(manifest["episodes_per_arm"] for manifest in self.manifests)
        return int(len(self.arms) * planned - len(self.rows))

    @property
    def changes(self) -> tuple[int, ...]:
        """Before which groups all places were rearranged."""
        groups, eras = (self.manifests[0].get(name, 1) for name in ("groups", "eras"))
        return tuple(groups * era for era in range(1, eras))

    def stated(self, name: str) -> str:
        """What the manifests say under a name, each value once; empty if they say nothing."""
        stated = [manifest[name] for manifest in self.manifests if manifest.get(name) is not None]
        values = [value for each in stated for value in (each if isinstance(each, list) else [each])]
        return " and ".join(dict.fromkeys(map(str, values)))


def read_results(folders: Sequence[Path]) -> Results:
    """Read the folders of one study; several are further seeds of it.

    Raises:
        InputError: if one holds no study or what is not of its study, two are not of the same study, or
            hold the same episode.
    """
    found = [_one(path) for path in folders]
    first = found[0]
    rows: dict[tuple[object, ...], Path] = {}
    for path, results in zip(folders, found, strict=True):
        if differences := list(_differences(first.manifests[0], results.manifests[0])):
            raise InputError(
                f"{folders[0]} and {path} are not of one study, so no table can be made of both: "
                + "; ".join(differences)
            )
        for row in results.rows:
            if row.key in rows:
                raise InputError(f"{path} holds an episode that {rows[row.key]} holds too: {tuple(row.key)}")
            rows[row.key] = path
    return Results(
        manifests=tuple(manifest for results in found for manifest in results.manifests),
        rows=tuple(row for results in found for row in results.rows),
        arms=first.arms,
    )


def _one(path: Path) -> Results:
    """Read one folder, and check that its rows are of its manifest."""
    manifest = Folder(path).manifest()
    if "study" not in manifest:
        raise InputError(f"{path / MANIFEST} is no manifest of a study")
    rows, _ = read(path / EPISODES, Row)
    if not rows:
        raise InputError(f"{path} holds no episode yet")
    arms = _arms(manifest, rows)
    named = {_named(arm.name, arm.model, arm.source) for arm in arms}
    # older manifests have one seed
    seeds = range(manifest["seed"], manifest["seed"] + manifest.get("seeds", 1))
    for row in rows:
        said = _named(row.arm, row.model, row.source)
        for field, value, known in (
            ("arm", said, named),
            ("split", row.split, manifest["splits"]),
            ("seed", row.seed, seeds),
        ):
            if value not in known:
                raise InputError(
                    f"{path / EPISODES} holds an episode of the {field} {value!r}, which is not in its {MANIFEST}"
                )
    return Results((manifest,), tuple(rows), arms)


def _arms(manifest: Mapping[str, Any], rows: Iterable[Row]) -> tuple[ArmRecord, ...]:
    """The arms that a manifest describes; older ones do not, and the rows have to tell.

    Raises:
        InputError: if what it has for arms are none.
    """
    described = manifest.get("arms")
    if not isinstance(described, list):
        found = {(row.arm != BASELINE, row.arm, row.model, row.source) for row in rows}
        return tuple(
            ArmRecord(name=name, model=model, source=source) for _, name, model, source in sorted(found)
        )
    try:
        return tuple(ArmRecord.model_validate(arm) for arm in described)
    except ValidationError as error:
        raise InputError(f"the manifest's arms are none: {error}") from error


def _named(arm: str, model: str, source: str) -> str:
    """An arm in words."""
    return " ".join(filter(None, (arm, model and f"of {model}", source and f"from {source}")))


def _differences(one: Mapping[str, Any], other: Mapping[str, Any], at: str = "") -> Iterator[str]:
    """Say what two manifests differ in that no pool may differ in."""
    for name in {**one, **other}:
        mine, theirs = one.get(name), other.get(name)
        if mine == theirs or (not at and name in POOLED):
            continue
        if isinstance(mine, Mapping) and isinstance(theirs, Mapping):
            yield from _differences(mine, theirs, f"{at}{name}.")
        else:
            yield f"{at}{name} is {mine!r} here and {theirs!r} there"
