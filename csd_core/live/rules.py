"""How the rows of a live table are searched: by which models' queries, and how their cosines become scores.

N rows, D dimensions of a query model, W those of the table: the most that one of its query models has.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from csd_core.records.ranking import GroupScoring, ScoreMap
from csd_core.retrieval.gallery import Provenance
from csd_core.retrieval.parts import IDENTITY


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchGroup:
    """Rows that the queries of one model search, and whose cosines one map makes scores.

    Attributes:
        query_model: Digest of the model.
        dimension: D of its vectors; what a row has beyond them is zeros.
        score: The map.
        provenances: Of the rows.
    """

    query_model: str
    dimension: int
    score: ScoreMap
    provenances: frozenset[Provenance]


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchRules:
    """Which models' queries search which rows of a table.

    Attributes:
        query_model: Digest of the model that embeds new rows; it searches every row that `scoring` does not name, by
            cosine.
        dimension: Of that model's vectors.
        spaces: Query model -> spaces of rows that it may search; a row in any other is refused, never searched.
        scoring: How rows of some provenances are searched.
    """

    query_model: str
    dimension: int
    spaces: Mapping[str, tuple[str, ...]]
    scoring: tuple[GroupScoring, ...] = ()

    @classmethod
    def by_cosine(cls, model: str, *, dimension: int, spaces: tuple[str, ...] = ()) -> "SearchRules":
        """Return those under which one model searches every row.

        Args:
            model: Its digest.
            dimension: Of its vectors.
            spaces: Of rows that it may search; by default its own.
        """
        return cls(query_model=model, dimension=dimension, spaces={model: spaces or (model,)})

    @classmethod
    def of(
        cls,
        kinds: Collection[tuple[Provenance, str]],
        *,
        model: str,
        dimension: int,
        spaces: tuple[str, ...],
        scoring: tuple[GroupScoring, ...],
    ) -> "SearchRules":
        """Return those of a gallery.

        Args:
            kinds: Provenances of its rows, each with the space that they are in.
            model: Digest of the model that embeds new rows.
            dimension: Of its vectors.
            spaces: That may be searched.
            scoring: How rows of some provenances are searched.
        """
        if not scoring:
            return cls.by_cosine(model, dimension=dimension, spaces=spaces)
        known = {Provenance(group.embedded_by, group.adapters): group for group in scoring}
        if Provenance(model, "") not in known:
            native = GroupScoring(
                embedded_by=model, adapters="", query_model=model, dimension=dimension, score=IDENTITY
            )
            scoring = (*scoring, native)
        searched: dict[str, set[str]] = {model: {model}} | {group.query_model: set() for group in scoring}
        for provenance, space in kinds:
            group = known.get(provenance)
            searched[group.query_model if group else model].add(space)
        foreign = set().union(*(each for searched_by, each in searched.items() if searched_by != model))
        searched[model] |= {space for space in spaces if space not in foreign}
        ordered = {
            searched_by: tuple(space for space in spaces if space in each) for searched_by, each in searched.items()
        }
        return cls(query_model=model, dimension=dimension, spaces=ordered, scoring=scoring)

    @property
    def dimensions(self) -> dict[str, int]:
        """Query model -> D; the one of new rows first."""
        return {self.query_model: self.dimension} | {group.query_model: group.dimension for group in self.scoring}

    @property
    def width(self) -> int:
        """W."""
        return max(self.dimensions.values())

    @property
    def searchable_spaces(self) -> tuple[str, ...]:
        """Spaces that any of the models may search."""
        return tuple(dict.fromkeys(space for spaces in self.spaces.values() for space in spaces))

    @property
    def groups(self) -> tuple[SearchGroup, ...]:
        """All groups; the first one has the rows that `scoring` does not name too."""
        ways: dict[tuple[str, str], SearchGroup] = {}
        for group in (None, *self.scoring):
            model, dimension, score = (
                (group.query_model, group.dimension, group.score)
                if group
                else (self.query_model, self.dimension, IDENTITY)
            )
            known = ways.get((model, score.model_dump_json()))
            mine = {Provenance(group.embedded_by, group.adapters)} if group else set()
            ways[model, score.model_dump_json()] = SearchGroup(
                query_model=model,
                dimension=dimension,
                score=score,
                provenances=frozenset(mine | (known.provenances if known else set())),
            )
        return tuple(ways.values())

    def groups_of(self, provenances: Collection[Provenance]) -> tuple[SearchGroup, ...]:
        """The groups that have rows of some provenances, at least one; the first has the rows that none names."""
        first, *others = self.groups
        named = {provenance for group in self.groups for provenance in group.provenances}
        there = set(provenances)
        found = [group for group in others if group.provenances & there]
        if not found or first.provenances & there or there - named:
            found = [first, *found]
        return tuple(found)

    def scored(self, provenance: Provenance) -> GroupScoring | None:
        """Return how rows of a provenance are searched; None where `query_model` searches them by cosine."""
        return next((group for group in self.scoring if (group.embedded_by, group.adapters) == provenance), None)

    def dimension_of(self, provenance: Provenance) -> int:
        """Return how many leading components rows of a provenance have; the others are zeros."""
        group = self.scored(provenance)
        return group.dimension if group else self.dimension

    def may_search(self, provenance: Provenance, space: str) -> bool:
        """Whether rows of a provenance in a space are searched at all."""
        group = self.scored(provenance)
        return space in self.spaces.get(group.query_model if group else self.query_model, ())
