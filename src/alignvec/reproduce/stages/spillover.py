"""What every knob changes in every domain, added plainly and behind a router (the over-generalization matrix)."""

from pathlib import Path

from alignvec.evaluate.journal import Journal
from alignvec.evaluate.scope import scope_of
from alignvec.evaluate.spillover import Turned, marked, measure_spillover
from alignvec.evaluate.spillover_plot import plot_spillover
from alignvec.evaluate.spillover_record import Spillover
from alignvec.evaluate.spillover_report import points, table_of
from alignvec.evaluate.table import Table
from alignvec.provenance import provenance
from alignvec.reproduce.material import domain_vectors, held_out, knobbed, router_of
from alignvec.reproduce.place import Place
from alignvec.reproduce.stage import Figure, Section, Stage
from alignvec.steer.routed import row_shares, turn_by
from alignvec.steer.scale import scale_of
from alignvec.vectors.strict import Strict


class Spill(Strict):
    """What the stage has found: the matrix without a router, and with it."""

    plain: Spillover
    routed: Spillover


def measure(place: Place) -> Spill:
    """Turn each hinged knob alone, at its levels' λ and half of them, and compare with the base."""
    vectors = domain_vectors(place)
    model = knobbed(place, vectors)
    rows = held_out(place, "test", outside=True)
    names = [vector.name for vector in vectors]
    turned = [Turned(v.name, value) for v in vectors for value in marked(scale_of(v.card))]
    sampling = place.scale.sampling()
    data = ", ".join(f"{name}.jsonl" for name in (*place.scale.domains, "general")) + " test"
    scope = scope_of(model, names, sampling, data, rows)
    journal = Journal(place.data("spillover/journal.jsonl"), scope)
    shares = row_shares(router_of(place), model, [row.query for row in rows], names)

    def matrix(routed: bool) -> Spillover:
        base_rates, cells, summary = measure_spillover(
            model, rows, turned, turn=turn_by(names, shares if routed else None), sampling=sampling, journal=journal,
            advance=lambda task, done, total: place.advance(f"{task}{', routed' if routed else ''}", done, total),
        )  # fmt: skip
        return Spillover(
            data=data,
            routed=routed,
            domains=tuple(dict.fromkeys(row.domain for row in rows)),
            levels=tuple(rows[0].responses),
            judge=None,
            base_rates=base_rates,
            cells=cells,
            summary=summary,
            sampling=sampling.model_dump(),
            provenance=provenance(),
        )

    return Spill(plain=matrix(False), routed=matrix(True))


def show(found: Spill, figures: Path) -> Section:
    """Both heat maps, and their means."""
    kinds = (("plain", found.plain), ("routed", found.routed))
    tables = []
    for name, one in kinds:
        plot_spillover(one, figures / f"spillover-{name}.png")
        columns, rows = table_of(one)
        title = f"{name}: mean change of preference rates, points (*: the knob's own domain)"
        tables.append(Table(title=title, columns=tuple(columns), rows=tuple(map(tuple, rows))))
    means = [(name, points(one.summary.on_target), points(one.summary.spillover)) for name, one in kinds]
    return Section(
        text=(
            "A cell is the mean absolute change of the three levels' preference rates against the base, by the "
            "likeliest reference reply; `general` are questions outside all domains. The router multiplies each knob, "
            "for each prompt, by how far the prompt is its domain's.",
        ),
        tables=(
            Table(title="mean over knobs and λ", columns=("", "own domain", "others"), rows=tuple(means)),
            *tables,
        ),
        figures=tuple(
            Figure(path=f"spillover-{name}.png", caption=f"What each knob changes in every domain, {name}.")
            for name, _ in kinds
        ),
    )


STAGE = Stage(
    name="spillover",
    title="Spillover between domains",
    record=Spill,
    measure=measure,
    show=show,
    keys=("test",),
    needs=("vectors",),
    reads=lambda place: [place.scale.router] if place.scale.router else [],
)
